"""The operators' log: who did what, when and why. An entry is never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from chassis.postgres.columns import SQLALCHEMY, Columns
from saga_tracker.store.schema import OPERATOR_LOG


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One act of an operator; it is never changed. ``saga_id`` is None where it concerned several sagas."""

    act_id: str
    at: datetime
    actor: str
    act: str
    reason: str
    saga_id: str | None = None
    plan_id: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilters:
    """Which entries are wanted; all conditions hold. ``before`` is the ``seq`` of the last entry of the page before."""

    saga_id: str | None = None
    plan_id: str | None = None
    actor: str | None = None
    act: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None


LOG_COLUMNS = Columns.of(OPERATOR_LOG, without=["seq"], parameter=SQLALCHEMY)

LOG = text(f"""
    INSERT INTO operator_log ({LOG_COLUMNS.names})
    SELECT {LOG_COLUMNS.values}
    FROM {LOG_COLUMNS.rows}
    ON CONFLICT DO NOTHING
""")

LOGGED = text(f"""
    SELECT {LOG_COLUMNS.names}, seq
    FROM operator_log
    WHERE (CAST(:saga_id AS text) IS NULL OR saga_id = :saga_id)
      AND (CAST(:plan_id AS text) IS NULL OR plan_id = :plan_id)
      AND (CAST(:actor AS text) IS NULL OR actor = :actor)
      AND (CAST(:act AS text) IS NULL OR act = :act)
      AND (CAST(:since AS timestamptz) IS NULL OR at >= :since)
      AND (CAST(:until AS timestamptz) IS NULL OR at < :until)
      AND (CAST(:before AS bigint) IS NULL OR seq < :before)
    ORDER BY seq DESC
    LIMIT :limit
""")


def log(tx: Connection, entries: Sequence[LogEntry]) -> None:
    """Add to the operators' log, in one statement; an act that is in it already is passed over."""
    if entries:
        tx.execute(LOG, LOG_COLUMNS.parameters(entries))


def logged(tx: Connection, filters: LogFilters, *, limit: int) -> list[tuple[int, LogEntry]]:
    """Return the operators' log with the ``seq`` of each entry, the latest act first."""
    values: dict[str, Any] = {name: getattr(filters, name) for name in LogFilters.__slots__}
    found = []
    for row in tx.execute(LOGGED, {**values, "limit": limit}):
        columns = dict(row._mapping)
        found.append((columns.pop("seq"), LogEntry(**columns)))
    return found
