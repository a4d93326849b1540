"""Payouts of a SACCO in the ledger: each is held, then committed or released, and never both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from ledger.model.transfers import NotBooked
from messages.contract import Message
from messages.ledger import HoldPlaced, HoldRefused, HoldReleased, MemberAccountsOpened, PayoutCommitted
from support.ledger_steps import Crash, handle, only
from support.ledgers import LedgerUnderTest
from support.sacco_bookings import PayoutUnderTest, SaccoUnderTest, nairobi


@pytest.fixture
def sacco(ledger: LedgerUnderTest) -> SaccoUnderTest:
    return SaccoUnderTest(ledger=ledger).register()


def test_a_new_member_has_five_accounts_and_a_second_registration_opens_none(ledger: LedgerUnderTest) -> None:
    new = SaccoUnderTest(ledger=ledger)
    opened = only(ledger, new.registered())
    assert isinstance(opened, MemberAccountsOpened)
    assert (opened.member_id, opened.accounts) == (new.member_id, 5)
    new.register()
    rows = ledger.rows("SELECT code FROM accounts WHERE owner = :it ORDER BY code", it=new.member_id)
    assert [row.code for row in rows] == ["deposits", "dividends_payable", "fosa", "member_receivable", "shares"]


def test_a_withdrawal_is_held_with_its_fees_and_is_nowhere_else(sacco: SaccoUnderTest) -> None:
    payout = sacco.fund(10_000).withdrawal(5_000, fee_minor=50, excise_minor=8)
    held = payout.hold()
    assert isinstance(held, HoldPlaced)
    assert (held.source, held.loan_id, held.line_id, held.phone) == ("SAVINGS", None, None, "254712345678")
    assert sacco.posted("fosa") == -(10_000 - 5_058)
    assert sacco.posted("payout_in_transit", payout.saga_id) == -5_000
    assert sacco.posted("utility") == 0
    assert payout.state() == "HELD"


def test_a_paid_withdrawal_is_committed_at_its_value_date_with_fees_and_the_providers_charge(
    sacco: SaccoUnderTest,
) -> None:
    payout = sacco.fund(10_000).withdrawal(5_000, fee_minor=50, excise_minor=8)
    before = {code: sacco.ledger.totals().get(f"sacco:{code}:KES", (0,) * 4) for code in ("fees", "excise", "costs")}
    payout.hold()
    (committed,) = handle(sacco.ledger, payout.paid(completed_at=nairobi(3)))
    assert isinstance(committed, PayoutCommitted)
    assert sacco.posted("payout_in_transit", payout.saga_id) == 0
    assert sacco.posted("utility") == -5_000
    assert sacco.posted("charges_payable") == -900
    after = {code: sacco.ledger.totals()[f"sacco:{code}:KES"] for code in before}
    assert after["fees"][1] - before["fees"][1] == 50
    assert after["excise"][1] - before["excise"][1] == 8
    assert after["costs"][0] - before["costs"][0] == 900
    reference = f"{payout.saga_id}:commit_payout"
    (row,) = sacco.ledger.rows("SELECT effective_at FROM transfers WHERE reference = :it", it=reference)
    assert row.effective_at == nairobi(3)
    assert payout.state() == "PAID"


def test_a_withdrawal_beyond_savings_is_refused_and_nothing_is_held(sacco: SaccoUnderTest) -> None:
    payout = sacco.fund(5_057).withdrawal(5_000, fee_minor=50, excise_minor=8)
    refused = payout.hold()
    assert isinstance(refused, HoldRefused)
    assert (refused.reason, refused.member_id) == ("insufficient_funds", sacco.member_id)
    assert (sacco.posted("fosa"), payout.state()) == (-5_057, None)


def test_a_member_whose_accounts_are_not_open_has_no_payout_refused(ledger: LedgerUnderTest) -> None:
    with pytest.raises(NotBooked, match="No account sacco:fosa"):
        handle(ledger, SaccoUnderTest(ledger=ledger).withdrawal(1_000).requested())


def test_a_release_gives_back_exactly_what_was_held_and_once(sacco: SaccoUnderTest) -> None:
    payout = sacco.fund(10_000).withdrawal(5_000, fee_minor=50, excise_minor=8)
    payout.hold()
    (released,) = handle(sacco.ledger, payout.release())
    assert isinstance(released, HoldReleased)
    assert released.undone
    assert (sacco.posted("fosa"), payout.state()) == (-10_000, "RELEASED")
    (again,) = handle(sacco.ledger, payout.release())
    assert isinstance(again, HoldReleased)
    assert sacco.posted("fosa") == -10_000


def test_a_payout_that_was_released_is_never_committed(sacco: SaccoUnderTest) -> None:
    payout = sacco.fund(10_000).withdrawal(5_000)
    payout.hold()
    handle(sacco.ledger, payout.release())
    with pytest.raises(NotBooked, match="Nothing is held for payout"):
        handle(sacco.ledger, payout.paid())
    assert (sacco.posted("fosa"), sacco.posted("utility")) == (-10_000, 0)


def test_a_payout_that_was_committed_is_never_released(sacco: SaccoUnderTest) -> None:
    payout = sacco.fund(10_000).withdrawal(5_000).pay()
    with pytest.raises(NotBooked, match="Nothing is held for payout"):
        handle(sacco.ledger, payout.release())
    assert (sacco.posted("fosa"), payout.state()) == (-5_000, "PAID")


def is_handled(ledger: LedgerUnderTest, message: Message) -> bool:
    """Return whether a message is handled; what comes second may be refused in whatever way."""
    try:
        handle(ledger, message)
    except Exception:
        return False
    return True


def test_of_a_release_and_a_commit_at_once_exactly_one_is_booked(sacco: SaccoUnderTest) -> None:
    """Truxify#8978: a payout that is refunded, and paid as well."""
    sacco.fund(50_000)
    for _ in range(5):
        payout = sacco.withdrawal(1_000)
        payout.hold()
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(lambda message: is_handled(sacco.ledger, message), [payout.release(), payout.paid()]))
        assert sum(done) == 1
        assert sacco.posted("payout_in_transit", payout.saga_id) == 0
        assert payout.state() == ("RELEASED" if done[0] else "PAID")


