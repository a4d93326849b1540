"""Gathers committed outbox rows for a short while, so that sagas that begin together are published together.

For a process that starts sagas one by one. A batch costs a service much the same whatever is in it, and every later hop
passes on the groups in which sagas begin. So they are gathered once, at their beginning. Only the hand-over to Kafka
waits: the rows are committed before, and a crash leaves them in the outbox, where the next sweep finds them. It must
never hold a row for longer than its window.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from chassis.saga.cohorts import SIZE_MAX
from chassis.saga.outbox import OutboxRow

SHORTEST = 0.75
"""The share of the longest window after a single row: where few come, there is less to gather."""
LONGEST_AT_ROWS = 8
"""The window is the longest after so many rows, which is what comes within 40 ms at 200 orders a second."""
ROWS_MAX = SIZE_MAX
"""A whole cohort is published at once: what comes later is on another partition, so waiting for it saves nothing."""


class GatheringPublisher:
    """Publishes what is committed: at once after a pause, otherwise when the window since the last publishing ends.

    Any thread may publish. One thread runs :meth:`run`, which publishes at the end of each window. A window lasts from
    SHORTEST of ``longest_s`` to all of it, by the number of rows in the last publishing; with 0 nothing is held.
    """

    def __init__(
        self,
        publish: Callable[[Sequence[OutboxRow]], None],
        *,
        longest_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publish = publish
        self._longest_s = longest_s
        self._clock = clock
        self._changed = threading.Condition()
        self._gathered: list[OutboxRow] = []
        self._ends_at_s = 0.0
        self._window = 0
        self._is_closed = False

    @property
    def window(self) -> int:
        """The number of the present window; rows that are committed within one are published together."""
        return self._window

    def publish(self, rows: Sequence[OutboxRow]) -> None:
        """Publish committed rows now, or have them published at the end of the window."""
        if not rows:
            return
        with self._changed:
            is_first = not self._gathered
            self._gathered += rows
            if self.publish_due() is not None and is_first:
                self._changed.notify()

    def publish_due(self) -> float | None:
        """Publish what was gathered if its time has come; return in how many seconds it comes, None: nothing waits."""
        with self._changed:
            if not self._gathered:
                return None
            now_s = self._clock()
            if now_s < self._ends_at_s and len(self._gathered) < ROWS_MAX and not self._is_closed:
                return self._ends_at_s - now_s
            rows, self._gathered = self._gathered, []
            self._window += 1
            self._ends_at_s = now_s + self._length_s(len(rows))
            # The lock is held, so that a saga's rows reach Kafka in the order in which they were committed.
            self._publish(rows)
            return None

    def run(self) -> None:
        """Publish at the end of each window until :meth:`close`."""
        with self._changed:
            while not self._is_closed:
                self._changed.wait(self.publish_due())

    def close(self) -> None:
        """Publish what was gathered, and everything that comes later at once; :meth:`run` returns."""
        with self._changed:
            self._is_closed = True
            self.publish_due()
            self._changed.notify_all()

    def _length_s(self, rows: int) -> float:
        return self._longest_s * min(1.0, SHORTEST + (1.0 - SHORTEST) * rows / LONGEST_AT_ROWS)
