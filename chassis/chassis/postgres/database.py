"""Creates the engine of a service's own PostgreSQL database. Nothing connects before its first use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from chassis.postgres import arrays, pipeline, statement
from chassis.postgres.bounds import SERVING, Bounds

POOL_SIZE_MAX = 10
"""The worker needs one connection and the API a few; more would only wait in PostgreSQL."""
POOL_WAIT_S = 5
"""How long a thread waits for a connection of the pool. All of them are in use that long only while the database is
slow, and a request had better fail then than wait with all the others."""
PULSE_WAIT_S = 1.0
"""How long a probe waits for a check that another one has begun: less than the 2 s that a prober waits."""


def select_one(connection: Connection) -> object:
    """Make the server answer, without a look at any table."""
    return connection.execute(text("SELECT 1")).scalar_one()


class Pulse:
    """Checks whether a database answers, one check at a time: a database that hangs must not occupy all connections.

    A caller during a check gets its result, or False after PULSE_WAIT_S. ``query`` is what it must answer.
    """

    def __init__(self, engine: Engine, query: Callable[[Connection], object] = select_one) -> None:
        self._engine = engine
        self._query = query
        self._lock = threading.Lock()
        self._check: Future[bool] | None = None

    def __call__(self) -> bool:
        with self._lock:
            under_way = self._check
            if under_way is None:
                check = self._check = Future()
        if under_way is not None:
            try:
                return under_way.result(PULSE_WAIT_S)
            except TimeoutError:
                return False
        answers = False
        try:
            answers = self._answers()
        finally:
            with self._lock:
                self._check = None
            check.set_result(answers)
        return answers

    def _answers(self) -> bool:
        try:
            with self._engine.connect() as connection:
                self._query(connection)
        except SQLAlchemyError:
            return False
        return True


def create(url: str, password_file: Path, *, application: str, bounds: Bounds = SERVING) -> Engine:
    """Return an engine for ``url``, which carries no password, whose connections have these bounds.

    The password is read from its file at each new connection, so that it can be rotated while the process runs.
    """
    engine = create_engine(
        url,
        pool_size=POOL_SIZE_MAX,
        max_overflow=0,
        pool_timeout=POOL_WAIT_S,
        hide_parameters=True,  # a statement's parameters are payloads and addresses, and errors are logged
        connect_args={"application_name": application, **bounds.arguments},
    )

    @event.listens_for(engine, "do_connect")
    def read_password(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        parameters["password"] = password_file.read_text().strip()

    return prepare(engine, answer_s=bounds.answer_s)


def prepare(engine: Engine, *, answer_s: float = 0) -> Engine:
    """Prepare an engine's connections for the statements of the hot path (:mod:`chassis.postgres.statement`).

    ``answer_s`` limits the wait for their results; 0: without a limit.
    """
    pipeline.send_together(engine, answer_s=answer_s)
    arrays.send_in_binary(engine)
    statement.translate_ended_sessions(engine)
    return engine
