"""Checkout's tables and every statement on them; each takes a whole batch."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from chassis.postgres.statement import Statement
from chassis.saga.schema import service_metadata
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    LargeBinary,
    Row,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from checkout.domain import OrderState, PricedCart, Product

metadata = service_metadata()
products = Table(
    "products",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("price_minor", BigInteger, CheckConstraint("price_minor >= 0"), nullable=False),
    Column("currency", Text, nullable=False),
)
orders = Table(
    "orders",
    metadata,
    Column("order_id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("lines", JSONB, nullable=False),
    Column("points_to_burn", BigInteger, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("payable_minor", BigInteger, nullable=False),
    Column("failure_cause", Text),
    Column("failure_reason", Text),
    Column("submitted_at", DateTime(timezone=True), nullable=False),
    Column("cancellation_requested_at", DateTime(timezone=True)),
    Column("decided_at", DateTime(timezone=True)),
)
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("client_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("order_id", Text, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)


OrderRow: TypeAlias = Row[tuple[Any, ...]]
"""A row of ``orders`` as :func:`load_order` returns it."""


Key: TypeAlias = tuple[str, str]
"""Client id and idempotency key: each client has keys of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """An order to be stored as PENDING, with the key that it was sent under and the answer to remember for it."""

    order_id: str
    client_id: str
    key: str
    fingerprint: bytes
    priced: PricedCart
    status: int
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What was answered to an idempotency key."""

    order_id: str
    fingerprint: bytes
    status: int
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How an order's saga ended."""

    order_id: str
    state: OrderState
    cause: str | None
    reason: str | None
    decided_at: datetime


TRY_LOCK = Statement("""
    SELECT place FROM unnest(CAST(%(locks)s AS bigint[])) WITH ORDINALITY AS row (lock, place)
    WHERE pg_try_advisory_xact_lock(lock)
""")

REMEMBERED = Statement("""
    SELECT k.client_id, k.key, k.order_id, k.fingerprint, k.status, k.body
    FROM unnest(CAST(%(client_ids)s AS text[]), CAST(%(keys)s AS text[])) AS row (client_id, key)
         JOIN idempotency_keys AS k USING (client_id, key)
""")

PRODUCTS = Statement("SELECT sku, name, price_minor, currency FROM products WHERE sku = ANY(CAST(%(skus)s AS text[]))")

INSERT_ORDERS = Statement("""
    WITH row AS (
        SELECT * FROM unnest(
            CAST(%(order_ids)s AS text[]), CAST(%(client_ids)s AS text[]), CAST(%(keys)s AS text[]),
            CAST(%(fingerprints)s AS bytea[]), CAST(%(statuses)s AS smallint[]), CAST(%(bodies)s AS text[]),
            CAST(%(customer_ids)s AS text[]), CAST(%(currencies)s AS text[]), CAST(%(lines)s AS text[]),
            CAST(%(points)s AS bigint[]), CAST(%(totals)s AS bigint[]), CAST(%(payables)s AS bigint[]))
        AS row (order_id, client_id, key, fingerprint, status, body,
                customer_id, currency, lines, points_to_burn, total_minor, payable_minor)
    ), claimed AS (
        INSERT INTO idempotency_keys (client_id, key, fingerprint, order_id, status, body, created_at)
        SELECT client_id, key, fingerprint, order_id, status, body, %(now)s FROM row
    )
    INSERT INTO orders (order_id, customer_id, client_id, state, currency, lines, points_to_burn, total_minor,
                        payable_minor, submitted_at)
    SELECT order_id, customer_id, client_id, 'PENDING', currency, CAST(lines AS jsonb), points_to_burn, total_minor,
           payable_minor, %(now)s
    FROM row
""")

DECIDE = Statement("""
    UPDATE orders
    SET state = row.state, failure_cause = row.cause, failure_reason = row.reason, decided_at = row.decided_at
    FROM unnest(CAST(%(order_ids)s AS text[]), CAST(%(states)s AS text[]), CAST(%(causes)s AS text[]),
                CAST(%(reasons)s AS text[]), CAST(%(decided)s AS timestamptz[]))
        AS row (order_id, state, cause, reason, decided_at)
    WHERE orders.order_id = row.order_id AND orders.state = 'PENDING'
""")

ORDER = text("""
    SELECT order_id, customer_id, state, currency, lines, points_to_burn, total_minor, payable_minor,
           failure_cause, failure_reason, submitted_at, cancellation_requested_at, decided_at
    FROM orders WHERE order_id = :order_id
""")

REQUEST_CANCELLATION = text("""
    UPDATE orders SET cancellation_requested_at = :now
    WHERE order_id = :order_id AND state = 'PENDING' AND cancellation_requested_at IS NULL
""")

