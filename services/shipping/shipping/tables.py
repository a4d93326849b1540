"""Shipping's tables and every statement on them; each takes a whole batch. Rows are locked in one order everywhere."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.postgres.statement import Statement
from chassis.saga.schema import service_metadata
from messages.loyalty import LoyaltyPointsBurned
from messages.shipping import CancelShipment
from sqlalchemy import Column, Connection, DateTime, Table, Text, func

from shipping.domain import Shipment, Shipments, ShipmentState

metadata = service_metadata()
shipments = Table(
    "shipments",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("tracking_number", Text),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

LOCK = Statement("""
    SELECT saga_id, state, tracking_number FROM shipments
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) ORDER BY saga_id FOR UPDATE
""")

ADD = Statement("""
    INSERT INTO shipments (saga_id, state, tracking_number)
    SELECT saga_id, state, tracking_number
    FROM unnest(CAST(%(saga_ids)s AS text[]), CAST(%(states)s AS text[]), CAST(%(tracking_numbers)s AS text[]))
        AS row (saga_id, state, tracking_number)
""")

CHANGE = Statement("""
    UPDATE shipments SET state = row.state, updated_at = now()
    FROM unnest(CAST(%(saga_ids)s AS text[]), CAST(%(states)s AS text[])) AS row (saga_id, state)
    WHERE shipments.saga_id = row.saga_id
""")


def load_nothing(_events: Sequence[LoyaltyPointsBurned], _tx: Connection) -> Shipments:
    """A booking begins a shipment, so there is none to look at: the fence lets it happen once."""
    return Shipments()


def load_shipments(commands: Sequence[CancelShipment], tx: Connection) -> Shipments:
    """Lock the shipments of these sagas."""
    rows = LOCK.rows(tx, {"saga_ids": sorted(command.saga_id for command in commands)})
    return Shipments(
        found={
            row.saga_id: Shipment(
                saga_id=row.saga_id, state=ShipmentState(row.state), tracking_number=row.tracking_number
            )
            for row in rows
        }
    )


def save_shipments(touched: Shipments, tx: Connection) -> None:
    """Save what a batch made and changed, in one statement each."""
    if touched.made:
        ADD.run(
            tx,
            {
                "saga_ids": [each.saga_id for each in touched.made],
                "states": [each.state.value for each in touched.made],
                "tracking_numbers": [each.tracking_number for each in touched.made],
            },
        )
    if touched.changed:
        CHANGE.run(
            tx,
            {
                "saga_ids": [each.saga_id for each in touched.changed],
                "states": [each.state.value for each in touched.changed],
            },
        )
