"""One PostgreSQL database with a schema for each service and the tracker; every schedule starts with it empty."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import psycopg
from psycopg import sql
from sqlalchemy import Engine, MetaData, NullPool, PoolProxiedConnection, create_engine, text

import checkout.tables
import inventory.tables
import ledger.tables
import loyalty.tables
import payment.tables
import saga_tracker.store.schema
import shipping.tables
from chassis.postgres.database import prepare
from chassis.postgres.pipeline import PipelinedConnection
from messages.contract import name_of
from proof.connections import FollowUpQuery, ProcessConnection
from saga_tracker.definitions import DEFINITIONS
from stack.contract import package_of

TRACKER = "saga_tracker"
TABLES: Mapping[str, MetaData] = {
    "checkout": checkout.tables.metadata,
    "payment": payment.tables.metadata,
    "inventory": inventory.tables.metadata,
    "loyalty": loyalty.tables.metadata,
    "shipping": shipping.tables.metadata,
    "ledger": ledger.tables.metadata,
    TRACKER: saga_tracker.store.schema.METADATA,
}
SETTINGS = {
    "lock_timeout": "1ms",
    "timezone": "UTC",
    "synchronous_commit": "off",
    "plan_cache_mode": "force_generic_plan",
    "track_activities": "off",
    "track_counts": "off",
}
OPTIONS = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
"""``lock_timeout``: the holder of a lock is a suspended task, so a real wait for it would never end (proof.tasks)."""
TRUNCATE_EVERY = 200
"""Until then, deleted rows slow down every read of a whole table."""
SERVICES = tuple(schema for schema in TABLES if schema != TRACKER)

Rows = Sequence[Mapping[str, Any]]


def _each(schemas: Iterable[str], query: str) -> str:
    return " UNION ALL ".join(query.format(schema=schema, service=schema.replace("_", "-")) for schema in schemas)


_TRIGGERS = ", ".join(
    f"('{definition.name}', '{step.name}', '{name_of(step.trigger)}', '{step.trigger_topic}')"
    for definition in DEFINITIONS.values()
    for step in definition.steps
)
TIMEOUTS = f"""
    SELECT timer.saga_id, timer.step, timer.recorded_at, message.topic, message.partition, message."offset"
    FROM saga_tracker.timeline AS timer
    JOIN saga_tracker.sagas AS saga USING (saga_id)
    JOIN (VALUES {_TRIGGERS}) AS trigger (saga_type, step, type, topic)
        ON (trigger.saga_type, trigger.step) = (saga.saga_type, timer.step)
    LEFT JOIN saga_tracker.timeline AS message
        ON (message.saga_id, message.type, message.topic) = (timer.saga_id, trigger.type, trigger.topic)
    WHERE timer.type = 'TimedOut'
"""  # noqa: S608 - names of our own
ORDER_QUERIES = {
    "orders": "SELECT order_id, state FROM checkout.orders",
    "payments": "SELECT saga_id, state FROM payment.payments",
    "reservations": "SELECT saga_id, skus, quantities FROM inventory.reservations WHERE state = 'RESERVED'",
    "stock": "SELECT sku, received, on_hand FROM inventory.stock",
    "burns": "SELECT saga_id, customer_id, points FROM loyalty.burns WHERE state = 'BURNED'",
    "accounts": "SELECT customer_id, granted, balance FROM loyalty.accounts",
    "returns": "SELECT return_id AS saga_id, order_id, state, lines, received FROM checkout.returns",
    "collections": "SELECT saga_id, state, received, refund_minor FROM shipping.collections",
    "evidence": "SELECT coalesce(saga_id, '') AS saga_id, id, fate FROM shipping.evidence",
    "restocks": "SELECT saga_id, sku, units FROM inventory.restocks",
    "refunds": "SELECT saga_id, order_id, amount_minor, refund_id FROM payment.refunds",
    "credits": "SELECT saga_id, order_id, customer_id, points FROM loyalty.credits",
    "entries": """
        SELECT saga_id, code AS account, greatest(amount_minor, 0) AS debit_minor,
               greatest(-amount_minor, 0) AS credit_minor
        FROM ledger.transfers
        JOIN ledger.transfer_entries ON transfer_id = transfers.id
        JOIN ledger.accounts ON accounts.id = account_id
    """,
}
"""The rows that the checks of orders and returns read in the end."""
AS_JSON = "'{}', (SELECT coalesce(json_agg(row), '[]') FROM ({}) AS row)"
_PARKED_IN_VAIN = """
    SELECT 1 FROM {schema}.deferred AS parked
    JOIN {schema}.effects ON effects.saga_id = parked.saga_id AND step = handler
    WHERE due_at IS NULL AND state <> 'STARTED'
