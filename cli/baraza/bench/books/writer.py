"""A process that books batches of one case until its time is over: ``python -m baraza.bench.books.writer``.

It reads its order as one line of JSON, prints ``ready`` once it is connected and warm, and begins when it reads the
next line. Then it prints what it did as one line of JSON.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from dataclasses import asdict, dataclass
from itertools import islice

from sqlalchemy import create_engine

from baraza.bench.books.cases import BY_NAME
from chassis.postgres.bounds import SERVING
from chassis.postgres.database import prepare
from chassis.postgres.transient import utc_now
from ledger.model.transfers import Refused
from ledger.store.attempts import Ledger

READY = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a writer is to do."""

    url: str
    case: str
    seed: int
    batch_size: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a writer did: transfers that were booked and refused in so many seconds, with the processor time."""

    booked: int
    refused: int
    seconds: float
    cpu_s: float


def write(order: Order, ledger: Ledger) -> Written:
    """Book batches until the time is over. A batch under way is finished."""
    transfers = BY_NAME[order.case].transfers(random.Random(order.seed))
    booked = refused = 0
    began_s, cpu_s = time.monotonic(), time.process_time()
    while time.monotonic() - began_s < order.seconds:
        outcomes = ledger.book(list(islice(transfers, order.batch_size)))
        failed = sum(isinstance(each, Refused) for each in outcomes)
        booked, refused = booked + len(outcomes) - failed, refused + failed
    return Written(
        booked=booked, refused=refused, seconds=time.monotonic() - began_s, cpu_s=time.process_time() - cpu_s
    )


def main() -> None:
    """Run one order."""
    order = Order(**json.loads(sys.stdin.readline()))
    engine = prepare(create_engine(order.url, pool_size=1, max_overflow=0, connect_args=SERVING.arguments))
    ledger = Ledger(engine, utc_now, threading.Event())
    warm = BY_NAME[order.case].transfers(random.Random(-order.seed - 1))
    for _ in range(2):
        ledger.book(list(islice(warm, order.batch_size)))
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(f"{json.dumps(asdict(write(order, ledger)))}\n")
    sys.stdout.flush()
    engine.dispose()


if __name__ == "__main__":
    main()
