"""The sagas of receipts: a member is notified where the money went, or that it went back."""

from __future__ import annotations

from messages.ledger import AssignedReceiptAllocated, ReceiptAllocated, ReturnCommitted
from notifier.model.member_texts import Notice, TextKind
from notifier.sagas.member_reading import allocated, money, notifying


def of_receipt(event: ReceiptAllocated) -> Notice | None:
    """Return what the member learns of a receipt. Where it is not known whose it is, no member is notified."""
    if event.member_id is None:
        return None
    return _allocated(event, event.member_id)


def of_assigned(event: AssignedReceiptAllocated) -> Notice:
    """Return what the member learns of a receipt that waited."""
    return _allocated(event, event.member_id)


def of_return(event: ReturnCommitted) -> Notice | None:
    """Return what the member learns of a receipt that went back."""
    if event.member_id is None:
        return None
    return Notice(
        saga_id=event.saga_id,
        member_id=event.member_id,
        kind=TextKind.RECEIPT_RETURNED,
        fields={"receipt": event.receipt, "amount": str(money(event))},
    )


def _allocated(event: ReceiptAllocated | AssignedReceiptAllocated, member_id: str) -> Notice:
    fields = {"receipt": event.receipt, "amount": str(money(event))}
    if not event.allocations:
        return Notice(saga_id=event.saga_id, member_id=member_id, kind=TextKind.RECEIPT_WAITING, fields=fields)
    return Notice(
        saga_id=event.saga_id,
        member_id=member_id,
        kind=TextKind.RECEIPT_ALLOCATED,
        fields=fields,
        allocated=allocated(event),
    )


NOTIFYING = (
    notifying("receipt", on=ReceiptAllocated, notice=of_receipt),
    notifying("suspense_allocation", on=AssignedReceiptAllocated, notice=of_assigned),
    notifying("return_receipt", on=ReturnCommitted, notice=of_return),
)
