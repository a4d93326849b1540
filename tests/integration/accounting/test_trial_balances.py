"""Trial balances carry the totals of closed days on; they must be what the sum over all entries is."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from threading import Event, Thread

import pytest
from sqlalchemy import event

from ledger.model.charts import CHARTS
from ledger.model.days import end_of
from ledger.store import trial_balances
from ledger.store.attempts import Ledger
from ledger.store.booking import CLOSING_LOCK, book
from ledger.store.closing import close_day
from ledger.store.trial_balances import TrialLine, trial_balance
from ledger.store.verification import verify
from stack import Stack
from support.ledgers import LedgerUnderTest, hold, kinds, post, scratch_ledger, transfer, void
from support.waiting import until

CHART_NAMES = ("sacco", "shop")
PAIRS = (
    ("sacco:utility:600000:KES", "sacco:unallocated:KES"),
    ("sacco:bank:KES", "sacco:working:600000:KES"),
    ("shop:gateway_receivable:KES", "shop:sales:KES"),
)
FIRST, DAYS = date(2026, 3, 1), 9
ASKED = [FIRST + timedelta(days=each) for each in range(-4, DAYS + 6)]
DELAYS = (
    timedelta(),
    timedelta(seconds=3),
    timedelta(seconds=-3),
    timedelta(hours=7),
    timedelta(days=-1),
    timedelta(days=-3),
    timedelta(days=1),
    timedelta(days=4),
)
NAIVE = """
    SELECT code, currency, sum(greatest(amount_minor, 0)) AS debits, sum(greatest(-amount_minor, 0)) AS credits
    FROM transfer_entries JOIN accounts ON accounts.id = account_id
    WHERE chart = :chart AND effective_at < :until AND NOT is_hold
    GROUP BY code, currency ORDER BY currency COLLATE "C", code COLLATE "C"
"""
NAIVE_LATE = """
    SELECT DISTINCT transfers.id, reference
    FROM transfers JOIN transfer_entries ON transfer_id = transfers.id JOIN accounts ON accounts.id = account_id
    WHERE chart = :chart AND transfers.effective_at < :until AND NOT is_hold ORDER BY transfers.id
"""

WAITING = """
    SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted
"""
LOCKED = """
    SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE datname = current_database() AND locktype = 'advisory' AND mode = 'ExclusiveLock'
    AND (CAST(classid AS bigint) << 32) + CAST(objid AS bigint) = :key
