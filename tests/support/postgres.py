"""Separate databases for tests, in the stack's real PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from sqlalchemy import Engine, create_engine

from chassis.postgres.database import prepare
from stack import Stack, postgres


@contextmanager
def scratch_database(stack: Stack, *, template: Engine | None = None) -> Iterator[Engine]:
    """Create an empty database, or a copy of another one without connections, and drop it in the end."""
    name = f"test_{secrets.token_hex(6)}"
    password = stack.password(postgres.SUPERUSER)
    address = f"{stack.endpoints.postgres_host}:{stack.endpoints.postgres_port}"
    login = f"{postgres.SUPERUSER}:{password}"
    with psycopg.connect(f"postgresql://{login}@{address}/postgres", autocommit=True) as admin:
        copied = "template1" if template is None else str(template.url.database)
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        admin.execute(create.format(sql.Identifier(name), sql.Identifier(copied)))
        engine = prepare(create_engine(f"postgresql+psycopg://{login}@{address}/{name}"))
        try:
            yield engine
        finally:
            engine.dispose()
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
