"""Closes days: what is booked later with an earlier value date is marked as late."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, text

from ledger.model.charts import CHARTS
from ledger.model.days import end_of
from ledger.store.booking import CLOSING_LOCK
from ledger.store.reading import TrialLine, trial_balance
from ledger.store.seals import heads, seal_all

LOCK = text("SELECT pg_advisory_xact_lock(:key)")
LAST = text("SELECT max(day) FROM day_closes WHERE chart = :chart")
ADD_CLOSE = text("""
    INSERT INTO day_closes (chart, day, closed_until, closed_at, root, heads)
    VALUES (:chart, :day, :closed_until, :closed_at, :root, :heads)
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

    1. What is committed is sealed, while bookings go on.
    2. Bookings wait: those under way end first, and those that follow see the day closed.
    3. The rest is sealed; the day's totals and the heads of all chains are kept, with one root over them.

    Raises CannotClose.
    """
    zone = CHARTS[chart].zone
    closed_until = end_of(day, zone)
    if closed_until > now:
        raise CannotClose(f"{day} of {chart} is not over before {closed_until.isoformat()} ({zone}). Close it then.")
    # 1.
    seal_all(tx, now=now)
    # 2.
    tx.execute(LOCK, {"key": CLOSING_LOCK})
    last = tx.execute(LAST, {"chart": chart}).scalar_one()
    if last is not None and last >= day:
        raise CannotClose(f"{chart} is closed up to {last}. Close a later day.")
    # 3.
    seal_all(tx, now=now)
    shown = " ".join(f"{partition}:{position}:{hash_.hex()}" for partition, (position, hash_) in heads(tx).items())
    totals = trial_balance(chart, day, tx)
    root = _root(chart, day, closed_until, shown, totals)
    values = {"chart": chart, "day": day}
    tx.execute(ADD_CLOSE, values | {"closed_until": closed_until, "closed_at": now, "root": root, "heads": shown})
    if totals:
        tx.execute(
            ADD_TOTALS,
            [
                values | {"code": each.code, "currency": each.currency, "debits": each.debits, "credits": each.credits}
                for each in totals
            ],
        )
    return ClosedDay(
        chart=chart, day=day, closed_until=closed_until, closed_at=now, root=root, heads=shown, totals=totals
    )


def _root(chart: str, day: date, closed_until: datetime, shown: str, totals: Sequence[TrialLine]) -> bytes:
    """Return the hash over a day. Codes, currencies and numbers have no newline and no tab in them."""
    lines = [f"{each.code}\t{each.currency}\t{each.debits}\t{each.credits}" for each in totals]
    printed = "\n".join([chart, day.isoformat(), closed_until.isoformat(), shown, *lines])
    return hashlib.sha256(printed.encode()).digest()
