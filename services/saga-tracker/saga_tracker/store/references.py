"""The references of sagas as they are stored. A saga may have several, and several sagas one."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from saga_tracker.model.references import Reference
from saga_tracker.store.schema import REFERENCES

COLUMNS = Columns.of(REFERENCES)

INSERT = Statement(f"""
    INSERT INTO saga_references ({COLUMNS.names})
    SELECT {COLUMNS.values}
    FROM {COLUMNS.rows}
    ON CONFLICT DO NOTHING
""")


def save(tx: Connection, references: Iterable[Reference]) -> None:
    """Store these references, in one order everywhere; those that are stored already stay."""
    rows = sorted(set(references), key=lambda each: (each.value, each.saga_id, each.kind))
    if rows:
        INSERT.run(tx, COLUMNS.parameters(rows))
