"""A connection as handlers and recorder know it: the product's own, without SQLAlchemy's pool and result around it.

The statements, their order and their transactions are the product's own. One that returns no rows goes out with the
next that does, or with the commit (:mod:`chassis.postgres.pipeline`): a schedule is hundreds of small statements, and
everything around them took most of its time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn, cast

import psycopg
from chassis.postgres.pipeline import COMMIT, PipelinedConnection, Query, Sent
from chassis.postgres.statement import as_sqlalchemys
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, TextClause
from sqlalchemy.dialects.postgresql import psycopg as dialects
from sqlalchemy.engine.interfaces import ConnectionEventsTarget
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData

from proof.tasks import SimulatedTask

WORD = re.compile(r"\w+")
MARK, BACK = Query("SAVEPOINT before"), Query("ROLLBACK TO SAVEPOINT before")
WRITES = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")


class Clause(Query):
    """A statement of SQLAlchemy's."""

    def __init__(self, text: str) -> None:
        super().__init__(text.replace("%%", "%"))
        self.returns_rows = not text.lstrip().startswith(WRITES) or "RETURNING" in text
        self.columns: SimpleResultMetaData | None = None
        """What its rows are made of, once some have come."""


_by_clause: dict[TextClause, Clause] = {}


def clause_of(statement: TextClause) -> Clause:
    """Return a statement of the product, read once; they are constants of its modules."""
    found = _by_clause.get(statement)
    if found is None:
        text = str(statement.compile(dialect=dialects.dialect()))  # type: ignore[no-untyped-call]
        found = _by_clause[statement] = Clause(text)
    return found


@cache
def words_of(query: Query) -> frozenset[str]:
    """Return the words of a statement that may change something: the tables that it may change are among them."""
    return frozenset() if query.text.lstrip().startswith("SELECT") else frozenset(WORD.findall(query.text))


class Look:
    """What a process looks at after a commit, on the same way, where a statement may have changed these tables."""

    def __init__(self, statement: str, *, tables: set[str]) -> None:
        self.query = Query(statement)
        self.tables = frozenset(tables)


@dataclass(frozen=True, slots=True)
class Changed:
    """What a statement that returns no rows came to."""

    sent: Sent

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        return self.sent.change_count


class Transaction(ConnectionEventsTarget):
    """What the product gets as its Connection: it executes statements, and tells who listens that it is committed."""

    closed = False
    failed: Query | None = None
    _has_events = False
    """SQLAlchemy sets it where somebody listens."""

    def __init__(self, connection: ProcessConnection) -> None:
        self._connection = connection

    @property
    def connection(self) -> Transaction:
        """The pooled connection, of which the kit wants the driver's."""
        return self

    @property
    def driver_connection(self) -> Transaction:
        """The driver's connection, to which the kit sends."""
        return self

    def in_transaction(self) -> bool:
        """It is nothing else."""
        return True

    def send(self, query: Query, parameters: Mapping[str, Any]) -> Sent:
        """Send a statement of the kit's."""
        return self._connection.send(query, parameters)

    def invalidate(self, error: BaseException) -> NoReturn:
        """Nobody comes here while PostgreSQL runs."""
        raise AssertionError("a schedule's connection was closed") from error

    def execute(self, clause: TextClause, parameters: Mapping[str, Any] | None = None) -> Any:
        """Execute a statement of SQLAlchemy's."""
        statement = clause_of(clause)
        try:
            sent = self._connection.send(statement, parameters or {})
            if not statement.returns_rows:
                return Changed(sent)
            rows = sent.rows(tuple)
        except psycopg.Error as error:
            raise as_sqlalchemys(error) from error
        if statement.columns is None:
            statement.columns = SimpleResultMetaData(sent.column_names())
        return IteratorResult(statement.columns, iter(rows))

    def tell(self) -> None:
        """Tell whoever listens that it is committed."""
        if self._has_events:
            self.dispatch.commit(self)


@dataclass(slots=True, eq=False, repr=False)
class ProcessConnection:
    """One process's connection to its service's database."""

    raw: PipelinedConnection
    turn: SimulatedTask | None = None
    after_commit: Look | None = None
    seen: list[tuple[Any, ...]] | None = None
    """The rows that were looked at after the last commit; None where it can have changed nothing of them."""
    _was_begun: bool = False
    _is_to_look: bool = False

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Commit what is executed within, or roll it back where something raises."""
        self._was_begun = self._is_to_look = False
        transaction = Transaction(self)
        try:
            yield cast(Connection, transaction)
            self._commit()
        except BaseException:
            self.raw.rollback()
            raise
        transaction.tell()

    def send(self, query: Query, parameters: Mapping[str, Any]) -> Sent:
        """Send a statement, unless something is in its way. Raises psycopg.Error for one that was sent before it."""
        if self.turn is not None:
            self.turn.meet(self.raw.settle)
            if self.turn.is_among_others:
                return self._send_among_others(query, parameters)
        return self._send(query, parameters)

    def _send(self, query: Query, parameters: Mapping[str, Any]) -> Sent:
        self._was_begun = True
        if self.after_commit is not None and not self.after_commit.tables.isdisjoint(words_of(query)):
            self._is_to_look = True
        return self.raw.send(query, parameters)

    def _send_among_others(self, query: Query, parameters: Mapping[str, Any]) -> Sent:
        """Wait for locks as PostgreSQL would, but in virtual time: try, and try again."""
        assert self.turn is not None, "only a turn is among others"
        self.raw.settle()
        for _ in self.turn.tries():
            self.raw.send(MARK, {})
            sent = self._send(query, parameters)
            try:
                self.raw.settle()
            except LockNotAvailable:
                self.raw.send(BACK, {})
                self.raw.settle()
            else:
                return sent
        raise LockNotAvailable("two transactions waited for each other")

    def _commit(self) -> None:
        if not self._was_begun:
            return
        try:
            self.raw.send(COMMIT, {})
            looks = self.after_commit if self._is_to_look else None
            looked = None if looks is None else self.raw.send(looks.query, {})
            self.raw.settle()
        except psycopg.Error as error:
            raise as_sqlalchemys(error) from error
        self.seen = None if looked is None else looked.rows(tuple)
