"""Statements of the hot path, sent straight to the driver in SQLAlchemy's transaction, several in one round trip.

Around each statement SQLAlchemy does several times the work of the driver, for its parameters and its result, and a
small batch is little else than eight statements. Engines, transactions, tables and migrations are SQLAlchemy's, and so
is every statement outside of a batch.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import psycopg
from psycopg.errors import IdleInTransactionSessionTimeout, TransactionTimeout
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, OperationalError

from chassis.postgres.pipeline import PipelinedConnection, Query, Sent

Result = TypeVar("Result")


class PendingResult:
    """The result of a submitted statement. Errors are SQLAlchemy's, and may be those of statements sent before it."""

    def __init__(self, statement: Statement, tx: Connection, sent: Sent) -> None:
        self._statement = statement
        self._tx = tx
        self._sent = sent

    def change_count(self) -> int:
        """Wait for the result, and return how many rows the statement changed."""
        return _translate_errors(self._tx, lambda: self._sent.change_count)

    def rows(self) -> list[Any]:
        """Wait for the result, and return its rows as named tuples."""
        return _translate_errors(self._tx, lambda: self._statement.read(self._sent))


class Statement:
    """One statement with psycopg's named parameters, ``%(name)s``. Errors are SQLAlchemy's, as for its own."""

    def __init__(self, sql: str) -> None:
        self._query = Query(sql)
        self._row: Callable[[Iterable[Any]], Any] | None = None

    @property
    def text(self) -> str:
        """The statement as it was written, with named parameters."""
        return self._query.text

    def run(self, tx: Connection, parameters: Mapping[str, Any]) -> None:
        """Send it in the transaction. If it fails, the next wait in the transaction raises, or its commit."""
        self.submit(tx, parameters)

    def submit(self, tx: Connection, parameters: Mapping[str, Any]) -> PendingResult:
        """Send it in the transaction without waiting, and return its pending result."""
        if not tx.in_transaction():
            tx.begin()  # as SQLAlchemy does for its own statements; without it a commit would do nothing
        connection: Any = tx.connection.driver_connection
        return PendingResult(self, tx, _translate_errors(tx, lambda: connection.send(self._query, parameters)))

    def rows(self, tx: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        """Execute it, and return its rows as named tuples."""
        return self.submit(tx, parameters).rows()

    def read(self, sent: Sent) -> list[Any]:
        """Wait for the rows of this statement."""
        if self._row is None:
            row_type: Any = namedtuple("Row", sent.column_names())  # type: ignore[misc]  # only known now
            self._row = row_type._make
        return sent.rows(self._row)


def _translate_errors(tx: Connection, wait: Callable[[], Result]) -> Result:
    try:
        return wait()
    except psycopg.Error as error:
        connection: PipelinedConnection = tx.connection.driver_connection  # type: ignore[assignment]
        statement = connection.failed.text if connection.failed is not None else None
        if connection.closed:
            tx.invalidate(error)
        raise as_sqlalchemys(error, statement) from error


def as_sqlalchemys(error: psycopg.Error, statement: str | None = None) -> BaseException:
    """Return the driver's error as SQLAlchemy raises it, without the parameters.

    A session that PostgreSQL has ended, since it held its transaction open for too long, is an operational error as any
    other lost connection is. The driver has it among errors of the driver itself.
    """
    if isinstance(error, IdleInTransactionSessionTimeout | TransactionTimeout):
        return OperationalError(statement, None, error, hide_parameters=True, connection_invalidated=True)
    wrapped: BaseException = DBAPIError.instance(statement, None, error, psycopg.Error, hide_parameters=True)
    return wrapped


def translate_ended_sessions(engine: Engine) -> None:
    """Let the statements of SQLAlchemy itself raise what :func:`as_sqlalchemys` returns for an ended session."""

    @event.listens_for(engine, "handle_error")
    def translate(context: ExceptionContext) -> None:
        error = context.original_exception
        if isinstance(error, IdleInTransactionSessionTimeout | TransactionTimeout):
            raise as_sqlalchemys(error, context.statement) from error
