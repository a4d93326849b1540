"""The ledger's entries of payments in the lake: one Parquet file an hour, and one a day after the day's close.

``entries/day=2026-11-29/hour=10.parquet`` becomes a part of ``entries/day=2026-11-29/day.parquet``. A reader uses the
day's file where there is one, and the hours' otherwise (:func:`current`). Each file is written whole, and written again
where entries of its time came later: after a crash at any point the next write makes it right.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection

from reconciliation.lake import Lake
from reconciliation.model.calendar import DAY
from reconciliation.store import lake_hours

FOLDER: Final = "entries"
MERGED_AFTER: Final = timedelta(hours=1)
"""What is under way at midnight is recorded by then; what comes even later is added by a new file of the day."""
HOUR: Final = timedelta(hours=1)
TIME: Final = pa.timestamp("us", "UTC")
SCHEMA: Final = pa.schema(
    [
        pa.field("payment_id", pa.int64(), nullable=False),
        pa.field("refund_id", pa.int64()),
        pa.field("saga_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("merchant_id", pa.string(), nullable=False),
        pa.field("is_live", pa.bool_(), nullable=False),
        pa.field("gateway", pa.string(), nullable=False),
        pa.field("gateway_account", pa.string(), nullable=False),
        pa.field("gateway_payment_id", pa.string()),
        pa.field("reference", pa.string()),
        pa.field("currency", pa.string(), nullable=False),
        pa.field("amount_minor", pa.int64(), nullable=False),
        pa.field("fee_minor", pa.int64(), nullable=False),
        pa.field("occurred_at", TIME, nullable=False),
        pa.field("recorded_at", TIME, nullable=False),
    ]
)
"""Amounts are whole minor units with a sign: what the gateway owes us is positive."""


def write_next(lake: Lake, tx: Connection, *, now: datetime) -> bool:
    """Write the next file that is missing or lacks entries; False where all are there.

    An hour is written once it is over. A day is merged once it is closed, and its hours' files are removed behind that.
    """
    hour = lake_hours.next_hour(tx, before=now.replace(minute=0, second=0, microsecond=0))
    if hour is not None:
        _write_hour(lake, tx, hour, now)
        return True
    closed = (now - MERGED_AFTER).astimezone(UTC).date()
    day = lake_hours.next_day(tx, before=datetime.combine(closed, time(tzinfo=UTC)))
    if day is None:
        return False
    _write_day(lake, tx, day, now)
    return True


def write_hour(lake: Lake, tx: Connection, hour: datetime) -> tuple[str, int]:
    """Write the file of an hour as its entries are now, and return its name and how many there are."""
    rows = lake_hours.entries(tx, hour, hour + HOUR)
    name = f"{folder_of(hour.astimezone(UTC).date())}/hour={hour.astimezone(UTC):%H}.parquet"
    lake.write(name, _parquet(rows))
    return name, len(rows)


def _write_hour(lake: Lake, tx: Connection, hour: datetime, now: datetime) -> None:
    # Where the day has its file already, this hour came too late for it, and the day is written again.
    _, count = write_hour(lake, tx, hour)
    lake_hours.written(tx, hour, count, now)


def _write_day(lake: Lake, tx: Connection, day: date, now: datetime) -> None:
    begin = datetime.combine(day, time(tzinfo=UTC))
    lake.write(f"{folder_of(day)}/day.parquet", _parquet(lake_hours.entries(tx, begin, begin + DAY)))
    for name in lake.names(folder_of(day)):
        if "/hour=" in name:
            lake.delete(name)
    lake_hours.merged(tx, begin, begin + DAY, now)


def folder_of(day: date) -> str:
    """Return the folder of a day's files."""
    return f"{FOLDER}/day={day.isoformat()}"


def current(names: Iterable[str]) -> list[str]:
    """Return the files that a reader uses: those of a day's hours only where the day has no file of its own."""
    listed = sorted(name for name in names if name.endswith(".parquet"))
    whole = {name.rpartition("/")[0] for name in listed if name.endswith("/day.parquet")}
    return [name for name in listed if name.endswith("/day.parquet") or name.rpartition("/")[0] not in whole]


def _parquet(rows: lake_hours.Rows) -> bytes:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    sink = io.BytesIO()
    pq.write_table(pa.table(arrays, schema=SCHEMA), sink, compression="zstd")
    return sink.getvalue()
