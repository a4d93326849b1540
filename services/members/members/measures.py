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
UNPAID = text("""
    SELECT dividend_runs.short_code, sum(dividend_lines.net_minor)
    FROM dividend_lines JOIN dividend_runs USING (run_id)
    WHERE dividend_runs.state IN ('APPROVED', 'DECLARED', 'POSTING', 'PAYING')
        AND dividend_lines.destination = 'MOBILE' AND dividend_lines.state IN ('PENDING', 'POSTED')
    GROUP BY dividend_runs.short_code
""")

MEASURES = (
    overdue(tables.OVERDUE),
    measure("baraza_suspense_receipts", "Receipts on the work list: no one knows whose they are.", (), COUNT),
    measure("baraza_suspense_minor", "Their sum in minor units, by currency.", ("currency",), SUM),
    measure("baraza_suspense_oldest_seconds", "Since when the oldest of them waits.", (), OLDEST),
    measure(
        "baraza_dividends_unpaid_minor",
        "What approved dividend runs still have to pay to phones, by the short code that pays it. What is sent is not "
        "in it.",
        ("short_code",),
        UNPAID,
        age_max_s=60,
    ),
)
