"""The sagas of payouts: a member is notified that a withdrawal, a loan or a dividend was paid, or was not."""

from __future__ import annotations

from typing import Final

from messages.ledger import PayoutCommitted
from messages.members import DividendPayoutReleased, LoanApproved, WithdrawalRequested
from notifier.model.member_texts import Notice, TextKind, TextSubject
from notifier.sagas.member_reading import money, notifying

WITHDRAWALS: Final = frozenset({("withdrawal", 1)})
LOANS: Final = frozenset({("loan_disbursement", 1)})
DIVIDENDS: Final = frozenset({("dividend_payout", 1)})
KINDS: Final = {
    "SAVINGS": TextKind.WITHDRAWAL_PAID,
    "LOAN": TextKind.LOAN_PAID_OUT,
    "DIVIDEND": TextKind.DIVIDEND_PAID,
}


def of_payout(event: PayoutCommitted) -> Notice:
    """Return what the member learns of a paid payout. Raises KeyError for a source that is none of ours."""
    return Notice(
        saga_id=event.saga_id,
        member_id=event.member_id,
        kind=KINDS[event.source],
        fields={
            "receipt": event.receipt,
            "amount": str(money(event)),
            "fee": str(money(event, event.fee_minor + event.excise_minor)),
            "loan": event.loan_id or "",
        },
    )


def withdrawal_subject(event: WithdrawalRequested) -> TextSubject:
    """Return what a withdrawal is about, which its failure does not say."""
    return TextSubject(
        saga_id=event.saga_id,
        member_id=event.member_id,
        fails_as=TextKind.WITHDRAWAL_FAILED,
        cancelled_as=TextKind.WITHDRAWAL_CANCELLED,
        fields={"amount": str(money(event))},
    )


def loan_subject(event: LoanApproved) -> TextSubject:
    """Return what the disbursement of a loan is about."""
    return TextSubject(
        saga_id=event.saga_id,
        member_id=event.member_id,
        fails_as=TextKind.LOAN_PAYOUT_FAILED,
        cancelled_as=TextKind.LOAN_PAYOUT_FAILED,
        fields={"amount": str(money(event)), "loan": event.loan_id},
    )


def dividend_subject(event: DividendPayoutReleased) -> TextSubject:
    """Return what the payout of a dividend is about."""
    return TextSubject(
        saga_id=event.saga_id,
        member_id=event.member_id,
        fails_as=TextKind.DIVIDEND_PAYOUT_FAILED,
        cancelled_as=TextKind.DIVIDEND_PAYOUT_FAILED,
        fields={"amount": str(money(event))},
    )


NOTIFYING = tuple(
    notifying(saga, on=PayoutCommitted, notice=of_payout) for saga, _ in sorted(WITHDRAWALS | LOANS | DIVIDENDS)
)
