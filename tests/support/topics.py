"""Kafka topics in tests: publish bytes as they are, read everything that a topic holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import Consumer, Producer, TopicPartition

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One message as a topic holds it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One message to publish."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def publish(kafka: str, parcels: Iterable[Parcel]) -> None:
    """Publish these messages in their order and return when Kafka has them all."""
    failures: list[str] = []
    producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True, "message.timeout.ms": 20_000})
    for parcel in parcels:
        producer.produce(
            parcel.topic,
            partition=parcel.partition,
            key=parcel.key,
            value=parcel.value,
            headers=list(parcel.headers),
            on_delivery=lambda error, _message: failures.append(error.str()) if error else None,
        )
    left = producer.flush(TIMEOUT_S * 2)
    assert not left, f"{left} messages were not taken by Kafka"
    assert not failures, failures


def stored(kafka: str, *topics: str) -> list[Stored]:
    """Return everything that these topics hold now, each partition in its order."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "a-test-that-reads", "enable.auto.commit": False})
    try:
        return [message for topic in topics for message in _of(consumer, topic)]
    finally:
        consumer.close()


def _of(consumer: Consumer, topic: str) -> list[Stored]:
    found: list[Stored] = []
    for partition in consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions:
        first, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_S)
        if first == end:
            continue
        consumer.assign([TopicPartition(topic, partition, first)])
        position = first
        while position < end:
            message = consumer.poll(TIMEOUT_S)
            assert message is not None, f"{topic}[{partition}] ends at {end}, but nothing came after {position}"
            assert message.error() is None, message.error()
            position = (message.offset() or 0) + 1
            headers = {key: _bytes(value) for key, value in dict(message.headers() or ()).items()}
            found.append(
                Stored(
                    topic=topic,
                    partition=partition,
                    offset=position - 1,
                    key=_optional(message.key()),
                    value=_optional(message.value()),
                    headers=headers,
                )
            )
    return found


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


def _optional(value: str | bytes | None) -> bytes | None:
    return None if value is None else _bytes(value)
