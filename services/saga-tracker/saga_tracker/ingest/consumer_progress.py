"""Observes how far each service has consumed its topics: a step's time begins when its service has had the trigger.

A service that is down, or slow under a burst of orders, is not late with one order. Compensating thousands of orders
for it would turn a delay into a loss. A service commits an offset after the effects and deferred calls of the messages
before it. ``model.consumption`` judges what is observed here.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

import structlog
from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient

from chassis.postgres.transient import utc_now
from chassis.wire import kafka
from chassis.wire.kafka import KafkaLogin
from saga_tracker.model.consumption import OBSERVE_EVERY, ConsumptionHistory, ServiceObservation
from saga_tracker.model.saga import Definitions
from saga_tracker.store.consumed_offsets import TopicPartition

QUERY_TIMEOUT_S = 3.0
"""For all services together: the tracker records nothing meanwhile."""
REMAINING_S_MIN = 0.05

log = structlog.get_logger()


class ConsumerGroups:
    """The services' consumer groups, which have the services' names, and the ``history`` of what they consumed.

    Both queries are the old ones, which block until they are answered: a consumer that never joins queries the
    offsets, and list_groups the members. The newer ones of the administrator's client crash the process when Kafka has
    been unavailable: they outlive their own timeouts (librdkafka 4605), and follow a coordinator that moves with no
    group (5040).
    """

    def __init__(self, login: KafkaLogin, definitions: Definitions) -> None:
        steps = [step for definition in definitions.values() for step in definition.steps]
        self.history = ConsumptionHistory(kept_s=max(step.timeout_s for step in steps))
        self._login = login
        self._admin = kafka.client(AdminClient, login, {})
        self._consumers: dict[str, Consumer] = {}
        self._triggers = {service: {step.trigger_topic for step in steps if step.service == service}
                          for service in sorted({step.service for step in steps})}  # fmt: skip
        self._observe_at_s = 0.0
        self._is_answered = True

    def observe(self, recorded: Mapping[TopicPartition, int]) -> None:
        """Add an observation to the history, when one is due. ``recorded`` has the offsets of the worker's partitions.

        A service about which Kafka does not answer is left out.
        """
        began_s = time.monotonic()
        if began_s < self._observe_at_s:
            return
        seen = self._seen(recorded, began_s + QUERY_TIMEOUT_S)
        now_s = time.monotonic()
        self._observe_at_s = now_s + OBSERVE_EVERY.total_seconds()
        self.history.observe(seen, recorded, at=utc_now(), elapsed_s=now_s)

    def _seen(self, recorded: Mapping[TopicPartition, int], give_up_at: float) -> dict[str, ServiceObservation]:
        found: dict[str, ServiceObservation] = {}
        error: KafkaException | None = None
        try:
            members = self._members(give_up_at)
            for service, topics in self._triggers.items():
                partitions = [each for each in recorded if each[0] in topics]
                committed = self._committed(service, partitions, give_up_at)
                found[service] = ServiceObservation(members=members.get(service, frozenset()), committed=committed)
        except KafkaException as raised:
            error = raised
        if error is not None and self._is_answered:
            log.warning("The services' consumer groups are unknown; their steps' time begins anew.", error=str(error))
        self._is_answered = error is None
        return found

    def _members(self, give_up_at: float) -> dict[str, frozenset[str]]:
        """Return the ids of the members of every group; a process that starts again has another id."""
        self._admin.poll(0)
        groups = self._admin.list_groups(timeout=_remaining_s(give_up_at))
        return {str(group.id): frozenset(str(member.id) for member in group.members) for group in groups}

    def _committed(
        self, service: str, partitions: Collection[TopicPartition], give_up_at: float
    ) -> dict[TopicPartition, int]:
        if service not in self._consumers:
            self._consumers[service] = kafka.client(Consumer, self._login, {"group.id": service})
        consumer = self._consumers[service]
        consumer.poll(0)  # This reports a login that was refused. There is nothing to consume.
        asked = [KafkaPartition(*each) for each in partitions]
        committed = consumer.committed(asked, timeout=_remaining_s(give_up_at)) if asked else []
        return {(each.topic, each.partition): max(0, each.offset) for each in committed}


def _remaining_s(give_up_at: float) -> float:
    """Return at least a moment: Kafka may answer at once even if another query took all of the time."""
    return max(REMAINING_S_MIN, give_up_at - time.monotonic())
