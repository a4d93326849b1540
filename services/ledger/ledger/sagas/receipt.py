"""The receipt saga: money that has arrived is recorded, and allocated once it is known whose it is."""

from __future__ import annotations

from ledger.domain import sacco_trigger
from ledger.model.receipts import SUSPENSE, PostAllocation, RecordReceipt
from ledger.model.sacco_books import Done
from ledger.sagas.reading import allocated_fields, order_of, receipt_fields, targets_of
from messages.ledger import ReceiptAllocated, ReceiptRecorded
from messages.members import ReceiptAttributed
from messages.mobile_money import ReceiptReceived

UNKNOWN = "unknown"


def record(event: ReceiptReceived, step: str) -> RecordReceipt:
    """Return what a new receipt books."""
    return RecordReceipt(**receipt_fields(event, step), receipt_saga_id=event.saga_id)


def allocate(event: ReceiptAttributed, step: str) -> PostAllocation:
    """Return what an attributed receipt books; one in suspense books nothing."""
    is_suspended = event.state == SUSPENSE
    return PostAllocation(
        **receipt_fields(event, step),
        receipt_saga_id=event.saga_id,
        member_id=event.member_id,
        reason=(event.reason or UNKNOWN) if is_suspended else None,
        policy=event.policy,
        policy_version=event.policy_version,
        loan_order=() if is_suspended else order_of(event.loan_order),
        targets=() if is_suspended else targets_of(event.targets),
    )


def published(event: ReceiptAllocated) -> Done:
    """Return what was decided of a receipt, as it was published."""
    return Done(fields={"state": event.state, "reason": event.reason, **allocated_fields(event)})


RECORDING = sacco_trigger(saga="receipt", on=ReceiptReceived, read=record, succeeds_with=ReceiptRecorded)
ALLOCATING = sacco_trigger(
    saga="receipt", on=ReceiptAttributed, read=allocate, succeeds_with=ReceiptAllocated, restore=published
)
