"""Logins and databases as the contract grants them: each login connects to its own databases, with its rights only.

Owners migrate. The logins of serving processes own no table, so they can change rows but never the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import psycopg
from psycopg import sql

from stack.contract import DatabaseRights, Use

Connect = Callable[[str], psycopg.Connection]
"""Opens a superuser's connection to the named database."""
Password = Callable[[str], str]
"""Returns a login's password."""
RIGHTS_IN_TABLES = {Use.CHANGE: "SELECT, INSERT, UPDATE, DELETE", Use.READ: "SELECT"}


def create(connect: Connect, password: Password, rights: Mapping[str, DatabaseRights]) -> None:
    """Create what is missing and repeat every grant, so that the next run completes an interrupted one."""
    with connect("postgres") as server:
        existing = {name for (name,) in server.execute("SELECT datname FROM pg_database").fetchall()}
        roles = {name for (name,) in server.execute("SELECT rolname FROM pg_roles").fetchall()}
        for database in ("postgres", "template1"):
            _run(server, "REVOKE ALL ON DATABASE {} FROM PUBLIC", database)
        for login, right in rights.items():
            _login(server, roles, login, password(login))
            if right.use == Use.READ:
                _run(server, "ALTER ROLE {} SET default_transaction_read_only = on", login)
        for database, owner in owners(rights).items():
            _database(server, existing, database, owner=owner)
        for login, right in rights.items():
            for database in right.databases:
                _run(server, "GRANT CONNECT ON DATABASE {} TO {}", database, login)
    for database, owner in owners(rights).items():
        with connect(database) as inside:
            _grant(inside, owner, {login: right for login, right in rights.items() if database in right.databases})


def owners(rights: Mapping[str, DatabaseRights]) -> dict[str, str]:
    """Return every database with its owner."""
    return {right.databases[0]: login for login, right in rights.items() if right.use == Use.OWN}


def set_password(server: psycopg.Connection, login: str, password: str) -> None:
    """Change a login's password. Open connections stay."""
    server.execute(_with_password("ALTER ROLE {} LOGIN PASSWORD {}", login, password))


def _grant(inside: psycopg.Connection, owner: str, rights: Mapping[str, DatabaseRights]) -> None:
    _run(inside, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    future = "ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA public GRANT "
    for login, right in rights.items():
        if right.use == Use.OWN:
            continue
        _run(inside, "GRANT USAGE ON SCHEMA public TO {}", login)
        _run(inside, f"{future}{RIGHTS_IN_TABLES[right.use]} ON TABLES TO {{}}", owner, login)
        _run(inside, f"GRANT {RIGHTS_IN_TABLES[right.use]} ON ALL TABLES IN SCHEMA public TO {{}}", login)
        if right.use == Use.CHANGE:
            _run(inside, future + "USAGE, SELECT ON SEQUENCES TO {}", owner, login)


def _login(server: psycopg.Connection, roles: set[str], login: str, password: str) -> None:
    """Create a login, or set its password again: the password file is authoritative."""
    if login in roles:
        set_password(server, login, password)
    else:
        server.execute(_with_password("CREATE ROLE {} LOGIN PASSWORD {}", login, password))


def _with_password(statement: str, login: str, password: str) -> sql.Composed:
    return sql.SQL(statement).format(sql.Identifier(login), sql.Literal(password))


def _database(server: psycopg.Connection, existing: set[str], database: str, *, owner: str) -> None:
    if database not in existing:
        _run(server, "CREATE DATABASE {} OWNER {}", database, owner)
    _run(server, "REVOKE ALL ON DATABASE {} FROM PUBLIC", database)


def _run(connection: psycopg.Connection, statement: str, *identifiers: str) -> None:
    connection.execute(sql.SQL(statement).format(*map(sql.Identifier, identifiers)))
