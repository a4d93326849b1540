"""Batches concurrent requests: one thread stores all waiting orders in one transaction."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import structlog
import tenacity
from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from chassis.http.breaker import CircuitBreaker, CircuitOpen, CircuitState
from chassis.http.problem import Problem
from chassis.saga import outbox
from chassis.saga.cohorts import Cohorts
from chassis.saga.gathering import GatheringPublisher
from chassis.saga.outbox import OutboxRow
from chassis.saga.publisher import OutboxPublisher
from checkout import intake
from checkout.intake import Outcome, Submission, Terms
from checkout.response_cache import ResponseCache
from checkout.tables import Key, StoredResponse

BATCH_SIZE_MAX = 200
"""In a larger batch the first order would wait for the validation of the last."""
LINGER_S = 0.002
"""Requests that arrive within this time share a commit. The fsync of a commit alone takes about as long."""
WAITING_MAX = 2_000
"""About two seconds of work. Later requests get a 429 instead of a wait that is too long."""
IDLE_POLL_S = 0.05
LEFTOVER_AGE = timedelta(seconds=30)
"""No replica of the API owns a partition: a younger row may be another replica's, on its way through a short outage."""
START_AGE = timedelta(seconds=1)
"""At the start the rows of a killed predecessor are published soon. Younger rows may be another replica's."""
FLUSH_WITHIN_S = 2.0
ATTEMPTS_MAX = 3
"""A restart of PostgreSQL breaks pooled connections. Keys make a retry safe, even after a commit that did happen."""
RETRY_S = 0.1
UNAVAILABLE = (OperationalError, InterfaceError)
OPEN_S = 1.0
"""While PostgreSQL is unavailable, the outbox is maintained this often. Orders are tried all the same."""
RETRY_AFTER_S = 1
STOP_WITHIN_S = 5.0

Result: TypeAlias = Outcome | Exception
_Waiting: TypeAlias = tuple[Submission, "asyncio.Future[Outcome]"]

log = structlog.get_logger(__name__)


