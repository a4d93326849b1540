"""Messages that come again, in another order, or that nobody can read; and who has told of the latter."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chassis.saga import dead_letters
from chassis.wire.kafka import KafkaLogin
from stack.contract import kafka_rights, services, topics

from baraza import broker
from baraza.terminal import Refusal

DEAD_LETTER_SUFFIX = ".dlq"
TRACKER = "saga-tracker"
AGAIN_MAX = 100
"""As many stored messages of one partition come again."""
READ_S = 10.0
SEND_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """A message that nobody can read, and the services that must each say so."""

    topic: str
    saga_id: str
    payload: bytes
    readers: frozenset[str]


@dataclass(slots=True)
class Letters:
    """Sends what no service of ours would send, with a login that may write everywhere."""

    kafka: KafkaLogin
    poisons: list[Poison] = field(default_factory=list)

    def again(self, chance: random.Random, *, in_order: bool) -> str:
        """Publish stored messages of one partition a second time; return which."""
        marks = broker.marks(self.kafka, is_followed)
        filled = sorted(place for place, (first, end) in marks.items() if first < end)
        if not filled:
            return "nothing was there to come again"
        topic, partition = chance.choice(filled)
        first, end = marks[topic, partition]
        stored = list(read(self.kafka, topic, partition, max(first, end - AGAIN_MAX), end))
        if not in_order:
            chance.shuffle(stored)
        self._send([(topic, message.value(), message.key(), message.headers() or [], partition) for message in stored])
        return f"{len(stored)} of {topic}, partition {partition}"

    def poison(self, chance: random.Random, saga_ids: Sequence[str]) -> str:
        """Publish what nobody can read under the key of one of these sagas; return where."""
        topic = chance.choice(sorted(filter(is_followed, topics())))
        saga_id = chance.choice(saga_ids)
        # Not Avro at all, a schema that nobody registered, a schema's number and then nothing.
        start = chance.choice([b"\xff", b"\x00\x7f\xff\xff\xff", b"\x00\x00\x00\x00\x01"])
        poison = Poison(topic=topic, saga_id=saga_id, payload=start + chance.randbytes(16), readers=readers(topic))
        self.poisons.append(poison)
        self._send([(topic, poison.payload, saga_id.encode(), [], -1)])
        return f"{topic}, saga {saga_id}"

    def untold(self) -> list[str]:
        """Return a sentence for each service that has not told of a poison. Raises Refusal."""
        told = {(letter.service, payload) for letter, payload in self._dead_letters()}
        return [
            f"the poison on {poison.topic} under {poison.saga_id} is in no dead letter of {reader}"
            for poison in self.poisons
            for reader in sorted(poison.readers)
            if (reader, poison.payload) not in told
        ]

    def _dead_letters(self) -> Iterator[tuple[dead_letters.DeadLetter, bytes]]:
        marks = broker.marks(self.kafka, lambda topic: topic.endswith(DEAD_LETTER_SUFFIX))
        for (topic, partition), (first, end) in marks.items():
            for message in read(self.kafka, topic, partition, first, end):
                yield dead_letters.read(tuple(message.headers() or ())), message.value()

    def _send(self, messages: Sequence[tuple[str, bytes, bytes, list[Any], int]]) -> None:
        from confluent_kafka import Producer

        # Its partitioner is that of the services: a poison must reach the partition of its saga.
        producer = Producer({**self.kafka.options(), "acks": "all", "partitioner": "murmur2_random", "log_level": 0})
        for topic, value, key, headers, partition in messages:
            producer.produce(topic, value=value, key=key, headers=headers, partition=partition)
        if producer.flush(SEND_S):
            raise Refusal(f"Kafka at {self.kafka.address} did not take {len(messages)} messages within {SEND_S:.0f} s.")


def is_followed(topic: str) -> bool:
    """Say whether a topic holds messages between services, not dead letters or Kafka's own."""
    return topic in topics() and not topic.endswith(DEAD_LETTER_SUFFIX)


def readers(topic: str) -> frozenset[str]:
    """Return the services whose work it is to read a topic; its own events a service reads only after a restore."""
    rights: Mapping[str, Any] = kafka_rights()
    names = (name for name in (*services(), TRACKER) if topic != f"{name}.events")
    return frozenset(name for name in names if topic in rights[name].reads)


def read(kafka: KafkaLogin, topic: str, partition: int, first: int, end: int) -> Iterator[Any]:
    """Yield the messages of a partition from ``first`` up to ``end``. Raises Refusal."""
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
