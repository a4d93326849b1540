"""Fills a stack's tables with sagas that ended long ago: copies of real ones, with ids of their own, in every database.

What copies hold is added to what was ever received and granted, so that the audit judges them like any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from baraza.running import Running
from baraza.terminal import say

OWNER = "owner"
TIME_LENGTH = 10
"""A copied id has the copy's number in the place of a ULID's time, so that copies lie before all that is real."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A table whose rows belong to a saga. ``derived`` columns hold ids of their own, which get the number as well."""

    service: str
    table: str
    saga_id: str
    derived: tuple[str, ...] = ()


TABLES = (
    Copied("checkout", "orders", "order_id"),
    Copied("checkout", "idempotency_keys", "order_id", ("key",)),
    Copied("payment", "payments", "saga_id", ("authorization_id", "capture_id", "refund_id")),
    Copied("payment", "gateway_records", "reference", ("id",)),
    Copied("payment", "effects", "saga_id"),
    Copied("inventory", "reservations", "saga_id"),
    Copied("inventory", "effects", "saga_id"),
    Copied("loyalty", "burns", "saga_id"),
    Copied("loyalty", "effects", "saga_id"),
    Copied("shipping", "shipments", "saga_id", ("tracking_number",)),
    Copied("shipping", "courier_records", "reference", ("id",)),
    Copied("shipping", "effects", "saga_id"),
    Copied("ledger", "entries", "saga_id"),
    Copied("ledger", "effects", "saga_id"),
    Copied("saga_tracker", "sagas", "saga_id"),
    Copied("saga_tracker", "timeline", "saga_id"),
)

CONSERVED = (
    (
        "inventory",
        """
        UPDATE stock SET received = on_hand + live.reserved
        FROM (SELECT line.sku, sum(line.quantity)::bigint AS reserved
              FROM reservations, unnest(skus, quantities) AS line (sku, quantity)
              WHERE state = 'RESERVED' GROUP BY line.sku) AS live
        WHERE stock.sku = live.sku
        """,
    ),
    (
        "loyalty",
        """
        UPDATE accounts SET granted = balance + live.burned
        FROM (SELECT customer_id, sum(points)::bigint AS burned FROM burns WHERE state = 'BURNED'
              GROUP BY customer_id) AS live
        WHERE accounts.customer_id = live.customer_id
        """,
    ),
)


def fill(stack: Running, sagas: int) -> None:
    """Copy the sagas until there are at least ``sagas``, then let PostgreSQL take stock of its tables.

    All must have ended. Raises ValueError where there are none.
    """
    with _owner(stack, "saga_tracker") as tracker:
        row = tracker.execute("SELECT count(*) FROM sagas").fetchone()
    have = row[0] if row else 0
    if have == 0:
        raise ValueError("There is no saga to copy; let some end first.")
    copies = -(-sagas // have) - 1
    say(f"Copying {have} sagas {copies} times.")
    for service in dict.fromkeys(copied.service for copied in TABLES):
        with _owner(stack, service) as connection:
            for copied in TABLES:
                if copied.service == service:
                    _copy(connection, copied, copies)
            for owner, statement in CONSERVED:
                if owner == service:
                    connection.execute(statement)
            connection.commit()
            connection.autocommit = True
            connection.execute("VACUUM (ANALYZE)")


def _copy(connection: psycopg.Connection, copied: Copied, copies: int) -> None:
    columns = connection.execute(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name = %s AND is_identity = 'NO'",
        (copied.table,),
    ).fetchall()
    number = sql.SQL("lpad(copy.number::text, {}, '0')").format(TIME_LENGTH)
    chosen: list[sql.Composable] = []
    for (name,) in columns:
        column = sql.SQL("original.{}").format(sql.Identifier(name))
        if name == copied.saga_id:
            chosen.append(sql.SQL("{} || substr({}, {})").format(number, column, TIME_LENGTH + 1))
        elif name in copied.derived:
            chosen.append(sql.SQL("{} || '-' || {}").format(column, number))
        else:
            chosen.append(column)
    statement = sql.SQL(
        "INSERT INTO {table} ({columns}) SELECT {chosen} FROM {table} AS original,"
        " generate_series(1, %s) AS copy (number)"
    )
    connection.execute(
        statement.format(
            table=sql.Identifier(copied.table),
            columns=sql.SQL(", ").join(sql.Identifier(name) for (name,) in columns),
            chosen=sql.SQL(", ").join(chosen),
        ),
        (copies,),
    )


def _owner(stack: Running, service: str) -> psycopg.Connection:
    return psycopg.connect(stack.stack.database_url(service, OWNER))