def overloaded() -> Problem:
    """Return the problem of a request that would wait for too long."""
    return Problem(
        status=429,
        detail="Too many orders are waiting to be stored; send the same request again shortly.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def unavailable() -> Problem:
    """Return the problem of a request while the database is unavailable."""
    return Problem(
        status=503,
        detail="The order could not be stored and may or may not have been taken; send it again with the same key.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


class OrderBatcher:
    """Stores orders for the API. :meth:`start` and :meth:`stop` belong to the application's lifespan.

    It holds committed events for ``gather_s`` at most, so that orders that come together are published together.
    """

    def __init__(
        self, engine: Engine, terms: Terms, publisher: OutboxPublisher, cache: ResponseCache, *, gather_s: float
    ) -> None:
        self._engine = engine
        self._terms = terms
        self._publisher = publisher
        self._cache = cache
        self._gathering = GatheringPublisher(publisher.publish, longest_s=gather_s)
        self._cohorts = Cohorts(lambda: publisher.partition_count, lambda: self._gathering.window)
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._breaker = CircuitBreaker("PostgreSQL", failures_max=1, open_s=OPEN_S, clock=time.monotonic)
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(UNAVAILABLE),
            stop=tenacity.stop_after_attempt(ATTEMPTS_MAX),
            wait=tenacity.wait_fixed(RETRY_S),
            reraise=True,
        )
        self._thread = threading.Thread(target=self._end_on_failure, args=(self._run,), name="intake", daemon=True)
        self._publishing = threading.Thread(
            target=self._end_on_failure, args=(self._gathering.run,), name="publishing", daemon=True
        )

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start accepting orders; their results go to ``loop``."""
        self._loop = loop
        self._publishing.start()
        self._thread.start()

    def stop(self) -> None:
        """Store the waiting orders, publish them and end. Blocks for a few seconds at most."""
        self._waiting.put(None)
        self._thread.join(STOP_WITHIN_S)
        self._cache.close()

    @property
    def is_running(self) -> bool:
        """Return whether the thread that stores orders is alive."""
        return self._thread.is_alive()

    def publish(self, rows: Sequence[OutboxRow]) -> None:
        """Publish committed rows, together with those that are gathered already."""
        self._gathering.publish(rows)

    async def submit(self, submission: Submission) -> Outcome:
        """Store one order, together with others that arrive at the same time, and return its outcome."""
        assert self._loop is not None, "the application's lifespan starts the batcher"
        if self._waiting.qsize() >= WAITING_MAX:
            return overloaded()
        outcome: asyncio.Future[Outcome] = self._loop.create_future()
        self._waiting.put((submission, outcome))
        return await outcome

    def submit_batch(
        self, submissions: Sequence[Submission], known: Mapping[Key, StoredResponse] | None = None
    ) -> list[Outcome]:
        """Store these orders in one transaction and return their outcomes, in the same order.

        ``known`` are the cached responses where they were read already.

        1. Submissions whose response is cached need no transaction.
        2. One transaction stores the rest and deletes the outbox rows that were delivered meanwhile.
        3. After the commit the rows are published or gathered for that, and the responses cached.
        """
        # 1.
        if known is None:
            known = self._cache.get([each.key for each in submissions])
        outcomes = intake.cached(submissions, known)
        rest = [each for each, outcome in zip(submissions, outcomes, strict=True) if outcome is None]
        if not rest:
            return [outcome for outcome in outcomes if outcome is not None]
        # 2.
        called = self._breaker.call(*UNAVAILABLE, PoolTimeout, always=True)
        with called, self._publisher.removal() as delivered, self._engine.begin() as tx:
            outbox.remove(tx, delivered)
            result = intake.accept(tx, rest, self._terms, new_order_id=self._cohorts.new_id, now=datetime.now(UTC))
        # 3.
        self.publish(result.rows)
        self._cache.put(result.responses)
        stored = iter(result.outcomes)
        return [next(stored) if outcome is None else outcome for outcome in outcomes]

    def store(
        self, submissions: Sequence[Submission], known: Mapping[Key, StoredResponse] | None = None
    ) -> list[Result]:
        """As :meth:`submit_batch`, with retries while PostgreSQL is unavailable.

        A batch that fails for another reason is stored one order at a time, so only the failing order gets the error.
        """
        try:
            return list(self._retrying(self.submit_batch, submissions, known))
        except UNAVAILABLE:
            return [unavailable() for _ in submissions]
        except Exception as error:  # any error: it must not fail the other orders of the batch
            if len(submissions) == 1:
                return [error]
            return [result for each in submissions for result in self.store([each], known)]

    def _end_on_failure(self, work: Callable[[], None]) -> None:
        """Do a thread's work. The process ends when it fails, because it would accept orders that nothing handles."""
        try:
            work()
        except BaseException:
            thread = threading.current_thread().name
            log.exception("A thread failed; the process ends and is started again.", thread=thread)
            os.kill(os.getpid(), signal.SIGTERM)

    def _run(self) -> None:
        self._maintain_outbox(START_AGE)
        is_last = False
        while not is_last:
            batch, is_last = self._gather()
            if batch:
                self._deliver(batch, self.store([submission for submission, _ in batch]))
            self._maintain_outbox(LEFTOVER_AGE, is_idle=not batch)
        self._gathering.close()
        self._publisher.flush(FLUSH_WITHIN_S)
        self._publisher.remove_delivered(at_once=True)

    def _gather(self) -> tuple[list[_Waiting], bool]:
        """Return the orders that wait or arrive within LINGER_S, and whether to stop after them."""
        try:
            first = self._waiting.get(timeout=IDLE_POLL_S)
        except queue.Empty:
            return [], False
        if first is None:
            return [], True
        time.sleep(LINGER_S)
        batch = [first]
        while len(batch) < BATCH_SIZE_MAX:
            try:
                following = self._waiting.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return batch, True
            batch.append(following)
        return batch, False

    def _deliver(self, batch: Sequence[_Waiting], results: Sequence[Result]) -> None:
        def resolve() -> None:
            for (_, outcome), result in zip(batch, results, strict=True):
                if outcome.done():  # the client has disconnected
                    continue
                if isinstance(result, Exception) and not isinstance(result, Problem):
                    outcome.set_exception(result)
                else:
                    outcome.set_result(result)

        assert self._loop is not None, "the application's lifespan starts the batcher"
        self._loop.call_soon_threadsafe(resolve)

    def _maintain_outbox(self, age: timedelta, *, is_idle: bool = True) -> None:
        """Remove delivered rows while no order waits, and publish leftovers from time to time."""
        with suppress(CircuitOpen, *UNAVAILABLE), self._breaker.call(*UNAVAILABLE):
            if is_idle:
                self._publisher.remove_delivered()
            if self._breaker.state is CircuitState.HALF_OPEN:
                # A probe must reach PostgreSQL, which a sweep that is not due does not.
                self._publisher.publish_leftovers(None, age=age)
            else:
                self._publisher.sweep(None, age=age)
