"""Shipping's tables and every statement on them; each takes a whole batch. Rows are locked in one order everywhere."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, Column, Connection, DateTime, Table, Text, func
from sqlalchemy.dialects.postgresql import JSONB

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.saga.schema import service_metadata
from chassis.values.json_text import compact
from messages.shipping import CancelShipment, ReturnedLine
from shipping.domain import BookShipment, Shipment, Shipments, ShipmentState
from shipping.parcels import Collection, CollectParcel

metadata = service_metadata(has_awaited_steps=True)
shipments = Table(
    "shipments",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("step", Text, primary_key=True, server_default="book_shipment"),
    Column("state", Text, nullable=False),
    Column("tracking_number", Text),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
collections = Table(
    "collections",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("order_id", Text, nullable=False),
    Column("state", Text, nullable=False, comment="ARRIVED, LOST, NOT_COLLECTED"),
    Column("collection_id", Text, comment="the courier's number; null: it has none"),
    Column("received", JSONB, nullable=False, comment="what arrived, at most what was approved"),
    Column("refund_minor", BigInteger, nullable=False),
    Column("surplus", JSONB, comment="what arrived besides; null: nothing, or it was not kept"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
surplus_settlements = Table(
    "surplus_settlements",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("settled_at", DateTime(timezone=True), nullable=False),
    Column("settled_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

COLUMNS = Columns.of(shipments, without=["updated_at"], sources={"state": "state.value"})
CHANGED = COLUMNS.only("saga_id", "step", "state")

LOCK = Statement(f"""
    SELECT {COLUMNS.names} FROM shipments
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) ORDER BY saga_id, step FOR UPDATE
""")

ADD = Statement(f"""
    INSERT INTO shipments ({COLUMNS.names})
    SELECT {COLUMNS.values}
    FROM {COLUMNS.rows}
""")

CHANGE = Statement(f"""
    UPDATE shipments SET {CHANGED.assignments}, updated_at = now()
    FROM {CHANGED.rows}
    WHERE shipments.saga_id = row.saga_id AND shipments.step = row.step
""")


def _json(lines: Sequence[ReturnedLine]) -> str:
    return compact([{"sku": line.sku, "good": line.good, "damaged": line.damaged} for line in lines])


COLLECTION = Columns.of(
    collections,
    without=["updated_at"],
    sources={
        "state": "state.value",
        "received": lambda each: _json(each.received),
        "surplus": lambda each: _json(each.surplus) if each.surplus else None,
    },
)

ADD_COLLECTIONS = Statement(f"""
    INSERT INTO collections ({COLLECTION.names})
    SELECT {COLLECTION.values}
    FROM {COLLECTION.rows}
""")


def load_nothing(_requests: Sequence[BookShipment], _tx: Connection) -> Shipments:
    """Return no shipments: a booking begins one. The effects table lets it happen once."""
    return Shipments()


def load_shipments(commands: Sequence[CancelShipment], tx: Connection) -> Shipments:
    """Lock the shipments of these sagas."""
    rows = LOCK.rows(tx, {"saga_ids": sorted(command.saga_id for command in commands)})
    return Shipments(
        found={
            (row.saga_id, row.step): Shipment(
                saga_id=row.saga_id,
                step=row.step,
                state=ShipmentState(row.state),
                tracking_number=row.tracking_number,
            )
            for row in rows
        }
    )


def save_shipments(touched: Shipments, tx: Connection) -> None:
    """Save the new and the changed shipments of a batch, in one statement each."""
    if touched.made:
        ADD.run(tx, COLUMNS.parameters(sorted(touched.made, key=lambda each: each.key)))
    if touched.changed:
        CHANGE.run(tx, CHANGED.parameters(sorted(touched.changed, key=lambda each: each.key)))


def load_no_collections(_requests: Sequence[CollectParcel], _tx: Connection) -> list[Collection]:
    """Return no collections: a row begins with its end. The effects table lets that happen once."""
    return []


def save_collections(ended: Sequence[Collection], tx: Connection) -> None:
    """Save the collections that a batch has ended, in one statement."""
    if ended:
        ADD_COLLECTIONS.run(tx, COLLECTION.parameters(sorted(ended, key=lambda each: each.key)))
