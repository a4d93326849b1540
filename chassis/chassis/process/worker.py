"""The loop of a service: take a batch, handle it in one transaction, publish, and only then let Kafka commit offsets.

A crash at any point is harmless. Before the commit nothing happened. After it the next owner of the partition publishes
the rows of the outbox, and redelivered messages find their effects. Kafka transactions are not used.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import structlog
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import Message as KafkaMessage
from sqlalchemy import Connection, Engine

from chassis.postgres.transient import TransientRetry, utc_now
from chassis.process.callbacks import CallbackAdapter, match_orphans
from chassis.process.calls import Calls
from chassis.process.intake import POLL_BUSY_S, Intake, raw_of, value_of
from chassis.process.membership import Membership
from chassis.process.pace import Pace
from chassis.process.transactions import Transactions
from chassis.saga import attempt_rows, deferred, evidence
from chassis.saga.deferred import Deferral, RawMessage
from chassis.saga.execution import Execution
from chassis.saga.handlers import Handlers
from chassis.saga.publisher import Relay
from chassis.saga.routing import Router, Work
from chassis.telemetry.observation import Observer
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id

DUE_EVERY_S = 0.25
DUE_MAX = 200
SWEEP_EVERY_S = 5.0
STOP_WITHIN_S = 5.0
FLUSH_ON_REVOKE_S = 1.0

log = structlog.get_logger()


class Worker:
    """One process of a service. :meth:`run` returns after :meth:`stop`; any other end is an exception."""

    def __init__(
        self,
        service: str,
        handlers: Handlers,
        *,
        engine: Engine,
        codec: Codec,
        consumer: Consumer,
        relay: Relay,
        membership: Membership,
        observer: Observer | None = None,
        adapters: Sequence[CallbackAdapter] = (),
    ) -> None:
        jitter = random.Random()
        self._service = service
        self._consumer = consumer
        self._partitions: set[int] = set()
        self._stopping = threading.Event()
        self._has_steps = bool(handlers.steps)
        self._has_awaited_steps = bool(handlers.awaited)
        self._adapters = tuple(adapters)
        self._due_at = 0.0
        self._awaited_at = 0.0
        self._sweep_at = 0.0
        self._retry = TransientRetry(self._stopping, on_wait=self._sign_of_life)
        self._calls = Calls(utc_now, observer)
        pace = Pace()
        self._intake = Intake(consumer, self._calls, pace, self._stopping, calls_out=handlers.calls_out)
        self._transactions = Transactions(service, engine, relay, self._calls, pace, self._retry)
        self._publisher = self._transactions.publisher
        self._router = Router(service, handlers, codec)
        self._execution = Execution(
            service, handlers, codec, self._transactions, clock=utc_now, new_id=new_id, jitter=lambda: jitter
        )
        self.looped_at = time.monotonic()
        self.membership = membership

    def stop(self) -> None:
        """Let the loop finish its batch, publish, commit and leave the group."""
        self._stopping.set()

    def run(self, topics: Sequence[str]) -> None:
        """Work until :meth:`stop`.

        1. Gather messages, results of calls and, four times a second, deferred messages that are due.
        2. Handle them in one transaction: effects, rows, outbox.
        3. Publish what was committed and begin the calls.
        4. Let Kafka commit the offsets.
        """
        self._consumer.subscribe(list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke)
        try:
            while not self._stopping.is_set():
                self._sign_of_life()
                self.membership.watch()
                # 1.
                due = self._take_due()
                taken = self._intake.take(self._intake.room - len(due))
                # 2. and 3.
                self._handle(self._concerning(taken), due)
                # 4.
                self._intake.store_offsets(taken)
                self._sweep()
            self._finish()
        finally:
            self._calls.close()
            self._intake.leave()

    def _concerning(self, taken: Sequence[KafkaMessage]) -> list[RawMessage]:
        """Return the messages that are for this service; the offsets of the others advance all the same."""
        concerns = self._router.concerns
        found = self._retry.repeat(lambda: [each for each in taken if concerns(str(each.topic()), value_of(each))])
        return [raw_of(each) for each in found]

    def _handle(self, raws: Sequence[RawMessage], rows: Sequence[Deferral] = ()) -> None:
        work = self._retry.repeat(lambda: self._router.route(raws, rows))
        work = replace(work, results=self._calls.collect(), awaited_results=self._calls.collect_awaited())
        if self._has_awaited_steps:
            work = self._with_awaited(work)
        if work:
            self._execution.run(work)
        else:
            self._publisher.remove_delivered()

    def _with_awaited(self, work: Work) -> Work:
        """Add the ladders that are due and the evidence that came, four times a second; begin acknowledged calls."""
        self._transactions.begin_acknowledged()
        now = time.monotonic()
        if now < self._awaited_at or not self._partitions:
            return work
        self._awaited_at = now + DUE_EVERY_S
        limit = min(DUE_MAX, self._calls.room)

        def take(tx: Connection) -> Work:
            due = attempt_rows.due(tx, self._partitions, now=utc_now(), limit=limit) if limit else []
            pieces = evidence.waiting(tx, self._partitions, now=utc_now(), limit=DUE_MAX)
            return replace(work, awaited_due=due, evidence=pieces)

        return self._transactions.run(take)

    def _take_due(self) -> list[Deferral]:
        now = time.monotonic()
        if now < self._due_at or not self._partitions:
            return []
        self._due_at = now + DUE_EVERY_S
        limit = min(DUE_MAX, self._intake.room)
        if not limit:
            return []
        return self._transactions.run(lambda tx: deferred.due(tx, self._partitions, now=utc_now(), limit=limit))

    def _sweep(self) -> None:
        """Publish what a process that has ended left in the outbox, and wake messages whose step is settled."""
        if not self._partitions:
            return
        self._publisher.sweep(self._partitions)
        now = time.monotonic()
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_EVERY_S
        self._intake.lag.measure()
        if self._has_steps and (count := self._transactions.run(self._wake_settled)):
            log.warning("Messages waited whose step is settled.", service=self._service, count=count)
        if self._adapters:
            self._transactions.run(lambda tx: match_orphans(tx, self._adapters, now=utc_now()))

    def _wake_settled(self, tx: Connection) -> int:
        return deferred.wake_settled(tx, self._partitions, now=utc_now())

    def _sign_of_life(self) -> None:
        self.looped_at = time.monotonic()

    def _on_assign(self, _consumer: Consumer, assigned: list[TopicPartition]) -> None:
        self._partitions = {each.partition for each in assigned}
        self.membership.assigned()
        log.info("Partitions assigned.", service=self._service, partitions=sorted(self._partitions))
        self._publisher.publish_leftovers(self._partitions, age=timedelta(0))

    def _on_revoke(self, _consumer: Consumer, _revoked: list[TopicPartition]) -> None:
        """Publish what is in flight first, so that the next owner finds less to publish again."""
        self._publisher.flush(FLUSH_ON_REVOKE_S)
        self._partitions = set()
        self.membership.revoked()

    def _finish(self) -> None:
        """Settle the calls that end in time, publish everything, and leave no delivered row in the outbox."""
        stop_at = time.monotonic() + STOP_WITHIN_S
        while self._calls.under_way and time.monotonic() < stop_at:
            self._handle([])
            self._publisher.flush(POLL_BUSY_S)
        self._publisher.flush(max(0.0, stop_at - time.monotonic()))
        self._handle([])
        self._publisher.remove_delivered(at_once=True)
