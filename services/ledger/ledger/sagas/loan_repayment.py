"""The saga of a repayment from savings, whose one booking is the repayment."""

from __future__ import annotations

from ledger.domain import sacco_trigger
from ledger.model.payouts import PostRepayment
from ledger.model.sacco_books import Done
from ledger.sagas.reading import allocated_fields, order_of
from messages.ledger import RepaymentPosted, RepaymentRefused
from messages.members import LoanRepaymentRequested


def repay(event: LoanRepaymentRequested, step: str) -> PostRepayment:
    """Return what a repayment books."""
    return PostRepayment(
        saga_id=event.saga_id,
        step=step,
        message_id=event.message_id,
        member_id=event.member_id,
        loan_id=event.loan_id,
        currency=event.currency,
        amount_minor=event.amount_minor,
        policy=event.policy,
        policy_version=event.policy_version,
        loan_order=order_of(event.loan_order),
        value_at=event.value_at,
    )


def published(event: RepaymentPosted) -> Done:
    """Return what was booked, as it was published."""
    return Done(fields=allocated_fields(event))


POSTING = sacco_trigger(
    saga="loan_repayment",
    on=LoanRepaymentRequested,
    read=repay,
    succeeds_with=RepaymentPosted,
    rejected_with=RepaymentRefused,
    restore=published,
)
