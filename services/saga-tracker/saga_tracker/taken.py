"""How far each service has taken its messages from Kafka: a step's time begins when its service has the trigger.

A service that is down, or behind in a rush, is not late with one order; giving thousands of orders up for it would turn
a delay into a loss. What a service has taken it has committed, effects and deferred calls with it, before its offset.
While no process of it runs, what it has taken waits too.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import structlog
from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient

from saga_tracker.tables import Place

ASK_WITHIN_S = 3.0
"""For all services together: meanwhile the tracker records nothing."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The offsets that services have committed; what is missing has not been taken, as far as anyone knows.

    ``down`` are services of which no process runs: what they have taken, such as a retry that is due, waits as well.
    """

    offsets: Mapping[str, Mapping[Place, int]] = field(default_factory=dict)
    down: frozenset[str] = frozenset()

    def includes(self, service: str, place: Place, offset: int) -> bool:
        """Say whether the service has taken the message at that offset, and is there to go on with it."""
        return service not in self.down and offset < self.offsets.get(service, {}).get(place, 0)


class Groups:
    """Asks Kafka for the offsets of the services' consumer groups, which bear the services' names."""

    def __init__(self, kafka: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": kafka})

    def taken_by(self, services: Collection[str]) -> Taken:
        """Return what these services have taken. Where Kafka gives no answer nothing counts as taken."""
        if not services:
            return Taken()
        described = self._admin.describe_consumer_groups(list(services), request_timeout=ASK_WITHIN_S)
        asked = {
            service: self._admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(service)], request_timeout=ASK_WITHIN_S
            )[service]
            for service in services
        }
        offsets: dict[str, Mapping[Place, int]] = {}
        give_up_at = time.monotonic() + ASK_WITHIN_S
        for service, answering in asked.items():
            try:
                answer = answering.result(max(0.0, give_up_at - time.monotonic()))
            except (KafkaException, TimeoutError) as error:
                log.warning("Kafka does not say what a service has taken.", of=service, error=str(error))
                continue
            offsets[service] = {(each.topic, each.partition): each.offset for each in answer.topic_partitions or ()}
        down = [service for service, told in described.items() if _is_empty(service, told, give_up_at)]
        return Taken(offsets=offsets, down=frozenset(down))


def _is_empty(service: str, told: Future[Any], give_up_at: float) -> bool:
    """Say whether no process of the service is in its group; where Kafka does not say, its offsets tell enough."""
    try:
        description = told.result(max(0.0, give_up_at - time.monotonic()))
    except (KafkaException, TimeoutError) as error:
        log.warning("Kafka does not say who reads for a service.", of=service, error=str(error))
        return False
    return description.state in (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)