UPSERT_PRODUCTS = text("""
    INSERT INTO products (sku, name, price_minor, currency)
    SELECT * FROM unnest(CAST(:skus AS text[]), CAST(:names AS text[]), CAST(:prices AS bigint[]),
                         CAST(:currencies AS text[])) AS row (sku, name, price_minor, currency)
    ORDER BY sku
    ON CONFLICT (sku) DO UPDATE
    SET name = excluded.name, price_minor = excluded.price_minor, currency = excluded.currency
    WHERE (products.name, products.price_minor, products.currency)
          IS DISTINCT FROM (excluded.name, excluded.price_minor, excluded.currency)
""")

CATALOGUE_PAGE = text("""
    SELECT sku, name, price_minor, currency FROM products WHERE sku > :after ORDER BY sku LIMIT :limit
""")


def look_up(
    tx: Connection, locks: Sequence[int], keys: Sequence[Key], skus: Collection[str]
) -> tuple[set[int], dict[Key, Remembered], dict[str, Product]]:
    """Return what a batch of submissions needs to know, in one round trip.

    1. The places in ``locks`` of the advisory locks that were free, and are held until the transaction ends; one that
       another transaction holds is passed over, not waited for.
    2. What was answered to the keys that were used before. It sees what committed before the locks were there.
    3. The products of these skus, by sku; unknown ones are missing.
    """
    locked = TRY_LOCK.submit(tx, {"locks": list(locks)})
    used = REMEMBERED.submit(tx, {"client_ids": [client for client, _ in keys], "keys": [key for _, key in keys]})
    products = PRODUCTS.submit(tx, {"skus": list(skus)})
    remembered = {
        (row.client_id, row.key): Remembered(
            order_id=row.order_id, fingerprint=bytes(row.fingerprint), status=row.status, body=row.body
        )
        for row in used.rows()
    }
    places = {row.place - 1 for row in locked.rows()}
    return places, remembered, {row.sku: _product(row) for row in products.rows()}


def insert_orders(tx: Connection, new: Sequence[NewOrder], *, now: datetime) -> None:
    """Store the orders as PENDING, and their keys with them, in one statement."""
    if not new:
        return
    INSERT_ORDERS.run(
        tx,
        {
            "order_ids": [order.order_id for order in new],
            "client_ids": [order.client_id for order in new],
            "keys": [order.key for order in new],
            "fingerprints": [order.fingerprint for order in new],
            "statuses": [order.status for order in new],
            "bodies": [order.body for order in new],
            "customer_ids": [order.priced.cart.customer_id for order in new],
            "currencies": [order.priced.cart.currency for order in new],
            "lines": [_lines(order.priced) for order in new],
            "points": [order.priced.cart.points_to_burn for order in new],
            "totals": [order.priced.total_minor for order in new],
            "payables": [order.priced.payable_minor for order in new],
            "now": now,
        },
    )


def decide(tx: Connection, decisions: Sequence[Decision]) -> None:
    """Move the orders that are still PENDING to where their sagas ended; an order that is decided stays as it is."""
    DECIDE.run(
        tx,
        {
            "order_ids": [decision.order_id for decision in decisions],
            "states": [decision.state.value for decision in decisions],
            "causes": [decision.cause for decision in decisions],
            "reasons": [decision.reason for decision in decisions],
            "decided": [decision.decided_at for decision in decisions],
        },
    )


def load_order(tx: Connection, order_id: str) -> OrderRow | None:
    """Return one order's row, or None."""
    return tx.execute(ORDER, {"order_id": order_id}).one_or_none()


def request_cancellation(tx: Connection, order_id: str, *, now: datetime) -> bool:
    """Note that the customer wants to cancel; False where the order is decided or the wish is noted already."""
    return tx.execute(REQUEST_CANCELLATION, {"order_id": order_id, "now": now}).rowcount == 1


def upsert_products(tx: Connection, new: Iterable[Product]) -> int:
    """Add or change the products, which have distinct skus, in one statement; return how many it changed."""
    listed = list(new)
    return tx.execute(
        UPSERT_PRODUCTS,
        {
            "skus": [product.sku for product in listed],
            "names": [product.name for product in listed],
            "prices": [product.price_minor for product in listed],
            "currencies": [product.currency for product in listed],
        },
    ).rowcount


def catalogue_page(tx: Connection, *, after: str, limit: int) -> list[Product]:
    """Return at most ``limit`` products whose sku comes after ``after``, in the order of their skus."""
    return [_product(row) for row in tx.execute(CATALOGUE_PAGE, {"after": after, "limit": limit})]


def _product(row: Row[tuple[Any, ...]]) -> Product:
    return Product(sku=row.sku, name=row.name, price_minor=row.price_minor, currency=row.currency)


def _lines(priced: PricedCart) -> str:
    lines = [
        {"sku": line.sku, "quantity": line.quantity, "unit_price_minor": line.unit_price_minor} for line in priced.lines
    ]
    return json.dumps(lines, separators=(",", ":"))
