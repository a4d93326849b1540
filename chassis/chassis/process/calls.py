"""Calls to providers outside, on threads of their own: a slow one delays no partition and no transaction."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import TypeVar

import structlog

from chassis.http.downstream import NotTried, TooLate, Unavailable, UnforeseenAnswer
from chassis.http.timed_connections import ending_by
from chassis.saga.announced_calls import answer_to
from chassis.saga.steps import name
from chassis.saga.unit_of_work import AwaitedAct, AwaitedPendingCall, AwaitedResult, CallResult, PendingCall
from chassis.telemetry import metrics
from chassis.telemetry.observation import Observer

CALLS_MAX = 64
"""The most calls that are made at once in one process: its threads for them."""
BEGUN_WITHIN_S = 0.25
"""How long a planned call may wait for a thread. A transaction's calls allow a second or more until they begin."""
RECENT_SHARE = 0.05
"""How much each call counts in the average of how long calls take."""
CALL_TAKES_MIN_S, CALL_TAKES_AT_FIRST_S = 0.001, 10.0
"""The average is taken for no less, and begins with what lets a thread make one call."""

Result = TypeVar("Result", CallResult, AwaitedResult)

log = structlog.get_logger()


class Calls:
    """Makes pending calls and collects their results; one thread begins and collects."""

    def __init__(self, clock: Callable[[], datetime], observer: Observer | None = None) -> None:
        self._clock = clock
        self._observer = observer
        self._threads = ThreadPoolExecutor(max_workers=CALLS_MAX, thread_name_prefix="call")
        self._results: SimpleQueue[tuple[CallResult | AwaitedResult, float | None]] = SimpleQueue()
        self._running: dict[int, float] = {}
        """When each call that is being made began, by its thread, in monotonic seconds."""
        self._call_takes_s = CALL_TAKES_AT_FIRST_S
        self._awaited_results: list[AwaitedResult] = []
        self._has_results = threading.Event()
        self._under_way = 0
        metrics.CALLS_UNDER_WAY.set_function(lambda: self._under_way)

    @property
    def room(self) -> int:
        """How many more calls may be planned now: as many as can be begun within BEGUN_WITHIN_S.

        That is judged by how long calls have taken lately, and by how long the one that began first has taken until
        now: while a provider does not answer, no more are planned than there are threads.
        """
        oldest_s = time.monotonic() - min(list(self._running.values()), default=math.inf)
        begun_later = int(CALLS_MAX * BEGUN_WITHIN_S / max(self._call_takes_s, oldest_s, CALL_TAKES_MIN_S))
        return max(0, CALLS_MAX + begun_later - self._under_way)

    @property
    def under_way(self) -> int:
        """How many calls have been begun and not collected."""
        return self._under_way

    def wait(self, timeout_s: float) -> None:
        """Return when a result is there, or after ``timeout_s``."""
        self._has_results.wait(timeout_s)

    def begin(self, call: PendingCall) -> None:
        """Start a call whose effect is committed."""
        self._under_way += 1
        self._threads.submit(self._run, call)

    def begin_awaited(self, call: AwaitedPendingCall) -> None:
        """Start a call about an attempt. Kafka has its StepAwaited."""
        self._under_way += 1
        self._threads.submit(self._run_awaited, call)

    def fail_awaited(self, call: AwaitedPendingCall, failure: Unavailable) -> None:
        """Report that a call about an attempt was not made."""
        self._under_way += 1
        self._results.put((AwaitedResult(call=call, failure=failure), None))
        self._has_results.set()

    def collect(self) -> list[CallResult]:
        """Return the results that have come since the last time; those about attempts are kept for their own method."""
        self._has_results.clear()
        results: list[CallResult] = []
        while True:
            try:
                result, took_s = self._results.get_nowait()
            except Empty:
                break
            self._under_way -= 1
            if took_s is not None:
                self._call_takes_s += RECENT_SHARE * (took_s - self._call_takes_s)
            if isinstance(result, AwaitedResult):
                self._awaited_results.append(result)
            else:
                results.append(result)
        return results

    def collect_awaited(self) -> list[AwaitedResult]:
        """Return the results about attempts that :meth:`collect` has found since the last time."""
        results, self._awaited_results = self._awaited_results, []
        return results

    def close(self) -> None:
        """Begin no more calls. Those under way end by their own timeouts; their rows are in the database."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run_awaited(self, call: AwaitedPendingCall) -> None:
        self._run_timed(lambda: self._awaited_result_of(call))

    def _run_timed(self, result_of: Callable[[], Result]) -> Result:
        """Make a call, and keep its result with how long it took; nothing is learned from one that was not made."""
        thread, began_s = threading.get_ident(), time.monotonic()
        self._running[thread] = began_s
        try:
            result = result_of()
        finally:
            del self._running[thread]
        is_made = not isinstance(result.failure, NotTried)
        self._results.put((result, time.monotonic() - began_s if is_made else None))
        self._has_results.set()
        return result

    def _awaited_result_of(self, call: AwaitedPendingCall) -> AwaitedResult:
        now = self._clock()
        if now > call.begins_by and call.act is AwaitedAct.SEND:
            return AwaitedResult(call=call, failure=TooLate("its transaction, or the wait for a thread, took too long"))
        try:
            with ending_by(time.monotonic() + (call.sends_until - now).total_seconds()):
                return AwaitedResult(call=call, answer=answer_to(call))
        except Unavailable as failure:
            return AwaitedResult(call=call, failure=failure)
        except Exception as error:  # an adapter may raise anything: nothing is known then, and the ladder goes on
            log.exception("A call about an attempt raised an unexpected error.", key=call.key)
            reason = f"{type(error).__name__} in a call"
            return AwaitedResult(call=call, failure=Unavailable(reason, detail=str(error)))

    def _run(self, call: PendingCall) -> None:
        began_at = self._clock()
        result = self._run_timed(lambda: self._result_of(call))
        if self._observer is not None:
            self._observer.called(
                handler=name(call.handler),
                saga_id=call.delivery.message.saga_id,
                cause=call.delivery.raw.headers,
                attempt=call.attempt,
                began_at=began_at,
                now=self._clock(),
                failure=result.failure.reason if result.failure else None,
            )

    def _result_of(self, call: PendingCall) -> CallResult:
        now = self._clock()
        if now > call.begins_by and not call.is_query:
            return CallResult(call=call, failure=TooLate("its transaction, or the wait for a thread, took too long"))
        try:
            if call.is_query:
                return CallResult(call=call, outcome=call.handler.call.find(call.key))
            with ending_by(time.monotonic() + (call.sends_until - now).total_seconds()):
                return CallResult(call=call, outcome=call.handler.call.run(call.request, call.key))
        except Unavailable as failure:
            return CallResult(call=call, failure=failure)
        except UnforeseenAnswer as error:
            log.exception("A provider answered what has no meaning.", key=call.key)
            return CallResult(call=call, failure=Unavailable(str(error)))
        except Exception as error:  # an adapter may raise anything: retried, then a dead letter with this reason
            log.exception("A call raised an unexpected error.", key=call.key)
            reason = f"{type(error).__name__} in a call"
            return CallResult(call=call, failure=Unavailable(reason, detail=str(error)))
