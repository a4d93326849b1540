"""Adds records of what moved. An event that is delivered again adds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from reconciliation.model.records import Record
from reconciliation.store import schema

COLUMNS = Columns.of(schema.records, without=("recorded_at",))
PAYMENTS = Columns.of(schema.payments, without=("released_batch",))
ADD = Statement(f"""
    INSERT INTO records ({COLUMNS.names}, recorded_at)
    SELECT {COLUMNS.values}, %(recorded_at)s FROM {COLUMNS.rows}
    ON CONFLICT (saga_id, source) DO NOTHING
""")
ADD_PAYMENTS = Statement(f"""
    INSERT INTO payments ({PAYMENTS.names}) SELECT {PAYMENTS.values} FROM {PAYMENTS.rows}
    ON CONFLICT (account, payment_id) DO UPDATE
    SET gateway_payment_id = coalesce(payments.gateway_payment_id, excluded.gateway_payment_id)
    WHERE payments.gateway_payment_id IS NULL AND excluded.gateway_payment_id IS NOT NULL
""")


def add(records: Sequence[Record], tx: Connection, *, now: datetime) -> None:
    """Add the records of a batch."""
    if not records:
        return
    ADD.run(tx, {**COLUMNS.parameters(records), "recorded_at": now})
    # In one order, so that two batches never wait for each other.
    by_payment = {(each.account, each.payment_id): each for each in records}
    by_payment |= {(each.account, each.payment_id): each for each in records if each.gateway_payment_id is not None}
    ADD_PAYMENTS.run(tx, PAYMENTS.parameters([by_payment[key] for key in sorted(by_payment)]))
