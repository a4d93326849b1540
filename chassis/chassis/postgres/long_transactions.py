"""Transactions that take minutes, in a service whose bounds are those of one message: a task's, never a request's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, text

ANSWER_S: Final = 900.0
AS_LONG_AS_IT_TAKES = text("""
    SET LOCAL statement_timeout = '15min';
    SET LOCAL transaction_timeout = 0;
    SET LOCAL transaction_timeout = '30min';
    SET LOCAL idle_in_transaction_session_timeout = '15min'
""")
"""PostgreSQL starts no timer of a transaction again while one runs, so it is stopped first."""


@contextmanager
def unhurried(tx: Connection) -> Iterator[None]:
    """Let a transaction, and the client's wait for its answers, take minutes instead of seconds."""
    tx.execute(AS_LONG_AS_IT_TAKES)
    driver: Any = tx.connection.driver_connection
    before, driver.answer_s = driver.answer_s, ANSWER_S
    try:
        yield
    finally:
        driver.answer_s = before
