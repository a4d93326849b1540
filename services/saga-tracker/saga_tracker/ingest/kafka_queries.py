"""What the worker queries from Kafka beside Faust when partitions are assigned: topics' ids, and its own decisions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import TimeoutError as FutureTimeout

import structlog
from confluent_kafka import Consumer, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from chassis.wire import kafka
from chassis.wire.kafka import KafkaLogin
from saga_tracker.ingest.ordered_reading import OrderedReader
from saga_tracker.ingest.records import Record
from saga_tracker.model.saga import DECISIONS_TOPIC, SERVICE

QUERY_TIMEOUT_S = 3.0

log = structlog.get_logger()


class KafkaQueries:
    """Queries with the tracker's own login."""

    def __init__(self, login: KafkaLogin) -> None:
        self._login = login
        self._admin = kafka.client(AdminClient, login, {})

    def topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """Return the ids that Kafka gave these topics when they were made; those of which it reports none are missing.

        This is one of the newer queries. It is sent once for an assignment, when Kafka has just answered others.
        """
        if not topics:
            return {}
        found: dict[str, str] = {}
        for topic, described in self._admin.describe_topics(TopicCollection(sorted(topics))).items():
            try:
                found[topic] = str(described.result(QUERY_TIMEOUT_S).topic_id)
            except (KafkaException, FutureTimeout) as error:
                log.warning("The id of a topic is unknown.", topic=topic, error=str(error))
        return found

    def decisions(self, partition: int, first: int, end: int) -> Iterator[Record]:
        """Yield the tracker's own decisions from the offset ``first`` up to ``end``. Raises NotReadable."""
        consumer = kafka.client(Consumer, self._login, {"group.id": SERVICE, "enable.auto.commit": False})
        try:
            yield from OrderedReader(consumer, partition, {DECISIONS_TOPIC: (first, end)}).read()
        finally:
            consumer.close()
