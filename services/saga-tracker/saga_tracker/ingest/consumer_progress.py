"""How far each service has consumed its topics: a step's timeout begins when its service has consumed the trigger.

A service that is down, or slow under a burst of orders, is not late with one order. Compensating thousands of orders
for it would turn a delay into a loss. A service commits an offset after the effects and deferred calls of the messages
before it. While no process of the service runs, the messages that it has consumed wait too.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import structlog
from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient

from chassis.wire import kafka
from chassis.wire.kafka import KafkaLogin
from saga_tracker.store.consumed_offsets import TopicPartition

QUERY_TIMEOUT_S = 3.0
"""For all services together: the tracker records nothing meanwhile."""
REMAINING_S_MIN = 0.05

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerProgress:
    """The offsets that services have committed. A message beyond them, or of a missing partition, is not consumed.

    No process of the services that are ``down`` runs. What they have consumed, such as a retry that is due, waits.
    """

    offsets: Mapping[str, Mapping[TopicPartition, int]] = field(default_factory=dict)
    down: frozenset[str] = frozenset()

    def includes(self, service: str, topic_partition: TopicPartition, offset: int) -> bool:
        """Return whether the service has consumed the message at that offset and is running."""
        return service not in self.down and offset < self.offsets.get(service, {}).get(topic_partition, 0)


class ConsumerGroups:
    """Queries Kafka for the offsets of the services' consumer groups, which have the services' names.

    Both queries are the old ones, which block until they are answered: a consumer that never joins queries the
    offsets, and list_groups the members. The newer ones of the administrator's client crash the process when Kafka has
    been unavailable: they outlive their own timeouts (librdkafka 4605), and follow a coordinator that moves with no
    group (5040).
    """

    def __init__(self, login: KafkaLogin) -> None:
        self._login = login
        self._admin = kafka.client(AdminClient, login, {})
        self._consumers: dict[str, Consumer] = {}

    def progress_of(self, services: Collection[str]) -> ConsumerProgress:
        """Return what these services have consumed. Where Kafka does not answer, nothing counts as consumed."""
        if not services:
            return ConsumerProgress()
        offsets: dict[str, Mapping[TopicPartition, int]] = {}
        down: set[str] = set()
        give_up_at = time.monotonic() + QUERY_TIMEOUT_S
        for service in services:
            try:
                offsets[service] = self._committed(service, give_up_at)
                if self._is_empty(service, give_up_at):
                    down.add(service)
            except KafkaException as error:
                log.warning("The committed offsets of a service are unknown.", of=service, error=str(error))
        return ConsumerProgress(offsets=offsets, down=frozenset(down))

    def _committed(self, service: str, give_up_at: float) -> Mapping[TopicPartition, int]:
        if service not in self._consumers:
            self._consumers[service] = kafka.client(Consumer, self._login, {"group.id": service})
        consumer = self._consumers[service]
        consumer.poll(0)  # This reports a login that was refused. There is nothing to consume.
        listed = consumer.list_topics(timeout=_remaining_s(give_up_at)).topics.values()
        partitions = [KafkaPartition(each.topic, number) for each in listed for number in each.partitions]
        committed = consumer.committed(partitions, timeout=_remaining_s(give_up_at))
        return {(each.topic, each.partition): each.offset for each in committed}

    def _is_empty(self, service: str, give_up_at: float) -> bool:
        """Return whether no process of the service is in its group."""
        self._admin.poll(0)
        groups = self._admin.list_groups(service, timeout=_remaining_s(give_up_at))
        return not any(group.members for group in groups if group.id == service)


def _remaining_s(give_up_at: float) -> float:
    """Return at least a moment: Kafka may answer at once even if another service's query took all of the time."""
    return max(REMAINING_S_MIN, give_up_at - time.monotonic())
