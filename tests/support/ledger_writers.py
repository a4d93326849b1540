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
from support.ledgers import kinds

SPAWN = multiprocessing.get_context("spawn")


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def started(url: str, batches: Sequence[Sequence[Transfer]], isolation: str, seed: int) -> tuple[BaseProcess, Any]:
    """Start a process that books these batches in an order of its own; its counts by outcome come by the connection."""
    receiving, sending = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_write, args=(url, batches, isolation, seed, sending))
    process.start()
    sending.close()
    return process, receiving


def _write(url: str, batches: Sequence[Sequence[Transfer]], isolation: str, seed: int, sending: Any) -> None:
    engine = prepare(create_engine(url, isolation_level=isolation))
    ledger = Ledger(engine, utc_now, Event())
    order = random.Random(seed).sample(range(len(batches)), len(batches))
    counts: Counter[str] = Counter()
    for index in order:
        counts.update(map(str, kinds(ledger.book(batches[index]))))
    sending.send(dict(counts))
    engine.dispose()
