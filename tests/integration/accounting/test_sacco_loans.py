"""Loans of a SACCO in the ledger: what a payment pays at its value date, to the cent.

The rate of these loans is 1,000 a day on 1,000,000.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from chassis.saga.steps import Step
from ledger.model.sacco_books import Done
from ledger.model.transfers import NotBooked
from ledger.sagas import receipt as receipt_saga
from messages.ledger import ReceiptAllocated, RepaymentPosted, RepaymentRefused
from support.builders import a
from support.ledger_steps import HANDLERS, Crash, handle, only
from support.ledgers import LedgerUnderTest
from support.sacco_bookings import SaccoUnderTest, nairobi


@pytest.fixture
def sacco(ledger: LedgerUnderTest) -> SaccoUnderTest:
    return SaccoUnderTest(ledger=ledger).register()


def income(ledger: LedgerUnderTest, code: str) -> int:
    totals = ledger.totals().get(f"sacco:{code}:KES", (0, 0, 0, 0))
    return totals[1] - totals[0]


def test_a_payment_pays_the_interest_since_the_payout_and_then_principal(sacco: SaccoUnderTest) -> None:
    loan, before = sacco.loan(1_000_000).disburse(nairobi(1)), income(sacco.ledger, "interest")
    assert loan.pay(60_000, nairobi(11)) == {"INTEREST": 10_000, "PRINCIPAL": 50_000}
    assert loan.booked() == 950_000
    assert income(sacco.ledger, "interest") - before == 10_000
    assert loan.pay(9_500, nairobi(21)) == {"INTEREST": 9_500}


def test_interest_begins_with_the_payouts_completion_and_not_with_the_approval(sacco: SaccoUnderTest) -> None:
    loan = sacco.loan(1_000_000).disburse(nairobi(5, hour=23))
    assert loan.pay(5_000, nairobi(6, hour=1)) == {"INTEREST": 1_000, "PRINCIPAL": 4_000}


def test_penalties_then_fees_then_interest_are_paid_before_principal(sacco: SaccoUnderTest) -> None:
    loan = sacco.loan(1_000_000, loan_fee_minor=5_000, penalty_ppm=50_000).disburse(nairobi(1))
    # By the first of March one instalment of 100,000 has been overdue for a month; 59 days of interest are due.
    assert loan.pay(75_000, nairobi(1, 3)) == {
        "PENALTIES": 5_000, "FEES": 5_000, "INTEREST": 59_000, "PRINCIPAL": 6_000,
    }  # fmt: skip


def test_an_overpayment_goes_to_the_next_target_and_the_loan_is_paid(sacco: SaccoUnderTest) -> None:
    loan = sacco.loan(10_000, loan_fee_minor=500).disburse(nairobi(1))
    paid = loan.pay(20_000, nairobi(11))
    assert paid == {"INTEREST": 100, "PRINCIPAL": 10_000, "FEES": 500, "SAVINGS": 9_400}
    assert (loan.booked(), loan.state()) == (0, "PAID")
    assert loan.pay(300, nairobi(12)) == {"SAVINGS": 300}


def test_unpaid_interest_is_never_more_than_the_principal(sacco: SaccoUnderTest) -> None:
    """In duplum: after 1,000 days the interest is as much as the principal, and stays so."""
    loan = sacco.loan(10_000, term_months=1).disburse(datetime(2020, 1, 1, tzinfo=UTC))
    assert loan.pay(30_000, nairobi(1)) == {"INTEREST": 10_000, "PRINCIPAL": 10_000, "SAVINGS": 10_000}


def test_a_receipt_that_is_known_late_corrects_the_interest_of_later_payments_by_new_entries(
    sacco: SaccoUnderTest,
) -> None:
    early, late = sacco.loan(1_000_000).disburse(nairobi(1)), sacco.loan(1_000_000).disburse(nairobi(1))
    before = income(sacco.ledger, "interest")
    early.pay(110_000, nairobi(11))
    early.pay(50_000, nairobi(21))
    in_time = income(sacco.ledger, "interest") - before
    late.pay(50_000, nairobi(21))
    count = sacco.ledger.rows("SELECT count(*) FROM transfers")[0][0]
    late.pay(110_000, nairobi(11))
    assert early.booked() == late.booked() == 1_000_000 - 160_000 + 10_000 + 9_000
    assert income(sacco.ledger, "interest") - before == 2 * in_time == 2 * 19_000
    assert sacco.ledger.rows("SELECT count(*) FROM transfers")[0][0] == count + 3, "recorded, corrected, allocated"
    rows = sacco.ledger.rows(
        "SELECT interest_minor, principal_minor FROM loan_payments WHERE loan_id = :it ORDER BY value_at",
        it=late.loan_id,
    )
    assert [tuple(row) for row in rows] == [(10_000, 100_000), (9_000, 41_000)]


def test_a_late_receipt_for_a_loan_that_is_paid_gives_its_interest_back_to_savings(sacco: SaccoUnderTest) -> None:
    loan = sacco.loan(1_000_000).disburse(nairobi(1))
    assert loan.pay(1_020_000, nairobi(21)) == {"INTEREST": 20_000, "PRINCIPAL": 1_000_000}
    assert loan.state() == "PAID"
    assert loan.pay(510_000, nairobi(11)) == {"INTEREST": 10_000, "PRINCIPAL": 500_000}
    assert sacco.posted("fosa") == -(1_020_000 - 505_000)
    assert (loan.booked(), loan.state()) == (0, "PAID")


def test_receipts_at_once_for_one_loan_pay_its_interest_once_and_never_more_than_it(sacco: SaccoUnderTest) -> None:
    loan = sacco.loan(100_000).disburse(nairobi(1))
    before = income(sacco.ledger, "interest")
    receipts = [sacco.receipt(30_000, completed_at=nairobi(11)).record() for _ in range(4)]

    def allocated(receipt: Any) -> Any:
        return only(sacco.ledger, receipt.attributed([loan.target(), receipt.to_savings()]))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(allocated, receipts))
    for answer in answers:
        assert sum(each.allocated_minor for each in answer.allocations) == 30_000
    assert income(sacco.ledger, "interest") - before == 1_000
    assert (loan.booked(), loan.state(), sacco.posted("fosa")) == (0, "PAID", -19_000)
    assert sorted(each.loan_balance_minor for each in answers)[-1] == 71_000


def left(event: Any) -> dict[str, tuple[int, bool]]:
    return {each.loan_id: (each.principal_minor, each.is_paid) for each in event.loans}


def test_a_receipt_over_several_loans_reports_what_is_left_of_each(sacco: SaccoUnderTest) -> None:
    first, second = sacco.loan(10_000).disburse(nairobi(1)), sacco.loan(20_000).disburse(nairobi(1))
    receipt = sacco.receipt(15_000, completed_at=nairobi(11)).record()
    allocated = only(sacco.ledger, receipt.attributed([first.target(), second.target(), receipt.to_savings()]))
    assert isinstance(allocated, ReceiptAllocated)
    assert left(allocated) == {first.loan_id: (0, True), second.loan_id: (15_300, False)}
    assert (first.state(), second.state()) == ("PAID", "ACTIVE")
    assert allocated.loan_balance_minor == 15_300, "what the text to the member says"


def test_a_loan_whose_fee_is_owed_is_not_paid_though_nothing_is_left_of_its_principal(sacco: SaccoUnderTest) -> None:
    loan = sacco.fund(50_000).loan(10_000, loan_fee_minor=500).disburse(nairobi(1))
    assert left(only(sacco.ledger, loan.repayment(10_100, nairobi(11)))) == {loan.loan_id: (0, False)}
    assert loan.state() == "ACTIVE"
    last = only(sacco.ledger, loan.repayment(500, nairobi(11)))
    assert [each.kind for each in last.allocations] == ["FEES"]  # type: ignore[attr-defined]  # RepaymentPosted
    assert (left(last), loan.state()) == ({loan.loan_id: (0, True)}, "PAID")


def test_a_repayment_from_savings_is_one_booking(sacco: SaccoUnderTest) -> None:
    loan = sacco.fund(50_000).loan(1_000_000).disburse(nairobi(1))
    posted = only(sacco.ledger, loan.repayment(30_000, nairobi(11)))
    assert isinstance(posted, RepaymentPosted)
    assert {each.kind: each.allocated_minor for each in posted.allocations} == {"INTEREST": 10_000, "PRINCIPAL": 20_000}
    assert posted.loan_balance_minor == 980_000
    assert (sacco.posted("fosa"), loan.booked()) == (-20_000, 980_000)


def test_what_a_loan_does_not_take_of_a_repayment_stays_in_savings(sacco: SaccoUnderTest) -> None:
    loan = sacco.fund(50_000).loan(10_000).disburse(nairobi(1))
    posted = only(sacco.ledger, loan.repayment(50_000, nairobi(11)))
    assert {each.kind: each.allocated_minor for each in posted.allocations} == {
        "INTEREST": 100, "PRINCIPAL": 10_000, "SAVINGS": 39_900,
    }  # fmt: skip
    assert (sacco.posted("fosa"), loan.state()) == (-39_900, "PAID")
    closed = only(sacco.ledger, loan.repayment(1_000))
    assert isinstance(closed, RepaymentRefused)
    assert (closed.reason, closed.loan_id) == ("loan_closed", loan.loan_id)


def test_a_repayment_beyond_savings_is_refused_and_books_nothing(sacco: SaccoUnderTest) -> None:
    loan = sacco.fund(999).loan(1_000_000).disburse(nairobi(1))
    refused = only(sacco.ledger, loan.repayment(1_000, nairobi(11)))
    assert isinstance(refused, RepaymentRefused)
    assert refused.reason == "insufficient_funds"
    assert (sacco.posted("fosa"), loan.booked()) == (-999, 1_000_000)


def test_another_members_loan_is_not_repaid_from_savings(sacco: SaccoUnderTest) -> None:
    loan = sacco.loan(1_000_000).disburse(nairobi(1))
    other = SaccoUnderTest(ledger=sacco.ledger).register().fund(1_000)
    with pytest.raises(NotBooked, match="is of"):
        handle(sacco.ledger, loan.repayment(1_000, member_id=other.member_id))


def test_a_crash_leaves_the_loan_and_its_payments_as_they_were(sacco: SaccoUnderTest) -> None:
    loan = sacco.fund(50_000).loan(1_000_000).disburse(nairobi(1))
    message = loan.repayment(30_000, nairobi(11))
    with pytest.raises(Crash):
        handle(sacco.ledger, message, crash=True)
    assert sacco.ledger.rows("SELECT * FROM loan_payments WHERE loan_id = :it", it=loan.loan_id) == []
    handle(sacco.ledger, message)
    handle(sacco.ledger, message)
    assert loan.booked() == 980_000


def test_a_restored_ledger_books_what_was_published_whatever_it_would_decide_now(sacco: SaccoUnderTest) -> None:
    """The receipts of one loan come again in another order than they were allocated in."""
    loan = sacco.loan(1_000_000).disburse(nairobi(1))
    receipt = sacco.receipt(60_000, completed_at=nairobi(11)).record()
    step = HANDLERS.step("post_allocation")
    assert isinstance(step, Step)
    assert step.restore is not None
    restore = step.restore
    listed = [
        {"kind": "INTEREST", "owner": loan.loan_id, "allocated_minor": 1_000},
        {"kind": "PRINCIPAL", "owner": loan.loan_id, "allocated_minor": 59_000},
    ]
    fields = {"state": "ALLOCATED", "reason": None, "allocations": listed, "loan_balance_minor": 941_000, "loans": []}
    published = receipt_saga.published(only_of(receipt, fields))
    restoring = replace(step, decide=lambda request, books, _envelope: restore(request, books, published))
    others = tuple(restoring if each is step else each for each in HANDLERS.steps)
    handlers = type(HANDLERS)(others, HANDLERS.reactions)
    (answer,) = handle(sacco.ledger, receipt.attributed([loan.target()]), handlers=handlers)
    assert {each.kind: each.allocated_minor for each in answer.allocations} == {"INTEREST": 1_000, "PRINCIPAL": 59_000}  # type: ignore[attr-defined]
    # What was published is corrected at once to what the loan's history says.
    assert loan.booked() == 950_000
    assert receipt.state() == "ALLOCATED"


def only_of(receipt: Any, fields: dict[str, Any]) -> Any:
    """Return the event that was published of a receipt."""
    own = {**receipt.own, "member_id": receipt.of.member_id, "policy": "default", "policy_version": 3}
    return a(ReceiptAllocated, **own, **fields)


def test_a_waiting_receipt_is_restored_as_waiting(sacco: SaccoUnderTest) -> None:
    event = only_of(sacco.receipt(1), {
        "state": "SUSPENSE", "reason": "no_reference", "allocations": [], "loan_balance_minor": None, "loans": [],
    })  # fmt: skip
    assert receipt_saga.published(event) == Done(
        fields={
            "state": "SUSPENSE",
            "reason": "no_reference",
            "allocations": [],
            "loan_balance_minor": None,
            "loans": [],
        }
    )
