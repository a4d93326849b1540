"""Payment's tables and every statement on them; each takes a whole batch. Rows are locked in one order everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chassis.postgres.statement import Statement
from chassis.saga.schema import service_metadata
from messages.checkout import OrderSubmitted
from messages.contract import Message
from sqlalchemy import BigInteger, Column, Connection, DateTime, Table, Text, func

from payment.domain import Payment, Payments, PaymentState

metadata = service_metadata()
payments = Table(
    "payments",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("authorization_id", Text),
    Column("capture_id", Text),
    Column("refund_id", Text),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

LOCK = Statement("""
    SELECT saga_id, state, authorization_id, capture_id, refund_id, currency, amount_minor FROM payments
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) ORDER BY saga_id FOR UPDATE
""")

ADD = Statement("""
    INSERT INTO payments (saga_id, state, authorization_id, currency, amount_minor)
    SELECT saga_id, state, authorization_id, currency, amount_minor
    FROM unnest(CAST(%(saga_ids)s AS text[]), CAST(%(states)s AS text[]), CAST(%(authorization_ids)s AS text[]),
                CAST(%(currencies)s AS text[]), CAST(%(amounts)s AS bigint[]))
        AS row (saga_id, state, authorization_id, currency, amount_minor)
""")

CHANGE = Statement("""
    UPDATE payments
    SET state = row.state, capture_id = row.capture_id, refund_id = row.refund_id, updated_at = now()
    FROM unnest(CAST(%(saga_ids)s AS text[]), CAST(%(states)s AS text[]), CAST(%(capture_ids)s AS text[]),
                CAST(%(refund_ids)s AS text[]))
        AS row (saga_id, state, capture_id, refund_id)
    WHERE payments.saga_id = row.saga_id
""")


def load_nothing(_events: Sequence[OrderSubmitted], _tx: Connection) -> Payments:
    """An authorization begins a payment, so there is none to look at: the fence lets it happen once."""
    return Payments()


def load_payments(messages: Sequence[Message], tx: Connection) -> Payments:
    """Lock the payments of these sagas."""
    return Payments(found=_lock(tx, (message.saga_id for message in messages)))


def save_payments(touched: Payments, tx: Connection) -> None:
    """Save what a batch made and changed, in one statement each."""
    if touched.made:
        ADD.run(
            tx,
            {
                "saga_ids": [each.saga_id for each in touched.made],
                "states": [each.state.value for each in touched.made],
                "authorization_ids": [each.authorization_id for each in touched.made],
                "currencies": [each.currency for each in touched.made],
                "amounts": [each.amount_minor for each in touched.made],
            },
        )
    changed = list(touched.changed.values())
    if changed:
        CHANGE.run(
            tx,
            {
                "saga_ids": [each.saga_id for each in changed],
                "states": [each.state.value for each in changed],
                "capture_ids": [each.capture_id for each in changed],
                "refund_ids": [each.refund_id for each in changed],
            },
        )


def _lock(tx: Connection, saga_ids: Iterable[str]) -> dict[str, Payment]:
    rows = LOCK.rows(tx, {"saga_ids": sorted(saga_ids)})
    return {
        row.saga_id: Payment(
            saga_id=row.saga_id,
            state=PaymentState(row.state),
            currency=row.currency,
            amount_minor=row.amount_minor,
            authorization_id=row.authorization_id,
            capture_id=row.capture_id,
            refund_id=row.refund_id,
        )
        for row in rows
    }
