"""Checkout's tables and every statement on them; each takes a whole batch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Index,
    LargeBinary,
    Row,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from chassis.postgres.columns import SQLALCHEMY, Columns
from chassis.postgres.statement import Statement
from chassis.saga.schema import service_metadata
from chassis.values.address import destination
from chassis.values.json_text import compact
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
    Column("rate_points", BigInteger, comment="so many points paid rate_minor; null: none, or one paid one"),
    Column("rate_minor", BigInteger),
    Column("destination", Text, comment="a digest of the address; null: from before it was kept"),
    Column("failure_cause", Text),
    Column("failure_reason", Text),
    Column("submitted_at", DateTime(timezone=True), nullable=False),
    Column("cancellation_requested_at", DateTime(timezone=True)),
    Column("decided_at", DateTime(timezone=True)),
    Index("orders_pending", "submitted_at", postgresql_where=text("state = 'PENDING'")),
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
returns = Table(
    "returns",
    metadata,
    Column("return_id", Text, primary_key=True),
    Column("order_id", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("lines", JSONB, nullable=False),
    Column("received", JSONB, comment="what arrived; null: not known yet, or lost, where all of it counts"),
    Column("currency", Text, nullable=False),
    Column("refund_minor", BigInteger, nullable=False),
    Column("points_minor", BigInteger, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("reason", Text, nullable=False, comment="the customer's words; may be empty"),
    Column("requested_at", DateTime(timezone=True), nullable=False),
    Column("approved_at", DateTime(timezone=True)),
    Column("cancellation_requested_at", DateTime(timezone=True)),
    Column("decided_at", DateTime(timezone=True)),
    Column("failure_cause", Text),
    Column("failure_reason", Text),
    Index("returns_by_order", "order_id"),
    Index("returns_open", "requested_at", postgresql_where=text("decided_at IS NULL")),
)


OrderRow: TypeAlias = Row[tuple[Any, ...]]
"""A row of ``orders`` as :func:`load_order` returns it."""


Key: TypeAlias = tuple[str, str]
"""Client id and idempotency key: each client has keys of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """An order to store as PENDING, with its idempotency key and the response to store for it."""

    order_id: str
    client_id: str
    key: str
    fingerprint: bytes
    priced: PricedCart
    status: int
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """The response that was given under an idempotency key."""

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


KEY_COLUMNS = Columns.of(idempotency_keys, without=["created_at"])
ORDER_COLUMNS = Columns.of(
    orders,
    sources={
        "customer_id": "priced.cart.customer_id",
        "currency": "priced.cart.currency",
        "lines": lambda order: _lines(order.priced),
        "points_to_burn": "priced.cart.points_to_burn",
        "total_minor": "priced.total_minor",
        "payable_minor": "priced.payable_minor",
        "rate_points": lambda order: order.priced.rate.points if order.priced.rate else None,
        "rate_minor": lambda order: order.priced.rate.minor if order.priced.rate else None,
        "destination": lambda order: _destination(order),
    },
)
SUBMITTED = ORDER_COLUMNS.only(
    "order_id", "customer_id", "client_id", "currency", "lines", "points_to_burn", "total_minor", "payable_minor",
    "rate_points", "rate_minor", "destination",
)  # fmt: skip
NEW_ORDERS = KEY_COLUMNS + SUBMITTED.without("order_id", "client_id")
DECIDED = Columns.of(
    orders, sources={"state": "state.value", "failure_cause": "cause", "failure_reason": "reason"}
).only("order_id", "state", "failure_cause", "failure_reason", "decided_at")
PRODUCT_COLUMNS = Columns.of(products, parameter=SQLALCHEMY)

TRY_LOCK = Statement("""
    SELECT ordinal FROM unnest(CAST(%(locks)s AS bigint[])) WITH ORDINALITY AS row (lock, ordinal)
    WHERE pg_try_advisory_xact_lock(lock)
""")

RESPONSES = Statement(f"""
    SELECT {KEY_COLUMNS.names_in("k")}
    FROM unnest(CAST(%(client_ids)s AS text[]), CAST(%(keys)s AS text[])) AS row (client_id, key)
         JOIN idempotency_keys AS k USING (client_id, key)
""")

PRODUCTS = Statement(f"SELECT {PRODUCT_COLUMNS.names} FROM products WHERE sku = ANY(CAST(%(skus)s AS text[]))")

INSERT_ORDERS = Statement(f"""
    WITH row AS (
        SELECT * FROM {NEW_ORDERS.rows}
    ), claimed AS (
        INSERT INTO idempotency_keys ({KEY_COLUMNS.names}, created_at)
        SELECT {KEY_COLUMNS.values}, %(now)s FROM row
    )
    INSERT INTO orders ({SUBMITTED.names}, state, submitted_at)
    SELECT {SUBMITTED.values}, 'PENDING', %(now)s
    FROM row
""")

DECIDE = Statement(f"""
    UPDATE orders
    SET {DECIDED.assignments}
    FROM {DECIDED.rows}
    WHERE orders.order_id = row.order_id AND orders.state = 'PENDING'
""")

