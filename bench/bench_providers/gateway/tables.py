"""The gateway's records in payment's database, and every statement on them; each takes a whole batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import BigInteger, Boolean, Column, Connection, MetaData, SmallInteger, Table, Text

from chassis.postgres.statement import Statement

metadata = MetaData()
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
    comment="what the benchmark's gateway inside of the process has done",
)
merchant_charges = Table(
    "merchant_charges",
    metadata,
    Column("id", Text, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("payment_id", BigInteger, nullable=False),
    Column("is_open", Boolean, nullable=False),
    Column("authorized_minor", BigInteger, nullable=False),
    Column("captured_minor", BigInteger, nullable=False),
    Column("refunded_minor", BigInteger, nullable=False),
    comment="what the benchmark's gateways of merchants' payments have done",
)

ADD_AUTHORIZED = Statement("""
    INSERT INTO gateway_records (id, reference, state, amount_minor)
    SELECT id, reference, 'open', amount_minor
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(references)s AS text[]), CAST(%(amounts)s AS bigint[]))
        AS row (id, reference, amount_minor)
""")

RECORD_CAPTURED = Statement("""
    UPDATE gateway_records AS known
    SET state = 'captured', captures = captures + 1, captured_minor = captured_minor + row.amount_minor
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(amounts)s AS bigint[])) AS row (id, amount_minor)
    WHERE known.id = row.id
""")

RECORD_VOIDED = Statement("UPDATE gateway_records SET state = 'voided' WHERE id = ANY(CAST(%(ids)s AS text[]))")

RECORD_REFUNDED = Statement("""
    UPDATE gateway_records AS known
    SET state = CASE WHEN refunded_minor + row.amount_minor = captured_minor THEN 'refunded' ELSE state END,
        refunds = known.refunds + row.refunds, refunded_minor = refunded_minor + row.amount_minor
    FROM (SELECT id, count(*) AS refunds, sum(amount_minor)::bigint AS amount_minor
          FROM unnest(CAST(%(ids)s AS text[]), CAST(%(amounts)s AS bigint[])) AS part (id, amount_minor)
          GROUP BY id) AS row
    WHERE known.id = row.id
""")
"""A capture is refunded in parts, of which a batch may have several."""

ADD_CHARGED = Statement("""
    INSERT INTO merchant_charges AS known
        (id, gateway, payment_id, is_open, authorized_minor, captured_minor, refunded_minor)
    SELECT * FROM unnest(
        CAST(%(ids)s AS text[]), CAST(%(gateways)s AS text[]), CAST(%(payment_ids)s AS bigint[]),
        CAST(%(open)s AS boolean[]), CAST(%(authorized)s AS bigint[]), CAST(%(captured)s AS bigint[]),
        CAST(%(refunded)s AS bigint[]))
    ON CONFLICT (id) DO UPDATE
    SET is_open = excluded.is_open,
        authorized_minor = known.authorized_minor + excluded.authorized_minor,
        captured_minor = known.captured_minor + excluded.captured_minor,
        refunded_minor = known.refunded_minor + excluded.refunded_minor
""")
"""Amounts are added, so one that is charged twice shows."""


@dataclass(slots=True)
class GatewayRecords:
    """What a batch adds to the gateway's records, by authorization id."""

    authorized: list[tuple[str, str, int]] = field(default_factory=list)
    """Each with the saga id and the amount in minor units."""
    captured: list[tuple[str, int]] = field(default_factory=list)
    voided: list[str] = field(default_factory=list)
    refunded: list[tuple[str, int]] = field(default_factory=list)


def save_gateway_records(records: GatewayRecords, tx: Connection) -> None:
    """Save what a batch added, in one statement a kind. Captures and refunds are counted, so a second one shows."""
    if records.authorized:
        ids, references, amounts = zip(*records.authorized, strict=True)
        ADD_AUTHORIZED.run(tx, {"ids": list(ids), "references": list(references), "amounts": list(amounts)})
    for statement, recorded in ((RECORD_CAPTURED, records.captured), (RECORD_REFUNDED, records.refunded)):
        if recorded:
            ids, amounts = zip(*recorded, strict=True)
            statement.run(tx, {"ids": list(ids), "amounts": list(amounts)})
    if records.voided:
        RECORD_VOIDED.run(tx, {"ids": records.voided})
