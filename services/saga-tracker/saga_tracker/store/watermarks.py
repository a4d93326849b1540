"""The watermark of each partition: the time before which every message is on a timeline."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, text

RAISE = text("""
    INSERT INTO watermarks (partition, recorded_until)
    SELECT partition, recorded_until
    FROM unnest(CAST(:partitions AS smallint[]), CAST(:until AS timestamptz[])) AS row (partition, recorded_until)
    ON CONFLICT (partition) DO UPDATE
    SET recorded_until = greatest(watermarks.recorded_until, excluded.recorded_until)
""")


def raise_to(tx: Connection, until: Mapping[int, datetime]) -> None:
    """Store these watermarks by partition; a watermark never falls."""
    if until:
        ordered = dict(sorted(until.items()))
        tx.execute(RAISE, {"partitions": list(ordered), "until": list(ordered.values())})
