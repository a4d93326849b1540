"""What the ledger does without a message: it seals batches, voids expired holds, and closes days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, text

from chassis.process.background import Task
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from chassis.wire.envelope import derived_id, headers, new_traceparent
from ledger.model.chain import CHAINS
from ledger.model.charts import CHARTS
from ledger.model.days import day_of, end_of
from ledger.store.closing import LAST, ClosedDay, close_day
from ledger.store.expiry import ExpiredHolds
from ledger.store.seals import seal_chain
from messages.contract import name_of
from messages.ledger import DayClosed

TOPIC = "ledger.days"
PARTITION = 0
"""The worker that owns it publishes the row. The days of a chart stay in their order."""
SOURCE = "ledger"
SEAL_EVERY_S, VOID_EVERY_S, CLOSE_EVERY_S = 1.0, 5.0, 60.0
LOCKS = 0x6C656467_00020000
CLOSE_AFTER = timedelta(hours=1)
"""What is under way at midnight, or waits for a retry, is booked by then."""

OPENED = text("SELECT min(opened_at) FROM accounts WHERE chart = :chart")
AS_LONG_AS_IT_TAKES = text("SET LOCAL statement_timeout = '10min'; SET LOCAL transaction_timeout = '15min'")
"""The totals of a day are summed over every entry of its chart."""

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
            tx.execute(AS_LONG_AS_IT_TAKES)
            closed = close_day(chart, day, tx, now=now)
            outbox.save(tx, [day_row(closed, codec)])
            return True
    return False


def next_day(chart: str, tx: Connection) -> date | None:
    """Return the day that is to be closed next: after the last one, or that of the chart's first account."""
    last: date | None = tx.execute(LAST, {"chart": chart}).scalar_one()
    if last is not None:
        return last + timedelta(days=1)
    opened: datetime | None = tx.execute(OPENED, {"chart": chart}).scalar_one()
    return None if opened is None else day_of(opened, CHARTS[chart].zone)


def day_row(closed: ClosedDay, codec: Codec) -> OutboxRow:
    """Return the outbox row that publishes a closed day."""
    event = DayClosed(
        message_id=derived_id("day closed", closed.chart, closed.day.isoformat()),
        saga_id=closed.chart,
        saga_type="ledger",
        saga_version=1,
        causation_id=None,
        occurred_at=closed.closed_at,
        day=closed.day.isoformat(),
        closed_until=closed.closed_until,
        root=closed.root.hex(),
        heads=closed.heads,
    )
    return OutboxRow(
        id=event.message_id,
        topic=TOPIC,
        saga_id=event.saga_id,
        type=name_of(DayClosed),
        payload=codec.encode(TOPIC, event),
        headers=headers(event, source=SOURCE, traceparent=new_traceparent()),
        partition=PARTITION,
    )
