"""What members notes of events: what became of members, receipts, withdrawals, loans and repayments.

A redelivery changes nothing, and a state never goes back because of an event that comes late.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from members import dividend_tables, loan_tables, member_tables, receipt_tables, request_tables
from members.dividend_tables import EndedPayout
from members.domain import ReceiptState, RequestState, day_of
from members.loan_tables import PART_FAILED, PART_PAID, Balance, EndedPart
from members.member_tables import Holding
from members.receipt_tables import ASSIGNMENTS, RETURNS, BookedReceipt
from members.request_tables import Ended
from messages.ledger import (
    Allocation,
    AssignedReceiptAllocated,
    PayoutCommitted,
    ReceiptAllocated,
    RepaymentPosted,
    ReturnCommitted,
)
from messages.saga import (
    DividendPayoutFailed,
    LoanDisbursementFailed,
    LoanRepaymentFailed,
    MemberOnboarded,
    MemberOnboardingFailed,
    ReceiptReturnFailed,
    SuspenseAllocationFailed,
    WithdrawalFailed,
)

SAVINGS, LOAN, DIVIDEND = "SAVINGS", "LOAN", "DIVIDEND"
"""The sources of a payout."""
EARNING: Final = frozenset({"SHARES", "DEPOSITS"})
"""What earns dividends and rebates."""
DONE, FAILED = "DONE", "FAILED"
WAITING: Final = "UNALLOCATED"
"""The source of a return whose receipt is not allocated."""


def pass_over(events: Sequence[object], tx: Connection) -> None:
    """Change nothing: what the event completes was noted when its last step had run."""


def on_member_onboarded(events: Sequence[MemberOnboarded], tx: Connection) -> None:
    """Take requests of these members from now on."""
    member_tables.onboard(tx, {event.saga_id: event.occurred_at for event in events})


def on_member_onboarding_failed(events: Sequence[MemberOnboardingFailed], tx: Connection) -> None:
    """Note why the accounts of these members could not be opened."""
    member_tables.fail(tx, {event.saga_id: event.reason for event in events})


def on_receipt_allocated(events: Sequence[ReceiptAllocated], tx: Connection) -> None:
    """Note where these receipts went. One that the ledger could not allocate is on the work list from now on."""
    rows = receipt_tables.lock_by_saga(tx, {event.saga_id for event in events})
    waiting = {saga_id for saga_id, row in rows.items() if row.state == ReceiptState.ATTRIBUTED}
    taken = [event for event in events if event.saga_id in waiting]
    receipt_tables.book(tx, [_booked(event) for event in {event.saga_id: event for event in taken}.values()])
    _note_allocations(tx, [event for event in taken if event.state == ReceiptState.ALLOCATED])


def _booked(event: ReceiptAllocated) -> BookedReceipt:
    is_allocated = event.state == ReceiptState.ALLOCATED
    return BookedReceipt(
        saga_id=event.saga_id,
        state=ReceiptState.ALLOCATED if is_allocated else ReceiptState.SUSPENSE,
        reason=event.reason,
        member_id=event.member_id,
        allocations=_json(event.allocations),
        at=event.occurred_at if is_allocated else None,
    )


def on_assigned_receipt_allocated(events: Sequence[AssignedReceiptAllocated], tx: Connection) -> None:
    """Note where receipts went that persons assigned. One with no allocation waits again: each target was closed."""
    rows = receipt_tables.lock_by_saga(tx, {event.receipt_saga_id for event in events})
    for event in sorted(events, key=lambda each: each.saga_id):
        state, outcome = (DONE, None) if event.allocations else (FAILED, "Each target is closed; propose another one.")
        ended = ASSIGNMENTS.end(tx, event.saga_id, state, outcome=outcome, at=event.occurred_at)
        row = rows.get(event.receipt_saga_id)
        if ended is None or row is None:
            continue
        booked = BookedReceipt(
            saga_id=row.saga_id,
            state=ReceiptState.ALLOCATED if event.allocations else ReceiptState.SUSPENSE,
            reason=None if event.allocations else row.reason,
            member_id=event.member_id if event.allocations else row.member_id,
            allocations=_json(event.allocations),
            at=event.occurred_at if event.allocations else None,
        )
        receipt_tables.book(tx, [booked])
        _note_allocations(tx, [event])


def on_suspense_allocation_failed(events: Sequence[SuspenseAllocationFailed], tx: Connection) -> None:
    """Put receipts back on the work list whose assignment came to nothing."""
    for event in sorted(events, key=lambda each: each.saga_id):
        row = ASSIGNMENTS.end(tx, event.saga_id, FAILED, outcome=event.reason, at=event.occurred_at)
        if row is not None:
            receipt_tables.set_state(tx, row, ReceiptState.SUSPENSE)


def on_return_committed(events: Sequence[ReturnCommitted], tx: Connection) -> None:
    """Note that the payers of these receipts have their money back."""
    for event in sorted(events, key=lambda each: each.saga_id):
        row = RETURNS.end(tx, event.saga_id, DONE, outcome=event.reversal_receipt, at=event.occurred_at)
        if row is not None:
            receipt_tables.set_state(tx, row, ReceiptState.RETURNED, ended_at=event.occurred_at)


def on_receipt_return_failed(events: Sequence[ReceiptReturnFailed], tx: Connection) -> None:
    """Note that receipts were not returned: they are again what they were before."""
    for event in sorted(events, key=lambda each: each.saga_id):
        row = RETURNS.end(tx, event.saga_id, FAILED, outcome=event.reason, at=event.occurred_at)
        if row is not None:
            was_allocated = row.source != WAITING
            state = ReceiptState.ALLOCATED if was_allocated else ReceiptState.SUSPENSE
            receipt_tables.set_state(tx, row, state, ended_at=row.proposed_at if was_allocated else None)


def on_payout_committed(events: Sequence[PayoutCommitted], tx: Connection) -> None:
    """Note what is proven paid and in the ledger: withdrawals, parts of loans, lines of dividend runs."""
    request_tables.end_withdrawals(
        tx,
        [
            Ended(id=event.saga_id, state=RequestState.PAID, at=event.completed_at, receipt=event.receipt)
            for event in events
            if event.source == SAVINGS
        ],
    )
    parts = [
        EndedPart(saga_id=event.saga_id, state=PART_PAID, at=event.completed_at, receipt=event.receipt)
        for event in events
        if event.source == LOAN
    ]
    _end_parts(tx, parts)
    lines = [
        EndedPayout(saga_id=event.saga_id, state="PAID", receipt=event.receipt)
        for event in events
        if event.source == DIVIDEND
    ]
    _end_lines(tx, lines)


def on_withdrawal_failed(events: Sequence[WithdrawalFailed], tx: Connection) -> None:
    """Note why withdrawals failed: their holds are released, on proof alone."""
    ended = [
        Ended(
            id=event.saga_id,
            state=RequestState.CANCELLED if event.cause == "CANCELLED" else RequestState.FAILED,
            at=event.occurred_at,
            cause=event.cause,
            reason=event.reason,
        )
        for event in events
    ]
    request_tables.end_withdrawals(tx, ended)


def on_loan_disbursement_failed(events: Sequence[LoanDisbursementFailed], tx: Connection) -> None:
    """Note why parts of loans were not paid. A person decides whether they are paid again."""
    _end_parts(
        tx,
        [
            EndedPart(saga_id=event.saga_id, state=PART_FAILED, at=event.occurred_at, reason=event.reason)
            for event in events
        ],
    )


def on_dividend_payout_failed(events: Sequence[DividendPayoutFailed], tx: Connection) -> None:
    """Note which lines could not be paid to a phone: they go to savings, with the next chunk that returns lines."""
    _end_lines(tx, [EndedPayout(saga_id=event.saga_id, state="RETURNING", reason=event.reason) for event in events])


def on_repayment_posted(events: Sequence[RepaymentPosted], tx: Connection) -> None:
    """Note how repayments from savings were allocated."""
    request_tables.end_repayments(
        tx,
        [
            Ended(
                id=event.saga_id,
                state=RequestState.PAID,
                at=event.occurred_at,
                allocations=_json(event.allocations),
            )
            for event in events
        ],
    )
    _note_balances(tx, events)


def on_loan_repayment_failed(events: Sequence[LoanRepaymentFailed], tx: Connection) -> None:
    """Note why repayments from savings were refused."""
    request_tables.end_repayments(
        tx,
        [
            Ended(id=event.saga_id, state=RequestState.FAILED, at=event.occurred_at, reason=event.reason)
            for event in events
        ],
    )


def _end_parts(tx: Connection, ended: Sequence[EndedPart]) -> None:
    parts = loan_tables.parts_by_saga(tx, {each.saga_id for each in ended})
    loans = {part.loan_id for part in parts.values()}
    loan_tables.lock(tx, loans)
    loan_tables.end_parts(tx, [each for each in ended if each.saga_id in parts], loans)


def _end_lines(tx: Connection, ended: Sequence[EndedPayout]) -> None:
    rows = dividend_tables.lock_payouts(tx, {each.saga_id for each in ended})
    dividend_tables.end_payouts(tx, [each for each in ended if each.saga_id in rows])


def _note_allocations(tx: Connection, events: Sequence[ReceiptAllocated | AssignedReceiptAllocated]) -> None:
    holdings = [
        holding for event in events for holding in _holdings(event.saga_id, event.allocations, event.completed_at)
    ]
    member_tables.add_holdings(tx, holdings)
    _note_balances(tx, events)


def _holdings(source: str, allocations: Iterable[Allocation], at: datetime) -> Iterator[Holding]:
    month = day_of(at).replace(day=1)
    sums: dict[tuple[str, str], int] = {}
    for each in allocations:
        if each.kind in EARNING:
            sums[each.owner, each.kind] = sums.get((each.owner, each.kind), 0) + each.allocated_minor
    for (member_id, kind), amount_minor in sums.items():
        if amount_minor > 0:
            yield Holding(source=source, member_id=member_id, kind=kind, month=month, amount_minor=amount_minor)


def _note_balances(tx: Connection, events: Iterable[Any]) -> None:
    """Note what is left of each loan that was paid."""
    found = [
        Balance(loan_id=each.loan_id, balance_minor=each.principal_minor, is_paid=each.is_paid, at=event.occurred_at)
        for event in events
        for each in event.loans
    ]
    loan_tables.lock(tx, {each.loan_id for each in found})
    loan_tables.note_balances(tx, found)


def _json(allocations: Iterable[Allocation]) -> str:
    return json.dumps([each.to_record() for each in allocations])
