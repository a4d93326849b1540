"""Statements of the hot path, sent straight to the driver in SQLAlchemy's transaction, and together where they can be.

What SQLAlchemy does around one (its parameters, a result of its own) costs several times what the driver needs, and a
small batch is little else than eight of them. Engines, transactions, tables and migrations are SQLAlchemy's, and so is
every statement that no batch runs.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from chassis.postgres.pipeline import PipelinedConnection, Query, Sent

Result = TypeVar("Result")


class PendingResult:
    """What a statement on its way comes to. Errors are SQLAlchemy's, also those of statements sent before it."""

    def __init__(self, statement: Statement, tx: Connection, sent: Sent) -> None:
        self._statement = statement
        self._tx = tx
        self._sent = sent

    def change_count(self) -> int:
        """Wait for it, and return how many rows it changed."""
        return _translate_errors(self._tx, lambda: self._sent.change_count)

    def rows(self) -> list[Any]:
        """Wait for it, and return its rows, whose columns have names."""
        return _translate_errors(self._tx, lambda: self._statement.read(self._sent))


class Statement:
    """One statement with psycopg's named parameters, ``%(name)s``. Errors are SQLAlchemy's, as of any other."""

    def __init__(self, sql: str) -> None:
        self._query = Query(sql)
        self._row: Callable[[Iterable[Any]], Any] | None = None

    @property
    def text(self) -> str:
        """The statement as it was written, with named parameters."""
        return self._query.text

    def run(self, tx: Connection, parameters: Mapping[str, Any]) -> None:
        """Send it in the transaction; where it fails, whatever is waited for next in the transaction raises."""
        self.submit(tx, parameters)

    def submit(self, tx: Connection, parameters: Mapping[str, Any]) -> PendingResult:
        """Send it in the transaction, and return what it will come to."""
        if not tx.in_transaction():
            tx.begin()  # as SQLAlchemy does by itself for its own statements; else it would commit nothing
        connection: Any = tx.connection.driver_connection
        return PendingResult(self, tx, _translate_errors(tx, lambda: connection.send(self._query, parameters)))

    def rows(self, tx: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        """Execute it and return its rows, whose columns have names."""
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
    """Return an error of the driver's as SQLAlchemy raises it, without the parameters."""
    wrapped: BaseException = DBAPIError.instance(statement, None, error, psycopg.Error, hide_parameters=True)
    return wrapped
