"""Which hours of the ledger's entries are in the lake, and the entries of an hour."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, text

Rows: TypeAlias = Sequence[Sequence[Any]]

NEXT_HOUR = text("""
    WITH hours AS (
        SELECT DISTINCT date_trunc('hour', occurred_at, 'UTC') AS hour FROM records
        WHERE source = 'LEDGER' AND occurred_at < :before AND recorded_at > coalesce(
            (SELECT swept_until - interval '10 minutes' FROM lake_sweeps), '-infinity')
    )
    SELECT hours.hour FROM hours LEFT JOIN lake_hours ON lake_hours.hour = hours.hour
    WHERE entry_count IS DISTINCT FROM (
        SELECT count(*) FROM records
        WHERE source = 'LEDGER' AND occurred_at >= hours.hour AND occurred_at < hours.hour + interval '1 hour')
    ORDER BY 1 LIMIT 1
""")
"""An hour whose file has another number of entries than there are; records are never removed. A transaction that
recorded something just before the last sweep may have committed behind it."""
SWEPT = text("""
    INSERT INTO lake_sweeps (id, swept_until) VALUES (1, :before) ON CONFLICT (id) DO UPDATE SET swept_until = :before
""")
NEXT_DAY = text("""
    SELECT date_trunc('day', hour, 'UTC') AS day FROM lake_hours
    WHERE NOT is_merged AND hour < :before ORDER BY 1 LIMIT 1
""")
ENTRIES = text("""
    SELECT payment_id, refund_id, saga_id, kind, merchant_id, is_live, gateway, account, gateway_payment_id, reference,
           currency, amount_minor, fee_minor, occurred_at, recorded_at
    FROM records WHERE source = 'LEDGER' AND occurred_at >= :begin AND occurred_at < :end
    ORDER BY occurred_at, saga_id
""")
WRITTEN = text("""
    INSERT INTO lake_hours (hour, written_at, entry_count, is_merged) VALUES (:hour, :now, :count, false)
    ON CONFLICT (hour) DO UPDATE SET written_at = :now, entry_count = :count, is_merged = false
""")
MERGED = text("""
    UPDATE lake_hours SET written_at = :now, is_merged = true WHERE hour >= :begin AND hour < :end
""")


def next_hour(tx: Connection, *, before: datetime) -> datetime | None:
    """Return the earliest hour whose file is missing or lacks entries."""
    found: datetime | None = tx.execute(NEXT_HOUR, {"before": before}).scalar_one_or_none()
    if found is None:
        tx.execute(SWEPT, {"before": before})
    return found


def next_day(tx: Connection, *, before: datetime) -> date | None:
    """Return the earliest closed day whose hours are not merged."""
    found: datetime | None = tx.execute(NEXT_DAY, {"before": before}).scalar_one_or_none()
    return None if found is None else found.astimezone(UTC).date()


def entries(tx: Connection, begin: datetime, end: datetime) -> Rows:
    """Return the ledger's entries of this time, in order."""
    return [tuple(row) for row in tx.execute(ENTRIES, {"begin": begin, "end": end})]


def written(tx: Connection, hour: datetime, count: int, now: datetime) -> None:
    """Record that an hour's file has so many entries."""
    tx.execute(WRITTEN, {"hour": hour, "count": count, "now": now})


def merged(tx: Connection, begin: datetime, end: datetime, now: datetime) -> None:
    """Record that the hours of a day are in the day's file."""
    tx.execute(MERGED, {"begin": begin, "end": end, "now": now})
