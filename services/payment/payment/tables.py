"""Payment's tables and every statement on them; each takes a whole batch. Rows are locked in one order everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import BigInteger, Column, Connection, DateTime, Index, Table, Text, func, text

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.saga.schema import service_metadata
from chassis.saga.triggers import StepKey
from messages.payment import RefundPayment
from payment.domain import (
    AuthorizePayment,
    CapturePayment,
    Payment,
    Payments,
    PaymentState,
    RefundPart,
)
from payment.merchants.notices_table import gateway_notices_table, reversals_table
from payment.merchants.tables import merchant_payments_table, merchant_refunds_table

OVERDUE = text("""
    SELECT 'payment_reversal', count(*) FROM gateway_reversals
    WHERE ended_at IS NULL AND reported_at < now() - interval '10 minutes'
""")

metadata = service_metadata(has_awaited_steps=True)
merchant_payments_table(metadata)
merchant_refunds_table(metadata)
gateway_notices_table(metadata)
reversals_table(metadata)
payments = Table(
    "payments",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("step", Text, primary_key=True, server_default="authorize_payment"),
    Column("state", Text, nullable=False),
    Column("authorization_id", Text),
    Column("capture_id", Text),
    Column("refund_id", Text),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
refunds = Table(
    "refunds",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("order_id", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("refund_id", Text, comment="the gateway's number; null where the amount is 0"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("refunds_of_order", "order_id"),
)

COLUMNS = Columns.of(payments, without=["updated_at"], sources={"state": "state.value"})
ADDED = COLUMNS.without("capture_id", "refund_id")
CHANGED = COLUMNS.only("saga_id", "step", "state", "capture_id", "refund_id")
REFUNDED = Columns.of(refunds, without=["created_at"])

LOCK = Statement(f"""
    SELECT {COLUMNS.names} FROM payments
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) ORDER BY saga_id, step FOR UPDATE
""")

ADD = Statement(f"""
    INSERT INTO payments ({ADDED.names})
    SELECT {ADDED.values}
    FROM {ADDED.rows}
""")

CHANGE = Statement(f"""
    UPDATE payments
    SET {CHANGED.assignments}, updated_at = now()
    FROM {CHANGED.rows}
    WHERE payments.saga_id = row.saga_id AND payments.step = row.step
""")

ADD_REFUNDS = Statement(f"""
    INSERT INTO refunds ({REFUNDED.names})
    SELECT {REFUNDED.values}
    FROM {REFUNDED.rows}
""")


def load_nothing(_requests: Sequence[AuthorizePayment | RefundPart], _tx: Connection) -> Payments:
    """Return no payments: an authorization begins one, and the refund of a part changes none.

    The effects table lets each happen once.
    """
    return Payments()


def load_payments(requests: Sequence[CapturePayment | RefundPayment], tx: Connection) -> Payments:
    """Lock the payments of these sagas."""
    return Payments(found=_lock(tx, (each.saga_id for each in requests)))


def load_order_payments(requests: Sequence[RefundPart], tx: Connection) -> Payments:
    """Lock the payments of the orders of which these refund a part; a refund of 0 needs none."""
    return Payments(found=_lock(tx, (each.order_id for each in requests if each.amount_minor)))


def save_payments(touched: Payments, tx: Connection) -> None:
    """Save the new and the changed payments and the refunds of a batch, in one statement each."""
    if touched.made:
        ADD.run(tx, ADDED.parameters(sorted(touched.made, key=lambda each: each.key)))
    if touched.changed:
        CHANGE.run(tx, CHANGED.parameters(sorted(touched.changed.values(), key=lambda each: each.key)))
    if touched.refunded:
        ADD_REFUNDS.run(tx, REFUNDED.parameters(sorted(touched.refunded, key=lambda each: each.key)))


def _lock(tx: Connection, saga_ids: Iterable[str]) -> dict[StepKey, Payment]:
    rows = LOCK.rows(tx, {"saga_ids": sorted(saga_ids)})
    return {
        (row.saga_id, row.step): Payment(
            saga_id=row.saga_id,
            step=row.step,
            state=PaymentState(row.state),
            currency=row.currency,
            amount_minor=row.amount_minor,
            authorization_id=row.authorization_id,
            capture_id=row.capture_id,
            refund_id=row.refund_id,
        )
        for row in rows
    }
