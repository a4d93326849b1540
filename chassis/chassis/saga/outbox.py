"""The transactional outbox: messages are rows of the business transaction, and leave for Kafka after it.

The process that committed publishes at once and removes the rows in its next transaction. Whoever is assigned a
partition first publishes what is left over for it. The columns are Debezium's: its router can replace the relay.
It must never read by ``id > last seen``: a sequence is not commit order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as KafkaMessage
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Identity,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    func,
)

from chassis.postgres.statement import Statement
from chassis.telemetry.observation import Observer
from chassis.wire import kafka
from chassis.wire.envelope import Headers
from chassis.wire.kafka import KafkaLogin

LEFTOVERS_MAX = 5_000
"""Rows read by one sweep; the next sweep reads on."""
QUEUE_FULL_WAIT_S = 0.1
REMOVE_EVERY_S = 0.5
"""Delivered rows leave the outbox this often: a statement in each small batch would cost more than what they take."""
_quoted = json.encoder.encode_basestring_ascii
DELIVERY_TIMEOUT_MS = 120_000
"""Longer than a broker's restart; a row that is not delivered by then ends the process, and stays in the outbox."""

MESSAGE_BYTES_MAX = 16_777_216
"""The largest message is a dead letter (``dead_letters.PAYLOAD_BYTES_MAX``); Kafka's own limit is the topic's."""


class NotPublished(Exception):
    """Kafka refused a message for good. The row is still in the outbox; the process must end and start again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One message on its way. ``partition`` is None where the producer is to choose it by the key.

    ``cause`` are the headers of what led to it, for those who observe; they are not stored: None in a row read back.
    """

    id: str
    topic: str
    saga_id: str
    type: str
    payload: bytes
    headers: Headers
    partition: int | None
    cause: Headers | None = None


def outbox_table(metadata: MetaData) -> Table:
    """Return the outbox of a service's database."""
    return Table(
        "outbox",
        metadata,
        Column("id", Text, primary_key=True),
        Column("seq", BigInteger, Identity(always=True), nullable=False),
        Column("aggregatetype", Text, nullable=False, comment="the topic"),
        Column("aggregateid", Text, nullable=False, comment="the saga id, which is the key"),
        Column("type", Text, nullable=False),
        Column("payload", LargeBinary, nullable=False),
        Column("headers", Text, nullable=False, comment="JSON pairs, bytes read as latin-1"),
        Column("partition", SmallInteger),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    )


SAVE = Statement("""
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, headers, partition)
    SELECT id, topic, saga_id, type, payload, headers, partition
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(topics)s AS text[]), CAST(%(saga_ids)s AS text[]),
                CAST(%(types)s AS text[]), CAST(%(payloads)s AS bytea[]), CAST(%(headers)s AS text[]),
                CAST(%(partitions)s AS smallint[]))
         WITH ORDINALITY AS row (id, topic, saga_id, type, payload, headers, partition, place)
    ORDER BY place
    ON CONFLICT (id) DO NOTHING
""")

REMOVE = Statement("DELETE FROM outbox WHERE id = ANY(CAST(%(ids)s AS text[]))")

LEFTOVERS = Statement("""
    SELECT id, aggregatetype, aggregateid, type, payload, headers, partition
    FROM outbox
    WHERE (CAST(%(partitions)s AS smallint[]) IS NULL OR partition = ANY(CAST(%(partitions)s AS smallint[])))
      AND created_at <= now() - CAST(%(age)s AS interval)
    ORDER BY seq
    LIMIT %(limit)s
""")


def save(tx: Connection, rows: Sequence[OutboxRow]) -> None:
    """Write the rows into the outbox of this transaction, in one statement.

    A row that is in it already is passed over: the answer to a command has one id, however often the command comes.
    """
    if not rows:
        return
    SAVE.run(
        tx,
        {
            "ids": [row.id for row in rows],
            "topics": [row.topic for row in rows],
            "saga_ids": [row.saga_id for row in rows],
            "types": [row.type for row in rows],
            "payloads": [row.payload for row in rows],
            "headers": [headers_to_text(row.headers) for row in rows],
            "partitions": [row.partition for row in rows],
        },
    )


def remove(tx: Connection, ids: Sequence[str]) -> None:
    """Remove delivered rows in this transaction."""
    if ids:
        REMOVE.run(tx, {"ids": list(ids)})


def leftovers(tx: Connection, partitions: Collection[int] | None, *, age: timedelta) -> list[OutboxRow]:
    """Return rows older than ``age`` in the order of their sequence; None for ``partitions`` means all of them."""
    rows = LEFTOVERS.rows(
        tx,
        {"partitions": None if partitions is None else list(partitions), "age": age, "limit": LEFTOVERS_MAX},
    )
    return [
        OutboxRow(
            id=row.id,
            topic=row.aggregatetype,
            saga_id=row.aggregateid,
            type=row.type,
            payload=bytes(row.payload),
            headers=headers_from_text(row.headers),
            partition=row.partition,
        )
        for row in rows
    ]


def headers_to_text(headers: Headers) -> str:
    """Return headers as JSON; bytes are read as latin-1, so that every byte survives."""
    pairs = [f"[{_quoted(key)},{_quoted(value.decode('latin-1'))}]" for key, value in headers]
    return f"[{','.join(pairs)}]"


def headers_from_text(value: str) -> Headers:
    """Return what :func:`headers_to_text` was given."""
    return tuple((key, part.encode("latin-1")) for key, part in json.loads(value))


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
    """Publishes committed outbox rows and remembers which of them may be removed. One thread uses it at a time."""

    def __init__(self, producer: Producer, observer: Observer | None = None) -> None:
        self._producer = producer
        self._observer = observer
        self._in_flight: set[str] = set()
        self._delivered: list[str] = []
        self._remove_at = 0.0
        self._error: KafkaError | None = None
        self.partition_count = 0
        """How many partitions there are, by what was acknowledged so far."""

    def publish(self, rows: Iterable[OutboxRow]) -> None:
        """Hand committed rows to Kafka in their order, without waiting; a row already on its way is passed over."""
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
        """Take what Kafka acknowledged. Raises NotPublished where it refused a row for good."""
        self._producer.poll(0)
        if self._error is not None:
            raise NotPublished(f"Kafka refused a message: {self._error.str()}. It stays in the outbox.")

    def take_delivered(self, *, at_once: bool = False) -> list[str]:
        """Return the ids that were acknowledged, for :func:`remove`; give them back if that fails.

        Some are returned twice a second, or ``at_once`` where nothing follows.
        """
        now = time.monotonic()
        if now < self._remove_at and not at_once:
            return []
        self._remove_at = now + REMOVE_EVERY_S
        delivered, self._delivered = self._delivered, []
        return delivered

    def give_back(self, ids: Sequence[str]) -> None:
        """Take ids back whose removal was not committed."""
        self._delivered[:0] = ids

    def forget(self, ids: Iterable[str]) -> None:
        """Rows that are removed for good need not be remembered any more."""
        self._in_flight.difference_update(ids)

    @property
    def in_flight_count(self) -> int:
        """How many rows were published and are not removed yet."""
        return len(self._in_flight)

    def flush(self, timeout_s: float) -> None:
        """Wait until Kafka has acknowledged all, at most ``timeout_s``."""
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
            self.partition_count = max(self.partition_count, (message.partition() or 0) + 1)
        else:
            self._in_flight.discard(row_id)
            self._error = error
