"""Payment's tables and every statement on them; each takes a whole batch. Rows are locked in one order everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from chassis.postgres.statement import Statement
from chassis.saga.deferred import deferred_table
from chassis.saga.effects import effects_table
from chassis.saga.outbox import outbox_table
from messages.checkout import OrderSubmitted
from messages.contract import Message
from sqlalchemy import BigInteger, Column, Connection, DateTime, MetaData, SmallInteger, Table, Text, func

from payment.domain import Payment, Payments, PaymentState

metadata = MetaData()
effects = effects_table(metadata)
outbox = outbox_table(metadata)
deferred = deferred_table(metadata)
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
gateway_records = Table(
    "gateway_records",
    metadata,
    Column("id", Text, primary_key=True),
    Column("reference", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("captures", SmallInteger, nullable=False, server_default="0"),
    Column("captured_minor", BigInteger, nullable=False, server_default="0"),
    Column("refunds", SmallInteger, nullable=False, server_default="0"),
    Column("refunded_minor", BigInteger, nullable=False, server_default="0"),
    comment="what the gateway inside of the process knows; empty where the gateway is outside",
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

NOTE_AUTHORIZED = Statement("""
    INSERT INTO gateway_records (id, reference, state, amount_minor)
    SELECT id, reference, 'open', amount_minor
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(references)s AS text[]), CAST(%(amounts)s AS bigint[]))
        AS row (id, reference, amount_minor)
""")

NOTE_CAPTURED = Statement("""
    UPDATE gateway_records AS known
    SET state = 'captured', captures = captures + 1, captured_minor = captured_minor + row.amount_minor
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(amounts)s AS bigint[])) AS row (id, amount_minor)
    WHERE known.id = row.id
""")

NOTE_VOIDED = Statement("UPDATE gateway_records SET state = 'voided' WHERE id = ANY(CAST(%(ids)s AS text[]))")

NOTE_REFUNDED = Statement("""
    UPDATE gateway_records AS known
    SET state = 'refunded', refunds = refunds + 1, refunded_minor = refunded_minor + row.amount_minor
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(amounts)s AS bigint[])) AS row (id, amount_minor)
    WHERE known.id = row.id
""")


@dataclass(slots=True)
class GatewayRecords:
    """What a batch adds to the records of the gateway inside of the process, by authorization id."""

    authorized: list[tuple[str, str, int]] = field(default_factory=list)
    """Each with the saga id and the amount in minor units."""
    captured: list[tuple[str, int]] = field(default_factory=list)
    voided: list[str] = field(default_factory=list)
    refunded: list[tuple[str, int]] = field(default_factory=list)


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


def save_gateway_records(records: GatewayRecords, tx: Connection) -> None:
    """Save what a batch added, in one statement a kind; counts grow, so that whatever happened twice shows."""
    if records.authorized:
        ids, references, amounts = zip(*records.authorized, strict=True)
        NOTE_AUTHORIZED.run(tx, {"ids": list(ids), "references": list(references), "amounts": list(amounts)})
    for statement, noted in ((NOTE_CAPTURED, records.captured), (NOTE_REFUNDED, records.refunded)):
        if noted:
            ids, amounts = zip(*noted, strict=True)
            statement.run(tx, {"ids": list(ids), "amounts": list(amounts)})
    if records.voided:
        NOTE_VOIDED.run(tx, {"ids": records.voided})
