"""Inventory's tables and every statement on them; each takes a whole batch. Rows are locked in one order everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Row,
    Table,
    Text,
    func,
    text,
)

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.saga.schema import service_metadata
from inventory.domain import Reservation, ReservationState, Stock
from messages.inventory import ReleaseInventory
from messages.payment import PaymentAuthorized

metadata = service_metadata()
stock = Table(
    "stock",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("received", BigInteger, nullable=False, comment="all units that ever came in, less those taken out"),
    Column("on_hand", BigInteger, CheckConstraint("on_hand >= 0"), nullable=False, comment="units nobody holds"),
)
reservations = Table(
    "reservations",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("skus", ARRAY(Text), nullable=False),
    Column("quantities", ARRAY(BigInteger), nullable=False),
    Column("state", Text, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

RESERVATION = Columns.of(
    reservations,
    without=["updated_at"],
    sources={
        "skus": lambda reservation: _array(reservation.quantities),
        "quantities": lambda reservation: _array(reservation.quantities.values()),
    },
)
RESERVED = RESERVATION.without("state")

LOCK_STOCK = Statement("""
    SELECT sku, on_hand FROM stock WHERE sku = ANY(CAST(%(skus)s AS text[])) ORDER BY sku FOR UPDATE
""")

LOCK_ALL_STOCK = Statement("""
    SELECT sku FROM stock
    WHERE sku = ANY(CAST(%(skus)s AS text[]) || ARRAY(
        SELECT unnest(skus) FROM reservations WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))))
    ORDER BY sku FOR UPDATE
""")

LOCK_RESERVATIONS = Statement(f"""
    SELECT {RESERVATION.names} FROM reservations
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) ORDER BY saga_id FOR UPDATE
""")

MOVE = Statement("""
    UPDATE stock SET on_hand = stock.on_hand + row.units
    FROM unnest(CAST(%(skus)s AS text[]), CAST(%(units)s AS bigint[])) AS row (sku, units)
    WHERE stock.sku = row.sku
""")

RESERVE = Statement(f"""
    INSERT INTO reservations ({RESERVED.names}, state)
    SELECT {RESERVED.values}, 'RESERVED'
    FROM {RESERVED.rows}
""")

RELEASE = Statement("""
    UPDATE reservations SET state = 'RELEASED', updated_at = now() WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))
""")

RECEIVE = text("""
    INSERT INTO stock (sku, received, on_hand)
    SELECT sku, units, units FROM unnest(CAST(:skus AS text[]), CAST(:units AS bigint[])) AS row (sku, units)
    ORDER BY sku
    ON CONFLICT (sku) DO UPDATE
    SET received = stock.received + excluded.on_hand - stock.on_hand, on_hand = excluded.on_hand
""")

FIND = text("SELECT sku, received, on_hand FROM stock WHERE sku = :sku")


def lock_stock(messages: Sequence[PaymentAuthorized | ReleaseInventory], tx: Connection) -> None:
    """Lock the stock of every SKU in these orders, ordered or reserved."""
    skus = {line.sku for message in messages if isinstance(message, PaymentAuthorized) for line in message.lines}
    saga_ids = [message.saga_id for message in messages if isinstance(message, ReleaseInventory)]
    LOCK_ALL_STOCK.run(tx, {"skus": sorted(skus), "saga_ids": saga_ids})


def load_stock(events: Sequence[PaymentAuthorized], tx: Connection) -> Stock:
    """Lock the stock of every SKU in these orders."""
    return Stock(on_hand=_lock(tx, {line.sku for event in events for line in event.lines}))


def load_reservations(commands: Sequence[ReleaseInventory], tx: Connection) -> Stock:
    """Lock the reservations of these orders, and the stock that a release adds to."""
    rows = LOCK_RESERVATIONS.rows(tx, {"saga_ids": [command.saga_id for command in commands]})
    found = {
        row.saga_id: Reservation(
            saga_id=row.saga_id,
            quantities=dict(zip(row.skus, row.quantities, strict=True)),
            state=ReservationState(row.state),
        )
        for row in rows
    }
    skus = {sku for reservation in found.values() for sku in reservation.quantities}
    return Stock(on_hand=_lock(tx, skus), reservations=found)


def save_stock(changed: Stock, tx: Connection) -> None:
    """Save the changes of a batch, in one statement for each table and kind of change."""
    moved = {sku: units for sku, units in sorted(changed.moved.items()) if units}
    if moved:
        MOVE.run(tx, {"skus": list(moved), "units": list(moved.values())})
    if changed.made:
        RESERVE.run(tx, RESERVED.parameters(sorted(changed.made, key=lambda each: each.saga_id)))
    if changed.released:
        RELEASE.run(tx, {"saga_ids": sorted(each.saga_id for each in changed.released)})


def receive(tx: Connection, units: Mapping[str, int]) -> None:
    """Set the free units of each SKU, as after a stock-take. The difference is added to ``received``."""
    tx.execute(RECEIVE, {"skus": list(units), "units": list(units.values())})


def find(tx: Connection, sku: str) -> Row[tuple[str, int, int]] | None:
    """Return (sku, received, on_hand), or None."""
    return tx.execute(FIND, {"sku": sku}).one_or_none()


def _lock(tx: Connection, skus: Iterable[str]) -> dict[str, int]:
    rows = LOCK_STOCK.rows(tx, {"skus": sorted(skus)})
    return {row.sku: row.on_hand for row in rows}


def _array(values: Iterable[object]) -> str:
    """Return an array literal: unnest has no arrays of arrays of different lengths."""
    quoted = ('"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    return "{" + ",".join(quoted) + "}"