ORDER = text(f"""
    SELECT {ORDER_COLUMNS.without("client_id", "rate_points", "rate_minor", "destination").names}
    FROM orders WHERE order_id = :order_id
""")

REQUEST_CANCELLATION = text("""
    UPDATE orders SET cancellation_requested_at = :now
    WHERE order_id = :order_id AND state = 'PENDING' AND cancellation_requested_at IS NULL
""")

UPSERT_PRODUCTS = text(f"""
    INSERT INTO products ({PRODUCT_COLUMNS.names})
    SELECT * FROM {PRODUCT_COLUMNS.rows}
    ORDER BY sku
    ON CONFLICT (sku) DO UPDATE
    SET {PRODUCT_COLUMNS.excluded_assignments}
    WHERE ({PRODUCT_COLUMNS.without("sku").names_in("products")})
          IS DISTINCT FROM ({PRODUCT_COLUMNS.without("sku").names_in("excluded")})
""")

OVERDUE = text("""
    SELECT 'order', count(*) FROM orders WHERE state = 'PENDING' AND submitted_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'return_order', count(*) FROM returns
    WHERE decided_at IS NULL AND requested_at < now() - interval '10 minutes'
""")
"""A saga ends within minutes, waits for a parcel, or is parked: what is open then is known to the tracker."""

CATALOGUE_PAGE = text(f"""
    SELECT {PRODUCT_COLUMNS.names} FROM products WHERE sku > :after ORDER BY sku LIMIT :limit
""")


def lock_keys_and_load(
    tx: Connection, locks: Sequence[int], keys: Sequence[Key], skus: Collection[str]
) -> tuple[set[int], dict[Key, StoredResponse], dict[str, Product]]:
    """Take the locks of a batch of submissions and load what it needs, in one round trip. Return:

    1. The indexes in ``locks`` of the advisory locks that were free. The transaction holds them until it ends. A lock
       that another transaction holds is skipped, not awaited.
    2. The stored responses of the keys that were used before, including those committed before the locks were taken.
    3. The products of these SKUs, by SKU. Unknown ones are missing.
    """
    locked = TRY_LOCK.submit(tx, {"locks": list(locks)})
    used = RESPONSES.submit(tx, {"client_ids": [client for client, _ in keys], "keys": [key for _, key in keys]})
    products = PRODUCTS.submit(tx, {"skus": list(skus)})
    responses = {
        (row.client_id, row.key): StoredResponse(
            order_id=row.order_id, fingerprint=bytes(row.fingerprint), status=row.status, body=row.body
        )
        for row in used.rows()
    }
    indexes = {row.ordinal - 1 for row in locked.rows()}
    return indexes, responses, {row.sku: _product(row) for row in products.rows()}


def insert_orders(tx: Connection, new: Sequence[NewOrder], *, now: datetime) -> None:
    """Store the orders as PENDING together with their keys, in one statement."""
    if new:
        INSERT_ORDERS.run(tx, NEW_ORDERS.parameters(new) | {"now": now})


def decide(tx: Connection, decisions: Sequence[Decision]) -> None:
    """Give the orders that are still PENDING the outcome of their sagas. A decided order does not change."""
    DECIDE.run(tx, DECIDED.parameters(sorted(decisions, key=lambda each: each.order_id)))


def load_order(tx: Connection, order_id: str) -> OrderRow | None:
    """Return one order's row, or None."""
    return tx.execute(ORDER, {"order_id": order_id}).one_or_none()


def request_cancellation(tx: Connection, order_id: str, *, now: datetime) -> bool:
    """Record a cancellation request. Return False when the order is decided or the request is already recorded."""
    return tx.execute(REQUEST_CANCELLATION, {"order_id": order_id, "now": now}).rowcount == 1


def upsert_products(tx: Connection, new: Iterable[Product]) -> int:
    """Add or change the products in one statement, and return how many changed. Their SKUs are distinct."""
    return tx.execute(UPSERT_PRODUCTS, PRODUCT_COLUMNS.parameters(list(new))).rowcount


def catalogue_page(tx: Connection, *, after: str, limit: int) -> list[Product]:
    """Return at most ``limit`` products whose SKU comes after ``after``, in the order of their SKUs."""
    return [_product(row) for row in tx.execute(CATALOGUE_PAGE, {"after": after, "limit": limit})]


def _product(row: Row[tuple[Any, ...]]) -> Product:
    return Product(sku=row.sku, name=row.name, price_minor=row.price_minor, currency=row.currency)


def _lines(priced: PricedCart) -> str:
    lines = [
        {"sku": line.sku, "quantity": line.quantity, "unit_price_minor": line.unit_price_minor} for line in priced.lines
    ]
    return compact(lines)


def _destination(order: NewOrder) -> str:
    to = order.priced.cart.ship_to
    return destination(
        order.order_id, to.name, to.street, to.street_2, to.city, to.region, to.postal_code, to.country, to.phone
    )
