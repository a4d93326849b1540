"""Closes days: what is booked later with an earlier value date is marked as late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime

from sqlalchemy import Connection, text

from ledger.model.charts import CHARTS
from ledger.model.days import end_of
from ledger.store.booking import CLOSING_LOCK
from ledger.store.roots import Accounts, accounts_now, printed, root_of
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
    INSERT INTO day_closes (chart, day, closed_until, closed_at, root, heads, first_open_id, next_id, last_account_id,
                            accounts_digest)
    VALUES (:chart, :day, :closed_until, :closed_at, :root, :heads, :first_open_id, :next_id, :last_id, :digest)
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
    3. The rest is added and sealed; the day's totals and the heads of all chains are kept, with one root over all.

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
    opened = accounts_now(chart, tx)
    ids = first_open, int(tx.execute(NEXT_ID).scalar_one())
    root = _root(chart, day, ids, (closed_until, now), shown, opened, totals)
    values = {"chart": chart, "day": day}
    close = {"closed_until": closed_until, "closed_at": now, "first_open_id": ids[0], "next_id": ids[1]}
    tx.execute(ADD_CLOSE, values | close | asdict(opened) | {"root": root, "heads": shown})
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


def _root(
    chart: str,
    day: date,
    ids: tuple[int, int],
    times: tuple[datetime, datetime],
    shown: str,
    accounts: Accounts,
    totals: Sequence[TrialLine],
) -> bytes:
    lines = ((each.code, each.currency, str(each.debits), str(each.credits)) for each in totals)
    until, closed_at = times
    return root_of(
        (chart, day.isoformat(), *map(str, ids)), (printed(until), printed(closed_at)), shown, accounts, lines
    )
