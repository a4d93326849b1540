"""The saga that disburses a part of a loan: it is in transit until the payout is proven paid."""

from __future__ import annotations

from ledger.domain import sacco_trigger
from ledger.model.loans import Terms
from ledger.model.payouts import PayoutSource, PlaceHold
from ledger.sagas.payouts import committing
from ledger.sagas.reading import NO_SOURCE, payout_fields
from messages.ledger import HoldPlaced, HoldRefused
from messages.members import LoanApproved


def hold(event: LoanApproved, step: str) -> PlaceHold:
    """Return the hold of a part of a loan, with the loan's terms."""
    return PlaceHold(
        **payout_fields(event, step),
        pays=PayoutSource.LOAN,
        loan_id=event.loan_id,
        terms=Terms(
            loan_id=event.loan_id,
            member_id=event.member_id,
            currency=event.currency,
            principal_minor=event.principal_minor,
            interest_ppm=event.interest_ppm,
            term_months=event.term_months,
            fee_minor=event.loan_fee_minor,
            penalty_ppm=event.penalty_ppm,
        ),
    )


HOLDING = sacco_trigger(
    saga="loan_disbursement",
    on=LoanApproved,
    read=hold,
    succeeds_with=HoldPlaced,
    rejected_with=HoldRefused,
    more={**NO_SOURCE, "source": PayoutSource.LOAN.value},
)
COMMITTING = committing("loan_disbursement")
