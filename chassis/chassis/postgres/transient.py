"""What a process does while a part is away: the same again, with growing waits, and in the end it gives up and ends."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import structlog
from psycopg.errors import ProgramLimitExceeded
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from chassis.wire.registry import RegistryUnavailable

ATTEMPTS_MAX = 9
"""With the waits doubling from 0.1 s: half a minute, longer than a restart of PostgreSQL; then the process ends."""
FIRST_WAIT_S = 0.1
EFFECTS_KEY = "effects_pkey"

Result = TypeVar("Result")

log = structlog.get_logger()


class Transact(Protocol):
    """Runs a transaction and commits it, and returns what the transaction returned."""

    def __call__(self, transaction: Callable[[Connection], Result], /) -> Result:
        """Run it in the way of the owner: with retries, or once."""
        ...


def transact(engine: Engine, transaction: Callable[[Connection], Result]) -> Result:
    """Run a transaction and commit it, once."""
    with engine.begin() as tx:
        return transaction(tx)


class TransientRetry:
    """Repeats what a passing fault of a part prevented. ``on_wait`` is called after each wait, as a sign of life."""

    def __init__(self, stopping: threading.Event, *, on_wait: Callable[[], None] = lambda: None) -> None:
        self._stopping = stopping
        self._on_wait = on_wait
        self._jitter = random.Random()

    def repeat(self, attempt: Callable[[], Result]) -> Result:
        """Return what ``attempt`` returns; the last fault is raised, and at once any that would only come again."""
        wait_s = FIRST_WAIT_S
        for _ in range(ATTEMPTS_MAX - 1):
            try:
                return attempt()
            except (DBAPIError, PoolTimeout, RegistryUnavailable) as error:
                if not is_transient(error):
                    raise
                log.warning("A part is away; trying again.", error=str(error), wait_s=wait_s)
                self._stopping.wait(wait_s * (0.5 + self._jitter.random()))
                self._on_wait()
                wait_s *= 2
        return attempt()

    def transact(self, engine: Engine, transaction: Callable[[Connection], Result]) -> Result:
        """Run a transaction, and commit it, as often as it takes."""
        return self.repeat(lambda: transact(engine, transaction))


def is_transient(error: Exception) -> bool:
    """Say whether the same again may succeed: a part was away, or two processes met on one effect."""
    if isinstance(error, IntegrityError):
        diagnosis = getattr(error.orig, "diag", None)
        return diagnosis is not None and diagnosis.constraint_name == EFFECTS_KEY
    if isinstance(error, OperationalError) and isinstance(error.orig, ProgramLimitExceeded):
        return False  # A value that is too long for an index will be too long again.
    return isinstance(error, OperationalError | InterfaceError | PoolTimeout | RegistryUnavailable)


def utc_now() -> datetime:
    """Return the time as an aware UTC value."""
    return datetime.now(UTC)
