"""The ledger's benchmark measures what it says: its transfers are booked, its copies fit, its peer moves money."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from baraza.bench.books import peer, reads
from baraza.bench.books.cases import AMOUNT_MINOR, BY_NAME, CASES, HOT, LANED, Case
from baraza.bench.books.database import Books, books_on
from baraza.bench.books.measuring import WRITERS, measure_case, measure_verification
from baraza.bench.books.writer import Order, write
from baraza.terminal import Refusal
from chassis.postgres.transient import utc_now
from ledger.store.attempts import Ledger
from stack import Stack

SHORTLY_S = 0.2


@pytest.fixture(scope="module")
def books(infrastructure: Stack) -> Iterator[Books]:
    with books_on(infrastructure) as found:
        yield found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_moves_an_amount_from_its_source_to_its_target(case: Case) -> None:
    transfers = list(islice(case.transfers(Random(1)), 50))
    assert len({each.reference for each in transfers}) == 50
    for each in transfers:
        debit, credit = each.entries
        assert (debit.amount_minor, credit.amount_minor) == (AMOUNT_MINOR, -AMOUNT_MINOR)
        assert debit.account != credit.account
        assert case.source in (None, debit.account)
        assert case.target in (None, credit.account)


def test_what_a_writer_reports_is_in_the_books(books: Books) -> None:
    ledger = Ledger(books.engine, utc_now, threading.Event())
    before = books.entries()
    order = Order(url=books.url, case="hot_both", seed=1, batch_size=50, seconds=SHORTLY_S)
    written = write(order, ledger)
    assert written.refused == 0
    assert books.entries() - before == 2 * written.booked > 0


def test_processes_book_at_once_and_the_audit_is_green(books: Books) -> None:
    found = measure_case(books, "hot_source_lanes", SHORTLY_S)
    assert found["hot_source_lanes_per_s"] > 0
    assert WRITERS > 1
    report = books.report()
    assert report.is_green, report.to_json()
    unused = {"holds-resolved-once", "payments-as-moved"}
    assert {finding.invariant.name for finding in report.findings if not finding.checked} == unused


def test_copies_fit_and_reads_find_every_account(books: Books) -> None:
    before = books.entries()
    for entries in (before + 4_000, before + 7_000):
        books.fill(entries)
        assert books.entries() >= entries
    assert books.report().is_green
    assert all(value is not None for value in reads.latencies(books.engine).values())
    assert measure_verification(books)["entries"] == books.entries()


def test_the_audit_of_the_benchmark_finds_damage(infrastructure: Stack, books: Books) -> None:
    with psycopg.connect(make_conninfo("", **books.login)) as connection:
        connection.execute("UPDATE balances SET debits = debits + 1 WHERE account_id = (SELECT min(id) FROM accounts)")
        connection.commit()
        assert not books.report().is_green
        connection.execute("UPDATE balances SET debits = debits - 1 WHERE account_id = (SELECT min(id) FROM accounts)")


def test_the_peer_moves_money_between_two_and_refuses_an_overdraft(books: Books, tmp_path: Path) -> None:
    sums = """
        SELECT sum(balance), (SELECT count(*) FROM peer.transfers), (SELECT count(*) FROM peer.entries)
        FROM peer.accounts
    """
    with psycopg.connect(make_conninfo("", **books.login), autocommit=True) as connection:
        peer.create(connection)
        before = connection.execute(sums).fetchone()
        assert before is not None
        for case in peer.CALLS:
            assert peer.transfers_per_s(case, books.login, 1.0, tmp_path) > 0
        after = connection.execute(sums).fetchone()
        assert after is not None
        assert (after[0], after[2]) == (before[0], 2 * after[1])
        assert after[1] > 0
        with pytest.raises(psycopg.errors.RaiseException, match="insufficient funds"):
            connection.execute("SELECT peer.transfer(gen_random_uuid(), 1, 2, 9223372036854775807)")


def test_a_report_of_pgbench_without_a_rate_or_with_failures_is_refused() -> None:
    assert (
        peer.rate_of("number of failed transactions: 0 (0.000%)\ntps = 812.5 (without initial connection time)")
        == 812.5
    )
    with pytest.raises(Refusal):
        peer.rate_of("pgbench: error")
    with pytest.raises(Refusal):
        peer.rate_of("number of failed transactions: 3 (1%)\ntps = 812.5")


def test_hot_accounts_have_one_row_and_others_several(books: Books) -> None:
    with psycopg.connect(make_conninfo("", **books.login)) as connection:
        query = "SELECT path, lanes FROM accounts WHERE path = ANY(%s)"
        lanes = dict(connection.execute(query, ([*HOT, *LANED],)).fetchall())
    assert {lanes[path] for path in HOT} == {1}
    assert all(lanes[path] > 1 for path in LANED)
    assert set(BY_NAME) >= set(peer.CALLS)