"""


class Layout:
    """The tables of the services in a database, and the statements on all of them."""

    def __init__(self, tables: Mapping[str, MetaData], queries: Mapping[str, str]) -> None:
        services = [schema for schema in tables if schema != TRACKER]
        read = {
            "sagas": "SELECT saga_id, saga_type, state, phase, step, reason, awaits_since FROM saga_tracker.sagas",
            "timeouts": TIMEOUTS,
            "letters": "SELECT saga_id, service, reason, open FROM saga_tracker.dead_letters",
            "effects": _each(services, "SELECT saga_id, step, state FROM {schema}.effects"),
            "deferred": _each(
                services, "SELECT '{service}' AS service, saga_id, handler, reason, behind FROM {schema}.deferred"
            ),
            "outbox": _each(tables, "SELECT '{service}' AS service, aggregateid AS saga_id, type FROM {schema}.outbox"),
            **queries,
        }
        self.tables = tables
        self.everything = text(f"SELECT json_build_object({', '.join(AS_JSON.format(*each) for each in read.items())})")
        self.leftovers = text(
            " UNION ALL ".join([_each(tables, "SELECT 1 FROM {schema}.outbox"), _each(services, _PARKED_IN_VAIN)])
        )
        names = [f"{schema}.{table}" for schema, metadata in tables.items() for table in metadata.tables]
        self.truncate = text(f"TRUNCATE {', '.join(names)}")
        self.deletes = [text(f"DELETE FROM {table}") for table in names]  # noqa: S608 - names of our own


ORDERS = Layout(TABLES, ORDER_QUERIES)
DEFERRED, AWAITED, ORPHANS = "deferred", "awaited", "orphans"
_NEXT_DEFERRED = f"""
    SELECT '{DEFERRED}' AS what, partition, min(due_at) FROM deferred WHERE due_at IS NOT NULL GROUP BY partition
"""  # noqa: S608 - names of our own
NEXT_DUE = FollowUpQuery(_NEXT_DEFERRED, tables={"deferred"})
NEXT_AWAITED_DUE = FollowUpQuery(
    f"""
    {_NEXT_DEFERRED}
    UNION ALL
    SELECT '{AWAITED}', partition, min(due_at) FROM (
        SELECT partition, query_at AS due_at FROM awaited_steps WHERE query_at IS NOT NULL
        UNION ALL
        SELECT partition, due_at FROM evidence WHERE handled_at IS NULL AND partition IS NOT NULL
    ) AS waiting GROUP BY partition
    UNION ALL
    SELECT '{ORPHANS}', 0, min(match_at) FROM evidence WHERE match_at IS NOT NULL HAVING count(*) > 0
    """,  # noqa: S608 - names of our own
    tables={"deferred", "awaited_steps", "evidence"},
)
"""Of a service with steps whose outcome comes later: also its ladders, and the evidence to decide about or to match."""
NEXT_WAKE_UPS = FollowUpQuery(
    "SELECT min(deadline_at), (SELECT min(next_at) FROM plans WHERE state = 'APPLYING') FROM sagas",
    tables={"sagas", "plans"},
)


@dataclass(slots=True)
class Database:
    """A database and its connections: one for each process, and the schedule's own beside all transactions."""

    engine: Engine
    layout: Layout = ORDERS
    _connections: dict[tuple[str, int], ProcessConnection] = field(default_factory=dict)
    _kept: list[PoolProxiedConnection] = field(default_factory=list)
    _emptied_count: int = 0

    def connection(self, service: str, number: int, *, follow_up: FollowUpQuery | None = None) -> ProcessConnection:
        """Return the connection of one process of a service; it stays open from schedule to schedule."""
        schema = package_of(service)
        found = self._connections.get((schema, number))
        if found is None:
            kept = self.engine.raw_connection()
            self._kept.append(kept)
            raw = cast(PipelinedConnection, kept.driver_connection)
            raw.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(schema)))
            raw.commit()
            _stay_together(raw.info.backend_pid)
            found = self._connections[(schema, number)] = ProcessConnection(raw, follow_up=follow_up)
        return found

    @property
    def _own(self) -> ProcessConnection:
        return self.connection("public", 0)

    def empty(self) -> None:
        """Remove every row, with one request."""
        for connection in self._connections.values():
            connection.raw.settle()
        with self._own.begin() as tx:
            for statement in self.layout.deletes if self._emptied_count % TRUNCATE_EVERY else (self.layout.truncate,):
                tx.execute(statement)
        self._emptied_count += 1

    def everything(self) -> Mapping[str, Rows]:
        """Return the rows that the checks read, by the names of the layout's queries."""
        with self._own.begin() as tx:
            found: Mapping[str, Rows] = tx.execute(self.layout.everything).scalar_one()
        return found

    def has_leftovers(self) -> bool:
        """Return whether there is a row in any outbox, or a message that waits although its step is settled."""
        with self._own.begin() as tx:
            return bool(tx.execute(self.layout.leftovers).all())

    def close(self) -> None:
        """Close every connection."""
        for kept in self._kept:
            kept.detach()
        for connection in self._connections.values():
            connection.raw.close()
        self.engine.dispose()


def _stay_together(backend: int) -> None:
    """Run PostgreSQL's process for a connection on this process's cores, since the two never work at the same time.

    To wake it on another core takes longer than most statements.
    """
    if hasattr(os, "sched_setaffinity"):  # Linux
        with suppress(OSError):  # it belongs to another user, and keeps its cores
            os.sched_setaffinity(backend, os.sched_getaffinity(0))


def create(server: str, name: str, layout: Layout = ORDERS) -> Database:
    """Create a database with all tables of a layout on the server with this address.

    The tables are unlogged and no commit waits for a disk: a schedule crashes our processes, not PostgreSQL.
    """
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    engine = create_engine(
        f"{server}/{name}".replace("postgresql:", "postgresql+psycopg:"),
        connect_args={"options": OPTIONS},
        poolclass=NullPool,
    )
    prepare(engine)
    _create(engine, layout)
    return Database(engine, layout)


def _create(engine: Engine, layout: Layout) -> None:
    for schema, metadata in layout.tables.items():
        with engine.begin() as tx:
            tx.execute(text(f"CREATE SCHEMA {schema}"))
            tx.execute(text(f"SET LOCAL search_path = {schema}"))
            metadata.create_all(tx)
            for table in metadata.sorted_tables:
                tx.execute(text(f"ALTER TABLE {table.name} SET UNLOGGED, SET (autovacuum_enabled = false)"))
