"""Sends members' texts that are due, on a thread of its own.

1. Some texts are leased, in a transaction.
2. Each is sent, outside of any transaction.
3. What came of them is stored in another one. A process that is killed in between leaves leases that end, so a text is
   sent at least once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import Engine

from chassis.postgres.transient import TransientRetry
from chassis.wire.envelope import new_id
from notifier import text_metrics
from notifier.model.member_texts import TextState
from notifier.model.text_schedule import pause_after
from notifier.store import texts
from notifier.store.texts import LeasedText, SettledText
from notifier.texter import NotSent, Texter

POLL_S: Final = 0.5
TEXTS_MAX: Final = 200
"""Texts of one lease; they are sent well within it."""
ERROR_REST_S: Final = 5.0
STOP_WITHIN_S: Final = 1.0

log = structlog.get_logger()


class TextSender:
    """Sends in one process, from :meth:`start` to :meth:`stop`. ``clock`` is the wall clock."""

    def __init__(self, engine: Engine, texter: Texter, *, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._texter = texter
        self._clock = clock
        self._lease = new_id()
        self._stopping = threading.Event()
        self._retry = TransientRetry(self._stopping)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin on a thread of its own."""
        self._thread = threading.Thread(target=self._loop, name="texts", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send no further text. Another process sends what is leased and not sent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_WITHIN_S)

    def run_once(self) -> int:
        """Send some of what is due, and return how many texts that were."""
        # 1.
        leased = self._retry.transact(
            self._engine, lambda tx: texts.lease_due(TEXTS_MAX, self._lease, tx, now=self._clock())
        )
        # 2.
        settled = self._send(leased)
        # 3.
        self._retry.transact(self._engine, lambda tx: texts.settle(settled, self._lease, tx, now=self._clock()))
        for each in settled:
            text_metrics.ATTEMPTS.labels(each.state).inc()
        return len(settled)

    def _send(self, leased: Sequence[LeasedText]) -> list[SettledText]:
        settled = []
        for each in leased:
            if self._stopping.is_set():
                break
            settled.append(self._attempt(each))
        return settled

    def _attempt(self, leased: LeasedText) -> SettledText:
        attempts = leased.attempts + 1
        try:
            self._texter.send(leased.phone, leased.body, leased.text_id)
        except NotSent as error:
            pause = pause_after(attempts)
            state = TextState.GIVEN_UP if pause is None else TextState.DUE
            log.warning("A text was not sent.", text_id=leased.text_id, attempts=attempts, error=str(error))
            due_at = None if pause is None else self._clock() + pause
            return SettledText(
                text_id=leased.text_id, state=state.value, attempts=attempts, due_at=due_at, error=str(error)
            )
        return SettledText(
            text_id=leased.text_id, state=TextState.SENT.value, attempts=attempts, due_at=None, error=None
        )

    def _loop(self) -> None:
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            try:
                wait_s = 0.0 if self.run_once() == TEXTS_MAX else POLL_S
            except Exception as error:  # it comes again, and must not end the thread
                log.error("Texts could not be sent; they come again.", error=type(error).__name__)
                wait_s = ERROR_REST_S
