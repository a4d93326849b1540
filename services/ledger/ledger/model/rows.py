"""What a batch adds to the ledger, as it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

BLOCK_BITS = 10
BLOCK_SIZE = 1 << BLOCK_BITS
"""A batch takes the ids of its transfers in blocks of this many from one sequence. The block's number is the number
of the batch in the hash chain."""


@dataclass(slots=True, kw_only=True)
class TransferRow:
    """A booked transfer."""

    id: int
    reference: str
    kind: str
    of_id: int | None
    booked_at: datetime
    effective_at: datetime
    expires_at: datetime | None
    exchange_rate: Decimal | None
    is_late: bool
    entry_count: int
    saga_id: str | None
    step: str | None
    message_id: str | None
    payment_id: str | None
    payment_version: int | None
    payment_status: str | None


@dataclass(slots=True)
class EntryRow:
    """One entry, with the posted totals of its balance row after it."""

    transfer_id: int
    ordinal: int
    account_id: int
    lane: int
    amount_minor: int
    is_hold: bool
    booked_at: datetime
    effective_at: datetime
    debits_after: int
    credits_after: int


def block_of(transfer_id: int) -> int:
    """Return the number of the block that an id is from."""
    return transfer_id >> BLOCK_BITS
