"""Inventory's tables and every statement on them; each takes a whole batch. Rows are locked in one order everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Index,
    Row,
    Table,
    Text,
    func,
    text,
)

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.saga.schema import service_metadata
from chassis.values.movements import Balance, Movement, MovementKind
from inventory.domain import Reservation, ReservationState, ReserveInventory, RestockInventory, Stock
from messages.inventory import ReleaseInventory

metadata = service_metadata()
stock = Table(
    "stock",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("received", BigInteger, nullable=False, comment="all units that ever came in, less those taken out"),
    Column("on_hand", BigInteger, CheckConstraint("on_hand >= 0"), nullable=False, comment="units nobody holds"),
    Column("version", BigInteger, nullable=False, server_default="0", comment="how many movements it has had"),
)
movements = Table(
    "stock_movements",
    metadata,
    Column("made_by", Text, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("sku", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("units", BigInteger, nullable=False, comment="added to what was received; negative: taken out"),
    Column("reason", Text, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("stock_movements_opened", "sku", unique=True, postgresql_where=text("kind = 'OPENED'")),
)
reservations = Table(
    "reservations",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("step", Text, primary_key=True, server_default="reserve_inventory"),
    Column("skus", ARRAY(Text), nullable=False),
    Column("quantities", ARRAY(BigInteger), nullable=False),
    Column("state", Text, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
restocks = Table(
    "restocks",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("sku", Text, primary_key=True),
    Column("units", BigInteger, nullable=False, comment="added to on_hand, not to received"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
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
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) ORDER BY saga_id, step FOR UPDATE
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
    UPDATE reservations SET state = 'RELEASED', updated_at = now()
    FROM unnest(CAST(%(saga_ids)s AS text[]), CAST(%(steps)s AS text[])) AS row (saga_id, step)
    WHERE reservations.saga_id = row.saga_id AND reservations.step = row.step
""")

OPEN_RESTOCKED = Statement("""
    WITH opened AS (
        INSERT INTO stock (sku, received, on_hand, version)
        SELECT sku, 0, 0, 1 FROM unnest(CAST(%(skus)s AS text[])) AS row (sku) ORDER BY sku
        ON CONFLICT (sku) DO NOTHING
        RETURNING sku
    )
    INSERT INTO stock_movements (made_by, idempotency_key, sku, kind, units, reason)
    SELECT 'restock_inventory', '', sku, 'OPENED', 0, 'It came back with a return and had no stock here.'
    FROM opened
""")

RESTOCK = Statement("""
    INSERT INTO restocks (saga_id, step, sku, units)
    SELECT saga_id, step, sku, units
    FROM unnest(CAST(%(saga_ids)s AS text[]), CAST(%(steps)s AS text[]), CAST(%(skus)s AS text[]),
                CAST(%(units)s AS bigint[])) AS row (saga_id, step, sku, units)
""")

LOCK_KEY = text("""
    SELECT pg_advisory_xact_lock(hashtextextended(CAST(:made_by AS text) || ' ' || CAST(:key AS text), 0))
""")

MOVEMENTS_OF_KEY = text("""
    SELECT sku, kind, units, reason FROM stock_movements WHERE made_by = :made_by AND idempotency_key = :key
""")

OPEN = text("""
    WITH opened AS (
        INSERT INTO stock (sku, received, on_hand, version)
        SELECT sku, units, units, 1
        FROM unnest(CAST(:skus AS text[]), CAST(:units AS bigint[])) AS row (sku, units)
        ORDER BY sku
        ON CONFLICT (sku) DO NOTHING
        RETURNING sku, received
    )
    INSERT INTO stock_movements (made_by, idempotency_key, sku, kind, units, reason)
    SELECT CAST(:made_by AS text), '', sku, 'OPENED', received, CAST(:reason AS text)
    FROM opened
    RETURNING sku
""")
"""An opening has the key that no request can have: it happens once for a SKU, whichever caller repeats it."""

BALANCES = """
    SELECT sku, received, on_hand,
           coalesce((SELECT units FROM stock_movements AS movement
                     WHERE movement.sku = stock.sku AND kind = 'OPENED'), 0) AS opened
    FROM stock
"""

LOCK_BALANCES = text(f"""
    {BALANCES} WHERE sku = ANY(CAST(:skus AS text[])) ORDER BY sku FOR UPDATE
""")

ADD_MOVEMENTS = text("""
    WITH row AS (
        SELECT * FROM unnest(CAST(:skus AS text[]), CAST(:kinds AS text[]), CAST(:units AS bigint[]),
                             CAST(:reasons AS text[])) AS row (sku, kind, units, reason)
    ), recorded AS (
        INSERT INTO stock_movements (made_by, idempotency_key, sku, kind, units, reason)
        SELECT CAST(:made_by AS text), CAST(:key AS text), sku, kind, units, reason FROM row
    )
    UPDATE stock
    SET received = received + row.units, on_hand = on_hand + row.units, version = version + 1
    FROM row
    WHERE stock.sku = row.sku
""")

FIND = text(f"{BALANCES} WHERE sku = :sku")


