"""Statements of the hot path, sent straight to the driver in SQLAlchemy's transaction.

What SQLAlchemy does around one (its parameters, a result of its own) costs twice what the driver needs: 137 µs of
processor time against 45 for a statement with one list. A small batch is little else than seven of them. Engines,
transactions, tables and migrations are SQLAlchemy's, and so is every statement that no batch runs.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


class Statement:
    """One statement with psycopg's named parameters, ``%(name)s``. Errors are SQLAlchemy's, as of any other."""

    def __init__(self, sql: str) -> None:
        self._sql = sql
        self._row: Callable[[Iterable[Any]], Any] | None = None

    def run(self, tx: Connection, parameters: Mapping[str, Any]) -> None:
        """Execute it in the transaction."""
        self._execute(tx, parameters)

    def change(self, tx: Connection, parameters: Mapping[str, Any]) -> int:
        """Execute it, wait for it and return how many rows it changed."""
        return self._execute(tx, parameters).rowcount

    def rows(self, tx: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        """Execute it and return its rows, whose columns have names."""
        cursor = self._execute(tx, parameters)
        if self._row is None:
            names = [column.name for column in cursor.description or ()]
            row_type: Any = namedtuple("Row", names)  # type: ignore[misc]  # only known now
            self._row = row_type._make
        return [self._row(row) for row in cursor.fetchall()]

    def _execute(self, tx: Connection, parameters: Mapping[str, Any]) -> psycopg.Cursor[Any]:
        connection: Any = tx.connection.driver_connection
        try:
            cursor: psycopg.Cursor[Any] = connection.cursor()
            return cursor.execute(self._sql, parameters)
        except psycopg.Error as error:
            if connection.closed:
                tx.invalidate(error)
            raise DBAPIError.instance(self._sql, None, error, psycopg.Error, hide_parameters=True) from error
