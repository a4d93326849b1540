"""Fills a stack's tables with sagas that have ended: copies of real ones under new ids, in every database.

Stock and points of the copies are added to what was received and granted, so that the audit judges them like any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from baraza.bench.ledger_copies import copy_transfers
from baraza.bench.owner import owner_connection
from baraza.system.running import Running
from baraza.terminal import notify

LEDGER = "ledger"
TIME_LENGTH = 10
"""A copied id has the copy's number instead of a ULID's time, so that copies sort before every original."""
FIRST_ORIGINAL = "01"
"""Every ULID made since 2004 sorts after it, and every copy before it."""
COUNTS = """
    SELECT count(*), count(*) FILTER (WHERE saga_id >= %(first)s),
           coalesce(max(left(saga_id, %(length)s)::bigint) FILTER (WHERE saga_id < %(first)s), 0)
    FROM sagas
"""


@dataclass(frozen=True, slots=True)
class Copied:
    """A table whose rows belong to a saga. Ids in the ``derived`` columns get the copy's number as a suffix.

    ``order_id`` is the column with the id of the order that the rows' saga is about, which is a saga as well.
    """

    service: str
    table: str
    saga_id: str
    derived: tuple[str, ...] = ()
    order_id: str | None = None


TABLES = (
    Copied("checkout", "orders", "order_id"),
    Copied("checkout", "idempotency_keys", "order_id", ("key",)),
    Copied("payment", "payments", "saga_id", ("authorization_id", "capture_id", "refund_id")),
    Copied("payment", "refunds", "saga_id", ("refund_id",), "order_id"),
    Copied("payment", "gateway_records", "reference", ("id",)),
    Copied("payment", "effects", "saga_id"),
    Copied("inventory", "reservations", "saga_id"),
    Copied("inventory", "restocks", "saga_id"),
    Copied("inventory", "effects", "saga_id"),
    Copied("loyalty", "burns", "saga_id"),
    Copied("loyalty", "credits", "saga_id", order_id="order_id"),
    Copied("loyalty", "effects", "saga_id"),
    Copied("shipping", "shipments", "saga_id", ("tracking_number",)),
    Copied("shipping", "courier_records", "reference", ("id",)),
    Copied("shipping", "effects", "saga_id"),
    Copied("ledger", "effects", "saga_id"),
    Copied("saga_tracker", "sagas", "saga_id"),
    Copied("saga_tracker", "timeline", "saga_id"),
)

CONSERVED = (
    (
        "inventory",
        """
        UPDATE stock SET received = on_hand + live.reserved
            - coalesce((SELECT sum(units)::bigint FROM restocks WHERE restocks.sku = stock.sku), 0)
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
            - coalesce((SELECT sum(points)::bigint FROM credits WHERE credits.customer_id = accounts.customer_id), 0)
        FROM (SELECT customer_id, sum(points)::bigint AS burned FROM burns WHERE state = 'BURNED'
              GROUP BY customer_id) AS live
        WHERE accounts.customer_id = live.customer_id
        """,
    ),
)


def fill(stack: Running, sagas: int) -> None:
    """Copy the sagas until there are at least ``sagas``, then let PostgreSQL vacuum and analyse its tables.

    All must have ended. Raises ValueError where there are none.
    """
    with owner_connection(stack, "saga_tracker") as tracker:
        found = tracker.execute(COUNTS, {"first": FIRST_ORIGINAL, "length": TIME_LENGTH}).fetchone()
    have, originals, last = found or (0, 0, 0)
    if originals == 0:
        raise ValueError("There is no saga to copy; run some to their end first.")
    copies = range(last + 1, last + 1 + max(0, -(-(sagas - have) // originals)))
    notify(f"Copying {originals} sagas {len(copies)} times.")
    for service in dict.fromkeys(copied.service for copied in TABLES):
        with owner_connection(stack, service) as connection:
            for copied in TABLES:
                if copied.service == service:
                    copy_rows(connection, copied, copies)
            if service == LEDGER:
                copy_transfers(connection, copies, first_original=FIRST_ORIGINAL, length=TIME_LENGTH)
            for owner, statement in CONSERVED:
                if owner == service:
                    connection.execute(statement)
            connection.commit()
            connection.autocommit = True
            connection.execute("VACUUM (ANALYZE)")


def copy_rows(connection: psycopg.Connection, copied: Copied, copies: range) -> None:
    """Copy every original row of a table, once for each of the numbers."""
    columns = connection.execute(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name = %s AND is_identity = 'NO'",
        (copied.table,),
    ).fetchall()
    number = sql.SQL("lpad(copy.number::text, {}, '0')").format(TIME_LENGTH)
    chosen: list[sql.Composable] = []
    for (name,) in columns:
        column = sql.SQL("original.{}").format(sql.Identifier(name))
        if name in (copied.saga_id, copied.order_id):
            chosen.append(sql.SQL("{} || substr({}, {})").format(number, column, TIME_LENGTH + 1))
        elif name in copied.derived:
            chosen.append(sql.SQL("{} || '-' || {}").format(column, number))
        else:
            chosen.append(column)
    statement = sql.SQL(
        "INSERT INTO {table} ({columns}) SELECT {chosen} FROM {table} AS original,"
        " generate_series(%s::bigint, %s::bigint) AS copy (number) WHERE original.{saga_id} >= %s"
    )
    connection.execute(
        statement.format(
            table=sql.Identifier(copied.table),
            columns=sql.SQL(", ").join(sql.Identifier(name) for (name,) in columns),
            chosen=sql.SQL(", ").join(chosen),
            saga_id=sql.Identifier(copied.saga_id),
        ),
        (copies.start, copies.stop - 1, FIRST_ORIGINAL),
    )
