"""Loads and saves what requests about merchants' payments need besides transfers: refunds, disputes, open accounts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from ledger.model.payment_books import Books, Dispute, DisputeState, Needs, Refund, RefundState
from ledger.store import booking, rows
from ledger.store.booking import Wanted
from ledger.store.schema import payment_disputes, payment_refunds

REFUNDS = Columns.of(payment_refunds)
DISPUTES = Columns.of(payment_disputes)

FIND_OPEN = Statement("SELECT path FROM accounts WHERE path = ANY(CAST(%(paths)s AS text[]))")
FIND_REFUNDS = Statement(f"""
    SELECT {REFUNDS.names} FROM payment_refunds WHERE refund_id = ANY(CAST(%(refund_ids)s AS bigint[]))
    UNION
    SELECT {REFUNDS.names} FROM payment_refunds WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))
""")
FIND_DISPUTES = Statement(f"""
    SELECT {DISPUTES.names} FROM payment_disputes WHERE dispute_id = ANY(CAST(%(dispute_ids)s AS text[]))
""")
SAVE_REFUNDS = Statement(f"""
    INSERT INTO payment_refunds ({REFUNDS.names}) SELECT {REFUNDS.values} FROM {REFUNDS.rows}
    ON CONFLICT (refund_id) DO UPDATE SET state = excluded.state
    WHERE (payment_refunds.payment_id, payment_refunds.saga_id) = (excluded.payment_id, excluded.saga_id)
""")
SAVE_DISPUTES = Statement(f"""
    INSERT INTO payment_disputes ({DISPUTES.names}) SELECT {DISPUTES.values} FROM {DISPUTES.rows}
    ON CONFLICT (dispute_id) DO UPDATE SET state = excluded.state
    WHERE payment_disputes.payment_id = excluded.payment_id
""")


class TakenId(RuntimeError):
    """A refund or a dispute of another payment has the same id; the transaction must not be committed."""


def load(needs: Sequence[Needs], tx: Connection, *, now: datetime, refund_sagas: Sequence[str] = ()) -> Books:
    """Load and lock what these need. Refunds and disputes are guarded by the lock of their payment.

    ``refund_sagas`` are sagas whose refunds are needed as well.
    """
    wanted = Wanted(
        own=frozenset(each for need in needs for each in need.own),
        named=frozenset(each for need in needs for each in need.named),
        paths=frozenset(each for need in needs for each in need.paths),
        payment_ids=frozenset(each for need in needs for each in need.payment_ids),
    )
    loaded = booking.load_wanted(wanted, tx, now=now)
    accounts = sorted({each for need in needs for each in need.accounts})
    refund_ids = sorted({each for need in needs for each in need.refund_ids})
    dispute_ids = sorted({each for need in needs for each in need.dispute_ids})
    is_refunding = bool(refund_ids or refund_sagas)
    opened = FIND_OPEN.submit(tx, {"paths": accounts}) if accounts else None
    refunds = (
        FIND_REFUNDS.submit(tx, {"refund_ids": refund_ids, "saga_ids": list(refund_sagas)}) if is_refunding else None
    )
    disputes = FIND_DISPUTES.submit(tx, {"dispute_ids": dispute_ids}) if dispute_ids else None
    return Books(
        loaded=loaded,
        open_accounts=frozenset(row.path for row in opened.rows()) if opened else frozenset(),
        refunds={row.refund_id: _refund(row) for row in refunds.rows()} if refunds else {},
        disputes={row.dispute_id: _dispute(row) for row in disputes.rows()} if disputes else {},
    )


def save(books: Books, tx: Connection) -> None:
    """Add what the batch has booked. Raises TakenId."""
    rows.save(books.loaded, tx)
    refunds, disputes = list(books.changed_refunds.values()), list(books.changed_disputes.values())
    for statement, columns, changed in ((SAVE_REFUNDS, REFUNDS, refunds), (SAVE_DISPUTES, DISPUTES, disputes)):
        if changed and statement.submit(tx, columns.parameters(changed)).change_count() != len(changed):
            raise TakenId("A refund or a dispute has the id of another payment's; see which service gave it.")


def _refund(row: Any) -> Refund:
    return Refund(
        refund_id=row.refund_id,
        payment_id=row.payment_id,
        saga_id=row.saga_id,
        amount_minor=row.amount_minor,
        state=RefundState(row.state),
    )


def _dispute(row: Any) -> Dispute:
    return Dispute(
        dispute_id=row.dispute_id,
        payment_id=row.payment_id,
        amount_minor=row.amount_minor,
        covered_minor=row.covered_minor,
        state=DisputeState(row.state),
    )
