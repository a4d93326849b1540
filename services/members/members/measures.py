"""Members's measures: what waits for a person, and what is overdue."""

from __future__ import annotations

from sqlalchemy import text

from chassis.telemetry.table_gauges import measure, overdue
from members import tables

COUNT = text("SELECT count(*) FROM receipts WHERE state = 'SUSPENSE'")
SUM = text("SELECT currency, sum(amount_minor) FROM receipts WHERE state = 'SUSPENSE' GROUP BY currency")
OLDEST = text("""
    SELECT coalesce(extract(epoch FROM now() - min(recorded_at)), 0) FROM receipts WHERE state = 'SUSPENSE'
""")

MEASURES = (
    overdue(tables.OVERDUE),
    measure("baraza_suspense_receipts", "Receipts on the work list: no one knows whose they are.", (), COUNT),
    measure("baraza_suspense_minor", "Their sum in minor units, by currency.", ("currency",), SUM),
    measure("baraza_suspense_oldest_seconds", "Since when the oldest of them waits.", (), OLDEST),
)
