"""Faulty messages: stored ones again, in another order, unprocessable ones; and which services reported the latter."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from baraza.system import broker
from baraza.terminal import Refusal
from chassis.saga import dead_letters
from chassis.wire.kafka import KafkaLogin
from stack.contract import SAGA_DECISIONS, kafka_rights, services, topics

DEAD_LETTER_SUFFIX = ".dlq"
TRACKER = "saga-tracker"
REPEATED_MAX = 100
"""At most this many stored messages of one partition are published again."""
READ_S = 10.0
SEND_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """An unprocessable message, and the services that must each write a dead letter about it."""

    topic: str
    saga_id: str
    payload: bytes
    readers: frozenset[str]


@dataclass(slots=True)
class MessageFaults:
    """Publishes what no service of ours would publish, with a login that may write everywhere."""

    kafka: KafkaLogin
    is_started: Callable[[str], bool] = lambda _service: True
    """Whether a service runs: another one reads nothing."""
    poisons: list[Poison] = field(default_factory=list)

    def repeat(self, chance: random.Random, *, in_order: bool) -> str:
        """Publish stored messages of one partition a second time; return which."""
        watermarks = broker.watermarks(self.kafka, is_followed)
        filled = sorted(partition for partition, (low, high) in watermarks.items() if low < high)
        if not filled:
            return "nothing, because no message is stored"
        topic, partition = chance.choice(filled)
        low, high = watermarks[topic, partition]
        stored = list(read(self.kafka, topic, partition, max(low, high - REPEATED_MAX), high))
        if not in_order:
            chance.shuffle(stored)
        self._send(
            [(topic, message.value(), message.key(), list(broker.headers(message)), partition) for message in stored]
        )
        return f"{len(stored)} of {topic}, partition {partition}"

    def poison(self, chance: random.Random, saga_ids: Sequence[str]) -> str:
        """Publish an unprocessable message under the key of one of these sagas; return where."""
        topic = chance.choice([topic for topic in sorted(filter(is_followed, topics())) if self._readers(topic)])
        saga_id = chance.choice(saga_ids)
        # Not Avro at all; the id of a schema that is not registered; the id of a schema without a value.
        start = chance.choice([b"\xff", b"\x00\x7f\xff\xff\xff", b"\x00\x00\x00\x00\x01"])
        poison = Poison(
            topic=topic, saga_id=saga_id, payload=start + chance.randbytes(16), readers=self._readers(topic)
        )
        self.poisons.append(poison)
        self._send([(topic, poison.payload, saga_id.encode(), [], -1)])
        return f"{topic}, saga {saga_id}"

    def _readers(self, topic: str) -> frozenset[str]:
        return frozenset(filter(self.is_started, readers(topic)))

    def unreported(self) -> list[str]:
        """Return a sentence for each service without a dead letter of a poison that it read. Raises Refusal."""
        reported = {(letter.service, payload) for letter, payload in self._dead_letters()}
        return [
            f"the poison on {poison.topic} under {poison.saga_id} is in no dead letter of {reader}"
            for poison in self.poisons
            for reader in sorted(poison.readers)
            if (reader, poison.payload) not in reported
        ]

    def _dead_letters(self) -> Iterator[tuple[dead_letters.DeadLetter, bytes]]:
        watermarks = broker.watermarks(self.kafka, lambda topic: topic.endswith(DEAD_LETTER_SUFFIX))
        for (topic, partition), (low, high) in watermarks.items():
            for message in read(self.kafka, topic, partition, low, high):
                yield dead_letters.read(broker.headers(message)), message.value()

    def _send(self, messages: Sequence[tuple[str, bytes, bytes, list[Any], int]]) -> None:
        from confluent_kafka import Producer

        # The services' partitioner: a poison must reach the partition of its saga.
        producer = Producer({**self.kafka.options(), "acks": "all", "partitioner": "murmur2_random", "log_level": 0})
        for topic, value, key, headers, partition in messages:
            producer.produce(topic, value=value, key=key, headers=headers, partition=partition)
        if producer.flush(SEND_S):
            raise Refusal(
                f"Kafka at {self.kafka.address} did not take {len(messages)} messages within {SEND_S:.0f} s. "
                f"See its log in the stack's home."
            )


def is_followed(topic: str) -> bool:
    """Return whether a topic carries messages between services, not dead letters or Kafka's own."""
    return topic in topics() and not topic.endswith(DEAD_LETTER_SUFFIX)


def readers(topic: str) -> frozenset[str]:
    """Return the services that consume a topic. One that it writes a service reads only after the loss of its database.

    Except for the decisions of the tracker, which it always reads back.
    """
    rights: Mapping[str, Any] = kafka_rights()
    names = [name for name in (*services(), TRACKER) if topic in rights[name].reads]
    return frozenset(name for name in names if topic == SAGA_DECISIONS or topic not in rights[name].writes)


def read(kafka: KafkaLogin, topic: str, partition: int, first: int, end: int) -> Iterator[Any]:
    """Yield the messages of a partition from offset ``first`` up to ``end``. Raises Refusal."""
    from confluent_kafka import TopicPartition

    if first >= end:
        return
    consumer = broker.consumer(kafka)
    try:
        consumer.assign([TopicPartition(topic, partition, first)])
        position = first
        while position < end:
            message = consumer.poll(READ_S)
            if message is None or message.error():
                raise Refusal(f"{topic} {partition} could not be read from {position} to {end}. See Kafka's log.")
            position = (message.offset() or 0) + 1
            if position <= end:
                yield message
    finally:
        consumer.close()