def test_a_repeated_message_changes_nothing(sacco: SaccoUnderTest) -> None:
    payout = sacco.fund(10_000).withdrawal(5_000)
    requested, paid = payout.requested(), payout.paid()
    for message in (requested, requested, paid, paid):
        handle(sacco.ledger, message)
    assert (sacco.posted("fosa"), sacco.posted("utility")) == (-5_000, -5_000)


def test_a_crash_before_the_commit_leaves_nothing_and_the_message_books_once(sacco: SaccoUnderTest) -> None:
    payout = sacco.fund(10_000).withdrawal(5_000)
    payout.hold()
    paid = payout.paid()
    with pytest.raises(Crash):
        handle(sacco.ledger, paid, crash=True)
    assert (sacco.posted("utility"), payout.state()) == (0, "HELD")
    handle(sacco.ledger, paid)
    assert (sacco.posted("utility"), payout.state()) == (-5_000, "PAID")


def test_two_withdrawals_at_once_of_what_is_enough_for_one_hold_one(sacco: SaccoUnderTest) -> None:
    sacco.fund(5_000)
    payouts = [sacco.withdrawal(5_000) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda each: each.hold(), payouts))
    assert sorted(type(each).__name__ for each in answers) == ["HoldPlaced", *["HoldRefused"] * 3]
    assert sacco.posted("fosa") == 0


def test_a_dividend_is_held_from_what_is_payable_and_leaves_the_utility_account(sacco: SaccoUnderTest) -> None:
    sacco.fund(3_000, "dividends_payable")
    payout = PayoutUnderTest(of=sacco, amount_minor=3_000, saga="dividend_payout", source="DIVIDEND")
    held = payout.hold()
    assert isinstance(held, HoldPlaced)
    assert (held.source, held.run_id, held.line_id) == ("DIVIDEND", "2025-DIV", "2025-DIV:1:DIVIDEND")
    assert sacco.posted("dividends_payable") == 0
    handle(sacco.ledger, payout.paid(completed_at=datetime.now(UTC)))
    assert sacco.posted("utility") == -3_000


def test_a_loan_is_in_transit_until_its_payout_is_paid_and_begins_then(sacco: SaccoUnderTest) -> None:
    loan = sacco.loan(100_000)
    payout = loan.part()
    held = payout.hold()
    assert isinstance(held, HoldPlaced)
    assert (held.source, held.loan_id) == ("LOAN", loan.loan_id)
    assert sacco.posted("loans_in_transit", loan.loan_id) == 100_000
    assert (loan.booked(), loan.state()) == (0, "DISBURSING")
    handle(sacco.ledger, payout.paid(completed_at=nairobi(1)))
    assert (loan.booked(), loan.state()) == (100_000, "ACTIVE")
    assert sacco.posted("loans_in_transit", loan.loan_id) == 0
    assert sacco.posted("utility") == -100_000


def test_a_loan_whose_payout_failed_is_nowhere_and_may_be_paid_again(sacco: SaccoUnderTest) -> None:
    loan = sacco.loan(100_000)
    failed = loan.part()
    failed.hold()
    handle(sacco.ledger, failed.release())
    assert sacco.posted("loans_in_transit", loan.loan_id) == 0
    loan.disburse(nairobi(1))
    assert (loan.booked(), loan.state()) == (100_000, "ACTIVE")


def test_a_loan_in_parts_is_active_with_the_last_one_and_no_part_goes_beyond_it(sacco: SaccoUnderTest) -> None:
    loan = sacco.loan(300_000)
    first, second = loan.part(250_000), loan.part(50_000)
    first.pay(completed_at=nairobi(1))
    assert loan.state() == "DISBURSING"
    second.hold()
    too_much = loan.part(50_000).hold()
    assert isinstance(too_much, HoldRefused)
    assert too_much.reason == "limit_exceeded"
    handle(sacco.ledger, second.paid(completed_at=nairobi(2)))
    assert (loan.booked(), loan.state()) == (300_000, "ACTIVE")


def test_a_part_of_a_loan_with_other_terms_is_not_booked(sacco: SaccoUnderTest) -> None:
    loan = sacco.loan(300_000)
    loan.part(100_000).hold()
    with pytest.raises(NotBooked, match="has other terms"):
        handle(sacco.ledger, loan.part(100_000).requested(interest_ppm=1))
