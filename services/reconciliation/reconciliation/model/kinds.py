"""The words of reconciliation: what moved, and what a line of a run comes out as."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Movement(StrEnum):
    """What moved money. ``COST``, ``PAYOUT``, ``TRANSFER`` and ``OTHER`` are of no payment."""

    CAPTURE = "CAPTURE"
    REFUND = "REFUND"
    DISPUTE = "DISPUTE"
    COST = "COST"
    PAYOUT = "PAYOUT"
    TRANSFER = "TRANSFER"
    OTHER = "OTHER"


class Source(StrEnum):
    """Whose record it is: the ledger's entries, or our records of what the gateway has proven."""

    LEDGER = "LEDGER"
    GATEWAY = "GATEWAY"


class Kind(StrEnum):
    """What a record is of."""

    CAPTURE = "CAPTURE"
    AUTHORIZED = "AUTHORIZED"
    VOID = "VOID"
    REFUND = "REFUND"
    CAPTURE_FAILED = "CAPTURE_FAILED"
    REFUND_FAILED = "REFUND_FAILED"
    AUTHORIZATION_EXPIRED = "AUTHORIZATION_EXPIRED"
    DISPUTED = "DISPUTED"
    DISPUTE_WON = "DISPUTE_WON"
    DISPUTE_LOST = "DISPUTE_LOST"


SIGNS: Final = {
    Kind.CAPTURE: (Movement.CAPTURE, 1),
    Kind.AUTHORIZED: (Movement.CAPTURE, 0),
    Kind.VOID: (Movement.CAPTURE, 0),
    Kind.AUTHORIZATION_EXPIRED: (Movement.CAPTURE, 0),
    Kind.CAPTURE_FAILED: (Movement.CAPTURE, -1),
    Kind.REFUND: (Movement.REFUND, -1),
    Kind.REFUND_FAILED: (Movement.REFUND, 1),
    Kind.DISPUTED: (Movement.DISPUTE, -1),
    Kind.DISPUTE_WON: (Movement.DISPUTE, 1),
    Kind.DISPUTE_LOST: (Movement.DISPUTE, 0),
}
"""What each kind of record moves, and its sign: what the gateway owes us is positive. What was reported and withdrawn
sums to 0 on both sides. A dispute moves its money when it is opened, so losing it moves none."""


class State(StrEnum):
    """What a line comes out as."""

    MATCHED = "MATCHED"
    LATE = "LATE"
    PENDING = "PENDING"
    FEE_ONLY = "FEE_ONLY"
    MISSING_AT_GATEWAY = "MISSING_AT_GATEWAY"
    MISSING_IN_LEDGER = "MISSING_IN_LEDGER"
    AMOUNT_MISMATCH = "AMOUNT_MISMATCH"
    CURRENCY_MISMATCH = "CURRENCY_MISMATCH"
    STATE_MISMATCH = "STATE_MISMATCH"
    DUPLICATE = "DUPLICATE"


DIVERGENCES: Final = tuple(
    state for state in State if state not in (State.MATCHED, State.LATE, State.PENDING, State.FEE_ONLY)
)
"""What a person has to explain, unless a later run finds it resolved."""


class RunKind(StrEnum):
    """Why a run was made: hourly for what changed, again days after a day of payments, or because a person wanted it.

    The names of the later ones are those of the calendar's days.
    """

    HOURLY = "HOURLY"
    T7 = "T7"
    T14 = "T14"
    T30 = "T30"
    MANUAL = "MANUAL"


RECHECKS: Final = {7: RunKind.T7, 14: RunKind.T14, 30: RunKind.T30}
