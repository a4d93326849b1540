"""The saga that returns a receipt: its amount is held, and leaves once the provider has proven the reversal."""

from __future__ import annotations

from ledger.domain import sacco_trigger
from ledger.model.receipts import SAVINGS, UNALLOCATED, CommitReturn, HoldReturn
from ledger.sagas.reading import receipt_fields
from messages.ledger import ReturnCommitted, ReturnHeld, ReturnHoldRefused
from messages.members import ReceiptReturnApproved
from messages.mobile_money import ReceiptReversed


def hold(event: ReceiptReturnApproved, step: str) -> HoldReturn:
    """Return the hold of a return. Raises ValueError for a source that is none of ours."""
    if event.source not in (UNALLOCATED, SAVINGS):
        raise ValueError(f"Return {event.saga_id} has the source {event.source!r}; it is {UNALLOCATED} or {SAVINGS}.")
    return HoldReturn(
        **receipt_fields(event, step),
        receipt_saga_id=event.receipt_saga_id,
        from_savings=event.source == SAVINGS,
        member_id=event.member_id,
    )


def commit(event: ReceiptReversed, step: str) -> CommitReturn:
    """Return what a proven reversal books."""
    return CommitReturn(
        **receipt_fields(event, step), receipt_saga_id=event.receipt_saga_id, reversed_at=event.reversed_at
    )


HOLDING = sacco_trigger(
    saga="return_receipt",
    on=ReceiptReturnApproved,
    read=hold,
    succeeds_with=ReturnHeld,
    rejected_with=ReturnHoldRefused,
)
COMMITTING = sacco_trigger(saga="return_receipt", on=ReceiptReversed, read=commit, succeeds_with=ReturnCommitted)