def lock_stock(requests: Sequence[ReserveInventory | ReleaseInventory | RestockInventory], tx: Connection) -> None:
    """Lock the stock of every SKU of these: wanted, reserved or put back."""
    _open(tx, _put_back([each for each in requests if isinstance(each, RestockInventory)]))
    skus = {sku for each in requests if not isinstance(each, ReleaseInventory) for sku, _ in each.lines}
    saga_ids = [each.saga_id for each in requests if isinstance(each, ReleaseInventory)]
    LOCK_ALL_STOCK.run(tx, {"skus": sorted(skus), "saga_ids": saga_ids})


def load_stock(requests: Sequence[ReserveInventory], tx: Connection) -> Stock:
    """Lock the stock of every SKU that is wanted."""
    return Stock(on_hand=_lock(tx, {sku for request in requests for sku, _ in request.lines}))


def load_restocked(requests: Sequence[RestockInventory], tx: Connection) -> Stock:
    """Lock the stock of every SKU that is put back. One that has none is opened without any unit."""
    skus = _put_back(requests)
    _open(tx, skus)
    return Stock(on_hand=_lock(tx, skus))


def load_reservations(commands: Sequence[ReleaseInventory], tx: Connection) -> Stock:
    """Lock the reservations of these sagas, and the stock that a release adds to."""
    rows = LOCK_RESERVATIONS.rows(tx, {"saga_ids": [command.saga_id for command in commands]})
    found = {
        (row.saga_id, row.step): Reservation(
            saga_id=row.saga_id,
            step=row.step,
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
        RESERVE.run(tx, RESERVED.parameters(sorted(changed.made, key=lambda each: each.key)))
    if changed.released:
        keys = sorted(each.key for each in changed.released)
        RELEASE.run(tx, {"saga_ids": [saga_id for saga_id, _ in keys], "steps": [step for _, step in keys]})
    rows = sorted((*each.key, sku, units) for each in changed.restocked for sku, units in each.units.items())
    if rows:
        saga_ids, steps, skus, all_units = (list(column) for column in zip(*rows, strict=True))
        RESTOCK.run(tx, {"saga_ids": saga_ids, "steps": steps, "skus": skus, "units": all_units})


def lock_key(tx: Connection, made_by: str, key: str) -> None:
    """Wait for the key's lock and hold it until the transaction ends."""
    tx.execute(LOCK_KEY, {"made_by": made_by, "key": key})


def load_movements(tx: Connection, made_by: str, key: str) -> dict[str, Movement]:
    """Return the movements by SKU that were made under this key."""
    rows = tx.execute(MOVEMENTS_OF_KEY, {"made_by": made_by, "key": key})
    return {row.sku: Movement(kind=MovementKind(row.kind), units=row.units, reason=row.reason) for row in rows}


def open_balances(tx: Connection, made_by: str, units: Mapping[str, int], reason: str) -> None:
    """Open the stock of each SKU that is not known yet; a known one stays as it is."""
    skus = sorted(units)
    tx.execute(OPEN, {"skus": skus, "units": [units[sku] for sku in skus], "made_by": made_by, "reason": reason})


def lock_balances(tx: Connection, items: Iterable[str]) -> dict[str, Balance]:
    """Lock the stock of these SKUs and return it by SKU, without those that are not known."""
    return {row.sku: _balance(row) for row in tx.execute(LOCK_BALANCES, {"skus": sorted(items)})}


def add_movements(tx: Connection, made_by: str, key: str, movements: Mapping[str, Movement]) -> None:
    """Record the movements and move the stock by them. Its rows are locked already."""
    tx.execute(
        ADD_MOVEMENTS,
        {
            "made_by": made_by,
            "key": key,
            "skus": list(movements),
            "kinds": [movement.kind.value for movement in movements.values()],
            "units": [movement.units for movement in movements.values()],
            "reasons": [movement.reason for movement in movements.values()],
        },
    )


def find(tx: Connection, sku: str) -> Balance | None:
    """Return the stock of one SKU, or None."""
    row = tx.execute(FIND, {"sku": sku}).one_or_none()
    return None if row is None else _balance(row)


def _balance(row: Row[Any]) -> Balance:
    return Balance(entered=row.received, free=row.on_hand, opened=row.opened)


def _put_back(requests: Iterable[RestockInventory]) -> set[str]:
    return {sku for request in requests for sku, units in request.lines if units}


def _open(tx: Connection, skus: set[str]) -> None:
    """Open the stock that is missing, before any is locked, as staff's openings do: then nothing waits in a circle."""
    if skus:
        OPEN_RESTOCKED.run(tx, {"skus": sorted(skus)})


def _lock(tx: Connection, skus: Iterable[str]) -> dict[str, int]:
    rows = LOCK_STOCK.rows(tx, {"skus": sorted(skus)})
    return {row.sku: row.on_hand for row in rows}


def _array(values: Iterable[object]) -> str:
    """Return an array literal: unnest has no arrays of arrays of different lengths."""
    quoted = ('"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    return "{" + ",".join(quoted) + "}"
