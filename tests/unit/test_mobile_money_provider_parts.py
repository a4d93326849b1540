"""The parts of the simulated providers of mobile money that are pure, or need no more than a file."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from simulators.mobile import books, tariffs, times
from simulators.mobile.faults import ANSWER, CALLBACK, OUTCOME, STATEMENT, Fault, Kind, Subject, met, of_header
from simulators.mobile.records import MobileRecords
from simulators.mobile.statements import money, plain
from simulators.problems import Problem

NOON = times.starts(date(2026, 11, 30)) + 12 * 3600


@pytest.fixture
def records(tmp_path: Path) -> Iterator[MobileRecords]:
    with MobileRecords.open(tmp_path / "records.sqlite") as made, made.transaction():
        yield made


@pytest.mark.parametrize(
    ("shillings", "charge"),
    [(10, 0), (100, 0), (101, 5), (1_500, 5), (1_501, 9), (5_000, 9), (5_001, 11), (20_000, 11), (20_001, 13),
     (250_000, 13)],
)  # fmt: skip
def test_a_payout_is_charged_by_its_band(records: MobileRecords, shillings: int, charge: int) -> None:
    assert tariffs.charge_minor(records, books.PAY_OUT, shillings * 100, NOON) == charge * 100
    assert tariffs.charge_minor(records, books.PAY_IN, shillings * 100, NOON) == 0


def test_nothing_is_charged_before_the_first_tariff_and_the_newest_wins(records: MobileRecords) -> None:
    before = times.starts(date(2023, 7, 31))
    assert tariffs.charge_minor(records, books.PAY_OUT, 50_000, before) == 0
    added = tariffs.Tariff(kind="pay_out", from_day=date(2026, 12, 1), bands=(tariffs.Band(charge=7),))
    tariffs.add(records, added)
    assert tariffs.charge_minor(records, books.PAY_OUT, 50_000, NOON) == 500
    assert tariffs.charge_minor(records, books.PAY_OUT, 50_000, NOON + 12 * 3600) == 700


def test_receipts_are_ten_characters_and_none_comes_twice(records: MobileRecords) -> None:
    made = [books.new_receipt(records, NOON) for _ in range(5_000)]
    assert len(set(made)) == 5_000
    assert {len(each) for each in made} == {10}
    assert made != sorted(made)
    assert all(each.isalnum() and each == each.upper() for each in made)


def test_entries_that_do_not_add_up_are_refused(records: MobileRecords) -> None:
    with pytest.raises(ValueError, match="add up to 1, not to 0"):
        records.enter("R1", "float", NOON, {"a": 2, "b": -1}, {})
    records.enter("R2", "float", NOON, {"a": 2, "b": -2}, {})
    records.enter("R3", "float", NOON - 5, {"a": 3, "b": -3}, {})
    assert [(each.at, each.balance_minor) for each in records.entries("a", 0, NOON + 1)] == [(NOON, 2), (NOON, 5)]
    assert (records.unbalanced(), records.balance("b")) == ([], -5)


def test_an_account_pays_no_more_than_it_has(records: MobileRecords) -> None:
    wallet = books.wallet(records, "254712345678", NOON)
    assert records.balance(wallet) == books.WALLET_MINOR
    too_much = books.Transfer(
        kind=books.PAY_IN, source=wallet, target="600100:utility", amount_minor=books.WALLET_MINOR + 1
    )
    with pytest.raises(books.TooLittle):
        books.enter(records, too_much, NOON)
    assert records.balance("600100:utility") == 0


def test_a_day_is_that_of_nairobi() -> None:
    at = times.starts(date(2026, 12, 1))
    assert (times.dashed(at), times.compact(at)) == ("2026-12-01 00:00:00", "20261201000000")
    assert times.dotted(at - 1) == "30.11.2026 23:59:59"
    assert (times.day_of(at - 1), times.ends(date(2026, 11, 30))) == (date(2026, 11, 30), at)
    assert times.parsed("20261201000000", "%Y%m%d%H%M%S") == at


@pytest.mark.parametrize(
    ("minor", "written"), [(123_456_789, "1,234,567.89"), (-100, "-1.00"), (-5, "-0.05"), (0, "0.00")]
)
def test_money_is_written_with_separators_and_cents(minor: int, written: str) -> None:
    assert (money(minor), plain(minor)) == (written, written.replace(",", ""))


def test_a_header_has_several_faults_and_a_flaw_is_named() -> None:
    first, second = of_header("b2c", "answer_lost, result; code=1; paid_after_s=5")
    assert (first.kind, second.kind, second.code, second.paid_after_s) == (Kind.ANSWER_LOST, Kind.RESULT, "1", 5.0)
    with pytest.raises(Problem, match="kinds: slow, hang"):
        of_header("b2c", "answer_lots")
    with pytest.raises(ValidationError):
        Fault(kind=Kind.LOST, rate=2.0)


def test_each_kind_of_fault_is_about_one_thing() -> None:
    groups = (ANSWER, OUTCOME, CALLBACK, STATEMENT)
    assert sum(map(len, groups)) == len(Kind)
    assert Kind.HASHED in ANSWER
    assert {Kind.LOST, Kind.REASON_OBJECT} <= CALLBACK
    assert {Kind.GAP, Kind.ALL_STATES} <= STATEMENT


def test_a_fault_is_active_by_its_schedule_and_counts_its_times(records: MobileRecords) -> None:
    scheduled = Fault(operation="b2c", kind=Kind.LOST, starts_in_s=60, lasts_s=60).scheduled(NOON)
    assert [scheduled.is_active(NOON + after) for after in (0, 60, 119, 120)] == [False, True, True, False]
    records.add_fault(Fault(operation="*", kind=Kind.ERROR, times=2, match="B1").model_dump_json())
    own, other = Subject(operation="b2c", reference="B1"), Subject(operation="b2c", reference="B2", others=("x",))
    counts = [len(met(records, own, ANSWER, now=NOON, seed=1)) for _ in range(3)]
    assert (counts, met(records, other, ANSWER, now=NOON, seed=1)) == ([1, 1, 0], ())


def test_a_rate_draws_by_the_seed_and_the_reference_alone(records: MobileRecords) -> None:
    records.add_fault(Fault(operation="b2c", kind=Kind.LOST, rate=0.3).model_dump_json())

    def drawn(seed: int) -> list[int]:
        subjects = [Subject(operation="b2c", reference=f"B{number}") for number in range(1_000)]
        return [len(met(records, each, CALLBACK, now=NOON, seed=seed)) for each in subjects]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert 240 < sum(drawn(1)) < 360
