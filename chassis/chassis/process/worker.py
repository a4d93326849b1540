"""The loop of a service: take a batch, handle it in one transaction, publish, and only then let Kafka forget it.

A crash at any point is harmless: before the commit nothing happened; after it the rows of the outbox are published by
whoever is assigned the partition, and redelivered messages find their effects. Kafka transactions are not used.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage
from messages.contract import SAGAS, Message
from sqlalchemy import Connection, Engine

from chassis.http.downstream import Unavailable
from chassis.postgres.transient import TransientRetry, is_transient, utc_now
from chassis.process.calls import Calls
from chassis.process.membership import Membership
from chassis.process.pace import Pace
from chassis.saga import deferred, outbox
from chassis.saga.batch import Batch
from chassis.saga.deferred import Deferral, RawMessage
from chassis.saga.handlers import Handlers
from chassis.saga.publisher import NotPublished, OutboxPublisher, Relay
from chassis.saga.unit_of_work import Answer, Delivery, Outgoing, Undeliverable
from chassis.saga.waiting import UNPROCESSABLE
from chassis.telemetry import metrics
from chassis.telemetry.observation import Observer
from chassis.wire import kafka
from chassis.wire.codec import Codec, Undecodable
from chassis.wire.envelope import ID, new_id
from chassis.wire.kafka import KafkaLogin

BATCH_SIZE_MAX = 500
"""Large enough that a commit's fsync is shared by hundreds, small enough that a failed batch is soon repeated."""
POLL_IDLE_S = 0.1
POLL_BUSY_S = 0.002
"""While calls are under way the loop looks after them this often."""
DUE_EVERY_S = 0.25
SWEEP_EVERY_S = 5.0
DUE_MAX = 200
STOP_WITHIN_S = 5.0
FLUSH_ON_REVOKE_S = 1.0
LEAVE_WITHIN_S = 3.0
SESSION_TIMEOUT_MS = 6_000
HEARTBEAT_MS = 2_000

FINAL_ERRORS = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED)

Result = TypeVar("Result")

log = structlog.get_logger()


