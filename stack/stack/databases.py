"""One database a service, and logins that reach no other: ``<db>_owner`` migrates, ``<db>`` reads and writes rows.

The role ``audit`` may read every service's tables and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import psycopg
from psycopg import sql

AUDIT = "audit"
Connect = Callable[[str], psycopg.Connection]
"""Opens a superuser's connection to the named database."""
Password = Callable[[str], str]
"""Returns a role's password."""


def create(connect: Connect, password: Password, services: Iterable[str], others: Iterable[str]) -> None:
    """Create what is missing and repeat every grant, so that an interrupted first run is completed by the next.

    ``services`` are the databases with an owner, a runtime login and the audit; ``others`` belong to a single login.
    """
    with connect("postgres") as server:
        existing = {name for (name,) in server.execute("SELECT datname FROM pg_database").fetchall()}
        roles = {name for (name,) in server.execute("SELECT rolname FROM pg_roles").fetchall()}
        for database in ("postgres", "template1"):
            _run(server, "REVOKE ALL ON DATABASE {} FROM PUBLIC", database)
        _login(server, roles, AUDIT, password(AUDIT))
        _run(server, "ALTER ROLE {} SET default_transaction_read_only = on", AUDIT)
        for database in others:
            _login(server, roles, database, password(database))
            _database(server, existing, database, owner=database)
        for database in services:
            owner = owner_of(database)
            for role in (owner, database):
                _login(server, roles, role, password(role))
            _database(server, existing, database, owner=owner)
            _run(server, "GRANT CONNECT ON DATABASE {} TO {}, {}", database, database, AUDIT)
    for database in services:
        with connect(database) as inside:
            _grant(inside, database)


def owner_of(database: str) -> str:
    """Return the role that owns a service's database."""
    return f"{database}_owner"


def _grant(inside: psycopg.Connection, database: str) -> None:
    owner = owner_of(database)
    _run(inside, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    _run(inside, "GRANT USAGE ON SCHEMA public TO {}, {}", database, AUDIT)
    future = "ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA public GRANT "
    _run(inside, future + "SELECT, INSERT, UPDATE, DELETE ON TABLES TO {}", owner, database)
    _run(inside, future + "USAGE, SELECT ON SEQUENCES TO {}", owner, database)
    _run(inside, future + "SELECT ON TABLES TO {}", owner, AUDIT)


def _login(server: psycopg.Connection, roles: set[str], role: str, password: str) -> None:
    """The password is set again each time: its file is the truth."""
    verb = "ALTER" if role in roles else "CREATE"
    server.execute(sql.SQL(f"{verb} ROLE {{}} LOGIN PASSWORD {{}}").format(sql.Identifier(role), sql.Literal(password)))


def _database(server: psycopg.Connection, existing: set[str], database: str, *, owner: str) -> None:
    if database not in existing:
        _run(server, "CREATE DATABASE {} OWNER {}", database, owner)
    _run(server, "REVOKE ALL ON DATABASE {} FROM PUBLIC", database)


def _run(connection: psycopg.Connection, statement: str, *identifiers: str) -> None:
    connection.execute(sql.SQL(statement).format(*map(sql.Identifier, identifiers)))
