"""A circuit breaker for callers in many threads: it stops calls to what keeps failing, and tries again with one call.

It is our own because the libraries do not fit: purgatory has no lock and lets every thread through when half open,
pybreaker holds its lock during the call, and neither takes a clock. It must not know what a call is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

import structlog

log = structlog.get_logger(__name__)


class CircuitState(StrEnum):
    """Closed: calls pass. Open: none passes. Half open: one passes, and its outcome decides."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitOpen(Exception):
    """Not called, because the calls before this one failed. The next may try after ``retry_after_s``."""

    def __init__(self, name: str, retry_after_s: float) -> None:
        super().__init__(f"the circuit to {name} is open for another {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class CircuitBreaker:
    """Opens after ``failures_max`` failures in a row, for ``open_s`` seconds; then one probe decides.

    Protocol of a call, from any thread, which :meth:`call` follows for a block:
    1. ``enter()`` raises CircuitOpen, or returns the permit of this call.
    2. The caller calls.
    3. ``succeeded(permit)`` or ``failed(permit)``, exactly once. The outcome of a call that began before the circuit
       last changed says nothing about the present, and is ignored.
    """

    def __init__(self, name: str, *, failures_max: int, open_s: float, clock: Callable[[], float]) -> None:
        self._name = name
        self._failures_max = failures_max
        self._open_s = open_s
        self._clock = clock
        self._lock = threading.Lock()
        self._state = CircuitState.CLOSED
        self._failures = 0
        self._opened_at_s = 0.0
        self._permit = 0

    @property
    def state(self) -> CircuitState:
        return self._state

    @contextmanager
    def call(self, *failures: type[Exception], always: bool = False) -> Iterator[None]:
        """Run a block that calls. Raises CircuitOpen, unless it runs ``always``, as what must be tried does.

        An exception of ``failures`` counts as a failure; any other one shows that the dependency answers. A block that
        is cancelled shows neither.
        """
        permit = self.enter(always=always)
        try:
            yield
        except failures as error:
            self.failed(permit, error)
            raise
        except Exception:
            self.succeeded(permit)
            raise
        except BaseException:
            self.abandoned(permit)
            raise
        self.succeeded(permit)

    def enter(self, *, always: bool = False) -> int:
        """Return a permit to call, or raise CircuitOpen; ``always``: return a permit in any state."""
        with self._lock:
            if self._state is CircuitState.CLOSED or always:
                return self._permit
            waited_s = self._clock() - self._opened_at_s
            if self._state is CircuitState.OPEN and waited_s >= self._open_s:
                self._become(CircuitState.HALF_OPEN)
                return self._permit
            # While a probe is under way, the others are to return after about as long as a probe may take.
            raise CircuitOpen(self._name, max(self._open_s - waited_s, self._open_s / 10))

    def succeeded(self, permit: int) -> None:
        with self._lock:
            if permit != self._permit:
                return
            self._failures = 0
            if self._state is not CircuitState.CLOSED:
                self._become(CircuitState.CLOSED)
                log.warning("Circuit closed.", circuit=self._name)

    def failed(self, permit: int, error: Exception | None = None) -> None:
        with self._lock:
            if permit != self._permit:
                return
            self._failures += 1
            if self._state is not CircuitState.CLOSED:
                self._open()
            elif self._failures >= self._failures_max:
                self._open()
                # Logged once an outage: a probe that fails is no news.
                reason = None if error is None else type(error).__name__
                log.warning("Circuit opened.", circuit=self._name, failures=self._failures_max, error=reason)

    def abandoned(self, permit: int) -> None:
        """End a call without a verdict: a probe leaves the circuit open for the next one."""
        with self._lock:
            if permit == self._permit and self._state is CircuitState.HALF_OPEN:
                self._open()

    def _open(self) -> None:
        self._opened_at_s = self._clock()
        self._become(CircuitState.OPEN)

    def _become(self, state: CircuitState) -> None:
        self._state = state
        self._failures = 0
        self._permit += 1
