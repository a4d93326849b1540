"""Transfers as they are requested, and what becomes of a request: it is booked, or refused for a reason."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from ledger.model.payments import PaymentChange


class TransferKind(enum.StrEnum):
    """A transfer in one phase, the two phases of a hold, or the correction of an earlier transfer."""

    TRANSFER = "TRANSFER"
    HOLD = "HOLD"
    POST = "POST"
    VOID = "VOID"
    CORRECTION = "CORRECTION"

    @property
    def resolves(self) -> bool:
        """Whether it ends a hold."""
        return self in (TransferKind.POST, TransferKind.VOID)


class Reason(enum.StrEnum):
    """Why a request is refused. A refusal leaves no trace: the same reference may be requested again."""

    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    ACCOUNT_UNKNOWN = "ACCOUNT_UNKNOWN"
    ACCOUNT_CLOSED = "ACCOUNT_CLOSED"
    CURRENCY_MISMATCH = "CURRENCY_MISMATCH"
    UNBALANCED = "UNBALANCED"
    AMOUNT_OUT_OF_RANGE = "AMOUNT_OUT_OF_RANGE"
    REFERENCE_IN_USE = "REFERENCE_IN_USE"
    HOLD_UNKNOWN = "HOLD_UNKNOWN"
    HOLD_RESOLVED = "HOLD_RESOLVED"
    HOLD_EXPIRED = "HOLD_EXPIRED"
    HOLD_EXCEEDED = "HOLD_EXCEEDED"
    CORRECTED_UNKNOWN = "CORRECTED_UNKNOWN"
    PAYMENT_CONFLICT = "PAYMENT_CONFLICT"
    PAYMENT_TRANSITION = "PAYMENT_TRANSITION"
    PAYMENT_NOT_CAPTURED = "PAYMENT_NOT_CAPTURED"
    CAPTURED_EXCEEDED = "CAPTURED_EXCEEDED"


class NotBooked(RuntimeError):
    """The ledger refused a transfer for a reason that is no rejection of its step; the message says which."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a transfer. A debit is positive, a credit negative, in minor units."""

    account: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which saga, step and message a transfer comes from."""

    saga_id: str | None = None
    step: str | None = None
    message_id: str | None = None


NOWHERE = Origin()


def reference_of(saga_id: str, step: str) -> str:
    """Return the reference of what a saga's step books: one, so that it is booked once whatever is delivered again."""
    return f"{saga_id}:{step}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A requested transfer. Its entries sum to zero in every currency.

    Where the accounts are of several charts, they do so in each.

    ``of`` names the hold that it posts or voids, or the transfer that it corrects, by reference. A post without
    entries posts what is held; with entries it posts at most that, and releases the rest. A void has none. The
    business's value date is ``effective_at``; None is the time of booking. A hold without ``expires_at`` never expires.
    An exchange has two currencies, and the amounts that ``exchange_rate`` gives.
    """

    reference: str
    kind: TransferKind = TransferKind.TRANSFER
    entries: tuple[Entry, ...] = ()
    of: str | None = None
    effective_at: datetime | None = None
    expires_at: datetime | None = None
    exchange_rate: Decimal | None = None
    origin: Origin = NOWHERE
    payment: PaymentChange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A transfer as it stands in the ledger. ``entries`` of a void are empty."""

    id: int
    reference: str
    kind: TransferKind
    entries: tuple[Entry, ...]
    of: str | None
    effective_at: datetime
    booked_at: datetime
    expires_at: datetime | None
    exchange_rate: Decimal | None
    payment: PaymentChange | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """The transfer stands in the ledger; ``is_repeated`` where an equal request was booked before."""

    id: int
    is_repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Nothing was changed. ``detail`` names the account, the hold or the value that is in the way."""

    reason: Reason
    detail: str


Outcome = Booked | Refused
