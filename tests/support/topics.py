"""Kafka topics in tests: publish raw bytes, read every message of a topic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import confluent_kafka.admin
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from chassis.wire.kafka import KafkaLogin, UnreadableHeaders, headers_of
from support.librdkafka import RawRecord, publish_raw

TIMEOUT_S = 30.0
LATEST: Any = vars(confluent_kafka.admin)["OffsetSpec"].latest()
"""The client does not export it to type checkers."""
BYTES_MAX = 64 * 1024 * 1024
"""The producer's limit is larger than any test needs, so that Kafka's own limit decides."""
PartitionKey: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One message as a topic stores it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    pairs: tuple[tuple[str, bytes], ...]

    @property
    def headers(self) -> dict[str, bytes]:
        """The last header of each name, as Kafka's own clients read them."""
        return dict(self.pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMessage:
    """One message to publish."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str | bytes, bytes | None], ...] = ()
    timestamp_ms: int = 0
    """What the producer states as the time; 0 is now."""

    @property
    def pairs(self) -> tuple[tuple[str, bytes], ...]:
        """The headers as a client reads them that escapes what is no UTF-8."""
        return tuple(
            (name if isinstance(name, str) else name.decode(errors="backslashreplace"), value or b"")
            for name, value in self.headers
        )


def publish(kafka: KafkaLogin, messages: Iterable[OutgoingMessage], *, compression: str = "none") -> None:
    """Publish these messages and return when Kafka has acknowledged all of them.

    They keep their order, but for those with a header's name in bytes, which come after the others.
    """
    plain, raw = [], []
    for message in messages:
        (raw if any(isinstance(name, bytes) for name, _ in message.headers) else plain).append(message)
    _publish(kafka, plain, compression=compression)
    if raw:
        publish_raw(kafka.options(), [_raw(message) for message in raw])


def _raw(message: OutgoingMessage) -> RawRecord:
    return RawRecord(
        topic=message.topic,
        partition=message.partition,
        key=message.key,
        value=message.value,
        headers=tuple((name.encode() if isinstance(name, str) else name, value) for name, value in message.headers),
        timestamp_ms=message.timestamp_ms,
    )


def _publish(kafka: KafkaLogin, messages: Iterable[OutgoingMessage], *, compression: str) -> None:
    failures: list[str] = []
    producer = Producer(
        {
            **kafka.options(),
            "enable.idempotence": True,
            "message.timeout.ms": 20_000,
            "message.max.bytes": BYTES_MAX,
            "compression.type": compression,
        }
    )
    for message in messages:
        producer.produce(
            message.topic,
            partition=message.partition,
            key=message.key,
            value=message.value,
            headers=[(str(name), value) for name, value in message.headers],
            timestamp=message.timestamp_ms,
            on_delivery=lambda error, _message: failures.append(error.str()) if error else None,
        )
    left = producer.flush(TIMEOUT_S * 2)
    assert not left, f"Kafka did not acknowledge {left} messages"
    assert not failures, failures


def ends(kafka: KafkaLogin, *topics: str) -> dict[PartitionKey, int]:
    """Return the current end offset of each partition of these topics."""
    admin = AdminClient({**kafka.options()})
    described = admin.list_topics(timeout=TIMEOUT_S).topics
    partitions = [TopicPartition(topic, number) for topic in topics for number in described[topic].partitions]
    requests = admin.list_offsets(dict.fromkeys(partitions, LATEST))
    return {(each.topic, each.partition): future.result(TIMEOUT_S).offset for each, future in requests.items()}


def stored(kafka: KafkaLogin, *topics: str) -> list[Stored]:
    """Return every message of these topics now, each partition in order."""
    awaited = {partition: end for partition, end in ends(kafka, *topics).items() if end}
    consumer = Consumer({**kafka.options(), "group.id": "a-test-that-reads", "enable.auto.commit": False})
    found: list[Stored] = []
    try:
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in awaited])
        while awaited:
            message = consumer.poll(TIMEOUT_S)
            assert message is not None, f"No message for {TIMEOUT_S} s; still awaited: {awaited}"
            assert message.error() is None, message.error()
            each = _stored(message)
            if each.offset < awaited.get((each.topic, each.partition), 0):
                found.append(each)
            if each.offset + 1 >= awaited.get((each.topic, each.partition), 0):
                awaited.pop((each.topic, each.partition), None)
    finally:
        consumer.close()
    return found


def _stored(message: Message) -> Stored:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    try:
        pairs = headers_of(message)
    except UnreadableHeaders:
        pairs = ()
    return Stored(
        topic=topic,
        partition=partition,
        offset=offset,
        key=_optional(message.key()),
        value=_optional(message.value()),
        pairs=pairs,
    )


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


def _optional(value: str | bytes | None) -> bytes | None:
    return None if value is None else _bytes(value)
