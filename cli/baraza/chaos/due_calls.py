"""Calls that are made when they are due, on threads of their own, so that no order waits for them."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

CALLS_MAX = 4
"""While a service is unreachable each of them takes its whole timeout; the others wait for their turn."""

Call = TypeVar("Call")


class DueCalls(Generic[Call]):
    """Makes calls while it is open. Thread-safe.

    At the end it makes only those that ``may_be_accepted`` already: they were sent, and had no answer.
    """

    def __init__(self, make: Callable[[Call], None], *, name: str, may_be_accepted: Callable[[Call], bool]) -> None:
        self._make = make
        self._may_be_accepted = may_be_accepted
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, Call]] = []
        self._changed = threading.Condition()
        self._ending = False
        self._pool = ThreadPoolExecutor(CALLS_MAX, thread_name_prefix=name)
        self._running: list[Future[None]] = []

    @property
    def planned(self) -> list[Call]:
        """The calls that are to be made, the next one first."""
        with self._changed:
            return [call for _, _, call in sorted(self._due, key=lambda each: each[:2])]

    def open(self) -> None:
        """Begin to make the calls that are due."""
        self._running = [self._pool.submit(self._run) for _ in range(CALLS_MAX)]

    def plan(self, call: Call, after_s: float) -> None:
        """Make a call after so many seconds."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + after_s, next(self._numbers), call))
            self._changed.notify()

    def check(self) -> None:
        """Raise the error that ended a thread before its time."""
        for each in self._running:
            if each.done():
                each.result()

    def end(self) -> None:
        """Begin no call any more, and wait until those that were sent are answered. Raises what ended a thread."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        for each in self._running:
            each.result()

    def close(self) -> None:
        """Drop whatever is not sent, answered or not."""
        with self._changed:
            self._ending = True
            self._due.clear()
            self._changed.notify_all()
        self._pool.shutdown(wait=True)

    def _run(self) -> None:
        while (call := self._next()) is not None:
            self._make(call)

    def _next(self) -> Call | None:
        """Wait for the next call that is due; None at the end, where only what was sent before is sent again."""
        with self._changed:
            while True:
                if self._ending:
                    self._due = [each for each in self._due if self._may_be_accepted(each[2])]
                    heapq.heapify(self._due)
                    if not self._due:
                        return None
                wait_s = self._due[0][0] - time.monotonic() if self._due else None
                if wait_s is not None and wait_s <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait_s)
