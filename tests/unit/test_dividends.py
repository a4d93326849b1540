"""The lines of a dividend run: pro rata, less tax, whole shillings to phones, and a hash that any change changes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from members.dividends import Held, Line, Payee, Rates, hash_of, lines_of, totals_of
from members.domain import AccountStatus

RATES = Rates(
    dividend_ppm=100_000, rebate_ppm=80_000, dividend_tax_ppm=50_000, rebate_tax_ppm=150_000, payout_min_minor=1_000,
    payout_max_minor=25_000_000,
)  # fmt: skip
ACTIVE = AccountStatus.ACTIVE


def line(held: Held, destination: str = "SAVINGS", status: AccountStatus = ACTIVE) -> Line:
    (found,) = lines_of("2025-DIV", RATES, [held], {held.member_id: Payee(destination=destination, status=status)})
    return found


def test_a_whole_year_earns_twelve_twelfths_and_december_one() -> None:
    whole = line(Held(member_id="001", kind="SHARES", amount_months=12 * 1_000_000))
    assert (whole.gross_minor, whole.tax_minor, whole.net_minor) == (100_000, 5_000, 95_000)
    december = line(Held(member_id="001", kind="SHARES", amount_months=1_000_000))
    assert (december.gross_minor, december.tax_minor, december.net_minor) == (8_333, 417, 7_916)


def test_a_rebate_on_deposits_has_its_own_rate_and_tax() -> None:
    found = line(Held(member_id="001", kind="DEPOSITS", amount_months=12 * 1_000_000))
    assert (found.line_id, found.kind) == ("2025-DIV:001:REBATE", "REBATE")
    assert (found.gross_minor, found.tax_minor, found.net_minor) == (80_000, 12_000, 68_000)


def test_a_phone_is_paid_whole_shillings_and_a_member_loses_less_than_two_by_it() -> None:
    seed = random.randrange(2**32)
    numbers = random.Random(seed)
    for _ in range(500):
        held = Held(member_id="001", kind="SHARES", amount_months=numbers.randrange(200_000, 40_000_000))
        paid, credited = line(held, "MOBILE"), line(held)
        if paid.destination == "MOBILE":
            assert paid.net_minor % 100 == 0, seed
            assert 0 <= credited.net_minor - paid.net_minor < 200, seed
        for each in (paid, credited):
            assert each.gross_minor == each.tax_minor + each.net_minor, seed


@pytest.mark.parametrize("status", [AccountStatus.DORMANT, AccountStatus.BLOCKED, AccountStatus.DECEASED])
def test_only_an_active_member_is_paid_to_a_phone(status: AccountStatus) -> None:
    held = Held(member_id="001", kind="SHARES", amount_months=12 * 1_000_000)
    assert line(held, "MOBILE").destination == "MOBILE"
    assert line(held, "MOBILE", status).destination == "SAVINGS"


def test_what_is_too_little_or_too_much_for_a_payout_goes_to_savings() -> None:
    assert line(Held(member_id="001", kind="SHARES", amount_months=100_000), "MOBILE").destination == "SAVINGS"
    assert line(Held(member_id="001", kind="SHARES", amount_months=12 * 10**9), "MOBILE").destination == "SAVINGS"
    little = [Held(member_id="001", kind="SHARES", amount_months=1)]
    assert lines_of("R-1", RATES, little, {"001": Payee(destination="SAVINGS", status=ACTIVE)}) == []


def test_equal_lines_are_legitimate_and_known_by_their_ids() -> None:
    held = [Held(member_id=number, kind="SHARES", amount_months=12_000_000) for number in ("002", "001")]
    payees = {number: Payee(destination="MOBILE", status=ACTIVE) for number in ("001", "002")}
    lines = lines_of("2025-DIV", RATES, held, payees)
    assert [each.line_id for each in lines] == ["2025-DIV:001:DIVIDEND", "2025-DIV:002:DIVIDEND"]
    assert lines[0].net_minor == lines[1].net_minor
    assert totals_of(lines).gross_minor == 2 * lines[0].gross_minor


def test_the_hash_depends_on_every_field_of_every_line_and_not_on_their_order() -> None:
    held = [Held(member_id=number, kind="SHARES", amount_months=12_000_000) for number in ("001", "002", "003")]
    lines = lines_of("R-1", RATES, held, {each.member_id: Payee(destination="SHARES", status=ACTIVE) for each in held})
    known = hash_of(lines)
    assert hash_of(lines[::-1]) == known
    changes = ({"net_minor": 1}, {"tax_minor": 1}, {"gross_minor": 1}, {"destination": "MOBILE"}, {"member_id": "009"})
    for change in changes:
        assert hash_of([replace(lines[0], **change), *lines[1:]]) != known, change
    assert hash_of(lines[1:]) != known
