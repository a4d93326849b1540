"""Calls to providers outside, on threads of their own: a slow one delays no partition and no transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from queue import Empty, SimpleQueue

import structlog

from chassis.http.downstream import TooLate, Unavailable, UnforeseenAnswer
from chassis.http.timed_connections import ending_by
from chassis.saga.announced_calls import answer_to
from chassis.saga.steps import name
from chassis.saga.unit_of_work import AwaitedAct, AwaitedPendingCall, AwaitedResult, CallResult, PendingCall
from chassis.telemetry import metrics
from chassis.telemetry.observation import Observer

CALLS_MAX = 64
"""The most calls under way in one process. With so many, no more messages are taken: they wait in Kafka, in order."""

log = structlog.get_logger()


class Calls:
    """Makes pending calls and collects their results; one thread begins and collects."""

    def __init__(self, clock: Callable[[], datetime], observer: Observer | None = None) -> None:
        self._clock = clock
        self._observer = observer
        self._threads = ThreadPoolExecutor(max_workers=CALLS_MAX, thread_name_prefix="call")
        self._results: SimpleQueue[CallResult | AwaitedResult] = SimpleQueue()
        self._awaited_results: list[AwaitedResult] = []
        self._has_results = threading.Event()
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
        self._results.put(AwaitedResult(call=call, failure=failure))
        self._has_results.set()

    def collect(self) -> list[CallResult]:
        """Return the results that have come since the last time; those about attempts are kept for their own method."""
        self._has_results.clear()
        results: list[CallResult] = []
        while True:
            try:
                result = self._results.get_nowait()
            except Empty:
                break
            self._under_way -= 1
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
        self._results.put(self._awaited_result_of(call))
        self._has_results.set()

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
        result = self._result_of(call)
        self._results.put(result)
        self._has_results.set()
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
