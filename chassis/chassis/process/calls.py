"""Calls to providers outside, on threads of their own: a slow one holds up no partition and no transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue

import structlog

from chassis.http.downstream import NotTried, Unavailable, UnforeseenAnswer
from chassis.saga.steps import name
from chassis.saga.unit_of_work import Answer, PendingCall
from chassis.telemetry import metrics
from chassis.telemetry.observation import Observer

CALLS_MAX = 64
"""Calls under way in one process; no more messages are taken meanwhile, so that the rest waits in Kafka, in order."""
START_MARGIN = timedelta(seconds=3)
"""A call that has less than this left before its deadline is not begun: it could still be under way when it is over."""

log = structlog.get_logger()


class Calls:
    """Runs pending calls and collects their answers; one thread begins and collects."""

    def __init__(self, clock: Callable[[], datetime], observer: Observer | None = None) -> None:
        self._clock = clock
        self._observer = observer
        self._threads = ThreadPoolExecutor(max_workers=CALLS_MAX, thread_name_prefix="call")
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        self._answered = threading.Event()
        self._under_way = 0
        metrics.CALLS_UNDER_WAY.set_function(lambda: self._under_way)

    @property
    def free(self) -> int:
        """How many more calls may be begun now."""
        return max(0, CALLS_MAX - self._under_way)

    @property
    def under_way(self) -> int:
        """How many calls have been begun and not collected."""
        return self._under_way

    def wait(self, timeout_s: float) -> None:
        """Return when an answer is there, or after ``timeout_s``."""
        self._answered.wait(timeout_s)

    def begin(self, call: PendingCall) -> None:
        """Start a call whose effect is committed."""
        self._under_way += 1
        self._threads.submit(self._run, call)

    def collect(self) -> list[Answer]:
        """Return the answers that have come since the last call."""
        self._answered.clear()
        answers: list[Answer] = []
        while True:
            try:
                answers.append(self._answers.get_nowait())
            except Empty:
                break
        self._under_way -= len(answers)
        return answers

    def close(self) -> None:
        """Begin no more calls; those under way are over by their own timeouts, and their rows know them."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, call: PendingCall) -> None:
        began_at = self._clock()
        answer = self._answer(call)
        self._answers.put(answer)
        self._answered.set()
        if self._observer is not None:
            self._observer.called(
                handler=name(call.handler),
                saga_id=call.delivery.message.saga_id,
                cause=call.delivery.raw.headers,
                attempt=call.attempt,
                began_at=began_at,
                now=self._clock(),
                failure=answer.failure.reason if answer.failure else None,
            )

    def _answer(self, call: PendingCall) -> Answer:
        if self._clock() > call.deadline_at - START_MARGIN and not call.asks:
            return Answer(call=call, failure=NotTried("no free thread in time"))
        try:
            if call.asks:
                return Answer(call=call, outcome=call.handler.call.find(call.key))
            return Answer(call=call, outcome=call.handler.call.run(call.request, call.key))
        except Unavailable as failure:
            return Answer(call=call, failure=failure)
        except UnforeseenAnswer as error:
            log.exception("A provider answered what has no meaning.", key=call.key)
            return Answer(call=call, failure=Unavailable(str(error)))
        except Exception as error:  # an answer that nobody foresaw: retried, then a dead letter with this reason
            log.exception("A call failed in a way that nobody foresaw.", key=call.key)
            reason = f"{type(error).__name__} in a call"
            return Answer(call=call, failure=Unavailable(reason, detail=str(error)))
