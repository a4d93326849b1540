"""Entries of earlier releases become transfers, and processes of that release go on while the upgrade rolls."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from chassis.postgres import migrations
from chassis.wire.envelope import new_id
from ledger.closing import next_day
from ledger.store.booking import CLOSING_LOCK
from ledger.store.closing import close_day
from ledger.store.trial_balances import trial_balance
from stack import Stack
from support.ledgers import LedgerUnderTest, kinds, ledger_on, moved, reference, transfer
from support.postgres import scratch_database

SAGAS = 1_500
"""More than one block of ids."""
BEGUN_AT = datetime(2026, 1, 1, tzinfo=UTC)
ADD = text(
    "INSERT INTO entries (saga_id, kind, account, debit_minor, credit_minor, currency, posted_at)"
    " SELECT * FROM unnest(CAST(:saga_id AS text[]), CAST(:kind AS text[]), CAST(:account AS text[]),"
    " CAST(:debit_minor AS bigint[]), CAST(:credit_minor AS bigint[]), CAST(:currency AS text[]),"
    " CAST(:posted_at AS timestamptz[]))"
)
"""What a process of the release before sends."""
ALL = "SELECT saga_id, kind, account, debit_minor, credit_minor, currency, posted_at FROM entries"
COLUMNS = ("saga_id", "kind", "account", "debit_minor", "credit_minor", "currency", "posted_at")


def posting(saga_id: str, kind: str, amount_minor: int, currency: str, at: datetime) -> list[tuple[Any, ...]]:
    debited, credited = ("gateway_receivable", "sales") if kind == "POST" else ("sales", "gateway_receivable")
    return [
        (saga_id, kind, debited, amount_minor, 0, currency, at),
        (saga_id, kind, credited, 0, amount_minor, currency, at),
    ]


def add(engine: Engine, rows: Sequence[tuple[Any, ...]]) -> None:
    with engine.begin() as tx:
        tx.execute(ADD, {name: [row[index] for row in rows] for index, name in enumerate(COLUMNS)})


def history() -> list[tuple[Any, ...]]:
    """Return the entries of many orders: three currencies, amounts of 0 and of 64 bits, some of them reversed."""
    choice = random.Random(3)
    rows: list[tuple[Any, ...]] = []
    for number in range(SAGAS):
        amount_minor = choice.choice([0, 1, 1_500, 2**53 + 1, 2**62]) if number % 10 == 0 else number
        saga = (f"saga-{number}", amount_minor, choice.choice(["USD", "JPY", "KWD"]))
        at = BEGUN_AT + timedelta(seconds=number // 3)
        rows += posting(saga[0], "POST", *saga[1:], at)
        if number % 7 == 0:
            rows += posting(saga[0], "REVERSE", *saga[1:], at + timedelta(minutes=1))
    return rows


@pytest.fixture
def earlier(infrastructure: Stack) -> Iterator[Engine]:
    """A database as the release before has it, with its entries."""
    with scratch_database(infrastructure) as engine:
        migrations.upgrade("ledger", engine, "0002")
        add(engine, history())
        yield engine


@pytest.fixture
def upgraded(earlier: Engine) -> LedgerUnderTest:
    migrations.upgrade("ledger", earlier)
    return ledger_on(earlier)


def test_no_entry_is_lost_and_every_balance_is_the_sum_of_its_entries(upgraded: LedgerUnderTest) -> None:
    assert sorted(map(tuple, upgraded.rows(ALL))) == sorted(history())
    upgraded.check()
    assert upgraded.rows("SELECT count(*) FROM transfers") == [(SAGAS + len(range(0, SAGAS, 7)),)]


def test_a_reversal_is_taken_over_as_a_correction_of_its_posting(upgraded: LedgerUnderTest) -> None:
    found = upgraded.rows(
        "SELECT count(*), count(named.id) FILTER (WHERE named.saga_id = transfers.saga_id)"
        " FROM transfers LEFT JOIN transfers AS named ON named.id = transfers.of_id WHERE transfers.kind = 'CORRECTION'"
    )
    assert found == [(len(range(0, SAGAS, 7)),) * 2]


def test_the_running_totals_of_entries_end_at_the_balance(upgraded: LedgerUnderTest) -> None:
    upgraded.book(
        transfer(
            "shop:gateway_receivable:USD",
            "shop:sales:USD",
            5,
            entries=moved("shop:gateway_receivable:USD", "shop:sales:USD", 5, "USD"),
        )
    )
    assert (
        upgraded.rows("""
        SELECT path FROM accounts JOIN balances ON balances.account_id = accounts.id
        CROSS JOIN LATERAL (
            SELECT debits_after, credits_after FROM transfer_entries
            WHERE account_id = accounts.id AND lane = balances.lane
            ORDER BY booked_at DESC, transfer_id DESC, ordinal DESC LIMIT 1) AS latest
        WHERE (debits, credits) <> (debits_after, credits_after)
    """)
        == []
    )


def test_a_process_of_the_release_before_posts_and_reverses_after_the_upgrade(upgraded: LedgerUnderTest) -> None:
    saga_id, now = new_id(), datetime.now(UTC)
    rows = posting(saga_id, "POST", 700, "USD", now)
    add(upgraded.engine, rows)
    found = upgraded.rows(f"{ALL} WHERE saga_id = :saga_id AND kind = 'POST' ORDER BY account", saga_id=saga_id)
    assert [tuple(row[:6]) for row in found] == [row[:6] for row in rows]
    add(upgraded.engine, posting(saga_id, "REVERSE", 700, "USD", now))
    upgraded.check()


def test_the_first_close_after_the_upgrade_covers_all_days_before_it(upgraded: LedgerUnderTest) -> None:
    today = datetime.now(UTC).date()
    with upgraded.engine.begin() as tx:
        assert next_day("shop", tx) in (today, today - timedelta(days=1))
        closed = close_day("shop", today, tx, now=datetime.now(UTC) + timedelta(days=1))
    ((debits,),) = upgraded.rows("SELECT sum(debit_minor) FROM entries")
    assert sum(line.debits for line in closed.totals) == debits
    with upgraded.engine.begin() as tx:
        assert next_day("shop", tx) == today + timedelta(days=1)
        first = trial_balance("shop", BEGUN_AT.date(), tx)
    assert (first.lines, first.closed_at, first.late) == (first.at_close, closed.closed_at, [])
    assert first.lines


def test_a_close_waits_for_what_a_process_of_the_release_before_writes(upgraded: LedgerUnderTest) -> None:
    rows = posting(new_id(), "POST", 700, "USD", datetime.now(UTC))
    try_lock = "SELECT pg_try_advisory_xact_lock(:key)"
    with upgraded.engine.begin() as tx:
        tx.execute(ADD, {name: [row[index] for row in rows] for index, name in enumerate(COLUMNS)})
        assert upgraded.rows(try_lock, key=CLOSING_LOCK) == [(False,)]
    assert upgraded.rows(try_lock, key=CLOSING_LOCK) == [(True,)]


def test_a_posting_of_the_release_before_is_not_posted_again(upgraded: LedgerUnderTest) -> None:
    saga_id = new_id()
    add(upgraded.engine, posting(saga_id, "POST", 700, "USD", datetime.now(UTC)))
    with pytest.raises(DBAPIError):
        add(upgraded.engine, posting(saga_id, "POST", 700, "USD", datetime.now(UTC)))
    upgraded.check()


def test_where_there_was_no_entry_the_ledger_begins_empty(infrastructure: Stack) -> None:
    with scratch_database(infrastructure) as engine:
        migrations.upgrade("ledger", engine, "0002")
        migrations.upgrade("ledger", engine)
        ledger = ledger_on(engine)
        ledger.check()
        assert kinds(ledger.book(transfer("sacco:bank:KES", "sacco:working:600000:KES", 1))) == ["BOOKED"]
        assert reference()
