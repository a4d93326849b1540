"""Publishes committed outbox rows to Kafka, and deletes them from the outbox once they are delivered.

One publisher serves every owner of an outbox: the worker of a service, the saga tracker and checkout's API. It must
never publish a row whose transaction is not committed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog
from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as KafkaMessage

from chassis.postgres.transient import Transact
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.telemetry.observation import Observer
from chassis.wire import kafka
from chassis.wire.envelope import Headers
from chassis.wire.kafka import KafkaLogin

DELIVERY_TIMEOUT_MS = 120_000
"""Longer than a broker's restart. A row that is not delivered by then counts as refused, and stays in the outbox."""
MESSAGE_BYTES_MAX = 16_777_216
"""The largest message is a dead letter (``dead_letters.PAYLOAD_BYTES_MAX``); Kafka's own limit is the topic's."""
QUEUE_FULL_WAIT_S = 0.1
REMOVE_EVERY_S = 0.5
"""Delivered rows leave the outbox this often: a statement in each small batch would cost more than the rows do."""
SWEEP_EVERY_S = 5.0
LEFTOVER_AGE = timedelta(seconds=10)
"""For an owner of partitions: a row that old which is not in flight here was left by a process that is gone."""

log = structlog.get_logger()


class NotPublished(Exception):
    """Kafka refused a message for good. The row is still in the outbox; publish it again with a new producer."""


def producer(login: KafkaLogin, *, client_id: str) -> Producer:
    """Return an idempotent producer with ``acks=all`` that partitions by key as Java's clients do."""
    return kafka.client(
        Producer,
        login,
        {
            "client.id": client_id,
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "linger.ms": 2,
            "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
            "queue.buffering.max.messages": 200_000,
            "message.max.bytes": MESSAGE_BYTES_MAX,
        },
    )


class Relay:
    """Hands outbox rows to one producer, and tracks which are in flight and which are delivered.

    It is usable until the producer refuses a row. One thread uses it at a time.
    """

    def __init__(self, producer: Producer, observer: Observer | None = None) -> None:
        self._producer = producer
        self._observer = observer
        self._in_flight: set[str] = set()
        self._watched: set[str] = set()
        self._acknowledged: list[str] = []
        self._delivered: list[str] = []
        self._remove_at = 0.0
        self._error: KafkaError | None = None
        self.partition_count = 0
        """The number of partitions, as far as acknowledgements have shown it."""

    def publish(self, rows: Iterable[OutboxRow]) -> None:
        """Hand committed rows to Kafka in their order, without waiting; a row that is in flight is skipped."""
        now = datetime.now(UTC)
        for row in rows:
            if row.id in self._in_flight:
                continue
            self._in_flight.add(row.id)
            self._produce(row)
            if self._observer is not None and row.cause is not None:
                self._observe(self._observer, row, row.cause, now)
        self.poll()

    def poll(self) -> None:
        """Process Kafka's acknowledgements. Raises NotPublished where it refused a row for good."""
        self._producer.poll(0)
        if self._error is not None:
            raise NotPublished(f"Kafka refused a message: {self._error.str()}. It stays in the outbox.")

    def watch(self, ids: Collection[str]) -> None:
        """Report it by :meth:`take_acknowledged` once Kafka has these rows, also where it has them by now."""
        known = set(ids).intersection(self._delivered)
        self._acknowledged += known
        self._watched.update(set(ids) - known)

    def take_acknowledged(self) -> list[str]:
        """Return the watched rows that Kafka has acknowledged since the last time."""
        acknowledged, self._acknowledged = self._acknowledged, []
        return acknowledged

    def take_delivered(self, *, at_once: bool = False) -> list[str]:
        """Return the ids that were acknowledged, at most twice a second; ``at_once``: now in any case.

        Pass them to :meth:`restore` or to :meth:`discard`.
        """
        now = time.monotonic()
        if now < self._remove_at and not at_once:
            return []
        self._remove_at = now + REMOVE_EVERY_S
        delivered, self._delivered = self._delivered, []
        return delivered

    def restore(self, ids: Sequence[str]) -> None:
        """Take back ids whose removal was not committed."""
        self._delivered[:0] = ids

    def discard(self, ids: Iterable[str]) -> None:
        """Stop tracking rows whose removal was committed."""
        self._in_flight.difference_update(ids)

    @property
    def in_flight_count(self) -> int:
        """The number of rows that were published and are not removed yet."""
        return len(self._in_flight)

    def flush(self, timeout_s: float) -> None:
        """Wait until Kafka has acknowledged everything, at most ``timeout_s``."""
        self._producer.flush(timeout_s)
        self.poll()

    def _produce(self, row: OutboxRow) -> None:
        arguments: dict[str, Any] = {} if row.partition is None else {"partition": row.partition}
        while True:
            try:
                self._producer.produce(
                    row.topic,
                    value=row.payload,
                    key=row.saga_id.encode(),
                    headers=list(row.headers),
                    on_delivery=partial(self._on_delivery, row.id),
                    **arguments,
                )
            except BufferError:
                self._producer.poll(QUEUE_FULL_WAIT_S)
            else:
                return

    def _observe(self, observer: Observer, row: OutboxRow, cause: Headers, now: datetime) -> None:
        observer.published(
            topic=row.topic,
            type_=row.type,
            saga_id=row.saga_id,
            message_id=row.id,
            sent=row.headers,
            cause=cause,
            now=now,
        )

    def _on_delivery(self, row_id: str, error: KafkaError | None, message: KafkaMessage) -> None:
        if error is None:
            self._delivered.append(row_id)
            if row_id in self._watched:
                self._watched.discard(row_id)
                self._acknowledged.append(row_id)
            self.partition_count = max(self.partition_count, (message.partition() or 0) + 1)
        else:
            self._in_flight.discard(row_id)
            self._error = error


