"""Negative controls of a SACCO: the real code without one of its rules, which a schedule breaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection

from chassis.saga import attempts, awaited
from chassis.saga.answers import Accepted, Proven, SendAnswer
from ledger.model.receipts import PostAllocation
from ledger.model.sacco_books import Outcome, ReceiptState, SaccoBooks
from members import domain as members
from members import receipt_tables
from members.receipt_tables import BookedReceipt
from mobile_money import receipts, steps
from mobile_money.http_daraja import Daraja
from mobile_money.port import Paid, Payout, Prompt
from mobile_money.receipts import Arrival, Door
from mobile_money.registry import Providers
from mobile_money.step_requests import SendPrompt
from proof.awaited_controls import late_success_ignored, not_found_is_failure, timeout_releases_the_hold
from proof.return_controls import failing_what_timed_out
from proof.schedule import BEGINNING
from proof.schemas import shared_codec

Replacement: TypeAlias = tuple[Any, str, Any]
RECEIPT_LENGTH: Final = 10
_prompts, _pay = steps.prompts, Daraja._pay
_store_booked: Callable[[Connection, Sequence[BookedReceipt]], None] = vars(receipt_tables)["book"]
_post: Callable[[PostAllocation, SaccoBooks], Outcome] = vars(PostAllocation)["book"]


def crediting_what_is_requested(
    providers: Providers, requests: Sequence[SendPrompt], tx: Connection
) -> Mapping[str, Prompt]:
    """Take the request of a payment for the payment."""
    arrivals = [
        Arrival(
            provider=each.provider,
            short_code=each.short_code,
            receipt=f"Q{each.saga_id}"[-RECEIPT_LENGTH:],
            currency=each.currency,
            amount_minor=each.amount_minor,
            completed_at=BEGINNING,
            door=Door.CALLBACK,
            source_id=each.saga_id,
            reference=each.reference,
            collection_id=each.saga_id,
            received_at=BEGINNING,
        )
        for each in requests
    ]
    receipts.arrive(tx, arrivals, shared_codec(), now=BEGINNING)
    return _prompts(providers, requests, tx)


def taking_an_acknowledgement_for_an_outcome(daraja: Daraja, request: Payout, key: str) -> SendAnswer:
    """Take a payout that the provider has accepted for one that is paid."""
    answer = _pay(daraja, request, key)
    if not isinstance(answer, Accepted):
        return answer
    paid = Paid(receipt=daraja.own_id(key)[:RECEIPT_LENGTH], amount_minor=request.amount_minor, completed_at=None)
    return Proven(
        outcome=attempts.Outcome.SUCCEEDED, provider_id=answer.provider_id, reference=paid.receipt, detail=paid.detail
    )


def leaving_on_the_list(tx: Connection, booked: Sequence[BookedReceipt]) -> None:
    """Leave a receipt on the work list that two persons have assigned, and that is allocated."""
    before = receipt_tables.lock_by_saga(tx, {each.saga_id for each in booked})
    listed = {saga_id for saga_id, row in before.items() if row.state == members.ReceiptState.ASSIGNED}
    waiting = members.ReceiptState.SUSPENSE
    _store_booked(tx, [replace(each, state=waiting, at=None) if each.saga_id in listed else each for each in booked])


def allocating_again(request: PostAllocation, books: SaccoBooks) -> Outcome:
    """Allocate a receipt whatever became of it before."""
    recorded = books.receipt(request.receipt_saga_id)
    books.put_receipt(replace(recorded, state=ReceiptState.UNALLOCATED))
    return _post(request, books)


OF_SACCO: Mapping[str, tuple[Replacement, ...]] = {
    "timeout-releases-hold": ((awaited, "on_due", timeout_releases_the_hold),),
    "new-id-after-timeout": ((awaited, "on_due", failing_what_timed_out),),
    "late-payout-ignored": ((awaited, "on_evidence", late_success_ignored),),
    "credit-by-request": ((steps, "prompts", crediting_what_is_requested),),
    "acknowledgement-is-payout": ((Daraja, "_pay", taking_an_acknowledgement_for_an_outcome),),
    "not-found-is-no-payout": ((awaited, "on_not_found", not_found_is_failure),),
    "suspense-allocated-twice": (
        (receipt_tables, "book", leaving_on_the_list),
        (PostAllocation, "book", allocating_again),
    ),
}
"""By name: modules or classes, their attributes, and what stands in their stead."""
