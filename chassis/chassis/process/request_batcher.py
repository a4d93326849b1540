"""Batches concurrent requests: one thread stores all that wait in one transaction, and publishes what they start."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Generic, TypeVar

import structlog
import tenacity
from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from chassis.http.breaker import CircuitBreaker, CircuitOpen, CircuitState
from chassis.http.problem import Problem
from chassis.saga.cohorts import Cohorts
from chassis.saga.gathering import GatheringPublisher
from chassis.saga.outbox import OutboxRow
from chassis.saga.publisher import OutboxPublisher

BATCH_SIZE_MAX = 200
"""In a larger batch the first request would wait for the validation of the last."""
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
NO_DATABASE = (*UNAVAILABLE, PoolTimeout)
OPEN_S = 1.0
"""While PostgreSQL is unavailable, the outbox is maintained this often. Requests are tried all the same."""
RETRY_AFTER_S = 1
STOP_WITHIN_S = 5.0

Submission = TypeVar("Submission")
Outcome = TypeVar("Outcome")

log = structlog.get_logger(__name__)


def overloaded(what: str) -> Problem:
    """Return the problem of a request that would wait for too long. ``what`` names what is stored, in the plural."""
    return Problem(
        status=429,
        detail=f"Too many {what} are waiting to be stored; send the same request again shortly.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def unavailable(what: str) -> Problem:
    """Return the problem of a request while the database is unavailable."""
    return Problem(
        status=503,
        detail=f"The {what} could not be stored and may or may not have been taken; send it again with the same key.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


class RequestBatcher(ABC, Generic[Submission, Outcome]):
    """Stores requests for an API. :meth:`start` and :meth:`stop` belong to the application's lifespan.

    It holds committed events for ``gather_s`` at most, so that sagas that begin together are published together.
    ``what`` names one request for the texts of problems, for example ``order``.
    """

    def __init__(self, engine: Engine, publisher: OutboxPublisher, *, gather_s: float, what: str) -> None:
        self._engine = engine
        self._publisher = publisher
        self._what = what
        self._gathering = GatheringPublisher(publisher.publish, longest_s=gather_s)
        self._cohorts = Cohorts(lambda: publisher.partition_count, lambda: self._gathering.window)
        self._waiting: queue.SimpleQueue[tuple[Submission, asyncio.Future[Outcome | Problem]] | None]
        self._waiting = queue.SimpleQueue()
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
        """Start accepting requests; their results go to ``loop``."""
        self._loop = loop
        self._publishing.start()
        self._thread.start()

    def stop(self) -> None:
        """Store the waiting requests, publish them and end. Blocks for a few seconds at most."""
        self._waiting.put(None)
        self._thread.join(STOP_WITHIN_S)

    @property
    def is_running(self) -> bool:
        """Return whether the thread that stores requests is alive."""
        return self._thread.is_alive()

    def publish(self, rows: Sequence[OutboxRow]) -> None:
        """Publish committed rows, together with those that are gathered already."""
        self._gathering.publish(rows)

    async def submit(self, submission: Submission) -> Outcome | Problem:
        """Store one request, together with others that arrive at the same time, and return its outcome."""
        assert self._loop is not None, "the application's lifespan starts the batcher"
        if self._waiting.qsize() >= WAITING_MAX:
            return overloaded(f"{self._what}s")
        outcome: asyncio.Future[Outcome | Problem] = self._loop.create_future()
        self._waiting.put((submission, outcome))
        return await outcome

    @abstractmethod
    def submit_batch(self, submissions: Sequence[Submission]) -> Sequence[Outcome | Problem]:
        """Store these requests in one transaction and return their outcomes, in the same order."""

    def store(self, submissions: Sequence[Submission]) -> list[Outcome | Exception]:
        """As :meth:`submit_batch`, with retries while PostgreSQL is unavailable.

        A batch that fails for another reason is stored one request at a time, so only the failing one gets the error.
        """
        return self.store_with(self.submit_batch, submissions)

    def store_with(
        self,
        submit_batch: Callable[[Sequence[Submission]], Sequence[Outcome | Problem]],
        submissions: Sequence[Submission],
    ) -> list[Outcome | Exception]:
        """As :meth:`store`, by this function."""
        try:
            return list(self._retrying(submit_batch, submissions))
        except UNAVAILABLE:
            return [unavailable(self._what) for _ in submissions]
        except Exception as error:  # any error: it must not fail the other requests of the batch
            if len(submissions) == 1:
                return [error]
            return [result for each in submissions for result in self.store_with(submit_batch, [each])]

    def _end_on_failure(self, work: Callable[[], None]) -> None:
        """Do a thread's work. The process ends when it fails, because it would accept requests that nothing handles."""
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

    def _gather(self) -> tuple[list[tuple[Submission, asyncio.Future[Outcome | Problem]]], bool]:
        """Return the requests that wait or arrive within LINGER_S, and whether to stop after them."""
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

    def _deliver(
        self,
        batch: Sequence[tuple[Submission, asyncio.Future[Outcome | Problem]]],
        results: Sequence[Outcome | Exception],
    ) -> None:
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
        """Remove delivered rows while no request waits, and publish leftovers from time to time."""
        with suppress(CircuitOpen, *UNAVAILABLE), self._breaker.call(*UNAVAILABLE):
            if is_idle:
                self._publisher.remove_delivered()
            if self._breaker.state is CircuitState.HALF_OPEN:
                # A probe must reach PostgreSQL, which a sweep that is not due does not.
                self._publisher.publish_leftovers(None, age=age)
            else:
                self._publisher.sweep(None, age=age)
