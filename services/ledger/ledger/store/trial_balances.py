"""The totals of a chart at the end of a day. Those of the last closed day are carried on; entries are never all summed.

A transfer's id shows whether a close has it: all that was booked before it has an id below the close's ``next_id``, all
that was booked after it has one at or above. Few transfers are effective more than a few seconds after their booking;
they have an index of their own. All others below ``first_open_id`` are effective before the end of the closed day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Connection, text

from ledger.model.charts import CHARTS
from ledger.model.days import end_of

LATE_MAX = 1_000
"""Late transfers that one answer lists; all are counted."""
ID_END = 2**63 - 1

LAST_CLOSE = text("""
    SELECT day, closed_until, closed_at, first_open_id, next_id FROM day_closes
    WHERE chart = :chart ORDER BY day DESC LIMIT 1
""")
CLOSE_OF = text("""
    SELECT day, closed_until, closed_at, first_open_id, next_id FROM day_closes
    WHERE chart = :chart AND day >= :day ORDER BY day LIMIT 1
""")
TOTALS_AT_CLOSE = text("""
    SELECT code, currency, debits, credits FROM day_totals WHERE chart = :chart AND day = :day
""")
BOOKED = text("""
    SELECT code, currency, sum(greatest(amount_minor, 0)) AS debits, sum(greatest(-amount_minor, 0)) AS credits
    FROM transfer_entries JOIN accounts ON accounts.id = account_id
    WHERE transfer_id >= :first_open_id AND transfer_id < :end_id AND chart = :chart AND NOT is_hold
    AND effective_at < :until AND (transfer_id >= :next_id OR effective_at >= :closed_until)
    GROUP BY code, currency
""")
AHEAD = text("""
    SELECT code, currency, sum(greatest(amount_minor, 0)) AS debits, sum(greatest(-amount_minor, 0)) AS credits
    FROM transfer_entries JOIN accounts ON accounts.id = account_id
    WHERE effective_at - booked_at > interval '5 seconds' AND transfer_id < :first_open_id AND chart = :chart
    AND NOT is_hold AND effective_at >= :closed_until AND effective_at < :until
    GROUP BY code, currency
""")
LATE_TOTALS = text("""
    SELECT code, currency, sum(greatest(amount_minor, 0)) AS debits, sum(greatest(-amount_minor, 0)) AS credits
    FROM transfers
    JOIN transfer_entries ON transfer_id = transfers.id
    JOIN accounts ON accounts.id = account_id
    WHERE is_late AND transfers.effective_at < :until AND transfers.id >= :next_id AND chart = :chart AND NOT is_hold
    GROUP BY code, currency
""")
LATE = text("""
    SELECT reference, booked_at, effective_at, saga_id, count(*) OVER () AS late_count
    FROM transfers
    WHERE is_late AND effective_at < :until AND id >= :next_id AND EXISTS (
        SELECT FROM transfer_entries JOIN accounts ON accounts.id = account_id
        WHERE transfer_id = transfers.id AND chart = :chart AND NOT is_hold
    )
    ORDER BY id LIMIT :count
""")
FIRST_OPEN = text("""
    SELECT min(transfer_id) FROM transfer_entries
    WHERE transfer_id >= :first_open_id AND transfer_id < :end_id AND effective_at >= :until
    AND effective_at - booked_at <= interval '5 seconds'
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLine:
    """The totals of all accounts of one code in one currency."""

    code: str
    currency: str
    debits: int
    credits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """Which entries the totals of a closed day have in them."""

    day: date | None
    closed_until: datetime
    closed_at: datetime | None
    first_open_id: int
    next_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialBalance:
    """The totals at the end of a day. ``closed_at`` null: the day is open, and so nothing is late."""

    lines: Sequence[TrialLine]
    closed_at: datetime | None
    at_close: Sequence[TrialLine]
    late: Sequence[Any]
    late_count: int


NO_CLOSE = Close(day=None, closed_until=datetime(1970, 1, 1, tzinfo=UTC), closed_at=None, first_open_id=0, next_id=0)


def trial_balance(chart: str, day: date, tx: Connection) -> TrialBalance:
    """Return the totals of a chart at the end of a day, those at its close, and what was late for it.

    The first close of a chart closes all days before it as well. Only their totals are summed over all entries.
    """
    until = end_of(day, CHARTS[chart].zone)
    row = tx.execute(CLOSE_OF, {"chart": chart, "day": day}).one_or_none()
    if row is None:
        lines = carried_on(chart, until, last_close(chart, tx), tx)
        return TrialBalance(lines=lines, closed_at=None, at_close=[], late=[], late_count=0)
    close = _close(row)
    if close.day == day:
        at_close = _added(tx.execute(TOTALS_AT_CLOSE, {"chart": chart, "day": day}))
    else:
        at_close = carried_on(chart, until, NO_CLOSE, tx, end_id=close.next_id)
    booked_after = {"chart": chart, "until": until, "next_id": close.next_id}
    late = tx.execute(LATE, booked_after | {"count": LATE_MAX}).all()
    return TrialBalance(
        lines=_added(at_close, tx.execute(LATE_TOTALS, booked_after)),
        closed_at=close.closed_at,
        at_close=at_close,
        late=late,
        late_count=late[0].late_count if late else 0,
    )


def last_close(chart: str, tx: Connection) -> Close:
    """Return the close of the last closed day of a chart, or NO_CLOSE."""
    row = tx.execute(LAST_CLOSE, {"chart": chart}).one_or_none()
    return NO_CLOSE if row is None else _close(row)


def carried_on(
    chart: str, until: datetime, close: Close, tx: Connection, *, end_id: int = ID_END
) -> Sequence[TrialLine]:
    """Return the totals of what is effective before a time and has an id below ``end_id``, from a close before it."""
    values = {"chart": chart, "until": until, "closed_until": close.closed_until, "first_open_id": close.first_open_id}
    return _added(
        tx.execute(TOTALS_AT_CLOSE, {"chart": chart, "day": close.day}),
        tx.execute(AHEAD, values),
        tx.execute(BOOKED, values | {"next_id": close.next_id, "end_id": end_id}),
    )


def added_since(
    lines: Sequence[TrialLine], chart: str, until: datetime, first_id: int, tx: Connection
) -> Sequence[TrialLine]:
    """Return these totals and those of what has an id from ``first_id`` on and is effective before a time."""
    values = {"chart": chart, "until": until, "closed_until": until, "first_open_id": first_id, "next_id": first_id}
    return _added(lines, tx.execute(BOOKED, values | {"end_id": ID_END}))


def first_open_id(close: Close, until: datetime, end_id: int, tx: Connection) -> int:
    """Return the first id whose transfer is effective at or after a time, those ahead left out; at most ``end_id``."""
    values = {"first_open_id": close.first_open_id, "end_id": end_id, "until": until}
    found: int | None = tx.execute(FIRST_OPEN, values).scalar_one()
    return end_id if found is None else found


def _close(row: Any) -> Close:
    return Close(**row._mapping)


def _added(*totals: Iterable[Any]) -> Sequence[TrialLine]:
    """Return sums by currency and code, in their order."""
    debits: Counter[tuple[str, str]] = Counter()
    credits_: Counter[tuple[str, str]] = Counter()
    for each in totals:
        for line in each:
            debits[line.currency, line.code] += int(line.debits)
            credits_[line.currency, line.code] += int(line.credits)
    return [
        TrialLine(code=key[1], currency=key[0], debits=debits[key], credits=credits_[key]) for key in sorted(debits)
    ]
