"""Every closed day is computed again: its totals, the accounts that it had, and its root."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import psycopg
import pytest
from psycopg.errors import LockNotAvailable, RaiseException
from sqlalchemy import text

from chassis.postgres.transient import utc_now
from chassis.wire.codec import Codec
from ledger.closing import close_and_publish
from ledger.store.booking import CLOSING_LOCK
from ledger.store.closing import close_day
from ledger.store.seals import seal_all
from ledger.store.verification import verify
from proof.schemas import LocalRegistry
from stack import Stack
from support.ledgers import LedgerUnderTest, at, hold, member, scratch_ledger, transfer

BANK, WORKING = "sacco:bank:KES", "sacco:working:600000:KES"
FREE = "SET LOCAL session_replication_role = replica"
DAYS = (5, 6, 8)


@pytest.fixture(scope="module")
def closed(infrastructure: Stack) -> Iterator[LedgerUnderTest]:
    """Three closed days of one chart and one of another, each with bookings before and after the closing."""
    with scratch_ledger(infrastructure) as ledger:
        for day in DAYS:
            ledger.fund(member(f"m{day}"), 100, effective_at=at(9, day=day))
            ledger.book(
                transfer(BANK, WORKING, day, effective_at=at(20, day=day)),
                transfer(BANK, WORKING, 1_000, effective_at=at(21, day=day)),
                hold(BANK, WORKING, 5, effective_at=at(1, day=day)),
                transfer("shop:bank:KES", "shop:sales:KES", 450, effective_at=at(1, day=day)),
            )
            close(ledger, "sacco", day)
            ledger.book(transfer(BANK, WORKING, 7, effective_at=at(1, day=day)))
        close(ledger, "shop", 8)
        ledger.open(member("late"))
        ledger.book(transfer(BANK, WORKING, 7, effective_at=at(1, day=9)))
        with ledger.engine.begin() as tx:
            seal_all(tx, now=utc_now())
        yield ledger


def url_of(ledger: LedgerUnderTest) -> str:
    return ledger.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def close(ledger: LedgerUnderTest, chart: str, day: int) -> None:
    """Close a day by a clock that is ahead: what is booked afterwards seems to be booked before."""
    with ledger.engine.begin() as tx:
        close_day(chart, date(2026, 1, day), tx, now=utc_now() + timedelta(hours=1))


def damages(ledger: LedgerUnderTest, *damage: str) -> list[str]:
    """Do the damage as the superuser, verify, and roll it back."""
    with ledger.engine.connect() as tx:
        for statement in (FREE, *damage):
            tx.execute(text(statement))
        found = verify(tx).damages
        tx.rollback()
    return found


def test_a_day_may_take_longer_to_close_than_a_message_may(closed: LedgerUnderTest) -> None:
    with closed.engine.begin() as tx:
        tx.execute(text("SET LOCAL transaction_timeout = '900ms'"))
        close_and_publish("shop", date(2026, 1, 9), tx, Codec(LocalRegistry()), now=utc_now())
        assert tx.execute(text("SELECT 1 FROM pg_sleep(1.2)")).one()
        tx.rollback()


def test_untouched_days_are_as_they_were_closed(closed: LedgerUnderTest) -> None:
    assert damages(closed) == []
    assert len(closed.rows("SELECT FROM day_totals")) == 3 * 3 + 2


def test_the_time_of_a_closing_is_in_its_root(closed: LedgerUnderTest) -> None:
    assert damages(closed, "UPDATE day_closes SET closed_at = closed_at + interval '1 year'") == [
        f"the closing of {chart} 2026-01-0{day} was changed, or its totals were: they differ from its root"
        for chart, day in (("sacco", 5), ("sacco", 6), ("sacco", 8), ("shop", 8))
    ]


SIXTH = "WHERE chart = 'sacco' AND day = '2026-01-06'"
CHANGED = "the closing of sacco 2026-01-06 was changed, or its totals were: they differ from its root"
BANK_6 = "the totals of sacco 2026-01-06 bank KES are"


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("UPDATE day_totals SET debits = debits + 1 {sixth} AND code = 'bank'", (BANK_6, CHANGED)),
        ("UPDATE day_totals SET debits = 'NaN' {sixth} AND code = 'bank'", (BANK_6, CHANGED)),
        ("DELETE FROM day_totals {sixth} AND code = 'bank'", (f"{BANK_6} 0 and 0", CHANGED)),
        ("UPDATE day_totals SET code = 'cash' {sixth} AND code = 'bank'", (BANK_6, CHANGED)),
        ("UPDATE day_closes SET root = sha256(root) {sixth}", (CHANGED,)),
        ("UPDATE day_closes SET heads = 'garbage' {sixth}", ("the heads of the closing of sacco 2026-01-06", CHANGED)),
        ("UPDATE day_closes SET heads = '9:1:00' {sixth}", ("the heads of the closing of sacco 2026-01-06", CHANGED)),
        ("UPDATE day_closes SET heads = '' {sixth}", (CHANGED,)),
        ("UPDATE day_closes SET closed_until = closed_until + interval '1 day' {sixth}", (CHANGED,)),
        ("UPDATE day_closes SET closed_until = 'infinity' {sixth}", (CHANGED,)),
        ("UPDATE day_closes SET closed_at = '-infinity' {sixth}", (CHANGED,)),
        ("UPDATE day_closes SET last_account_id = 0 {sixth}", (CHANGED,)),
        ("UPDATE day_closes SET accounts_digest = root {sixth}", (CHANGED,)),
        ("DELETE FROM day_closes {sixth}", ("the totals of sacco 2026-01-06 were inserted",)),
        ("UPDATE accounts SET kind = 'EXPENSE' WHERE path = 'sacco:bank:KES'", ("the closing of sacco 2026-01-05",)),
        ("UPDATE accounts SET lanes = 4 WHERE path LIKE '%m6%'", ("the closing of sacco 2026-01-06",)),
        ("UPDATE accounts SET owner = 'x', path = 'sacco:fosa:x:KES' WHERE path LIKE '%m6%'", ("2026-01-06",)),
        ("UPDATE accounts SET code = 'shares' WHERE path LIKE '%m6%'", ("2026-01-06", "2026-01-06 fosa")),
        ("DELETE FROM accounts WHERE path LIKE '%m6%'", ("an account of sacco was changed, removed",)),
        (
            "INSERT INTO accounts (id, path, chart, code, kind, currency, lanes, opened_at) OVERRIDING SYSTEM VALUE"
            " SELECT 0 - id, path || 'p', chart, code, kind, currency, lanes, opened_at FROM accounts"
            " WHERE chart = 'shop'",
            ("an account of shop was changed, removed",),
        ),
    ],
)
def test_a_changed_day_is_named(closed: LedgerUnderTest, damage: str, named: tuple[str, ...]) -> None:
    found = damages(closed, damage.format(sixth=SIXTH))
    for each in named:
        assert [line for line in found if each in line], found


@pytest.mark.parametrize("table", ["accounts", "day_closes", "day_totals"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET chart = chart", "DELETE FROM {}", "TRUNCATE {}"])
def test_accounts_and_closed_days_are_never_changed(closed: LedgerUnderTest, table: str, statement: str) -> None:
    with psycopg.connect(url_of(closed)) as connection, pytest.raises(RaiseException, match=f"of {table} is refused"):
        connection.execute(statement.format(table))


def test_a_posting_of_the_release_before_waits_for_a_closing(closed: LedgerUnderTest) -> None:
    """Otherwise a day's totals could have an entry that is not sealed with them."""
    with psycopg.connect(url_of(closed)) as closing, psycopg.connect(url_of(closed)) as posting:
        closing.execute("SELECT pg_advisory_xact_lock(%s)", (CLOSING_LOCK,))
        posting.execute("SET lock_timeout = '1ms'")
        with pytest.raises(LockNotAvailable):
            posting.execute("INSERT INTO entries VALUES ('saga', 'POST', 'sales', 0, 5, 'USD', now())")
