"""Balances and statements at any time, trial balances, closed days and what is late for them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from threading import Event

import pytest

from ledger.model.days import day_of, end_of
from ledger.model.rows import BLOCK_SIZE
from ledger.store.attempts import Ledger
from ledger.store.closing import CannotClose, close_day
from ledger.store.reading import (
    NEAR,
    Position,
    balance_booked,
    balance_effective,
    statement,
)
from ledger.store.trial_balances import trial_balance
from ledger.store.verification import verify
from stack import Stack
from support.ledgers import LedgerUnderTest, hold, kinds, scratch_ledger, transfer

BEGUN_AT = datetime(2026, 3, 1, tzinfo=UTC)
HOT = "sacco:utility:600000:KES"
"""An account with lanes."""
DELAYS = (timedelta(), timedelta(seconds=-1), NEAR / 2, -NEAR / 2, timedelta(days=2), timedelta(days=-2), -NEAR)
TRANSFERS, PAGE = 120, 7


@pytest.fixture(scope="module")
def times(infrastructure: Stack) -> Iterator[LedgerUnderTest]:
    """A ledger that was written over days, with value dates before and after the booking."""
    with scratch_ledger(infrastructure) as ledger:
        choice = random.Random(11)
        for number in range(TRANSFERS):
            at = BEGUN_AT + timedelta(minutes=40 * number, seconds=choice.randrange(60))
            written = Ledger(ledger.engine, lambda at=at: at, Event())  # type: ignore[misc]
            effective_at = at + choice.choice(DELAYS)
            moved = transfer(HOT, "sacco:unallocated:KES", choice.randrange(100), effective_at=effective_at)
            back = transfer("sacco:unallocated:KES", HOT, choice.randrange(50))
            assert kinds(written.book([moved, back, hold(HOT, "sacco:unallocated:KES", 3)])) == ["BOOKED"] * 3
        yield ledger


def id_of(ledger: LedgerUnderTest, path: str) -> int:
    ((found,),) = ledger.rows("SELECT id FROM accounts WHERE path = :path", path=path)
    return int(found)


def summed(ledger: LedgerUnderTest, column: str, at: datetime) -> tuple[int, int]:
    rows = ledger.rows(
        "SELECT amount_minor, booked_at, effective_at FROM transfer_entries WHERE account_id = :id AND NOT is_hold",
        id=id_of(ledger, HOT),
    )
    amounts = [row.amount_minor for row in rows if getattr(row, column) <= at]
    return sum(amount for amount in amounts if amount > 0), -sum(amount for amount in amounts if amount < 0)


def instants(ledger: LedgerUnderTest) -> list[datetime]:
    found = ledger.rows("SELECT booked_at, effective_at FROM transfer_entries WHERE NOT is_hold ORDER BY booked_at")
    exact = [at for row in found[::9] for at in row]
    before = [at - timedelta(microseconds=1) for at in exact]
    return [BEGUN_AT - timedelta(days=9), *exact, *before, datetime(2030, 1, 1, tzinfo=UTC)]


def test_a_balance_at_any_booked_time_is_the_sum_of_what_was_booked_by_then(times: LedgerUnderTest) -> None:
    with times.engine.connect() as tx:
        for at in instants(times):
            found = balance_booked(id_of(times, HOT), at, tx)
            assert (found.debits, found.credits) == summed(times, "booked_at", at), at


def test_a_balance_at_any_effective_time_is_the_sum_of_what_has_that_value_date(times: LedgerUnderTest) -> None:
    with times.engine.connect() as tx:
        for at in instants(times):
            found = balance_effective(id_of(times, HOT), at, tx)
            assert (found.debits, found.credits) == summed(times, "effective_at", at), at


def test_the_pages_of_a_statement_have_every_entry_once_in_order(times: LedgerUnderTest) -> None:
    id_, pages, after = id_of(times, HOT), [], {}
    with times.engine.connect() as tx:
        while page := statement(id_, after, PAGE, tx):
            pages += page
            for row in page:
                position = Position(booked_at=row.booked_at, transfer_id=row.transfer_id, ordinal=row.ordinal)
                after[row.lane] = position
    assert len(pages) == 3 * TRANSFERS
    keys = [(row.booked_at, row.transfer_id, row.ordinal) for row in pages]
    assert keys == sorted(set(keys))


def test_a_trial_balance_has_equal_debits_and_credits_on_every_day(times: LedgerUnderTest) -> None:
    with times.engine.connect() as tx:
        totals = [trial_balance("sacco", date(2026, 3, day), tx).lines for day in (1, 2, 3, 9)]
    for day in totals:
        assert day
        assert sum(each.debits for each in day) == sum(each.credits for each in day)
    assert totals[0] != totals[1]


def test_a_day_ends_at_midnight_of_its_zone() -> None:
    assert end_of(date(2026, 3, 1), "Africa/Nairobi") == datetime(2026, 3, 1, 21, tzinfo=UTC)
    assert end_of(date(2026, 3, 1), "UTC") == datetime(2026, 3, 2, tzinfo=UTC)
    assert day_of(datetime(2026, 3, 1, 21, tzinfo=UTC), "Africa/Nairobi") == date(2026, 3, 2)


def test_what_is_booked_for_a_closed_day_is_late_and_leaves_the_closed_totals(times: LedgerUnderTest) -> None:
    day, now = date(2026, 3, 2), datetime(2026, 3, 20, tzinfo=UTC)
    with times.engine.begin() as tx:
        closed = close_day("sacco", day, tx, now=now)
    end = end_of(day, "Africa/Nairobi")
    in_time = transfer(HOT, "sacco:unallocated:KES", 9, effective_at=end)
    tardy = transfer(HOT, "sacco:unallocated:KES", 9, effective_at=end - timedelta(seconds=1))
    elsewhere = transfer("merchants:bank:KES", "merchants:suspense:KES", 9, effective_at=BEGUN_AT)
    assert kinds(Ledger(times.engine, lambda: now, Event()).book([in_time, tardy, elsewhere])) == ["BOOKED"] * 3
    with times.engine.begin() as tx:
        found = trial_balance("sacco", day, tx)
        assert ([row.reference for row in found.late], found.late_count) == ([tardy.reference], 1)
        assert (found.at_close, found.closed_at) == (closed.totals, now)
        assert sum(each.debits for each in found.lines) == sum(each.debits for each in closed.totals) + 9
        assert verify(tx).damages == []
        with pytest.raises(CannotClose, match="closed up to 2026-03-02"):
            close_day("sacco", day, tx, now=now)


def test_a_day_that_is_not_over_in_its_zone_cannot_be_closed(times: LedgerUnderTest) -> None:
    day = date(2026, 4, 1)
    with times.engine.begin() as tx, pytest.raises(CannotClose, match="not over before 2026-04-01T21:00"):
        close_day("sacco", day, tx, now=datetime(2026, 4, 1, 20, 59, tzinfo=UTC))


def test_a_batch_of_more_than_one_block_is_booked_and_sealed(times: LedgerUnderTest) -> None:
    batch = [transfer("merchants:bank:KES", "merchants:suspense:KES", 1) for _ in range(BLOCK_SIZE + 1)]
    assert kinds(times.book(*batch)) == ["BOOKED"] * len(batch)
    with times.engine.begin() as tx:
        close_day("merchants", date(2026, 3, 1), tx, now=datetime.now(UTC))
        assert verify(tx).damages == []
    times.check()
