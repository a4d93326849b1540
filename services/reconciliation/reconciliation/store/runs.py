"""Runs: their numbers, their lines and their results. None of it is ever changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from chassis.postgres.columns import SQLALCHEMY, Columns
from reconciliation.model.findings import Finding
from reconciliation.model.kinds import DIVERGENCES, RunKind
from reconciliation.store import schema

COLUMNS = Columns.of(schema.runs, parameter=SQLALCHEMY)
LINES = Columns.of(schema.run_lines, parameter=SQLALCHEMY).without("run", "check_at")
LOCK = text("SELECT pg_advisory_xact_lock(8226684427217141761)")
"""One run at a time: their numbers have no gaps, and each one sees what the one before has found."""
NEXT = text("SELECT coalesce(max(run), 0) + 1 FROM runs")
COUNTS = text("SELECT state, count(*) FROM run_lines WHERE run = :run GROUP BY state")
FINDINGS = text("""
    SELECT item, movement, key, state, payment_id, currency, feed_currency, ledger_minor, gateway_minor, feed_minor
    FROM run_lines WHERE run = :run AND state <> 'MATCHED' AND state = ANY(CAST(:states AS text[]))
""")
ADD = text("""
    INSERT INTO runs (run, account, kind, day, as_of, began_at, finished_at, requested_by, line_count, open_count,
                      opened, closed, changed)
    VALUES (:run, :account, :kind, :day, :as_of, :began_at, :finished_at, :requested_by, :line_count, :open_count,
            :opened, :closed, :changed)
""")
ADD_COUNTS = text("INSERT INTO run_counts (run, state, count) VALUES (:run, :state, :count)")
FIND = text(f"SELECT {COLUMNS.names} FROM runs WHERE run = :run")
LIST = text(f"""
    SELECT {COLUMNS.names} FROM runs
    WHERE run < :before AND (CAST(:account AS text) IS NULL OR account = :account)
    ORDER BY run DESC LIMIT :count
""")
COUNTS_OF = text("SELECT run, state, count FROM run_counts WHERE run = ANY(CAST(:runs AS integer[]))")
LINES_OF = text(f"""
    SELECT {LINES.names} FROM run_lines
    WHERE run = :run AND number > :after AND (CAST(:state AS text) IS NULL OR state = :state)
    ORDER BY number LIMIT :count
""")
DONE = text("SELECT kind, day FROM runs WHERE account = :account AND kind = ANY(CAST(:kinds AS text[]))")
PROGRESS = text("""
    INSERT INTO progress (account, since) VALUES (:account, :now) ON CONFLICT (account) DO NOTHING
""")
PROGRESS_OF = text("SELECT since, run_at, fetched_at FROM progress WHERE account = :account")
ADVANCE = text("UPDATE progress SET run_at = :now WHERE account = :account")
FETCHED = text("UPDATE progress SET fetched_at = :now WHERE account = :account")
RETIRE = text("DELETE FROM progress WHERE account <> ALL(CAST(:accounts AS text[]))")
REQUEST = text("""
    INSERT INTO run_requests (request_id, account, day, as_of, requested_by, requested_at)
    VALUES (:request_id, :account, :day, :as_of, :requested_by, :now)
""")
REQUESTED = text("""
    SELECT request_id, account, day, as_of, requested_by FROM run_requests
    WHERE run IS NULL AND failure IS NULL ORDER BY requested_at LIMIT 1
""")
REQUEST_OF = text("""
    SELECT request_id, account, day, as_of, requested_by, requested_at, run, failure FROM run_requests
    WHERE request_id = :request_id
""")
ANSWER = text("UPDATE run_requests SET run = :run, failure = :failure WHERE request_id = :request_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that is done. ``open_count`` are its divergences that no person has explained."""

    run: int
    account: str
    kind: str
    day: date | None
    as_of: datetime
    began_at: datetime
    finished_at: datetime
    requested_by: str | None
    line_count: int
    open_count: int
    opened: int
    closed: int
    changed: int


def begin(tx: Connection) -> int:
    """Return the number of the next run. Another run waits until this transaction ends."""
    tx.execute(LOCK)
    found: int = tx.execute(NEXT).scalar_one()
    return found


def counts(run: int, tx: Connection) -> dict[str, int]:
    """Return how many lines of a run came out as what."""
    return {row.state: row._mapping["count"] for row in tx.execute(COUNTS, {"run": run})}


def findings(run: int, tx: Connection) -> list[Finding]:
    """Return the lines of a run that diverge."""
    rows = tx.execute(FINDINGS, {"run": run, "states": [state.value for state in DIVERGENCES]})
    return [Finding(**row._mapping) for row in rows]


def finish(run: Run, found: Mapping[str, int], tx: Connection) -> None:
    """Store the result of a run."""
    tx.execute(ADD, {name: getattr(run, name) for name in COLUMNS})
    if found:
        tx.execute(ADD_COUNTS, [{"run": run.run, "state": state, "count": count} for state, count in found.items()])


def find(run: int, tx: Connection) -> Run | None:
    """Return a run; None where there is none with that number."""
    row = tx.execute(FIND, {"run": run}).one_or_none()
    return None if row is None else Run(**row._mapping)


def page(account: str | None, before: int, count: int, tx: Connection) -> list[Run]:
    """Return runs, the newest first, those before the number ``before``."""
    values = {"account": account, "before": before, "count": count}
    return [Run(**row._mapping) for row in tx.execute(LIST, values)]


def counts_of(runs: Sequence[int], tx: Connection) -> dict[int, dict[str, int]]:
    """Return the counts of these runs as they were stored."""
    found: dict[int, dict[str, int]] = {run: {} for run in runs}
    for row in tx.execute(COUNTS_OF, {"runs": list(runs)}):
        found[row.run][row.state] = row._mapping["count"]
    return found


def lines_of(run: int, state: str | None, after: int, count: int, tx: Connection) -> Sequence[Row[Any]]:
    """Return lines of a run, those behind the number ``after``."""
    return tx.execute(LINES_OF, {"run": run, "state": state, "after": after, "count": count}).all()


def done(account: str, tx: Connection) -> set[tuple[str, date]]:
    """Return which days of an account were reconciled again, and by which kind of run."""
    kinds = [RunKind.T7.value, RunKind.T14.value, RunKind.T30.value]
    return {(row.kind, row.day) for row in tx.execute(DONE, {"account": account, "kinds": kinds})}
