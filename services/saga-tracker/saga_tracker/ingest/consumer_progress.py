"""How far each service has taken its messages from Kafka: a step's time begins when its service has the trigger.

A service that is down, or behind in a rush, is not late with one order; giving thousands of orders up for it would turn
a delay into a loss. What a service has taken it has committed, effects and deferred calls with it, before its offset.
While no process of it runs, what it has taken waits too.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import structlog
from chassis.wire import kafka
from chassis.wire.kafka import KafkaLogin
from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient

from saga_tracker.store.consumed_offsets import TopicPartition

ASK_WITHIN_S = 3.0
"""For all services together: meanwhile the tracker records nothing."""
LEFT_S_MIN = 0.05

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerProgress:
    """The offsets that services have committed; what is missing has not been taken, as far as anyone knows.

    ``down`` are services of which no process runs: what they have taken, such as a retry that is due, waits as well.
    """

    offsets: Mapping[str, Mapping[TopicPartition, int]] = field(default_factory=dict)
    down: frozenset[str] = frozenset()

    def includes(self, service: str, place: TopicPartition, offset: int) -> bool:
        """Say whether the service has taken the message at that offset, and is there to go on with it."""
        return service not in self.down and offset < self.offsets.get(service, {}).get(place, 0)


class ConsumerGroups:
    """Asks Kafka for the offsets of the services' consumer groups, which bear the services' names.

    Both questions are the old ones that wait for their answer: an offset's by a consumer that never joins, a group's
    members' by list_groups. The administrator's client has newer ones that crash the process when Kafka has been away:
    they outlive their own timeouts (librdkafka 4605), and follow a coordinator that moves with no group (5040).
    """

    def __init__(self, login: KafkaLogin) -> None:
        self._login = login
        self._admin = kafka.client(AdminClient, login, {})
        self._consumers: dict[str, Consumer] = {}

    def progress_of(self, services: Collection[str]) -> ConsumerProgress:
        """Return what these services have taken. Where Kafka gives no answer nothing counts as taken."""
        if not services:
            return ConsumerProgress()
        offsets: dict[str, Mapping[TopicPartition, int]] = {}
        down: set[str] = set()
        give_up_at = time.monotonic() + ASK_WITHIN_S
        for service in services:
            try:
                offsets[service] = self._committed(service, give_up_at)
                if self._is_empty(service, give_up_at):
                    down.add(service)
            except KafkaException as error:
                log.warning("Kafka does not say what a service has taken.", of=service, error=str(error))
        return ConsumerProgress(offsets=offsets, down=frozenset(down))

    def _committed(self, service: str, give_up_at: float) -> Mapping[TopicPartition, int]:
        if service not in self._consumers:
            self._consumers[service] = kafka.client(Consumer, self._login, {"group.id": service})
        consumer = self._consumers[service]
        consumer.poll(0)  # A login that was refused is told of here; there is nothing to consume.
        listed = consumer.list_topics(timeout=_left_s(give_up_at)).topics.values()
        partitions = [KafkaPartition(each.topic, number) for each in listed for number in each.partitions]
        committed = consumer.committed(partitions, timeout=_left_s(give_up_at))
        return {(each.topic, each.partition): each.offset for each in committed}

    def _is_empty(self, service: str, give_up_at: float) -> bool:
        """Say whether no process of the service is in its group."""
        self._admin.poll(0)
        told = self._admin.list_groups(service, timeout=_left_s(give_up_at))
        return not any(group.members for group in told if group.id == service)


def _left_s(give_up_at: float) -> float:
    """At least a moment, for an answer that Kafka gives at once though another service's took all of the time."""
    return max(LEFT_S_MIN, give_up_at - time.monotonic())
