"""Repeats what a transient fault of PostgreSQL or of the schema registry prevented, a limited number of times.

When the attempts are exhausted the fault is raised, the process ends, and its supervisor starts it again.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import structlog
import tenacity
from psycopg.errors import ProgramLimitExceeded
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from chassis.wire.registry import RegistryUnavailable

ATTEMPTS_MAX = 9
"""With waits that double from 0.1 s: half a minute, longer than a restart of PostgreSQL; then the process ends."""
FIRST_WAIT_S = 0.1
_SHARED_KEYS = {"effects_pkey"}

Result = TypeVar("Result")

log = structlog.get_logger()


def share_keys(*constraints: str) -> None:
    """Declare unique keys that two transactions may write at the same time, by the names of their constraints.

    The second one fails, and finds the first one's row when it is repeated.
    """
    _SHARED_KEYS.update(constraints)


class Transact(Protocol):
    """Runs a transaction and commits it, and returns what the transaction returned."""

    def __call__(self, transaction: Callable[[Connection], Result], /) -> Result:
        """Run it in the way of the owner: with retries, or once."""
        ...


def transact(engine: Engine, transaction: Callable[[Connection], Result]) -> Result:
    """Run a transaction and commit it, once."""
    with engine.begin() as tx:
        return transaction(tx)


def _wait_s(state: tenacity.RetryCallState) -> float:
    """Return the wait before the next attempt: doubling, and spread so that processes do not all come back at once."""
    return float(FIRST_WAIT_S * 2 ** (state.attempt_number - 1) * random.uniform(0.5, 1.5))


class TransientRetry:
    """Repeats an attempt while it fails with a transient fault. Waits end early once ``stopping`` is set.

    ``on_wait`` is called after each wait, as a sign of life.
    """

    def __init__(self, stopping: threading.Event, *, on_wait: Callable[[], None] = lambda: None) -> None:
        def wait(wait_s: float) -> None:
            stopping.wait(wait_s)
            on_wait()

        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_transient),
            stop=tenacity.stop_after_attempt(ATTEMPTS_MAX),
            wait=_wait_s,
            sleep=wait,
            before_sleep=_log_retry,
            reraise=True,
        )

    def repeat(self, attempt: Callable[[], Result]) -> Result:
        """Return what ``attempt`` returns. A fault that is not transient is raised at once, else the last one."""
        try:
            return attempt()
        except Exception as error:
            if not is_transient(error):
                raise
            first = error

        # tenacity takes 24 µs a call, and a batch makes several. So it is called only after a fault, which it repeats.
        faults = [first]

        def repeated() -> Result:
            if faults:
                raise faults.pop()
            return attempt()

        return self._retrying(repeated)

    def transact(self, engine: Engine, transaction: Callable[[Connection], Result]) -> Result:
        """Run a transaction, and commit it, as often as it takes."""
        return self.repeat(lambda: transact(engine, transaction))


def is_transient(error: BaseException) -> bool:
    """Return whether the same attempt may succeed later.

    That is so when PostgreSQL or the registry was unavailable, or when two processes wrote the same shared key.
    """
    if isinstance(error, IntegrityError):
        diagnosis = getattr(error.orig, "diag", None)
        return diagnosis is not None and diagnosis.constraint_name in _SHARED_KEYS
    if isinstance(error, OperationalError) and isinstance(error.orig, ProgramLimitExceeded):
        return False  # A value that is too long for an index will be too long again.
    return isinstance(error, OperationalError | InterfaceError | PoolTimeout | RegistryUnavailable)


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome and state.outcome.exception()
    wait_s = state.next_action.sleep if state.next_action else 0.0
    if isinstance(error, IntegrityError):
        log.warning("Two processes wrote the same key, retrying.", error=str(error), wait_s=wait_s)
        return
    dependency = "The schema registry" if isinstance(error, RegistryUnavailable) else "PostgreSQL"
    log.warning("%s is unavailable, retrying.", dependency, dependency=dependency, error=str(error), wait_s=wait_s)


def utc_now() -> datetime:
    """Return the time as an aware UTC value."""
    return datetime.now(UTC)
