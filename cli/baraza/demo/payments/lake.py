"""The entries of a run as Parquet, and one query: the files and the SQL are those that production has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from baraza.system import entries
from baraza.system.running import Running

QUERY = """
    SELECT gateway, currency, kind, count(*) AS entries, sum(amount_minor) AS amount_minor, sum(fee_minor) AS fee_minor
    FROM entries GROUP BY ALL ORDER BY ALL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queried:
    """The files that were written, and the result of the query over them."""

    files: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def query(stack: Running, folder: Path, began_at: datetime) -> Queried:
    """Write the hours since then into a folder of the demo's own, and query them.

    The service writes an hour's file once the hour is over, which is too late for a demo.
    """
    from sqlalchemy import create_engine

    from chassis.postgres.bounds import AUDITING
    from chassis.postgres.database import prepare
    from reconciliation.entries import write_hour
    from reconciliation.lake import Lake

    lake = Lake(str(folder))
    url = stack.database_url("reconciliation", "audit").replace("postgresql://", "postgresql+psycopg://", 1)
    engine = prepare(create_engine(url, connect_args=AUDITING.arguments))
    written = []
    try:
        with engine.connect() as tx:
            hour = began_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
            while hour <= datetime.now(UTC):
                written.append(write_hour(lake, tx, hour)[0])
                hour += timedelta(hours=1)
    finally:
        engine.dispose()
    found = entries.query(str(folder), QUERY)
    return Queried(files=written, columns=found.columns, rows=list(found.rows))
