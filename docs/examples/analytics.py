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
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, DeserializingConsumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import StringDeserializer

EVENT_TOPICS = re.compile(r"\.events$")
"""The topics of services to come are read as well."""

USER = "analytics"
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


def events(kafka: dict[str, str], registry_url: str) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yield (topic, event type, event) for what the event topics hold now, from the beginning."""
    with SchemaRegistryClient({"url": registry_url}) as registry:
        consumer = DeserializingConsumer(
            {
                **kafka,
                "group.id": USER,
                "enable.auto.commit": False,
                "key.deserializer": StringDeserializer(),
                "value.deserializer": AvroDeserializer(registry),
            }
        )
        try:
            left = ends(consumer)
            consumer.assign([TopicPartition(*each, OFFSET_BEGINNING) for each in left])
            while left:
                message = consumer.poll(REQUEST_TIMEOUT_S)
                if message is None:
                    raise RuntimeError(f"Kafka gave nothing for {REQUEST_TIMEOUT_S:g} s; unread: {left}")
                topic_partition = str(message.topic()), message.partition() or 0
                if topic_partition not in left:
                    continue
                if (message.offset() or 0) + 1 >= left[topic_partition]:
                    del left[topic_partition]
                # The CloudEvents headers name the type without a look at the payload.
                headers: Any = dict(message.headers() or [])
                event: Any = message.value()
                yield topic_partition[0], headers["ce_type"].decode(), event
        finally:
            consumer.close()


def main() -> int:
    """Print how many events of each type there are, and what confirmed orders were worth, as one JSON object."""
    kafka, registry_url, password_file, *ca_file = sys.argv[1:]
    counts: Counter[str] = Counter()
    paid_minor: dict[str, int] = {}
    confirmed: set[str] = set()
    for topic, event_type, event in events(login(kafka, password_file, *ca_file), registry_url):
        counts[f"{topic} {event_type}"] += 1
        if event_type.endswith(".PaymentCaptured"):
            paid_minor[str(event["saga_id"])] = int(str(event["amount_minor"]))
        elif event_type.endswith(".OrderConfirmed"):
            confirmed.add(str(event["saga_id"]))
    revenue_minor = sum(paid_minor.get(saga_id, 0) for saga_id in confirmed)
    print(json.dumps({"events": counts, "orders_confirmed": len(confirmed), "revenue_minor": revenue_minor}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
