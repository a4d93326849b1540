"""Decides about callbacks on a thread of its own, in every process, and publishes what money they bring.

Rows are locked and those of another process skipped, so that two processes share the work. A crash loses nothing: what
is not decided is still due, and what is committed is in the outbox.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import Engine

from chassis.postgres.statement import Statement
from chassis.saga.publisher import OutboxPublisher
from mobile_money import deciding, raw_callbacks
from mobile_money.intake import Deciding

POLL_S: Final = 0.25
"""How soon a callback is decided about that another process has stored, or that is matched again."""
POSTPONED: Final = timedelta(minutes=1)
LEFTOVER_AGE: Final = timedelta(seconds=15)

POSTPONE: Final = Statement("UPDATE raw_callbacks SET decide_at = %(until)s, reason = %(reason)s WHERE id = %(id)s")

log = structlog.get_logger()


class Decider:
    """A runner that decides about callbacks."""

    def __init__(
        self,
        engine: Engine,
        needed: Deciding,
        publisher: Callable[[], OutboxPublisher],
        clock: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._needed = needed
        self._new_publisher = publisher
        self._clock = clock
        self._due = threading.Event()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._loop, name="decider", daemon=True).start()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()
        self._due.set()

    def wake(self) -> None:
        """Decide now: callbacks were stored."""
        self._due.set()

    def _loop(self) -> None:
        publisher = self._new_publisher()
        while not self._stopping.is_set():
            self._due.wait(POLL_S)
            self._due.clear()
            try:
                while self.decide(publisher) and not self._stopping.is_set():
                    pass
                publisher.remove_delivered()
                publisher.sweep(None, age=LEFTOVER_AGE)
            except Exception:  # a lost connection and a defect alike: what is not decided is still due
                log.exception("Callbacks could not be decided about; they are tried again.")
                self._stopping.wait(POLL_S)

    def decide(self, publisher: OutboxPublisher | None = None) -> int:
        """Decide about the callbacks that are due, and return how many there were."""
        try:
            return self._decide(publisher, raw_callbacks.DECIDED_MAX)
        except Exception:  # one of them is at fault: the others are decided one by one
            log.exception("A batch of callbacks failed; each is decided about by itself.")
        return sum(self._decide_one(publisher) for _ in range(raw_callbacks.DECIDED_MAX))

    def _decide(self, publisher: OutboxPublisher | None, limit: int) -> int:
        with self._engine.begin() as tx:
            decided = deciding.decide(tx, self._needed, now=self._clock(), limit=limit)
        if decided is None:
            return 0
        if publisher is not None:
            publisher.publish(decided.rows)
        return len(decided.fates)

    def _decide_one(self, publisher: OutboxPublisher | None) -> int:
        try:
            return self._decide(publisher, 1)
        except Exception as error:  # whatever it is, it must harm no other callback
            log.exception("A callback cannot be decided about; it is tried again later.")
            with self._engine.begin() as tx:
                for each in raw_callbacks.take(tx, now=self._clock(), limit=1):
                    until = self._clock() + POSTPONED
                    POSTPONE.run(
                        tx, {"id": each.id, "until": until, "reason": f"{type(error).__name__}: {error}"[:200]}
                    )
            return 0
