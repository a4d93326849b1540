"""The lag of a worker, by what its consumer knows of each partition's end without a request."""

from __future__ import annotations

import time
from datetime import datetime

from confluent_kafka import Consumer

from chassis.telemetry import metrics


class Lag:
    """Measures how many messages wait in Kafka, and how old the last handled one was, by topic."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._handled_until: dict[str, float] = {}

    def note_handled(self, topic: str, published_at: datetime | None) -> None:
        """Take note that a message of this time is handled; None where its time is unknown."""
        if published_at is not None:
            self._handled_until[topic] = published_at.timestamp()

    def measure(self) -> None:
        """Set the gauges of all topics that the consumer has partitions of."""
        lags: dict[str, int] = {}
        for position in self._consumer.position(self._consumer.assignment()):
            _, end = self._consumer.get_watermark_offsets(position, cached=True)
            if position.offset >= 0:
                lags[position.topic] = lags.get(position.topic, 0) + max(0, end - position.offset)
        for topic, lag in lags.items():
            metrics.LAG_MESSAGES.labels(topic).set(lag)
            age_s = max(0.0, time.time() - self._handled_until.get(topic, time.time()))
            metrics.LAG_SECONDS.labels(topic).set(age_s if lag else 0.0)
