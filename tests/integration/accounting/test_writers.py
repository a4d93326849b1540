"""Several processes book at the same time: nothing is lost, nothing twice, and no collision looks like a refusal."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from ledger.model.transfers import Transfer
from support.ledger_writers import kill, started, url_of
from support.ledgers import LedgerUnderTest, hold, kinds, member, reference, transfer
from support.waiting import until

pytestmark = pytest.mark.timeout(300)  # Several processes start, and book the same accounts, on a busy machine.

BATCHES, SIZE = 20, 10
RESULT_S = 240.0
WORKING, UTILITY = "sacco:working:600000:KES", "sacco:utility:600000:KES"


def write(
    ledger: LedgerUnderTest, shares: Sequence[Sequence[Sequence[Transfer]]], isolation: str = "READ COMMITTED"
) -> Counter[str]:
    """Let one process a share book its batches, all at once; return all outcomes by count."""
    running = [started(url_of(ledger.engine), share, isolation, seed) for seed, share in enumerate(shares)]
    counts: Counter[str] = Counter()
    for process, results in running:
        assert results.poll(RESULT_S), f"a writer ended with {process.exitcode} or did not end"
        counts.update(results.recv())
        process.join()
    return counts


@pytest.mark.parametrize("processes", [2, 4])
def test_exactly_what_an_account_has_is_held_by_several_processes(ledger: LedgerUnderTest, processes: int) -> None:
    path = member(reference())
    wanted = processes * BATCHES * SIZE
    ledger.fund(path, wanted - 37)
    shares = [[[hold(path, WORKING, 1) for _ in range(SIZE)] for _ in range(BATCHES)] for _ in range(processes)]
    assert write(ledger, shares) == {"BOOKED": wanted - 37, "INSUFFICIENT_FUNDS": 37}
    assert ledger.totals()[path] == (0, wanted - 37, wanted - 37, 0)


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_batches_that_meet_are_repeated_and_never_refused(ledger: LedgerUnderTest, isolation: str) -> None:
    """With REPEATABLE READ every meeting is a serialization failure, 40001."""
    paths = [member(reference()) for _ in range(4)]
    for path in paths:
        ledger.fund(path, 1_000_000)
    choice = random.Random(7)
    pairs = [(debit, credit) for debit in paths for credit in paths if debit != credit]
    shares = [
        [[transfer(*choice.choice(pairs), 5) for _ in range(SIZE)] for _ in range(BATCHES // 2)] for _ in range(2)
    ]
    assert write(ledger, shares, isolation) == {"BOOKED": 2 * (BATCHES // 2) * SIZE}


def test_the_same_batches_in_several_processes_are_booked_once(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    ledger.fund(path, 1_000_000)
    batches = [[transfer(path, UTILITY, 1) for _ in range(SIZE)] for _ in range(BATCHES)]
    assert write(ledger, [batches] * 3) == {"BOOKED": BATCHES * SIZE, "REPEATED": 2 * BATCHES * SIZE}
    assert ledger.totals()[path][0] == BATCHES * SIZE


def test_batches_on_accounts_with_lanes_that_meet_are_booked_once(ledger: LedgerUnderTest) -> None:
    batches = [[transfer("sacco:fees_held:KES", UTILITY, 1) for _ in range(SIZE)] for _ in range(BATCHES)]
    before = ledger.totals().get("sacco:fees_held:KES", (0, 0, 0, 0))[0]
    assert write(ledger, [batches] * 3) == {"BOOKED": BATCHES * SIZE, "REPEATED": 2 * BATCHES * SIZE}
    assert ledger.totals()["sacco:fees_held:KES"][0] == before + BATCHES * SIZE


def test_a_writer_that_is_killed_leaves_whole_batches_and_its_successor_books_the_rest(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    count = 10 * BATCHES
    ledger.fund(path, count * SIZE)
    batches = [[transfer(path, WORKING, 1) for _ in range(SIZE)] for _ in range(count)]
    process, _ = started(url_of(ledger.engine), batches, "READ COMMITTED", 1)
    until(lambda: ledger.totals()[path][0] > 5 * SIZE, "the writer is in the middle of its batches")
    kill(process, ledger)
    booked = ledger.totals()[path][0]
    assert booked % SIZE == 0
    assert write(ledger, [batches]) == {"BOOKED": count * SIZE - booked, "REPEATED": booked}
    assert ledger.totals()[path] == (count * SIZE, count * SIZE, 0, 0)


def test_a_deadlock_is_repeated(ledger: LedgerUnderTest) -> None:
    """Another session locks in the other order; PostgreSQL ends the ledger's transaction with 40P01."""
    low, high = member(reference()), member(reference())
    ledger.fund(low, 10)
    ledger.fund(high, 10)
    lock = "SELECT FROM balances JOIN accounts ON accounts.id = account_id WHERE path = %s FOR UPDATE OF balances"
    waiting = (
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE NOT granted AND datname = current_database()"
    )
    with psycopg.connect(url_of(ledger.engine).replace("+psycopg", "")) as other, ThreadPoolExecutor() as threads:
        other.execute("SET LOCAL deadlock_timeout = '1h'")
        other.execute(lock, (high,))
        booking = threads.submit(ledger.book, transfer(low, high, 5))
        until(lambda: ledger.rows(waiting)[0][0] > 0, "the ledger waits for the lock")
        other.execute(lock, (low,))
        other.commit()
        assert kinds(booking.result(RESULT_S)) == ["BOOKED"]
