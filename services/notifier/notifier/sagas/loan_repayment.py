"""The saga of a repayment from savings: the member is notified of what it paid."""

from __future__ import annotations

from messages.ledger import RepaymentPosted
from notifier.model.member_texts import Notice, TextKind
from notifier.sagas.member_reading import allocated, money, notifying


def of_repayment(event: RepaymentPosted) -> Notice:
    """Return what the member learns of a repayment."""
    return Notice(
        saga_id=event.saga_id,
        member_id=event.member_id,
        kind=TextKind.LOAN_REPAID,
        fields={"loan": event.loan_id, "amount": str(money(event))},
        allocated=allocated(event),
    )


NOTIFYING = notifying("loan_repayment", on=RepaymentPosted, notice=of_repayment)
