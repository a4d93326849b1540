"""Closes days: what is booked later with an earlier value date is marked as late."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime

from sqlalchemy import Connection, text

from ledger.model.charts import CHARTS
from ledger.model.days import end_of
from ledger.store.booking import CLOSING_LOCK
from ledger.store.seals import heads, seal_all
from ledger.store.trial_balances import TrialLine, added_since, carried_on, first_open_id, last_close

LOCK = text("SELECT pg_advisory_xact_lock(:key)")
LAST = text("SELECT max(day) FROM day_closes WHERE chart = :chart")
NEXT_ID = text("SELECT (coalesce(max(id), 0) + 1) << 10 FROM batches")
"""No transfer that is booked later has a lower id. That is so only while no batch is under way."""
SETTLE = text(f"""
    DO $$
    DECLARE
        next_id bigint;
    BEGIN
        BEGIN
            PERFORM pg_advisory_xact_lock({CLOSING_LOCK});
            SELECT (coalesce(max(id), 0) + 1) << 10 INTO next_id FROM batches;
            RAISE EXCEPTION 'releases the lock';
        EXCEPTION WHEN raise_exception THEN
        END;
        PERFORM set_config('ledger.settled_id', CAST(next_id AS text), true);
    END $$
""")
"""A lock of a transaction is released early only with a part of it that failed. A lock of the session would outlive an
error. A savepoint of the client would cost the connection its prepared statements."""
SETTLED_ID = text("SELECT CAST(current_setting('ledger.settled_id') AS bigint)")
ADD_CLOSE = text("""
    INSERT INTO day_closes (chart, day, closed_until, closed_at, root, heads, first_open_id, next_id)
    VALUES (:chart, :day, :closed_until, :closed_at, :root, :heads, :first_open_id, :next_id)
""")
ADD_TOTALS = text("""
    INSERT INTO day_totals (chart, day, code, currency, debits, credits)
    VALUES (:chart, :day, :code, :currency, :debits, :credits)
""")


class CannotClose(ValueError):
    """The day is not over, or it or a later one is closed already; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedDay:
    """A closed day. ``root`` and ``heads``, kept elsewhere, show later whether anything before was changed."""

    chart: str
    day: date
    closed_until: datetime
    closed_at: datetime
    root: bytes
    heads: str
    totals: Sequence[TrialLine]


def close_day(chart: str, day: date, tx: Connection, *, now: datetime) -> ClosedDay:
    """Close a day of a chart. The caller commits.

    1. While bookings go on, the totals of the day closed before are carried on, and what is committed is sealed.
    2. Bookings wait: those under way end first, and those that follow see the day closed.
    3. The rest is added and sealed; the day's totals and the heads of all chains are kept, with one root over them.

    Raises CannotClose.
    """
    zone = CHARTS[chart].zone
    closed_until = end_of(day, zone)
    if closed_until > now:
        raise CannotClose(f"{day} of {chart} is not over before {closed_until.isoformat()} ({zone}). Close it then.")
    # 1.
    before = last_close(chart, tx)
    settled_id = _settled_id(tx)
    earlier = carried_on(chart, closed_until, before, tx, end_id=settled_id)
    first_open = first_open_id(before, closed_until, settled_id, tx)
    seal_all(tx, now=now)
    # 2.
    tx.execute(LOCK, {"key": CLOSING_LOCK})
    last = tx.execute(LAST, {"chart": chart}).scalar_one()
    if last != before.day or (last is not None and last >= day):
        raise CannotClose(f"{chart} is closed up to {last}. Close a later day.")
    # 3.
    seal_all(tx, now=now)
    totals = added_since(earlier, chart, closed_until, settled_id, tx)
    shown = " ".join(f"{partition}:{position}:{hash_.hex()}" for partition, (position, hash_) in heads(tx).items())
    root = _root(chart, day, closed_until, shown, totals)
    values = {"chart": chart, "day": day}
    ids = {"first_open_id": first_open, "next_id": tx.execute(NEXT_ID).scalar_one()}
    tx.execute(ADD_CLOSE, values | ids | {"closed_until": closed_until, "closed_at": now, "root": root, "heads": shown})
    if totals:
        tx.execute(ADD_TOTALS, [values | asdict(each) for each in totals])
    return ClosedDay(
        chart=chart, day=day, closed_until=closed_until, closed_at=now, root=root, heads=shown, totals=totals
    )


def _settled_id(tx: Connection) -> int:
    """Return an id below which no transfer will be added. Bookings wait only until those under way have ended."""
    tx.execute(SETTLE)
    found: int = tx.execute(SETTLED_ID).scalar_one()
    return found


def _root(chart: str, day: date, closed_until: datetime, shown: str, totals: Sequence[TrialLine]) -> bytes:
    """Return the hash over a day. Codes, currencies and numbers have no newline and no tab in them."""
    lines = [f"{each.code}\t{each.currency}\t{each.debits}\t{each.credits}" for each in totals]
    printed = "\n".join([chart, day.isoformat(), closed_until.isoformat(), shown, *lines])
    return hashlib.sha256(printed.encode()).digest()
