"""Dividend runs and business days of a SACCO in the ledger."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from ledger.model.transfers import NotBooked
from ledger.sagas.end_of_day import published
from messages.ledger import DayMeasured, DividendChunkPosted, DividendDeclared, DividendRefused
from support.ledger_steps import handle, only
from support.ledgers import FUNDING, LedgerUnderTest, transfer
from support.sacco_bookings import SaccoUnderTest, capitals, chunk, line, nairobi, run_approved

APPROPRIATION = "sacco:appropriation:KES"


@pytest.fixture
def sacco(ledger: LedgerUnderTest) -> SaccoUnderTest:
    return SaccoUnderTest(ledger=ledger).register()


def appropriate(ledger: LedgerUnderTest, amount_minor: int) -> None:
    ledger.book(transfer(FUNDING, APPROPRIATION, amount_minor))


def declared(ledger: LedgerUnderTest, gross_minor: int) -> str:
    """Declare a run, and return its id."""
    run_id = f"{capitals(8)}-DIV"
    appropriate(ledger, gross_minor)
    assert isinstance(only(ledger, run_approved(run_id, gross_minor)), DividendDeclared)
    return run_id


def test_a_run_is_declared_from_what_is_appropriated_and_refused_beyond_it(ledger: LedgerUnderTest) -> None:
    run_id = f"{capitals(8)}-DIV"
    appropriate(ledger, 1_000)
    refused = only(ledger, run_approved(run_id, 10**15))
    assert isinstance(refused, DividendRefused)
    assert (refused.reason, refused.run_id) == ("insufficient_funds", run_id)
    accepted = only(ledger, run_approved(run_id, 1_000))
    assert isinstance(accepted, DividendDeclared)
    assert ledger.totals()[f"sacco:dividends_declared:{run_id}:KES"][1] == 1_000


def test_a_run_is_declared_once(ledger: LedgerUnderTest) -> None:
    run_id = declared(ledger, 1_000)
    appropriate(ledger, 1_000)
    again = only(ledger, run_approved(run_id, 1_000))
    assert isinstance(again, DividendRefused)
    assert again.reason == "declared_already"


def test_each_line_goes_to_its_destination_less_its_tax(ledger: LedgerUnderTest) -> None:
    one, two, three = (SaccoUnderTest(ledger=ledger).register() for _ in range(3))
    run_id = declared(ledger, 6_000)
    before = ledger.totals().get("sacco:withholding_tax:KES", (0,) * 4)[1]
    lines = [line(one, 1_000, 50), line(two, 2_000, 100, "SHARES"), line(three, 3_000, 150, "MOBILE")]
    posted = only(ledger, chunk(run_id, *lines, chunk=1))
    assert isinstance(posted, DividendChunkPosted)
    assert (posted.lines, posted.chunk, posted.run_id) == (3, 1, run_id)
    assert (one.posted("fosa"), two.posted("shares"), three.posted("dividends_payable")) == (-950, -1_900, -2_850)
    assert ledger.totals()["sacco:withholding_tax:KES"][1] - before == 300
    debits, credits_, *_ = ledger.totals()[f"sacco:dividends_declared:{run_id}:KES"]
    assert debits == credits_ == 6_000


def test_lines_beyond_what_was_declared_are_not_posted(sacco: SaccoUnderTest) -> None:
    run_id = declared(sacco.ledger, 1_000)
    with pytest.raises(NotBooked, match="insufficient_funds"):
        handle(sacco.ledger, chunk(run_id, line(sacco, 1_001, 0)))
    assert sacco.posted("fosa") == 0


def test_equal_lines_of_one_member_are_two_payouts(sacco: SaccoUnderTest) -> None:
    """Payment Hub EE takes equal bulk lines for duplicates; a dividend and a rebate may be equal."""
    run_id = declared(sacco.ledger, 2_000)
    handle(sacco.ledger, chunk(run_id, line(sacco, 1_000, 50), line(sacco, 1_000, 50)))
    assert sacco.posted("fosa") == -1_900


@pytest.mark.parametrize(("gross", "tax", "net"), [(100, 5, 96), (100, 105, -5), (100, -5, 105)])
def test_a_line_whose_amounts_do_not_fit_together_is_not_posted(
    sacco: SaccoUnderTest, gross: int, tax: int, net: int
) -> None:
    run_id = declared(sacco.ledger, 1_000)
    odd = {**line(sacco, gross, 0), "tax_minor": tax, "net_minor": net}
    with pytest.raises(NotBooked, match="is not its tax and its net"):
        handle(sacco.ledger, chunk(run_id, odd))


def test_more_lines_than_a_chunk_has_are_not_posted(sacco: SaccoUnderTest) -> None:
    run_id = declared(sacco.ledger, 501)
    with pytest.raises(NotBooked, match="it has 1 to 500"):
        handle(sacco.ledger, chunk(run_id, *[line(sacco, 1, 0)] * 501))


def test_a_line_whose_payout_failed_goes_to_savings(sacco: SaccoUnderTest) -> None:
    run_id = declared(sacco.ledger, 1_000)
    mobile = line(sacco, 1_000, 50, "MOBILE")
    handle(sacco.ledger, chunk(run_id, mobile))
    handle(sacco.ledger, chunk(run_id, mobile, kind="RETURNED"))
    assert (sacco.posted("dividends_payable"), sacco.posted("fosa")) == (0, -950)
    with pytest.raises(NotBooked, match="insufficient_funds"):
        handle(sacco.ledger, chunk(run_id, mobile, kind="RETURNED"))


def test_a_day_is_measured_by_value_date(sacco: SaccoUnderTest) -> None:
    sacco.receipt(1_000, completed_at=nairobi(5, hour=23)).allocate()
    sacco.receipt(200, completed_at=nairobi(5)).record()
    sacco.receipt(4_000, completed_at=nairobi(6, hour=0)).record()
    paid = sacco.fund(50_000).withdrawal(300).pay(completed_at=nairobi(5))
    sacco.withdrawal(70).hold()
    sacco.withdrawal(40).pay(completed_at=nairobi(6))
    released = sacco.withdrawal(20)
    released.hold()
    handle(sacco.ledger, released.release())
    held_on_the_day(sacco)
    measured = only(sacco.ledger, sacco.day_closed("2026-01-05"))
    assert isinstance(measured, DayMeasured)
    assert (measured.utility_minor, measured.working_minor, measured.charges_minor) == (900, 0, 900)
    assert (measured.unallocated_minor, measured.unallocated) == (200, 1)
    assert measured.unallocated_since == nairobi(5)
    assert paid.state() == "PAID"
    # On the day's end one was open, one was paid a day later, and one was released since.
    assert (measured.in_transit_minor, measured.in_transit) == (130, 3)
    assert measured.in_transit_since == nairobi(4)
    later = only(sacco.ledger, sacco.day_closed("2026-01-06"))
    assert isinstance(later, DayMeasured)
    assert (later.utility_minor, later.unallocated) == (4_860, 2)


def held_on_the_day(sacco: SaccoUnderTest) -> None:
    """Let the payouts of a member be held since a day of January; nothing of the ledger itself is changed."""
    update = "UPDATE payout_books SET held_at = :at WHERE member_id = :it"
    with sacco.ledger.engine.begin() as tx:
        tx.execute(text(update), {"at": nairobi(4), "it": sacco.member_id})


def test_a_short_code_that_was_never_used_measures_nothing(sacco: SaccoUnderTest) -> None:
    measured = only(sacco.ledger, sacco.day_closed("2026-01-05"))
    assert isinstance(measured, DayMeasured)
    assert measured.utility_minor == measured.unallocated == measured.in_transit == 0
    assert measured.unallocated_since is None
    assert measured.in_transit_since is None


def test_a_measured_day_is_restored_as_it_was_published(sacco: SaccoUnderTest) -> None:
    measured = only(sacco.ledger, sacco.day_closed("2026-01-05"))
    again = DayMeasured.from_record({**measured.to_record(), **published(measured).fields})
    assert (again, len(published(measured).fields)) == (measured, 9)
