"""The status of a payment, which moves in the transaction of the entries that it belongs to.

Everything that moves a payment names the version that it has seen. An operator, a sweep and a saga that saw the same
version can therefore not all move it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class PaymentStatus(enum.StrEnum):
    """Where the money of a payment is."""

    AUTHORIZED = "AUTHORIZED"
    CAPTURED = "CAPTURED"
    PARTLY_REFUNDED = "PARTLY_REFUNDED"
    REFUNDED = "REFUNDED"
    SETTLED = "SETTLED"
    VOIDED = "VOIDED"
    FAILED = "FAILED"


NEXT: Mapping[PaymentStatus | None, frozenset[PaymentStatus]] = {
    None: frozenset({PaymentStatus.AUTHORIZED, PaymentStatus.CAPTURED, PaymentStatus.FAILED}),
    PaymentStatus.AUTHORIZED: frozenset({PaymentStatus.CAPTURED, PaymentStatus.VOIDED, PaymentStatus.FAILED}),
    PaymentStatus.CAPTURED: frozenset({PaymentStatus.SETTLED, PaymentStatus.PARTLY_REFUNDED, PaymentStatus.REFUNDED}),
    PaymentStatus.SETTLED: frozenset({PaymentStatus.PARTLY_REFUNDED, PaymentStatus.REFUNDED}),
    PaymentStatus.PARTLY_REFUNDED: frozenset({PaymentStatus.PARTLY_REFUNDED, PaymentStatus.REFUNDED}),
    PaymentStatus.REFUNDED: frozenset(),
    PaymentStatus.VOIDED: frozenset(),
    PaymentStatus.FAILED: frozenset(),
}
"""The transitions. None is a payment that the ledger does not know yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentChange:
    """A payment's next status; ``version`` is the one that was seen, 0 for a payment that is new."""

    payment_id: str
    version: int
    status: PaymentStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment as it stands. ``version`` counts its changes."""

    payment_id: str
    version: int
    status: PaymentStatus