class OutboxPublisher:
    """Publishes the outbox of one process. Any thread may use it.

    ``transact`` runs a transaction in the way of the owner: with retries, or once. ``new_relay`` makes the replacement
    of a relay that Kafka refused a message, for a process that must go on because it serves requests. Without it
    NotPublished is raised, and the process is to end and start again.
    ``in_flight_max``: further rows stay in the outbox, where they take no memory, and a sweep publishes them. Without
    it the producer's own queue blocks, and the order of rows stays that of their commits.
    """

    def __init__(
        self,
        transact: Transact,
        relay: Relay,
        *,
        new_relay: Callable[[], Relay] | None = None,
        in_flight_max: int | None = None,
    ) -> None:
        self._in_flight_max = in_flight_max
        self._transact = transact
        self._relay = relay
        self._new_relay = new_relay
        self._sweep_at_s = 0.0
        self._lock = threading.Lock()

    @property
    def partition_count(self) -> int:
        """The number of partitions, as far as acknowledgements have shown it."""
        return self._relay.partition_count

    def publish(self, rows: Sequence[OutboxRow]) -> None:
        """Hand committed rows to Kafka, without waiting for it."""
        with self._relay_in_use() as relay:
            if self._in_flight_max is None or relay.in_flight_count < self._in_flight_max:
                relay.publish(rows)
            else:
                relay.poll()

    @contextmanager
    def removal(self, *, at_once: bool = False) -> Iterator[list[str]]:
        """Yield the ids of delivered rows, for :func:`outbox.remove` in the transaction that the block runs.

        When the block raises, the ids are restored for the next removal. Ids are yielded at most twice a second;
        ``at_once``: now in any case.
        """
        delivered: list[str] = []
        with self._relay_in_use() as relay:
            relay.poll()
            delivered = relay.take_delivered(at_once=at_once)
        try:
            yield delivered
        except BaseException:
            with self._lock:
                self._relay.restore(delivered)
            raise
        with self._lock:
            self._relay.discard(delivered)

    def remove_delivered(self, *, at_once: bool = False) -> None:
        """Remove delivered rows from the outbox in a transaction of their own."""
        with self.removal(at_once=at_once) as delivered:
            if delivered:
                self._transact(lambda tx: outbox.remove(tx, delivered))

    def watch(self, ids: Collection[str]) -> None:
        """Report it by :meth:`take_acknowledged` once Kafka has these rows. Watch before they are published."""
        with self._relay_in_use() as relay:
            relay.watch(ids)

    def take_acknowledged(self) -> list[str]:
        """Return the watched rows that Kafka has acknowledged since the last time."""
        with self._relay_in_use() as relay:
            relay.poll()
            return relay.take_acknowledged()

    def publish_leftovers(self, partitions: Collection[int] | None, *, age: timedelta) -> None:
        """Publish rows older than ``age`` that are not in flight here; None means the rows of all partitions."""
        if rows := self._transact(lambda tx: outbox.leftovers(tx, partitions, age=age)):
            self.publish(rows)

    def sweep(self, partitions: Collection[int] | None, *, age: timedelta = LEFTOVER_AGE) -> bool:
        """Publish leftovers as :meth:`publish_leftovers` does, every 5 s; return whether the time for it had come."""
        if time.monotonic() < self._sweep_at_s:
            return False
        self.publish_leftovers(partitions, age=age)
        self._sweep_at_s = time.monotonic() + SWEEP_EVERY_S
        return True

    def flush(self, timeout_s: float) -> None:
        """Wait until Kafka has acknowledged everything, at most ``timeout_s``; the rest stays in the outbox."""
        with self._relay_in_use() as relay:
            relay.flush(timeout_s)

    @contextmanager
    def _relay_in_use(self) -> Iterator[Relay]:
        with self._lock:
            try:
                yield self._relay
            except NotPublished as error:
                if self._new_relay is None:
                    raise
                log.error("Kafka refused messages; they are published again with a new producer.", error=str(error))
                self._relay = self._new_relay()
