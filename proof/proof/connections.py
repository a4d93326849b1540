"""A connection as handlers and the recorder use it: the product's own, without SQLAlchemy's pool and result.

The statements, their order and their transactions are the product's. A statement without rows is sent with the next
one that returns rows, or with the commit (:mod:`chassis.postgres.pipeline`). A schedule consists of hundreds of small
statements, and everything around them took most of its time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn, cast

import psycopg
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, TextClause
from sqlalchemy.dialects.postgresql import psycopg as dialects
from sqlalchemy.engine.interfaces import ConnectionEventsTarget
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData

from chassis.postgres.pipeline import COMMIT, PipelinedConnection, Query, Sent
from chassis.postgres.statement import as_sqlalchemys
from proof.tasks import SimulatedTask

WORD = re.compile(r"\w+")
SAVEPOINT, ROLLBACK = Query("SAVEPOINT before"), Query("ROLLBACK TO SAVEPOINT before")
WRITES = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")


class Clause(Query):
    """A statement of SQLAlchemy's."""

    def __init__(self, text: str) -> None:
        super().__init__(text.replace("%%", "%"))
        self.returns_rows = not text.lstrip().startswith(WRITES) or "RETURNING" in text
        self.columns: SimpleResultMetaData | None = None
        """The columns of its rows, known after its first result."""


_by_clause: dict[TextClause, Clause] = {}


def clause_of(statement: TextClause) -> Clause:
    """Return a statement of the product, compiled once; statements are constants of its modules."""
    found = _by_clause.get(statement)
    if found is None:
        text = str(statement.compile(dialect=dialects.dialect()))  # type: ignore[no-untyped-call]
        found = _by_clause[statement] = Clause(text)
    return found


@cache
def words_of(query: Query) -> frozenset[str]:
    """Return the words of a statement that may write, among them the tables that it may write; none for a SELECT."""
    return frozenset() if query.text.lstrip().startswith("SELECT") else frozenset(WORD.findall(query.text))


class FollowUpQuery:
    """A query that is sent along with a commit, where a statement may have changed one of these tables."""

    def __init__(self, statement: str, *, tables: set[str]) -> None:
        self.query = Query(statement)
        self.tables = frozenset(tables)


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The result of a statement that returns no rows."""

    sent: Sent

    @property
    def rowcount(self) -> int:
        """The number of rows that it changed."""
        return self.sent.change_count


class Transaction(ConnectionEventsTarget):
    """What the product gets as its Connection: it executes statements and dispatches the commit event."""

    closed = False
    failed: Query | None = None
    _has_events = False
    """SQLAlchemy sets it where an event has listeners."""

    def __init__(self, connection: ProcessConnection) -> None:
        self._connection = connection
        self.info: dict[str, Any] = {}

    @property
    def connection(self) -> Transaction:
        """The pooled connection, from which the chassis takes the driver's."""
        return self

    @property
    def driver_connection(self) -> Transaction:
        """The driver's connection, to which the chassis sends."""
        return self

    def in_transaction(self) -> bool:
        """Always true: this is a transaction."""
        return True

    def get_transaction(self) -> Transaction:
        """Return what stands for the transaction itself: this one."""
        return self

    def send(self, query: Query, parameters: Mapping[str, Any]) -> Sent:
        """Send a statement of the chassis."""
        return self._connection.send(query, parameters)

    def invalidate(self, error: BaseException) -> NoReturn:
        """Never called while PostgreSQL runs."""
        raise AssertionError("a schedule's connection was closed") from error

    def execute(self, clause: TextClause, parameters: Mapping[str, Any] | None = None) -> Any:
        """Execute a statement of SQLAlchemy's."""
        statement = clause_of(clause)
        try:
            sent = self._connection.send(statement, parameters or {})
            if not statement.returns_rows:
                return WriteResult(sent)
            rows = sent.rows(tuple)
        except psycopg.Error as error:
            raise as_sqlalchemys(error) from error
        if statement.columns is None:
            statement.columns = SimpleResultMetaData(sent.column_names())
        return IteratorResult(statement.columns, iter(rows))

    def dispatch_commit(self) -> None:
        """Call the listeners of the commit event."""
        if self._has_events:
            self.dispatch.commit(self)


@dataclass(slots=True, eq=False, repr=False)
class ProcessConnection:
    """One process's connection to its service's database."""

    raw: PipelinedConnection
    task: SimulatedTask | None = None
    follow_up: FollowUpQuery | None = None
    follow_up_rows: list[tuple[Any, ...]] | None = None
    """The rows of the follow-up query after the last commit; None where that commit cannot have changed them."""
    _was_begun: bool = False
    _needs_follow_up: bool = False

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Commit the statements executed within, or roll them back on an exception."""
        self._was_begun = self._needs_follow_up = False
        transaction = Transaction(self)
        try:
            yield cast(Connection, transaction)
            self._commit()
        except BaseException:
            self.raw.rollback()
            raise
        transaction.dispatch_commit()

    def send(self, query: Query, parameters: Mapping[str, Any]) -> Sent:
        """Send a statement, after the faults planned for it. Raises psycopg.Error for one that was sent before it."""
        if self.task is not None:
            self.task.before_statement(self.raw.settle)
            if self.task.has_suspended_others:
                return self._send_waiting_for_locks(query, parameters)
        return self._send(query, parameters)

    def _send(self, query: Query, parameters: Mapping[str, Any]) -> Sent:
        self._was_begun = True
        if self.follow_up is not None and not self.follow_up.tables.isdisjoint(words_of(query)):
            self._needs_follow_up = True
        return self.raw.send(query, parameters)

    def _send_waiting_for_locks(self, query: Query, parameters: Mapping[str, Any]) -> Sent:
        """Wait for locks as PostgreSQL does, but in virtual time: try again at intervals."""
        assert self.task is not None, "only a task has others beside it"
        self.raw.settle()
        for _ in self.task.lock_attempts():
            self.raw.send(SAVEPOINT, {})
            sent = self._send(query, parameters)
            try:
                self.raw.settle()
            except LockNotAvailable:
                self.raw.send(ROLLBACK, {})
                self.raw.settle()
            else:
                return sent
        raise LockNotAvailable("two transactions waited for each other")

    def _commit(self) -> None:
        if not self._was_begun:
            return
        try:
            self.raw.send(COMMIT, {})
            query = self.follow_up.query if self.follow_up is not None and self._needs_follow_up else None
            followed_up = None if query is None else self.raw.send(query, {})
            self.raw.settle()
        except psycopg.Error as error:
            raise as_sqlalchemys(error) from error
        self.follow_up_rows = None if followed_up is None else followed_up.rows(tuple)
