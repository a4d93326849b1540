"""The limit of requests a second of one short code, in two lanes. Members come first; the rest has what they leave.

The provider's limit is for all processes; each has its share, by how many of them have shown themselves lately. Who
waits holds a thread, so what is not members' own waits on a few threads at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog
from sqlalchemy import Column, DateTime, Engine, PrimaryKeyConstraint, Table, Text

from chassis.http.downstream import NotTried
from chassis.http.timed_connections import remaining_s
from chassis.postgres.statement import Statement
from mobile_money.tables import metadata

WAIT_S_MAX: Final = 1.5
"""A call that would wait longer is not made; its attempt is sent later, under the same key."""
BURST_S: Final = 0.25
"""So much of a second's requests may come at once after a pause."""
BULK_WAITING_MAX: Final = 8
"""The threads on which what is not members' own waits."""
SHOWN_EVERY_S: Final = 5.0
GONE_AFTER_S: Final = 15.0

log = structlog.get_logger()

limiter_shares = Table(
    "limiter_shares",
    metadata,
    Column("service", Text, nullable=False),
    Column("instance", Text, nullable=False),
    Column("seen_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("service", "instance"),
)

SHOW: Final = Statement("""
    INSERT INTO limiter_shares (service, instance, seen_at) VALUES (%(service)s, %(instance)s, now())
    ON CONFLICT (service, instance) DO UPDATE SET seen_at = excluded.seen_at
""")
GONE: Final = Statement("""
    DELETE FROM limiter_shares WHERE seen_at < now() - make_interval(secs => %(gone_s)s)
""")
COUNT: Final = Statement("SELECT count(*) AS processes FROM limiter_shares WHERE service = %(service)s")


class Limiter:
    """Lets through so many requests a second, evenly, each lane in the order in which its callers came.

    A request of members takes the next turn at the whole rate. Any other one takes a turn at the rate that is left
    without ``members_share``, and one at the whole rate besides.
    """

    def __init__(
        self,
        name: str,
        calls_per_s: float,
        members_share: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._name = name
        self._calls_per_s = calls_per_s
        self._bulk_share = max(1.0 - members_share, 0.01)
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._processes = 1
        self._slowed = 1.0
        self._next_s = self._next_bulk_s = clock()
        self._bulk_waiting = 0

    def share(self, processes: int) -> None:
        """Take over how many processes share the provider's limit."""
        self._processes = max(1, processes)

    def slow_down(self) -> None:
        """Halve the rate: the provider has refused for too many requests. It grows again with each request."""
        with self._lock:
            self._slowed = max(self._slowed / 2, 0.05)

    @property
    def calls_per_s(self) -> float:
        """The rate of this process."""
        return self._calls_per_s * self._slowed / self._processes

    @property
    def is_slowed(self) -> bool:
        """Whether the provider has lately refused requests for being too many."""
        return self._slowed < 1.0

    def wait(self, *, is_bulk: bool) -> None:
        """Return when a request may be made. Raises NotTried where that is later than a call may wait."""
        with self._lock:
            now, interval_s = self._clock(), 1.0 / self.calls_per_s
            turn_s = max(self._next_s, now - BURST_S)
            if is_bulk:
                turn_s = max(turn_s, self._next_bulk_s, now - BURST_S)
            wait_s = turn_s - now
            is_full = is_bulk and wait_s > 0 and self._bulk_waiting >= BULK_WAITING_MAX
            if is_full or wait_s > min(WAIT_S_MAX, remaining_s()):
                raise NotTried(f"the limit of requests to {self._name} is reached", retry_after_s=max(wait_s, 0.1))
            self._next_s = max(self._next_s, now - BURST_S) + interval_s
            if is_bulk:
                self._next_bulk_s = turn_s + interval_s / self._bulk_share
                self._bulk_waiting += 1
            self._slowed = min(1.0, self._slowed + 0.01)
        try:
            if wait_s > 0:
                self._sleep(wait_s)
        finally:
            if is_bulk:
                with self._lock:
                    self._bulk_waiting -= 1


class LimiterShares:
    """A runner that shows this process to the others, and sets the share of the limiters."""

    def __init__(self, engine: Engine, service: str, instance: str, limiters: Callable[[], list[Limiter]]) -> None:
        self._engine = engine
        self._service = service
        self._instance = instance
        self._limiters = limiters
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._loop, name="limiter shares", daemon=True).start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()

    def show(self) -> int:
        """Show this process, and return how many there are."""
        with self._engine.begin() as tx:
            SHOW.run(tx, {"service": self._service, "instance": self._instance})
            GONE.run(tx, {"gone_s": GONE_AFTER_S})
            (row,) = COUNT.rows(tx, {"service": self._service})
        for each in self._limiters():
            each.share(row.processes)
        return int(row.processes)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self.show()
            except Exception:  # a lost connection and a defect alike: the share of before is used until the next time
                log.exception("The shares of the limit could not be read; they are read again.")
            self._stopping.wait(SHOWN_EVERY_S)
