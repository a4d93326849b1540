"""Every statement on the tables of imported statements; each takes a whole batch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from mobile_money import statement_tables

FILE = Columns.of(statement_tables.statement_files)
ROW = Columns.of(statement_tables.statement_rows)

HAS_FILE: Final = Statement("""
    SELECT rows, new_rows, gaps FROM statement_files
    WHERE id = %(id)s AND short_code = %(short_code)s AND account = %(account)s
""")
ADD_FILE: Final = Statement(f"""
    INSERT INTO statement_files ({FILE.names}) SELECT {FILE.values} FROM {FILE.rows} ON CONFLICT (id) DO NOTHING
""")
LOCK: Final = Statement("SELECT pg_advisory_xact_lock(hashtextextended(%(short_code)s, 7))")
KNOWN: Final = Statement("""
    SELECT receipt, kind, amount_minor, match FROM statement_rows
    WHERE short_code = %(short_code)s AND account = %(account)s AND receipt = ANY(CAST(%(receipts)s AS text[]))
""")
BEFORE: Final = Statement("""
    SELECT balance_minor FROM statement_rows
    WHERE short_code = %(short_code)s AND account = %(account)s AND completed_at < %(at)s
    ORDER BY completed_at DESC, position DESC
    LIMIT 1
""")
ADD_ROWS: Final = Statement(f"""
    INSERT INTO statement_rows ({ROW.names}) SELECT {ROW.values} FROM {ROW.rows}
    ON CONFLICT (short_code, receipt, account, kind) DO UPDATE
    SET match = excluded.match, saga_id = excluded.saga_id, reason = excluded.reason
    WHERE statement_rows.match = 'LISTED'
""")
REQUESTS: Final = Statement("""
    SELECT own_ids.own_id, own_ids.saga_id, own_ids.step, attempts.key, attempts.provider_id, payouts.receipt,
           payouts.amount_minor, payouts.charge_minor
    FROM own_ids
    JOIN attempts ON attempts.saga_id = own_ids.saga_id AND attempts.step = own_ids.step
        AND attempts.number = own_ids.number
    LEFT JOIN payouts ON payouts.saga_id = own_ids.saga_id AND own_ids.step = 'send_payout'
    WHERE own_ids.short_code = %(short_code)s AND (
        own_ids.own_id = ANY(CAST(%(own_ids)s AS text[]))
        OR attempts.provider_id = ANY(CAST(%(provider_ids)s AS text[]))
        OR (attempts.state = 'SUCCEEDED' AND payouts.receipt = ANY(CAST(%(receipts)s AS text[])))
    )
""")
REVERSALS: Final = Statement("""
    SELECT reversals.saga_id, reversals.receipt, reversals.reversal_receipt, attempts.key
    FROM reversals
    JOIN attempts ON attempts.saga_id = reversals.saga_id AND attempts.step = 'send_reversal'
        AND attempts.state IN ('OPEN', 'SUCCEEDED')
    WHERE reversals.short_code = %(short_code)s AND (
        reversals.receipt = ANY(CAST(%(receipts)s AS text[]))
        OR reversals.reversal_receipt = ANY(CAST(%(receipts)s AS text[]))
    )
""")
FILES: Final = Statement("""
    SELECT begins_at, ends_at FROM statement_files
    WHERE short_code = %(short_code)s AND account = %(account)s AND gaps = 0
    ORDER BY begins_at
""")
ABSENT: Final = Statement("""
    SELECT attempts.key FROM attempts
    JOIN own_ids ON own_ids.saga_id = attempts.saga_id AND own_ids.step = attempts.step
        AND own_ids.number = attempts.number
    LEFT JOIN payouts ON payouts.saga_id = attempts.saga_id AND attempts.step = 'send_payout'
    LEFT JOIN reversals ON reversals.saga_id = attempts.saga_id AND attempts.step = 'send_reversal'
    WHERE own_ids.short_code = %(short_code)s AND attempts.state = 'OPEN' AND attempts.first_sent_at >= %(begins_at)s
        AND attempts.last_sent_at < %(ends_at)s AND attempts.step IN ('send_payout', 'send_reversal')
        AND NOT EXISTS (
            SELECT FROM statement_rows AS listed
            WHERE listed.short_code = %(short_code)s AND listed.match = 'LISTED' AND listed.account <> 'CHARGES'
                AND listed.kind IN ('OUT', 'REVERSAL') AND listed.completed_at >= attempts.first_sent_at
                AND abs(listed.amount_minor) = coalesce(payouts.amount_minor, reversals.amount_minor)
        )
    UNION ALL
    SELECT attempts.key FROM attempts
    JOIN prompts ON prompts.saga_id = attempts.saga_id
    WHERE prompts.short_code = %(short_code)s AND attempts.step = 'send_prompt' AND attempts.state = 'OPEN'
        AND attempts.first_sent_at >= %(begins_at)s AND attempts.last_sent_at < %(ends_at)s
        AND NOT EXISTS (
            SELECT FROM receipts
            WHERE receipts.short_code = %(short_code)s AND receipts.completed_at >= attempts.first_sent_at
                AND receipts.amount_minor = prompts.amount_minor AND receipts.collection_id IS NULL
        )
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRow:
    """One row as it is stored, with what it belongs to."""

    short_code: str
    receipt: str
    account: str
    kind: str
    completed_at: datetime
    amount_minor: int
    balance_minor: int
    status: str
    details: str
    reference: str | None
    party: str | None
    file_id: str
    position: int
    match: str
    saga_id: str | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file as it is stored."""

    id: str
    short_code: str
    account: str
    name: str
    begins_at: datetime
    ends_at: datetime
    rows: int
    new_rows: int
    gaps: int
    last_balance_minor: int | None
    imported_by: str
    imported_at: datetime
