"""Payouts: loaded under their locks, added, and changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection

from chassis.postgres.columns import Columns
from chassis.postgres.statement import PendingResult, Statement
from ledger.model.sacco_books import Payout, PayoutState
from ledger.store.schema import payout_books

PAYOUTS = Columns.of(payout_books, sources={"state": lambda row: row.state.value})
CHANGED = PAYOUTS.only("saga_id", "state", "ended_at")

LOCK = Statement(f"""
    SELECT {PAYOUTS.names} FROM payout_books
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) ORDER BY saga_id FOR NO KEY UPDATE
""")
ADD = Statement(f"INSERT INTO payout_books ({PAYOUTS.names}) SELECT {PAYOUTS.values} FROM {PAYOUTS.rows}")
CHANGE = Statement(f"""
    UPDATE payout_books SET {CHANGED.assignments} FROM {CHANGED.rows} WHERE payout_books.saga_id = row.saga_id
""")


def lock(saga_ids: Collection[str], tx: Connection) -> PendingResult | None:
    """Lock payouts in one order."""
    return LOCK.submit(tx, {"saga_ids": sorted(saga_ids)}) if saga_ids else None


def save(new: Sequence[Payout], changed: Sequence[Payout], tx: Connection) -> None:
    """Add payouts, and change others, whose rows are locked."""
    if new:
        ADD.run(tx, PAYOUTS.parameters(new))
    if changed:
        CHANGE.run(tx, CHANGED.parameters(changed))


def payout_of(row: Any) -> Payout:
    """Return a payout from its row."""
    return Payout(
        saga_id=row.saga_id,
        short_code=row.short_code,
        source=row.source,
        member_id=row.member_id,
        currency=row.currency,
        amount_minor=row.amount_minor,
        held_at=row.held_at,
        state=PayoutState(row.state),
        ended_at=row.ended_at,
    )
