"""Counts every event of every order, with the stock Confluent client alone: nothing here is Baraza's.

    python docs/examples/analytics.py KAFKA REGISTRY_URL PASSWORD_FILE [CA_FILE]

``./baraza up --json`` prints the addresses. It logs in as ``analytics``, which may read the event topics and nothing
else: its password is in ``.baraza/secrets/kafka-analytics``, the authority that signs for Kafka in
``.baraza/secrets/ca.pem``; without CA_FILE the connection is not encrypted. It reads what the event topics hold when it
starts, and ends. The registry names the schema of each message, so no generated class is needed, and a later release
may add fields. It joins no consumer group and disturbs no other consumer.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from operator import methodcaller
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, DeserializingConsumer, Message, TopicPartition
from confluent_kafka.error import KeyDeserializationError, ValueDeserializationError
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import StringDeserializer

EVENT_TOPICS = re.compile(r"\.events$")
"""The topics of services to come are read as well."""

USER = "analytics"
UNREADABLE = "unreadable"
read_headers = methodcaller("headers")
"""For a header's name that is not UTF-8 the client returns a NULL pointer and an error. Called like this Python raises
the error; it does not check ``message.headers()`` once it has specialized that call, and ends."""
REQUEST_TIMEOUT_S = 10.0


def ends(consumer: DeserializingConsumer) -> dict[tuple[str, int], int]:
    """Return where each partition of the event topics that holds anything ends now: (topic, partition) to offset."""
    topics = consumer.list_topics(timeout=REQUEST_TIMEOUT_S).topics
    found: dict[tuple[str, int], int] = {}
    for topic in filter(EVENT_TOPICS.search, topics):
        for partition in topics[topic].partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=REQUEST_TIMEOUT_S)
            if high > low:
                found[topic, partition] = high
    return found


def login(kafka: str, password_file: str, ca_file: str | None = None) -> dict[str, str]:
    """Return the client's options for Kafka. The password is in a file: other users can read a command line."""
    options = {
        "bootstrap.servers": kafka,
        "security.protocol": "SASL_PLAINTEXT" if ca_file is None else "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": USER,
        "sasl.password": Path(password_file).read_text().strip(),
    }
    return options if ca_file is None else {**options, "ssl.ca.location": ca_file}


def event_type(message: Message) -> str:
    """Return the type that the CloudEvents headers name, without a look at the payload."""
    try:
        headers: Any = dict(read_headers(message) or [])
    except SystemError:  # a header's name is not UTF-8
        return UNREADABLE
    return (headers.get("ce_type") or UNREADABLE.encode()).decode(errors="replace")


def events(kafka: dict[str, str], registry_url: str) -> Iterator[tuple[str, str, dict[str, object] | None]]:
    """Yield (topic, event type, event) for what the event topics hold now, from the beginning.

    Anything may be on a topic: a message that is no event comes as (topic, UNREADABLE, None).
    """
    # Without a timeout the client waits for ever. Its own strategy asks for what only Confluent's registry has.
    strategy = {"subject.name.strategy": topic_record_subject_name_strategy}
    with SchemaRegistryClient({"url": registry_url, "timeout": REQUEST_TIMEOUT_S}) as registry:
        consumer = DeserializingConsumer(
            {
                **kafka,
                "group.id": USER,
                "enable.auto.commit": False,
                "key.deserializer": StringDeserializer(),
                "value.deserializer": AvroDeserializer(registry, conf=strategy),
            }
        )
        try:
            left = ends(consumer)
            consumer.assign([TopicPartition(*each, OFFSET_BEGINNING) for each in left])
            while left:
                try:
                    message = consumer.poll(REQUEST_TIMEOUT_S)
                    event: Any = None if message is None else message.value()
                except (KeyDeserializationError, ValueDeserializationError) as error:
                    message, event = error.kafka_message, None
                if message is None:
                    raise RuntimeError(f"Kafka gave nothing for {REQUEST_TIMEOUT_S:g} s; unread: {left}")
                topic_partition = str(message.topic()), message.partition() or 0
                if topic_partition not in left:
                    continue
                if (message.offset() or 0) + 1 >= left[topic_partition]:
                    del left[topic_partition]
                if isinstance(event, dict):
                    yield topic_partition[0], event_type(message), event
                else:
                    yield topic_partition[0], UNREADABLE, None
        finally:
            consumer.close()


def main() -> int:
    """Print how many events of each type there are, and what confirmed orders were worth, as one JSON object."""
    kafka, registry_url, password_file, *ca_file = sys.argv[1:]
    counts: Counter[str] = Counter()
    paid_minor: dict[str, int] = {}
    confirmed: set[str] = set()
    for topic, name, event in events(login(kafka, password_file, *ca_file), registry_url):
        counts[f"{topic} {name}"] += 1
        if event is None:
            continue
        if name.endswith(".PaymentCaptured"):
            paid_minor[str(event["saga_id"])] = int(str(event["amount_minor"]))
        elif name.endswith(".OrderConfirmed"):
            confirmed.add(str(event["saga_id"]))
    revenue_minor = sum(paid_minor.get(saga_id, 0) for saga_id in confirmed)
    print(json.dumps({"events": counts, "orders_confirmed": len(confirmed), "revenue_minor": revenue_minor}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
