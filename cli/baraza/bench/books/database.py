"""The benchmark's ledger: a PostgreSQL of its own with fsync on, its accounts, and copies of transfers in bulk."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy import Engine, create_engine, text

from baraza.audit import ledger as rules
from baraza.audit import scratch
from baraza.audit.report import Report, judge
from baraza.bench.books.cases import (
    FUNDING,
    HOT,
    HOT_FUNDS_MINOR,
    LANED,
    MEMBER_FUNDS_MINOR,
    MEMBERS,
    member,
)
from baraza.bench.copies import FIRST_ORIGINAL, TIME_LENGTH
from baraza.bench.ledger_copies import copy_transfers
from chassis.postgres import migrations
from chassis.postgres.bounds import MIGRATING
from chassis.postgres.database import prepare
from chassis.postgres.transient import utc_now
from chassis.wire.envelope import new_id
from ledger.model.transfers import Booked, Entry, Origin, Transfer
from ledger.store.accounts import new_account, open_accounts
from ledger.store.attempts import Ledger
from stack import postgres
from stack.lifecycle import Stack, up
from stack.settings import from_environment

NAME = "bench"
OPENED_AT_ONCE = 1_000
ORIGINALS = 1_000
COPIED_AT_ONCE = 100
COUNT = text("SELECT count(*) FROM transfer_entries")


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """A migrated ledger with funded accounts. ``login`` has libpq's names: another program connects with it."""

    stack: Stack
    engine: Engine
    ledger: Ledger
    login: Mapping[str, str]

    @property
    def url(self) -> str:
        return self.engine.url.render_as_string(hide_password=False)

    def entries(self) -> int:
        """Return the number of entries."""
        with self.engine.connect() as tx:
            return int(tx.execute(COUNT).scalar_one())

    def fill(self, entries: int) -> None:
        """Copy transfers among members until the ledger has this many entries; none where it has them."""
        missing = entries - self.entries()
        if missing <= 0:
            return
        self._book_originals()
        rounds = -(-missing // (2 * ORIGINALS))
        with self._connection() as connection:
            last = connection.execute(
                "SELECT coalesce(max(left(saga_id, %s)::bigint), 0) FROM transfers WHERE saga_id < %s",
                (TIME_LENGTH, FIRST_ORIGINAL),
            ).fetchone()
            begin = 1 + int(str((last or (0,))[0]))
            for start in range(begin, begin + rounds, COPIED_AT_ONCE):
                copies = range(start, min(start + COPIED_AT_ONCE, begin + rounds))
                copy_transfers(connection, copies, first_original=FIRST_ORIGINAL, length=TIME_LENGTH)
                connection.commit()
            connection.autocommit = True
            connection.execute("VACUUM (ANALYZE)")

    def report(self) -> Report:
        """Audit the ledger by its own rules, in SQL: no total that it stores is believed."""
        with self._connection() as connection, closing(sqlite3.connect(":memory:")) as read:
            read.executescript(scratch.SCHEMA)
            counts = connection.execute(sql.SQL(rules.COUNTS)).fetchall()
            read.executemany("INSERT INTO ledger_counts VALUES (?, ?)", counts)
            for query in rules.DIFFERENCES:
                found = connection.execute(sql.SQL(query)).fetchall()
                read.executemany("INSERT INTO ledger_differences VALUES (?, ?, ?)", found)
            return Report(findings=judge(read, rules.LEDGER_INVARIANTS), moving={}, states={})

    def _book_originals(self) -> None:
        """Book the transfers that are copied: each of a saga of its own, once."""
        with self.engine.connect() as tx:
            if tx.execute(text("SELECT 1 FROM transfers WHERE saga_id IS NOT NULL LIMIT 1")).all():
                return
        transfers = []
        for number in range(ORIGINALS):
            saga_id = new_id()
            debit, credit = member(number), HOT[0] if number % 2 else member(number + ORIGINALS)
            entries = Entry(debit, 1, "KES"), Entry(credit, -1, "KES")
            origin = Origin(saga_id=saga_id, step="bench")
            transfers.append(Transfer(reference=f"{saga_id}:bench", entries=entries, origin=origin))
        booked = self.ledger.book(transfers)
        assert all(isinstance(each, Booked) for each in booked), booked

    def _connection(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(make_conninfo("", **self.login), **MIGRATING.arguments)


@contextmanager
def own_books() -> Iterator[Books]:
    """Yield a ledger in a cluster of its own, in a folder that is removed afterwards. Raises StackError."""
    with tempfile.TemporaryDirectory(prefix="baraza-bench-") as folder:
        stack = up(from_environment({}, home=Path(folder) / "home", only=(postgres.NAME,)))
        try:
            with books_on(stack) as books:
                yield books
        finally:
            stack.down()


@contextmanager
def books_on(stack: Stack) -> Iterator[Books]:
    """Yield a ledger in a new database of this stack's cluster."""
    login = {
        "host": stack.endpoints.postgres_host,
        "port": str(stack.endpoints.postgres_port),
        "user": postgres.SUPERUSER,
        "password": stack.password(postgres.SUPERUSER),
    }
    anywhere = make_conninfo("", **login, dbname="postgres")
    with psycopg.connect(anywhere, autocommit=True, **MIGRATING.arguments) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(NAME)))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
        address = f"{login['user']}:{login['password']}@{login['host']}:{login['port']}"
        engine = prepare(create_engine(f"postgresql+psycopg://{address}/{NAME}", connect_args=MIGRATING.arguments))
        try:
            migrations.upgrade("ledger", engine)
            ledger = Ledger(engine, utc_now, threading.Event())
            _open(engine, ledger)
            yield Books(stack=stack, engine=engine, ledger=ledger, login={**login, "dbname": NAME})
        finally:
            engine.dispose()
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(NAME)))


def _open(engine: Engine, ledger: Ledger) -> None:
    """Open the accounts, and fund those that may not go below zero."""
    paths = [*HOT, *LANED, *(member(number) for number in range(MEMBERS))]
    for start in range(0, len(paths), OPENED_AT_ONCE):
        listed = paths[start : start + OPENED_AT_ONCE]
        with engine.begin() as tx:
            open_accounts([new_account(path, at=utc_now()) for path in listed], tx)
        ledger.book([_funding(path) for path in listed])


def _funding(path: str) -> Transfer:
    amount_minor = HOT_FUNDS_MINOR if path in HOT or path in LANED else MEMBER_FUNDS_MINOR
    entries = Entry(FUNDING, amount_minor, "KES"), Entry(path, -amount_minor, "KES")
    return Transfer(reference=new_id(), entries=entries)