def consumer(login: KafkaLogin, group: str, instance: str) -> Consumer:
    """Return a consumer whose range assignment gives partition p of every topic to one member."""
    return kafka.client(
        Consumer,
        login,
        {
            "group.id": group,
            "client.id": instance,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": True,
            "auto.commit.interval.ms": 500,
            "enable.auto.offset.store": False,
            "partition.assignment.strategy": "range",
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": HEARTBEAT_MS,
            "fetch.wait.max.ms": 100,
            "queued.max.messages.kbytes": 16_384,
            "topic.metadata.refresh.interval.ms": 10_000,
            # A connection that is only made when it is needed was sometimes not made again to the group's coordinator.
            "enable.sparse.connections": False,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unprocessable:
    """A message that nobody here can read or waits for, and why. ``row`` is its deferral if it had one."""

    raw: RawMessage
    reason: str
    detail: str = ""
    row: Deferral | None = None

    @property
    def saga_id(self) -> str:
        """The saga that its key names, if it names one."""
        return (self.raw.key or b"").decode("utf-8", "replace").replace("\x00", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one transaction is to do."""

    deliveries: Sequence[tuple[str, Delivery]] = ()
    due: Sequence[tuple[str, Delivery]] = ()
    unread: Sequence[Unprocessable] = ()
    unwanted: Sequence[Deferral] = ()
    answers: Sequence[Answer] = ()

    def __len__(self) -> int:
        return sum(map(len, (self.deliveries, self.due, self.unread, self.unwanted, self.answers)))

    @property
    def saga_ids(self) -> set[str]:
        """The sagas whose effects the transaction must lock."""
        asked = {delivery.message.saga_id for _, delivery in (*self.deliveries, *self.due)}
        asked |= {each.saga_id for each in self.unread} | {row.saga_id for row in self.unwanted}
        return asked | {answer.call.delivery.message.saga_id for answer in self.answers}

    def single(self) -> list[Work]:
        """Return the same work one piece at a time, so that a poison message harms only itself."""
        return [
            *(Work(answers=(answer,)) for answer in self.answers),
            *(Work(due=(each,)) for each in self.due),
            *(Work(deliveries=(each,)) for each in self.deliveries),
            *(Work(unread=(each,)) for each in self.unread),
            *(Work(unwanted=(each,)) for each in self.unwanted),
        ]


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
    ) -> None:
        self._service = service
        self._handlers = handlers
        self._commands = handlers.commands
        self._names = {each: handlers.for_message(each) for each in handlers.events | handlers.commands}
        self._engine = engine
        self._codec = codec
        self._consumer = consumer
        self._jitter = random.Random()
        self._pace = Pace()
        self._calls = Calls(utc_now, observer)
        self._partitions: set[int] = set()
        self._stopping = threading.Event()
        self._patience = TransientRetry(self._stopping, on_wait=self._sign_of_life)
        self._publisher = OutboxPublisher(self._transact, relay)
        self._due_at = 0.0
        self._sweep_at = 0.0
        self._handled_until: dict[str, float] = {}
        self.looped_at = time.monotonic()
        self.membership = membership

    def stop(self) -> None:
        """Ask the loop to finish its batch, publish, commit and leave the group."""
        self._stopping.set()

    def run(self, topics: Sequence[str]) -> None:
        """Work until :meth:`stop`.

        1. Gather messages, answers of calls and, four times a second, deferred messages that are due.
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
                taken = self._take(self._room() - len(due))
                # 2. and 3.
                self._handle([raw_of(message) for message in taken], due)
                # 4.
                self._store_offsets(taken)
                self._sweep()
            self._finish()
        finally:
            self._calls.close()
            self._leave()

    def _leave(self) -> None:
        """Leave the group; a client that hangs would never come back from it, and the process ends all the same."""
        leaving = threading.Thread(target=self._consumer.close, name="leaving", daemon=True)
        leaving.start()
        leaving.join(LEAVE_WITHIN_S)

    def _room(self) -> int:
        """How many messages may be taken: where each may lead to a call, no more than can be called at once.

        The rest waits in Kafka, in order; a call is over within seconds, so no partition waits for one order.
        """
        return min(BATCH_SIZE_MAX, self._calls.free) if self._handlers.calls_out else BATCH_SIZE_MAX

    def _take(self, room: int) -> list[KafkaMessage]:
        found = []
        if room <= 0:
            self._calls.wait(POLL_IDLE_S)
        elif (first := self._consumer.poll(POLL_BUSY_S if self._calls.under_way else POLL_IDLE_S)) is not None:
            found.append(first)
        if found or self._calls.under_way:
            found += self._gather(room - len(found))
        good = []
        for message in found:
            error = message.error()
            if error is None:
                good.append(message)
            elif error.fatal() or error.code() in FINAL_ERRORS:
                raise KafkaException(error)
            else:
                log.warning("Kafka reported a passing error.", error=error.str())
        return good

    def _gather(self, room: int) -> list[KafkaMessage]:
        """Return what comes until it is time for the next batch; answers of calls gather all the while."""
        began_s = time.monotonic()
        rest_s = self._pace.rest_s(began_s)
        found = self._consumer.consume(room, rest_s) if room > 0 else []
        if self._calls.under_way:
            self._stopping.wait(max(0.0, began_s + rest_s - time.monotonic()))
        return found

    def _handle(self, raws: Sequence[RawMessage], rows: Sequence[Deferral] = ()) -> None:
        deliveries, unread = self._patience.repeat(lambda: self._sort(raws))
        work = self._patience.repeat(lambda: self._read_again(rows))
        work = replace(work, deliveries=deliveries, unread=(*work.unread, *unread), answers=self._calls.collect())
        if not work:
            self._publisher.remove_delivered()
            return
        try:
            with self._publisher.removal() as delivered:
                out = self._commit(work, delivered)
        except NotPublished:
            raise  # Kafka refused a row of an earlier batch; none of this one is the cause.
        except Exception as error:  # whatever a handler raised: the batch is taken apart to find whom it concerns
            if is_transient(error):
                raise
            log.warning("A batch failed and is repeated one message at a time.", error=repr(error))
            self._handle_singly(work)
        else:
            self._after_commit(out)

    def _handle_singly(self, work: Work) -> None:
        for single in work.single():
            try:
                out = self._commit(single, [])
            except Exception as error:  # its handler raised for this very message
                if is_transient(error):
                    raise
                log.exception("A message failed and is deferred.", service=self._service)
                out = self._commit_failure(single, error)
            self._after_commit(out)

    def _commit(self, work: Work, delivered: Sequence[str]) -> Outgoing:
        """Handle the work in one transaction, repeated while PostgreSQL is away, and return what is to follow it."""

        def handle(tx: Connection) -> Outgoing:
            outbox.remove(tx, delivered)
            batch = self._batch(tx, work.saga_ids)
            batch.answers(work.answers)
            batch.due(work.due)
            batch.deliveries(work.deliveries)
            for row in work.unwanted:
                batch.forget(row)
            for each in work.unread:
                batch.unread(each.raw, each.reason, each.detail, row=each.row)
            return batch.finish()

        began_s = time.monotonic()
        out = self._transact(handle)
        ended_s = time.monotonic()
        self._pace.took(began_s, ended_s)
        metrics.BATCH_SECONDS.observe(ended_s - began_s)
        metrics.BATCH_MESSAGES.observe(len(work))
        return out

    def _commit_failure(self, single: Work, error: Exception) -> Outgoing:
        def give_up_or_defer(tx: Connection) -> Outgoing:
            batch = self._batch(tx, single.saga_ids)
            for handler_name, delivery in (*single.deliveries, *single.due):
                batch.failed(handler_name, delivery, error)
            failure = Unavailable(f"{type(error).__name__} in an answer", detail=str(error))
            batch.answers([Answer(call=each.call, failure=failure) for each in single.answers])
            return batch.finish()

        return self._transact(give_up_or_defer)

    def _batch(self, tx: Connection, saga_ids: Iterable[str]) -> Batch:
        return Batch(
            tx,
            self._service,
            self._handlers,
            self._codec,
            saga_ids,
            now=utc_now(),
            new_id=new_id,
            jitter=self._jitter,
        )

    def _after_commit(self, out: Outgoing) -> None:
        self._publisher.publish(out.rows)
        for call in out.calls:
            self._calls.begin(call)
        for handler_name in out.retried:
            metrics.RETRIES.labels(handler_name).inc()

    def _transact(self, transaction: Callable[[Connection], Result]) -> Result:
        return self._patience.transact(self._engine, transaction)

    def _sign_of_life(self) -> None:
        self.looped_at = time.monotonic()

    def _sort(self, raws: Sequence[RawMessage]) -> tuple[list[tuple[str, Delivery]], list[Unprocessable]]:
        """Decode what a handler waits for; return it by handler, and what nobody can handle with the reason."""
        deliveries: list[tuple[str, Delivery]] = []
        unread: list[Unprocessable] = []
        for raw in raws:
            try:
                deliveries.extend((each, Delivery(message=message, raw=raw)) for each, message in self._recognise(raw))
            except (Undecodable, Undeliverable) as error:
                unread.append(Unprocessable(raw=raw, reason=str(error), detail=error.detail))
        return deliveries, unread

    def _read_again(self, rows: Sequence[Deferral]) -> Work:
        """Decode deferred messages; one that was held unread finds its handlers only now."""
        due: list[tuple[str, Delivery]] = []
        unread: list[Unprocessable] = []
        unwanted: list[Deferral] = []
        for row in rows:
            try:
                found = self._recognise(row.raw)
                wanted = [(each, message) for each, message in found if row.handler in (each, UNPROCESSABLE)]
                if not wanted and row.handler != UNPROCESSABLE:
                    raise Undeliverable(f"{self._service} has no handler {row.handler} any more.")
            except (Undecodable, Undeliverable) as error:
                unread.append(Unprocessable(raw=row.raw, reason=str(error), detail=error.detail, row=row))
                continue
            due.extend((handler_name, Delivery.of(row, message)) for handler_name, message in wanted)
            if not wanted:
                unwanted.append(row)
        return Work(due=due, unread=unread, unwanted=unwanted)

    def _recognise(self, raw: RawMessage) -> list[tuple[str, Message]]:
        message_type = self._codec.type_of(raw.value)
        names = () if message_type is None else self._names.get(message_type, ())
        if message_type is None or not names:
            if raw.is_command:
                what = "message of that type" if message_type is None else message_type.FULL_NAME
                raise Undeliverable(f"{self._service} handles no {what}; look at the contract for whom it is meant.")
            return []
        if raw.is_command != (message_type in self._commands):
            raise Undeliverable(f"{message_type.FULL_NAME} came on {raw.topic}, where it does not belong.")
        message = self._codec.decode(raw.value)
        if not (ID.fullmatch(message.saga_id) and ID.fullmatch(message.message_id)):
            ids = f"{message.saga_id!r} and {message.message_id!r}"
            raise Undeliverable("Its saga id or its message id is not an id of ours; ids are ULIDs.", ids)
        if raw.key != message.saga_id.encode():
            raise Undeliverable("The key is not the saga id; publish with the saga id as the key.", message.saga_id)
        # A step that nobody watches would never be undone. A command passes: whoever sent it knows the saga.
        if not raw.is_command and (message.saga_type, message.saga_version) not in SAGAS:
            saga = f"{message.saga_type!r} version {message.saga_version}"
            raise Undeliverable("Its saga is none of this release; run the release that has it, and redrive.", saga)
        return [(handler_name, message) for handler_name in names]

    def _take_due(self) -> list[Deferral]:
        now = time.monotonic()
        if now < self._due_at or not self._partitions:
            return []
        self._due_at = now + DUE_EVERY_S
        limit = min(DUE_MAX, self._room())
        if not limit:
            return []
        return self._transact(lambda tx: deferred.due(tx, self._partitions, now=utc_now(), limit=limit))

    def _store_offsets(self, taken: Sequence[KafkaMessage]) -> None:
        ends = {(message.topic(), message.partition()): message for message in taken}
        try:
            for last in ends.values():
                self._consumer.store_offsets(message=last)
                self._handled_until[str(last.topic())] = last.timestamp()[1] / 1000
        except KafkaException as error:
            if error.args[0].code() != KafkaError._STATE:
                raise
            log.info("A partition was taken away in mid-batch; its new owner sees the batch again.")

    def _sweep(self) -> None:
        """Publish what a process that is gone has left in the outbox, and let go what is held for nothing."""
        if not self._partitions:
            return
        self._publisher.sweep(self._partitions)
        now = time.monotonic()
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_EVERY_S
        self._measure_lag()
        if self._handlers.steps and (count := self._transact(self._wake_settled)):
            log.warning("Messages waited whose step is settled.", service=self._service, count=count)

    def _wake_settled(self, tx: Connection) -> int:
        return deferred.wake_settled(tx, self._partitions, now=utc_now())

    def _measure_lag(self) -> None:
        """Tell how much waits in Kafka, by what the client has heard of it anyway."""
        lags: dict[str, int] = {}
        for place in self._consumer.position(self._consumer.assignment()):
            _, end = self._consumer.get_watermark_offsets(place, cached=True)
            if place.offset >= 0:
                lags[place.topic] = lags.get(place.topic, 0) + max(0, end - place.offset)
        for topic, lag in lags.items():
            metrics.LAG_MESSAGES.labels(topic).set(lag)
            behind_s = max(0.0, time.time() - self._handled_until.get(topic, time.time()))
            metrics.LAG_SECONDS.labels(topic).set(behind_s if lag else 0.0)

    def _on_assign(self, _consumer: Consumer, assigned: list[TopicPartition]) -> None:
        self._partitions = {each.partition for each in assigned}
        self.membership.assigned()
        log.info("Partitions assigned.", service=self._service, partitions=sorted(self._partitions))
        self._publisher.publish_leftovers(self._partitions, age=timedelta(0))

    def _on_revoke(self, _consumer: Consumer, _revoked: list[TopicPartition]) -> None:
        """What is on its way is let out first, so that the next owner finds less to publish again."""
        self._publisher.flush(FLUSH_ON_REVOKE_S)
        self._partitions = set()
        self.membership.revoked()

    def _finish(self) -> None:
        """Take the answers that come in time, publish everything, and leave no delivered row behind."""
        give_up_at = time.monotonic() + STOP_WITHIN_S
        while self._calls.under_way and time.monotonic() < give_up_at:
            self._handle([])
            self._publisher.flush(POLL_BUSY_S)
        self._publisher.flush(max(0.0, give_up_at - time.monotonic()))
        self._handle([])
        self._publisher.remove_delivered(at_once=True)


def raw_of(message: KafkaMessage) -> RawMessage:
    """Return a consumed message as the kit keeps it."""
    topic, partition = message.topic(), message.partition()
    assert topic is not None, "a consumed message has its topic"
    assert partition is not None, "a consumed message has its partition"
    key: Any = message.key()
    value: Any = message.value()
    pairs: Any = message.headers() or ()
    headers = tuple([(name, content or b"") for name, content in pairs])
    offset = message.offset() or 0
    return RawMessage(topic=topic, partition=partition, key=key, value=value, headers=headers, offset=offset)
