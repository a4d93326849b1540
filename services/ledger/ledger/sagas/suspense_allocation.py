"""The saga of a receipt that waited: two persons have assigned it, and it is allocated."""

from __future__ import annotations

from ledger.domain import sacco_trigger
from ledger.model.receipts import ALLOCATED, SUSPENSE, PostAllocation
from ledger.model.sacco_books import Done
from ledger.sagas.reading import allocated_fields, order_of, receipt_fields, targets_of
from messages.ledger import AssignedReceiptAllocated
from messages.members import ReceiptAssigned


def allocate(event: ReceiptAssigned, step: str) -> PostAllocation:
    """Return what an assigned receipt books."""
    return PostAllocation(
        **receipt_fields(event, step),
        receipt_saga_id=event.receipt_saga_id,
        member_id=event.member_id,
        reason=None,
        policy=event.policy,
        policy_version=event.policy_version,
        loan_order=order_of(event.loan_order),
        targets=targets_of(event.targets),
    )


def published(event: AssignedReceiptAllocated) -> Done:
    """Return what was decided of a receipt, as it was published; without allocations it stays where it is."""
    return Done(fields={"state": ALLOCATED if event.allocations else SUSPENSE, **allocated_fields(event)})


ALLOCATING = sacco_trigger(
    saga="suspense_allocation",
    on=ReceiptAssigned,
    read=allocate,
    succeeds_with=AssignedReceiptAllocated,
    restore=published,
)
