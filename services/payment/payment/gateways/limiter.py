"""A limit of requests a second for one account at a gateway, for callers in many threads.

Who waits for it holds its thread, and no message is taken for which there is no thread. So the work waits in Kafka, in
order, and not in memory. The limit is of one process: each has its share of what the gateway allows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from chassis.http.downstream import NotTried
from chassis.http.timed_connections import remaining_s

WAIT_S_MAX = 1.5
"""A call that would wait longer is not made. Its attempt is sent at the end of its time, and counts as not tried."""
BURST_S = 0.1
"""So much of a second's requests may come at once after a pause."""


class Limiter:
    """Lets through so many requests a second, evenly; callers wait their turn, in the order in which they came."""

    def __init__(
        self,
        name: str,
        requests_per_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._name = name
        self._interval_s = 1.0 / requests_per_s
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next_at = clock()

    def wait(self) -> None:
        """Return when a request may be made. Raises NotTried where that is later than a call may wait."""
        with self._lock:
            now = self._clock()
            turn_at = max(self._next_at, now - BURST_S)
            wait_s = turn_at - now
            if wait_s > min(WAIT_S_MAX, remaining_s()):
                raise NotTried(f"the limit of requests to {self._name} is reached", retry_after_s=wait_s)
            self._next_at = turn_at + self._interval_s
        if wait_s > 0:
            self._sleep(wait_s)
