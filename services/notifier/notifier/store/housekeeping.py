"""Ends deliveries that no endpoint gets any more, and deletes what is old, some rows in each transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

ROWS_MAX: Final = 2_000
"""Rows of one statement: their locks last for a few milliseconds."""

END = text("""
    UPDATE deliveries SET state = 'FAILED', lease = NULL, ended_at = :now
    WHERE delivery_id IN (
        SELECT delivery_id FROM deliveries JOIN endpoints USING (endpoint_id)
        WHERE deliveries.state = 'DUE' AND endpoints.state <> 'ENABLED' AND (lease IS NULL OR due_at <= :now)
        ORDER BY delivery_id LIMIT :count
        FOR UPDATE OF deliveries SKIP LOCKED
    )
""")
DELETE_ATTEMPTS = text("""
    DELETE FROM attempts WHERE (delivery_id, number) IN (
        SELECT delivery_id, number FROM attempts WHERE began_at < :before ORDER BY began_at LIMIT :count)
""")
DELETE_DELIVERIES = text("""
    DELETE FROM deliveries WHERE delivery_id IN (
        SELECT delivery_id FROM deliveries WHERE created_at < :before AND state <> 'DUE'
        ORDER BY created_at LIMIT :count)
""")
DELETE_EVENTS = text("""
    DELETE FROM events WHERE event_id IN (
        SELECT event_id FROM events
        WHERE created_at < :before AND NOT EXISTS (SELECT FROM deliveries WHERE deliveries.event_id = events.event_id)
        ORDER BY created_at LIMIT :count)
""")
DELETE_OUTCOMES = text("""
    DELETE FROM saga_outcomes WHERE saga_id IN (
        SELECT saga_id FROM saga_outcomes WHERE created_at < :before ORDER BY created_at LIMIT :count)
""")

DELETE_TEXTS = text("""
    DELETE FROM texts WHERE text_id IN (
        SELECT text_id FROM texts WHERE created_at < :before AND state <> 'DUE' ORDER BY created_at LIMIT :count)
""")


def end_undeliverable(tx: Connection, *, now: datetime) -> bool:
    """End deliveries of endpoints that are disabled or deleted, and return whether there may be more.

    An attempt that is under way is left to the process that makes it.
    """
    return tx.execute(END, {"now": now, "count": ROWS_MAX}).rowcount == ROWS_MAX


def delete_old(tx: Connection, *, before: datetime, outcomes_before: datetime, texts_before: datetime) -> bool:
    """Delete rows that are older than this, and return whether there may be more."""
    values = {"before": before, "count": ROWS_MAX}
    counts = [
        tx.execute(statement, values).rowcount for statement in (DELETE_ATTEMPTS, DELETE_DELIVERIES, DELETE_EVENTS)
    ]
    counts.append(tx.execute(DELETE_OUTCOMES, values | {"before": outcomes_before}).rowcount)
    counts.append(tx.execute(DELETE_TEXTS, values | {"before": texts_before}).rowcount)
    return ROWS_MAX in counts
