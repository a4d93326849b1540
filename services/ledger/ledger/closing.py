"""Closes the next day of a chart, and publishes its root in the same transaction."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from sqlalchemy import Connection, text

from chassis.postgres.long_transactions import unhurried
from chassis.saga import outbox
from chassis.wire.codec import Codec
from chassis.wire.envelope import derived_id
from ledger.model.charts import CHARTS
from ledger.model.days import day_of
from ledger.outgoing import DAYS, row_of
from ledger.store.closing import LAST, CannotClose, ClosedDay, close_day
from messages.ledger import DayClosed

OPENED = text("SELECT min(opened_at) FROM accounts WHERE chart = :chart")


def close_and_publish(chart: str, day: date, tx: Connection, codec: Codec, *, now: datetime) -> ClosedDay:
    """Close a day, which must be the next one. Its root leaves by the outbox. Raises CannotClose."""
    expected = next_day(chart, tx)
    if expected is None:
        raise CannotClose(f"{chart} has no account yet, and so no day. Close one after its first booking.")
    if day != expected:
        raise CannotClose(f"The next day of {chart} to close is {expected}, not {day}.")
    with unhurried(tx):  # the totals of a chart's first day are summed over every entry of it, while bookings go on
        closed = close_day(chart, day, tx, now=now)
    outbox.save(tx, [row_of(day_closed(closed), DAYS, codec)])
    return closed


def next_day(chart: str, tx: Connection) -> date | None:
    """Return the day that is to be closed next: after the last one, or that of the chart's first account."""
    last: date | None = tx.execute(LAST, {"chart": chart}).scalar_one()
    if last is not None:
        return last + timedelta(days=1)
    opened: datetime | None = tx.execute(OPENED, {"chart": chart}).scalar_one()
    return None if opened is None else day_of(opened, CHARTS[chart].zone)


def day_closed(closed: ClosedDay) -> DayClosed:
    """Return the event of a closed day."""
    return DayClosed(
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
