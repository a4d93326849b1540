"""How long people wait for a balance and for a page of a statement, on tables of some size."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from baraza.bench.books.cases import HOT, LANED, MEMBERS, member
from baraza.percentiles import percentile
from ledger.model.charts import LANES
from ledger.store import reading
from ledger.store.reading import Position

READS = 400
PAGE = 100
TIMES = text("SELECT min(booked_at) AS first, max(booked_at) AS last FROM transfers")
ACCOUNTS = text("SELECT path, id FROM accounts WHERE path = ANY(:paths)")


def latencies(engine: Engine) -> dict[str, float | None]:
    """Return the 99th percentiles in milliseconds: balances now, at booked and effective times, and statement pages.

    Half of the accounts are busy, half are members'. Each read is a transaction of its own, as in the API.
    """
    chance = random.Random(1)
    with engine.connect() as tx:
        span = tx.execute(TIMES).one()
        paths = [*HOT, *LANED, *(member(chance.randrange(MEMBERS)) for _ in range(4))]
        ids = [row.id for row in tx.execute(ACCOUNTS, {"paths": paths})]

    def at() -> datetime:
        begun: datetime = span.first
        length: timedelta = span.last - span.first
        return begun + length * chance.random()

    def page(tx: Connection, account: int) -> Sequence[Any]:
        after = Position(booked_at=at(), transfer_id=0, ordinal=0)
        return reading.statement(account, dict.fromkeys(range(LANES), after), PAGE + 1, tx)

    measured: dict[str, Callable[[Connection, int], object]] = {
        "balance_now": lambda tx, account: reading.balance_now(account, tx),
        "balance_booked": lambda tx, account: reading.balance_booked(account, at(), tx),
        "balance_effective": lambda tx, account: reading.balance_effective(account, at(), tx),
        "statement_page": page,
    }
    return {f"{name}_p99_ms": _p99_ms(engine, read, ids) for name, read in measured.items()}


def _p99_ms(engine: Engine, read: Callable[[Connection, int], object], accounts: Sequence[int]) -> float | None:
    taken_ms: list[float] = []
    for number in range(READS):
        began_s = time.perf_counter()
        with engine.connect() as tx:
            read(tx, accounts[number % len(accounts)])
        taken_ms.append(1_000 * (time.perf_counter() - began_s))
    return percentile(sorted(taken_ms), 0.99)
