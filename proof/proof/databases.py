"""One PostgreSQL database with a schema for each service and the tracker, as every schedule finds it: empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import checkout.tables
import inventory.tables
import ledger.tables
import loyalty.tables
import payment.tables
import psycopg
import saga_tracker.schema
import shipping.tables
from psycopg import sql
from sqlalchemy import Connection, MetaData, create_engine, delete, text

from stack import Stack, postgres

DATABASE = "proof"
TRACKER = "saga_tracker"
TABLES: Mapping[str, MetaData] = {
    "checkout": checkout.tables.metadata,
    "payment": payment.tables.metadata,
    "inventory": inventory.tables.metadata,
    "loyalty": loyalty.tables.metadata,
    "shipping": shipping.tables.metadata,
    "ledger": ledger.tables.metadata,
    TRACKER: saga_tracker.schema.METADATA,
}
OPTIONS = "-c search_path={schema} -c synchronous_commit=off"
"""A schedule simulates the crashes of processes; PostgreSQL itself does not crash, so nobody waits for its disk."""


@contextmanager
def connections(stack: Stack) -> Iterator[Mapping[str, Connection]]:
    """Make the database with all tables, and yield one connection a service; the database goes in the end."""
    address = f"{stack.endpoints.postgres_host}:{stack.endpoints.postgres_port}"
    login = f"{postgres.SUPERUSER}:{stack.password(postgres.SUPERUSER)}"
    name = sql.Identifier(DATABASE)
    with psycopg.connect(f"postgresql://{login}@{address}/postgres", autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
        engines = {
            schema: create_engine(
                f"postgresql+psycopg://{login}@{address}/{DATABASE}",
                connect_args={"options": OPTIONS.format(schema=schema)},
                hide_parameters=True,
            )
            for schema in TABLES
        }
        opened: dict[str, Connection] = {}
        try:
            for schema, engine in engines.items():
                with engine.begin() as tx:
                    tx.execute(text(f"CREATE SCHEMA {schema}"))
                    TABLES[schema].create_all(tx)
                opened[schema] = engine.connect()
            yield opened
        finally:
            for connection in opened.values():
                connection.close()
            for engine in engines.values():
                engine.dispose()
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def empty(connections: Mapping[str, Connection]) -> None:
    """Remove every row."""
    for schema, connection in connections.items():
        with connection.begin():
            for table in TABLES[schema].tables.values():
                connection.execute(delete(table))
