"""Processes that book transfers in one database at the same time, each a process that can be killed."""

from __future__ import annotations

import multiprocessing
import random
from collections import Counter
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from threading import Event
from typing import Any

from sqlalchemy import Engine, create_engine

from chassis.postgres.database import prepare
from chassis.postgres.transient import utc_now
from ledger.model.transfers import Transfer
from ledger.store.attempts import Ledger
from support.ledgers import LedgerUnderTest, kinds
from support.waiting import until

SPAWN = multiprocessing.get_context("spawn")
NAME = "ledger-writer"
"""A writer's name in PostgreSQL's list of sessions."""
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND datname = current_database()"


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def kill(process: BaseProcess, ledger: LedgerUnderTest) -> None:
    """Kill a writer, and return when PostgreSQL has ended its session: a commit under way may outlast its client."""
    process.kill()
    process.join()
    until(lambda: ledger.rows(SESSIONS, name=NAME)[0][0], "its session ends", holds=lambda count: count == 0)


def started(url: str, batches: Sequence[Sequence[Transfer]], isolation: str, seed: int) -> tuple[BaseProcess, Any]:
    """Start a process that books these batches in an order of its own; its counts by outcome come by the connection."""
    receiving, sending = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_write, args=(url, batches, isolation, seed, sending))
    process.start()
    sending.close()
    return process, receiving


def _write(url: str, batches: Sequence[Sequence[Transfer]], isolation: str, seed: int, sending: Any) -> None:
    engine = prepare(create_engine(url, isolation_level=isolation, connect_args={"application_name": NAME}))
    ledger = Ledger(engine, utc_now, Event())
    order = random.Random(seed).sample(range(len(batches)), len(batches))
    counts: Counter[str] = Counter()
    for index in order:
        counts.update(map(str, kinds(ledger.book(batches[index]))))
    sending.send(dict(counts))
    engine.dispose()
