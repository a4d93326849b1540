"""Receipts: loaded under their locks, added, and changed."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection

from chassis.postgres.columns import Columns
from chassis.postgres.statement import PendingResult, Statement
from ledger.model.sacco_books import Receipt, ReceiptKey, ReceiptState
from ledger.store.schema import receipt_books

RECEIPTS = Columns.of(
    receipt_books,
    sources={
        "state": lambda row: row.state.value,
        "inputs": lambda row: None if row.inputs is None else json.dumps(row.inputs),
    },
)
CHANGED = RECEIPTS.only(
    "saga_id", "state", "member_id", "allocated_by", "policy", "policy_version", "inputs", "returned_by"
)

FIND_NAMED = Statement("""
    SELECT saga_id
    FROM receipt_books
    JOIN unnest(CAST(%(providers)s AS text[]), CAST(%(short_codes)s AS text[]), CAST(%(receipts)s AS text[]))
        AS named (provider, short_code, receipt) USING (provider, short_code, receipt)
""")
FIND_RETURNED = Statement("""
    SELECT saga_id FROM receipt_books WHERE returned_by = ANY(CAST(%(returned_by)s AS text[]))
""")
LOCK = Statement(f"""
    SELECT {RECEIPTS.names} FROM receipt_books
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) ORDER BY saga_id FOR NO KEY UPDATE
""")
ADD = Statement(f"INSERT INTO receipt_books ({RECEIPTS.names}) SELECT {RECEIPTS.values} FROM {RECEIPTS.rows}")
CHANGE = Statement(f"""
    UPDATE receipt_books SET {CHANGED.assignments} FROM {CHANGED.rows} WHERE receipt_books.saga_id = row.saga_id
""")


def lock(
    saga_ids: Collection[str], keys: Collection[ReceiptKey], returned_by: Collection[str], tx: Connection
) -> PendingResult | None:
    """Lock receipts in one order: by the sagas that recorded them, by their names, by the sagas that return them.

    Which saga recorded a receipt never changes, so the others are found before they are locked.
    """
    wanted = set(saga_ids)
    if keys:
        named = list(keys)
        values = {
            "providers": [each.provider for each in named],
            "short_codes": [each.short_code for each in named],
            "receipts": [each.receipt for each in named],
        }
        wanted.update(row.saga_id for row in FIND_NAMED.rows(tx, values))
    if returned_by:
        wanted.update(row.saga_id for row in FIND_RETURNED.rows(tx, {"returned_by": sorted(returned_by)}))
    return LOCK.submit(tx, {"saga_ids": sorted(wanted)}) if wanted else None


def save(new: Sequence[Receipt], changed: Sequence[Receipt], tx: Connection) -> None:
    """Add receipts, and change others, whose rows are locked."""
    if new:
        ADD.run(tx, RECEIPTS.parameters(new))
    if changed:
        CHANGE.run(tx, CHANGED.parameters(changed))


def receipt_of(row: Any) -> Receipt:
    """Return a receipt from its row."""
    return Receipt(
        saga_id=row.saga_id,
        provider=row.provider,
        short_code=row.short_code,
        receipt=row.receipt,
        currency=row.currency,
        amount_minor=row.amount_minor,
        completed_at=row.completed_at,
        recorded_at=row.recorded_at,
        state=ReceiptState(row.state),
        member_id=row.member_id,
        allocated_by=row.allocated_by,
        policy=row.policy,
        policy_version=row.policy_version,
        inputs=row.inputs,
        returned_by=row.returned_by,
    )
