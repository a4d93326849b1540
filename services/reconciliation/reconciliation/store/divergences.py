"""Divergences as they stand now, and what each run changed about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from reconciliation.model.findings import Change, Divergence
from reconciliation.store import schema

COLUMNS = Columns.of(schema.divergences)
CHANGES = Columns.of(schema.run_changes, without=("run",))
SAVE = Statement(f"""
    INSERT INTO divergences ({COLUMNS.names}) SELECT {COLUMNS.values} FROM {COLUMNS.rows}
    ON CONFLICT (divergence_id) DO UPDATE SET {COLUMNS.excluded_assignments}
""")
ADD_CHANGES = Statement(f"""
    INSERT INTO run_changes (run, {CHANGES.names}) SELECT %(run)s, {CHANGES.values} FROM {CHANGES.rows}
""")
KNOWN = text(f"""
    SELECT {COLUMNS.names} FROM divergences
    WHERE account = :account AND state = 'OPEN'
      AND (CAST(:is_all AS boolean) OR item IN (SELECT item FROM run_scope WHERE run = :run))
    UNION
    SELECT {COLUMNS.names} FROM divergences WHERE divergence_id = ANY(CAST(:found AS text[]))
    ORDER BY divergence_id
""")
FIND = text(f"SELECT {COLUMNS.names} FROM divergences WHERE divergence_id = :divergence_id")
CHANGES_OF = text("""
    SELECT run_changes.divergence_id, change, kind_before, kind_after, payment_id, account, detail
    FROM run_changes JOIN divergences USING (divergence_id) WHERE run = :run
    ORDER BY divergence_id
""")
EXPLAIN = text(f"""
    UPDATE divergences SET state = 'EXPLAINED', closed_at = :now, closed_by = :closed_by, reason = :reason
    WHERE divergence_id = :divergence_id AND state = 'OPEN'
    RETURNING {COLUMNS.names}
""")
LIST = text(f"""
    SELECT {COLUMNS.names} FROM divergences
    WHERE divergence_id > :after AND (CAST(:state AS text) IS NULL OR state = :state)
      AND (CAST(:kind AS text) IS NULL OR kind = :kind) AND (CAST(:account AS text) IS NULL OR account = :account)
      AND (CAST(:payment_id AS bigint) IS NULL OR payment_id = :payment_id)
    ORDER BY divergence_id LIMIT :count
""")


def known(account: str, run: int, found: Sequence[str], tx: Connection, *, is_all: bool) -> Mapping[str, Divergence]:
    """Return the open divergences in a run's scope, and those that it found again, by their ids."""
    values = {"account": account, "run": run, "is_all": is_all, "found": list(found)}
    return {row.divergence_id: _divergence(row) for row in tx.execute(KNOWN, values)}


def save(run: int, divergences: Sequence[Divergence], changes: Sequence[Change], tx: Connection) -> None:
    """Store what a run found, and what it changed."""
    if divergences:
        ordered = sorted(divergences, key=lambda each: each.divergence_id)
        SAVE.run(tx, COLUMNS.parameters(ordered))
    if changes:
        ADD_CHANGES.run(tx, {**CHANGES.parameters(changes), "run": run})


def explain(divergence_id: str, tx: Connection, *, by: str, reason: str, now: datetime) -> Divergence | None:
    """Close an open divergence for a person; None where it is not open."""
    values = {"divergence_id": divergence_id, "closed_by": by, "reason": reason, "now": now}
    row = tx.execute(EXPLAIN, values).one_or_none()
    return None if row is None else _divergence(row)


def find(divergence_id: str, tx: Connection) -> Divergence | None:
    """Return a divergence; None where there is none with that id."""
    row = tx.execute(FIND, {"divergence_id": divergence_id}).one_or_none()
    return None if row is None else _divergence(row)


def page(wanted: Mapping[str, Any], after: str, count: int, tx: Connection) -> list[Divergence]:
    """Return divergences by id, those behind ``after``."""
    values = {"state": None, "kind": None, "account": None, "payment_id": None, **wanted}
    return [_divergence(row) for row in tx.execute(LIST, {**values, "after": after, "count": count})]


def _divergence(row: Row[Any]) -> Divergence:
    return Divergence(**row._mapping)
