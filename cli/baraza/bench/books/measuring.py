"""Measures the ledger: its batch path by case, the peer beside it, cost and reads by size, seals and verification."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from baraza.bench.books import peer, reads
from baraza.bench.books.cases import CASES
from baraza.bench.books.database import Books
from baraza.bench.books.writer import READY, Order, Written
from baraza.bench.usage import Meter, Usage
from baraza.terminal import Refusal, notify
from chassis.postgres.transient import utc_now
from ledger.store.seals import seal_all
from ledger.store.verification import verify

WRITERS = 2
"""Processes that book at once, as replicas of the service do."""
BATCH_SIZE = 1_000
"""What a worker that has fallen behind takes at once; one block of ids."""
Figures = dict[str, Any]


def measure_cases(books: Books, seconds: float) -> Figures:
    """Return transfers a second and microseconds of processor time a transfer, by case."""
    found: Figures = {}
    for case in CASES:
        found |= measure_case(books, case.name, seconds)
    return found


def measure_case(books: Books, case: str, seconds: float, *, suffix: str = "") -> Figures:
    """Run WRITERS processes on one case."""
    with ExitStack() as processes:
        orders = [
            Order(url=books.url, case=case, seed=seed, batch_size=BATCH_SIZE, seconds=seconds)
            for seed in range(WRITERS)
        ]
        writers = [processes.enter_context(_writer(order)) for order in orders]
        for writer in writers:
            _expect(writer, READY)
        meter = Meter(books.stack)
        before = meter.read()
        for writer in writers:
            _send(writer, "go")
        written = [Written(**json.loads(_line(writer))) for writer in writers]
        usage = Usage.between(before, meter.read())
    booked, refused = sum(each.booked for each in written), sum(each.refused for each in written)
    if refused:
        raise Refusal(f"{refused} transfers of {case} were refused, although every account has enough; it is a defect.")
    per_s = booked / max(each.seconds for each in written)
    cpu_s = sum(each.cpu_s for each in written) + sum(usage.stack_s.values())
    notify(f"{case}{suffix}: {per_s:.0f} transfers a second, {1e6 * cpu_s / booked:.0f} µs of processor time each")
    return {f"{case}{suffix}_per_s": round(per_s), f"{case}{suffix}_cpu_us": round(1e6 * cpu_s / booked, 1)}


def _writer(order: Order) -> subprocess.Popen[str]:
    command = (sys.executable, "-P", "-m", "baraza.bench.books.writer")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _send(process, json.dumps(asdict(order)))
    return process


def _send(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise Refusal(f"A writer of the benchmark ended with status {process.wait()}; see its error above.")
    return line.strip()


def _expect(process: subprocess.Popen[str], wanted: str) -> None:
    found = _line(process)
    if found != wanted:
        raise Refusal(f"A writer of the benchmark printed {found!r} instead of {wanted!r}; it is a defect.")


def measure_peer(books: Books, seconds: float) -> Figures:
    """Return transfers a second of the hand-written SQL, by case."""
    with books.engine.begin() as tx:
        peer.create(tx.connection.driver_connection)  # type: ignore[arg-type]  # psycopg's own
    found: Figures = {}
    with tempfile.TemporaryDirectory(prefix="baraza-bench-") as folder:
        for case in peer.CALLS:
            per_s = peer.transfers_per_s(case, books.login, seconds, Path(folder))
            notify(f"{case} by hand-written SQL: {per_s:.0f} transfers a second")
            found[f"sql_{case}_per_s"] = round(per_s)
    hot = [found[f"sql_{case}_per_s"] for case in peer.CALLS if case.startswith("hot")]
    return found | {"sql_hot_per_s": max(hot)}


def measure_sizes(books: Books, sizes: Sequence[int], seconds: float) -> Figures:
    """Return the cost of a transfer and the latencies of reads on so many entries, and seals and verification last."""
    found: Figures = {}
    for size in sizes:
        books.fill(size)
        suffix = f"_at_{size}"
        found |= measure_case(books, "uniform", seconds, suffix=suffix)
        found |= {f"{name}{suffix}": value for name, value in reads.latencies(books.engine).items()}
    return found | measure_verification(books)


def measure_verification(books: Books) -> Figures:
    """Seal everything, then verify everything. Raises Refusal where a row differs from its seal."""
    began_s, before = time.monotonic(), books.entries()
    with books.engine.begin() as tx:
        seal_all(tx, now=utc_now())
    sealed_s = time.monotonic() - began_s
    began_s = time.monotonic()
    with books.engine.connect().execution_options(isolation_level="REPEATABLE READ") as tx:
        verified = verify(tx)
    if verified.damages:
        raise Refusal(f"Untouched rows differ from their seals: {verified.damages[0]}. It is a defect.")
    return {
        "entries": before,
        "seal_entries_per_s": round(before / sealed_s),
        "verify_entries_per_s": round(verified.entries / (time.monotonic() - began_s)),
    }
