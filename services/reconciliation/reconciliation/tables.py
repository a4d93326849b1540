"""Reconciliation's tables, and the statements of its measures; the others are in :mod:`reconciliation.store`."""

from __future__ import annotations

from sqlalchemy import text

from reconciliation.store.schema import metadata

__all__ = ["DIVERGENCES_OPEN", "FEEDS_REFUSED", "LAG", "OVERDUE", "metadata"]

DIVERGENCES_OPEN = text("SELECT kind, count(*) FROM divergences WHERE state = 'OPEN' GROUP BY kind")
LAG = text("SELECT coalesce(extract(epoch FROM now() - min(coalesce(run_at, since))), 0) FROM progress")
FEEDS_REFUSED = text("""
    SELECT count(*) FROM feed_files
    WHERE refusal IS NOT NULL AND NOT EXISTS (
        SELECT FROM feed_files AS later
        WHERE later.account = feed_files.account AND later.name = feed_files.name AND later.version > feed_files.version
    )
""")
OVERDUE = text("""
    SELECT 'settlement', count(*) FROM settlements
    WHERE state = 'REPORTED' AND reported_at < now() - interval '10 minutes'
""")