"""


@pytest.fixture
def own_ledger(infrastructure: Stack) -> Iterator[LedgerUnderTest]:
    with scratch_ledger(infrastructure) as ledger:
        yield ledger


def naive(ledger: LedgerUnderTest, chart: str, day: date) -> Sequence[TrialLine]:
    """Return the totals as the sum over all entries."""
    rows = ledger.rows(NAIVE, chart=chart, until=end_of(day, CHARTS[chart].zone))
    return [
        TrialLine(code=row.code, currency=row.currency, debits=int(row.debits), credits=int(row.credits))
        for row in rows
    ]


def references(ledger: LedgerUnderTest, chart: str, day: date) -> list[str]:
    """Return what is effective up to a day and is more than a hold, in the order of booking."""
    return [row.reference for row in ledger.rows(NAIVE_LATE, chart=chart, until=end_of(day, CHARTS[chart].zone))]


def book_some(ledger: LedgerUnderTest, at: datetime, choice: random.Random) -> None:
    """Book transfers and holds, of which some are posted, with value dates around the time."""
    written = Ledger(ledger.engine, lambda: at, Event())
    for _ in range(choice.randrange(5)):
        debit, credit = choice.choice(PAIRS)
        effective_at = at + choice.choice(DELAYS)
        moved = transfer(debit, credit, choice.randrange(100), effective_at=effective_at)
        held = hold(debit, credit, choice.randrange(1, 50), effective_at=effective_at)
        ended = choice.choice([post(held, effective_at=at + choice.choice(DELAYS)), void(held)])
        assert kinds(written.book([moved, held, ended])) == ["BOOKED"] * 3


@dataclass(frozen=True, slots=True, kw_only=True)
class AtClose:
    """A day as the sum over all entries had it just before it was closed."""

    closed_at: datetime | None = None
    lines: Sequence[TrialLine] = ()
    references: Sequence[str] = ()


def close(ledger: LedgerUnderTest, chart: str, day: date, at: datetime, seen: dict[tuple[str, date], AtClose]) -> None:
    """Close a day, and keep how it and each day before it was, where that was open."""
    for each in ASKED:
        if each <= day and (chart, each) not in seen:
            lines, booked = naive(ledger, chart, each), references(ledger, chart, each)
            seen[chart, each] = AtClose(closed_at=at, lines=lines, references=booked)
    with ledger.engine.begin() as tx:
        assert close_day(chart, day, tx, now=at).totals == naive(ledger, chart, day)


@pytest.mark.parametrize("seed", range(4))
def test_a_trial_balance_is_the_sum_of_all_entries_whatever_is_closed(own_ledger: LedgerUnderTest, seed: int) -> None:
    """Days are closed late, several in a row, or not at all; a first close may cover days before it."""
    choice = random.Random(seed)
    seen: dict[tuple[str, date], AtClose] = {}
    following = {chart: FIRST + timedelta(days=choice.randrange(3)) for chart in CHART_NAMES}
    for hours in range(0, 24 * DAYS, 6):
        at = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=hours, minutes=choice.randrange(60))
        book_some(own_ledger, at, choice)
        for chart in CHART_NAMES:
            if end_of(following[chart], CHARTS[chart].zone) <= at and choice.random() < 0.4:
                close(own_ledger, chart, following[chart], at, seen)
                following[chart] += timedelta(days=1)
    book_some(own_ledger, at, choice)
    assert {chart for chart, _ in seen} == set(CHART_NAMES)
    with own_ledger.engine.begin() as tx:
        for chart, day in itertools.product(CHART_NAMES, ASKED):
            found, then = trial_balance(chart, day, tx), seen.get((chart, day), AtClose())
            assert found.lines == naive(own_ledger, chart, day), (chart, day)
            assert (found.closed_at, list(found.at_close)) == (then.closed_at, list(then.lines)), (chart, day)
            late = [] if then.closed_at is None else references(own_ledger, chart, day)[len(then.references) :]
            assert ([row.reference for row in found.late], found.late_count) == (late, len(late)), (chart, day)
        assert verify(tx).damages == []


def test_late_transfers_beyond_a_limit_are_counted(
    own_ledger: LedgerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_balances, "LATE_MAX", 2)
    now = datetime.now(UTC)
    with own_ledger.engine.begin() as tx:
        close_day("sacco", FIRST, tx, now=now)
    own_ledger.book(*(transfer(*PAIRS[1], 1, effective_at=now - timedelta(days=9_000)) for _ in range(3)))
    with own_ledger.engine.connect() as tx:
        found = trial_balance("sacco", FIRST, tx)
    assert (len(found.late), found.late_count) == (2, 3)


def test_bookings_go_on_while_the_totals_are_carried_on(own_ledger: LedgerUnderTest) -> None:
    """What is booked between the sum and the last wait is in the totals."""
    now, booked = datetime.now(UTC), []
    day = (now - timedelta(days=2)).date()
    own_ledger.book(transfer(*PAIRS[1], 5, effective_at=now - timedelta(days=4)))

    def book_after_the_sum(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "SELECT min(transfer_id)" in statement:
            assert own_ledger.rows(LOCKED, key=CLOSING_LOCK) == [(0,)]
            booked.append(kinds(own_ledger.book(transfer(*PAIRS[1], 7, effective_at=now - timedelta(days=3)))))

    with own_ledger.engine.begin() as tx:
        event.listen(tx, "before_cursor_execute", book_after_the_sum)
        closed = close_day("sacco", day, tx, now=now)
    assert booked == [["BOOKED"]]
    assert closed.totals == naive(own_ledger, "sacco", day)


def test_a_batch_under_way_is_in_the_totals_although_a_later_one_has_ended(own_ledger: LedgerUnderTest) -> None:
    now = datetime.now(UTC)
    day = (now - timedelta(days=2)).date()
    closed = []

    def close_it() -> None:
        with own_ledger.engine.begin() as tx:
            closed.append(close_day("sacco", day, tx, now=now))

    thread = Thread(target=close_it)
    with own_ledger.engine.begin() as tx:
        under_way = transfer(*PAIRS[0], 5, effective_at=now - timedelta(days=4))
        assert kinds(book([under_way], tx, now=now)) == ["BOOKED"]
        own_ledger.book(transfer(*PAIRS[1], 7, effective_at=now - timedelta(days=4)))
        thread.start()
        until(lambda: own_ledger.rows(WAITING) == [(1,)], "the close waits for the batch under way")
    thread.join()
    assert closed[0].totals == naive(own_ledger, "sacco", day)
    assert sum(line.debits for line in closed[0].totals) == 12
