"""What the ledger does without a message: it seals batches, voids expired holds, and closes days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection

from chassis.process.background import Task
from chassis.wire.codec import Codec
from ledger.closing import close_and_publish, next_day
from ledger.model.chain import CHAINS
from ledger.model.charts import CHARTS
from ledger.model.days import end_of
from ledger.store.expiry import ExpiredHolds
from ledger.store.seals import seal_chain

SEAL_EVERY_S, VOID_EVERY_S, CLOSE_EVERY_S = 1.0, 5.0, 60.0
LOCKS = 0x6C656467_00020000
CLOSE_AFTER = timedelta(hours=1)
"""What is under way at midnight, or waits for a retry, is booked by then."""

Clock = Callable[[], datetime]


def tasks(codec: Codec, clock: Clock) -> tuple[Task, ...]:
    """Return the ledger's tasks."""
    expired = ExpiredHolds()
    return (
        Task(name="seal", run=lambda tx: seal(tx, now=clock()), every_s=SEAL_EVERY_S, lock=LOCKS),
        Task(
            name="void expired holds",
            run=lambda tx: expired.void(tx, now=clock()),
            every_s=VOID_EVERY_S,
            lock=LOCKS + 1,
        ),
        Task(
            name="close days",
            run=lambda tx: close_next_day(tx, codec, now=clock()),
            every_s=CLOSE_EVERY_S,
            lock=LOCKS + 2,
        ),
    )


def seal(tx: Connection, *, now: datetime) -> bool:
    """Seal some batches of every chain, and return whether there were any."""
    return sum(seal_chain(partition, tx, now=now) for partition in range(CHAINS)) > 0


def close_next_day(tx: Connection, codec: Codec, *, now: datetime) -> bool:
    """Close the earliest day that is over, and return whether there was one. Its root leaves by the outbox."""
    for chart in CHARTS:
        day = next_day(chart, tx)
        if day is not None and end_of(day, CHARTS[chart].zone) + CLOSE_AFTER <= now:
            close_and_publish(chart, day, tx, codec, now=now)
            return True
    return False
