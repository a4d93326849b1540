"""Members's measures: what waits for a person, and what is overdue."""

from __future__ import annotations

from sqlalchemy import text

from chassis.telemetry.table_gauges import measure, overdue

COUNT = text("SELECT count(*) FROM receipts WHERE state = 'SUSPENSE'")
SUM = text("SELECT currency, sum(amount_minor) FROM receipts WHERE state = 'SUSPENSE' GROUP BY currency")
OLDEST = text("""
    SELECT coalesce(extract(epoch FROM now() - min(recorded_at)), 0) FROM receipts WHERE state = 'SUSPENSE'
""")

OVERDUE = text("""
    SELECT 'collection', count(*) FROM collections
    WHERE ended_at IS NULL AND requested_at < now() - interval '30 minutes'
    UNION ALL
    SELECT 'withdrawal', count(*) FROM withdrawals
    WHERE ended_at IS NULL AND requested_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'loan_repayment', count(*) FROM repayments
    WHERE ended_at IS NULL AND requested_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'loan_disbursement', count(*) FROM loan_parts
    WHERE state = 'RELEASED' AND released_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'member_onboarding', count(*) FROM members
    WHERE state = 'REGISTERED' AND registered_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'suspense_allocation', count(*) FROM assignments
    WHERE state = 'APPROVED' AND decided_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'return_receipt', count(*) FROM returns
    WHERE state = 'APPROVED' AND decided_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'dividend_chunk', count(*) FROM dividend_chunks
    WHERE state = 'RELEASED' AND released_at < now() - interval '10 minutes'
""")
"""A prompt may be paid within a quarter of an hour; a payout in doubt is known to the tracker and to mobile-money."""

MEASURES = (
    overdue(OVERDUE),
    measure("baraza_suspense_receipts", "Receipts on the work list: no one knows whose they are.", (), COUNT),
    measure("baraza_suspense_minor", "Their sum in minor units, by currency.", ("currency",), SUM),
    measure("baraza_suspense_oldest_seconds", "Since when the oldest of them waits.", (), OLDEST),
)
