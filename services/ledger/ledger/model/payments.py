"""The status of a payment, which moves in the transaction of the entries that it belongs to.

Everything that moves a payment names the version that it has seen. An operator, a sweep and a saga that saw the same
version can therefore not all move it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class PaymentStatus(enum.StrEnum):
    """Where the money of a payment is."""

    RESERVED = "RESERVED"
    AUTHORIZED = "AUTHORIZED"
    CAPTURED = "CAPTURED"
    PARTLY_REFUNDED = "PARTLY_REFUNDED"
    REFUNDED = "REFUNDED"
    DISPUTED = "DISPUTED"
    VOIDED = "VOIDED"
    FAILED = "FAILED"


RESERVED, AUTHORIZED, CAPTURED = PaymentStatus.RESERVED, PaymentStatus.AUTHORIZED, PaymentStatus.CAPTURED
PARTLY_REFUNDED, REFUNDED = PaymentStatus.PARTLY_REFUNDED, PaymentStatus.REFUNDED
DISPUTED, VOIDED, FAILED = PaymentStatus.DISPUTED, PaymentStatus.VOIDED, PaymentStatus.FAILED
GIVEN_BACK = frozenset({PARTLY_REFUNDED, REFUNDED, DISPUTED, FAILED})
"""What may follow once a payment is captured: a refund, a dispute, or a capture that fails days later."""

NEXT: Mapping[PaymentStatus | None, frozenset[PaymentStatus]] = {
    None: frozenset({RESERVED, AUTHORIZED, CAPTURED, FAILED}),
    RESERVED: frozenset({AUTHORIZED, CAPTURED, VOIDED, FAILED}),
    AUTHORIZED: frozenset({CAPTURED, VOIDED, FAILED}),
    CAPTURED: GIVEN_BACK | {CAPTURED},
    PARTLY_REFUNDED: GIVEN_BACK | {CAPTURED},
    REFUNDED: GIVEN_BACK | {CAPTURED},
    DISPUTED: GIVEN_BACK | {CAPTURED},
    VOIDED: frozenset(),
    FAILED: frozenset({FAILED}),
}
"""The transitions. None is a payment that the ledger does not know yet.

A refund that is held, or fails later, may leave a payment as it was.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentAmounts:
    """The money of a payment, in minor units of its currency.

    ``refunding_minor`` is held for refunds under way. ``disputed_minor`` is what the gateway took back for disputes
    that are open or lost.
    """

    owner: str
    currency: str
    authorized_minor: int
    captured_minor: int = 0
    fee_minor: int = 0
    refunding_minor: int = 0
    refunded_minor: int = 0
    disputed_minor: int = 0

    @property
    def refundable_minor(self) -> int:
        """What may still be refunded. A dispute may have taken back more than was left."""
        return self.captured_minor - self.refunding_minor - self.refunded_minor - self.disputed_minor

    @property
    def status(self) -> PaymentStatus:
        """Return the status of a captured payment that has these amounts now."""
        if self.captured_minor <= 0:
            return PaymentStatus.FAILED
        if self.disputed_minor > 0:
            return PaymentStatus.DISPUTED
        if self.refunded_minor > 0:
            is_all = self.refunded_minor >= self.captured_minor
            return PaymentStatus.REFUNDED if is_all else PaymentStatus.PARTLY_REFUNDED
        return PaymentStatus.CAPTURED


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentChange:
    """A payment's next status; ``version`` is the one that was seen, 0 for a payment that is new.

    ``amounts`` are its amounts afterwards; None leaves them as they are.
    """

    payment_id: str
    version: int
    status: PaymentStatus
    amounts: PaymentAmounts | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment as it stands. ``version`` counts its changes. One that no saga of merchants moved has no amounts."""

    payment_id: str
    version: int
    status: PaymentStatus
    amounts: PaymentAmounts | None = None
