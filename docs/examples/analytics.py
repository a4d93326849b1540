"""Counts every event of every order, with the stock Confluent client alone: nothing here is Baraza's.

    python docs/examples/analytics.py KAFKA REGISTRY_URL [QUIET_S]

``./baraza status --json`` tells both addresses; it ends when nothing has come for QUIET_S seconds (5). The registry
names the schema of each message, so no generated class is needed, and a later release may add fields. It reads as a
group of its own and disturbs nobody.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, DeserializingConsumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import StringDeserializer

EVENT_TOPICS = r"^.*\.events$"
"""A regular expression: the topics of services to come are read as well."""


def events(kafka: str, registry_url: str, quiet_s: float) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yield (topic, event type, event) from the beginning of every event topic, until nothing came for ``quiet_s``."""
    end = math.inf

    def on_assign(_consumer: Consumer, _assigned: list[TopicPartition]) -> None:
        nonlocal end
        end = time.monotonic() + quiet_s

    with SchemaRegistryClient({"url": registry_url}) as registry:
        consumer = DeserializingConsumer(
            {
                "bootstrap.servers": kafka,
                "group.id": "analytics",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "key.deserializer": StringDeserializer(),
                "value.deserializer": AvroDeserializer(registry),
            }
        )
        consumer.subscribe([EVENT_TOPICS], on_assign=on_assign)
        try:
            while time.monotonic() < end:
                message = consumer.poll(0.5)
                if message is None:
                    continue
                error = message.error()
                if error is not None:
                    raise RuntimeError(error.str())
                end = time.monotonic() + quiet_s
                # The CloudEvents headers tell what it is without a look at the payload.
                headers: Any = dict(message.headers() or [])
                event: Any = message.value()
                yield str(message.topic()), headers["ce_type"].decode(), event
        finally:
            consumer.close()


def main() -> int:
    """Print how many events of each type there are, and what confirmed orders were worth, as one JSON object."""
    kafka, registry_url, *rest = sys.argv[1:]
    counts: Counter[str] = Counter()
    paid_minor: dict[str, int] = {}
    confirmed: set[str] = set()
    for topic, event_type, event in events(kafka, registry_url, float(rest[0]) if rest else 5.0):
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
