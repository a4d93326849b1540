"""Creates the engine of a service's own PostgreSQL database. Nothing connects before its first use."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from chassis.postgres import arrays, pipeline

POOL_SIZE_MAX = 10
"""The worker needs one connection and the API a few; more would only wait in PostgreSQL."""
CONNECT_TIMEOUT_S = 5
PULSE_WAIT_S = 1.0
"""How long a probe waits for a check that another one has begun: less than the 2 s that a prober waits."""


class Pulse:
    """Checks whether a database answers, one check at a time: a database that hangs must not occupy all connections.

    Whoever calls during a check gets its result, and gives up after PULSE_WAIT_S.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
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
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True


def create(url: str, password_file: Path, *, application: str, pool_size_max: int = POOL_SIZE_MAX) -> Engine:
    """Return an engine for ``url``, which carries no password.

    The password is read from its file at each new connection, so that it can be rotated while the process runs.
    """
    engine = create_engine(
        url,
        pool_size=pool_size_max,
        max_overflow=0,
        hide_parameters=True,  # a statement's parameters are payloads and addresses, and errors are logged
        connect_args={"application_name": application, "connect_timeout": CONNECT_TIMEOUT_S},
    )

    @event.listens_for(engine, "do_connect")
    def read_password(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        parameters["password"] = password_file.read_text().strip()

    return prepare(engine)


def prepare(engine: Engine) -> Engine:
    """Prepare an engine's connections for the statements of the hot path (:mod:`chassis.postgres.statement`)."""
    pipeline.send_together(engine)
    arrays.send_in_binary(engine)
    return engine
