"""A worker's transactions: run on PostgreSQL, repeated after transient errors, measured, and followed up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

import structlog
from sqlalchemy import Connection, Engine

from chassis.postgres.transient import TransientRetry, utc_now
from chassis.process.calls import Calls
from chassis.process.pace import Pace
from chassis.saga.announced_calls import AnnouncedCalls
from chassis.saga.publisher import OutboxPublisher, Relay
from chassis.saga.routing import Work
from chassis.saga.unit_of_work import Outgoing
from chassis.telemetry import metrics

Result = TypeVar("Result")

log = structlog.get_logger()


class Transactions:
    """The host of a worker's executions: what commits is published, and the calls that it plans are begun."""

    def __init__(
        self, service: str, engine: Engine, relay: Relay, calls: Calls, pace: Pace, retry: TransientRetry
    ) -> None:
        self._service = service
        self._engine = engine
        self._calls = calls
        self._pace = pace
        self._retry = retry
        self._announced_calls = AnnouncedCalls(calls.begin_awaited, calls.fail_awaited)
        self.publisher = OutboxPublisher(self.run, relay)

    def run(self, transaction: Callable[[Connection], Result], /) -> Result:
        """Run a transaction that is no batch, commit it, and return its result."""
        return self._retry.transact(self._engine, transaction)

    def transact(self, work: Work, handle: Callable[[Connection], Outgoing]) -> Outgoing:
        """Run and measure a batch's transaction."""
        began_s = time.monotonic()
        out = self.run(handle)
        ended_s = time.monotonic()
        self._pace.took(began_s, ended_s)
        metrics.BATCH_SECONDS.observe(ended_s - began_s)
        metrics.BATCH_MESSAGES.observe(len(work))
        return out

    def removal(self) -> AbstractContextManager[Sequence[str]]:
        """Yield the ids of delivered outbox rows. Raises NotPublished where Kafka refused a row."""
        return self.publisher.removal()

    def committed(self, out: Outgoing) -> None:
        """Publish the rows, begin the calls and count the retries of a committed transaction."""
        if waits_for := self._announced_calls.add(out.awaited_calls):
            self.publisher.watch(waits_for)
        self.publisher.publish(out.rows)
        for call in out.calls:
            self._calls.begin(call)
        self.begin_acknowledged()
        for handler_name in out.retried:
            metrics.RETRIES.labels(handler_name).inc()

    def begin_acknowledged(self) -> None:
        """Begin the calls whose StepAwaited Kafka has acknowledged. One whose time is over is not made any more."""
        if self._announced_calls:
            self._announced_calls.acknowledge(self.publisher.take_acknowledged(), now=utc_now())

    def batch_failed(self, error: Exception) -> None:
        """Log the error of a batch."""
        log.warning("A batch failed; each of its messages is handled on its own.", error=repr(error))

    def piece_failed(self, piece: Work, error: Exception) -> None:
        """Log the error of one message."""
        log.error("A message failed and is deferred.", service=self._service, exc_info=error)
