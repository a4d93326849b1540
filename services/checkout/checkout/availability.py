"""Whether a part that checkout can do without answers: said once a change, and left alone between tries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

REST_S = 1.0
"""A part that is away costs one request its timeout this often; all others go on without asking."""

log = structlog.get_logger(__name__)


class Availability:
    """The state of one part. Any thread may use it."""

    def __init__(self, part: str, *, without: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._part = part
        self._without = without
        self._clock = clock
        self._changing = threading.Lock()
        self._try_at_s: float | None = None

    def may_try(self) -> bool:
        """Say whether to ask the part now; while it is away, one caller in a rest is told yes."""
        if self._try_at_s is None:
            return True
        with self._changing:
            now_s = self._clock()
            if self._try_at_s is None or now_s < self._try_at_s:
                return self._try_at_s is None
            self._try_at_s = now_s + REST_S
            return True

    def lost(self, error: Exception) -> None:
        """Note that it did not answer."""
        with self._changing:
            was_there, self._try_at_s = self._try_at_s is None, self._clock() + REST_S
        if was_there:
            log.warning("A part is away; going on without it.", part=self._part, without=self._without,
                        error=type(error).__name__)  # fmt: skip

    def found(self) -> None:
        """Note that it answered."""
        if self._try_at_s is None:
            return
        with self._changing:
            self._try_at_s = None
        log.info("A part is back.", part=self._part)
