"""What the tracker requests of Kafka, and how often: dead letters more rarely than the rest.

aiokafka names every assigned partition in every request, 25 times a second, and Kafka answers for each of them. More
than half of the partitions are those of dead letters, which are rare and for which no one waits a tenth of a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from aiokafka.consumer import consumer as aiokafka_consumer  # type: ignore[import-untyped]
from aiokafka.consumer.fetcher import Fetcher  # type: ignore[import-untyped]

from saga_tracker.ingest.watermarks import End
from saga_tracker.store.consumed_offsets import TopicPartition

DEAD_LETTERS = ".dlq"
DEAD_LETTERS_EVERY_S = 0.2
"""A watermark is as old as the oldest answer about a partition. A deadline may be judged so much later."""

Requested = list[tuple[str, Any]]
"""The topics of a request, each with its partitions."""


def install() -> None:
    """Let aiokafka's consumers fetch through this module, in this process."""
    vars(aiokafka_consumer)["Fetcher"] = PacedFetcher


class PacedFetcher(Fetcher):  # type: ignore[misc]
    """aiokafka's fetcher, which leaves dead letters out of most of its requests."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._rare: dict[int, RareTopics] = {}
        super().__init__(*arguments, **options)

    def _get_actions_per_node(self, assignment: Any) -> tuple[Any, ...]:
        requests, *others = super()._get_actions_per_node(assignment)
        for node_id, request in requests:
            rare = self._rare.setdefault(node_id, RareTopics())
            request._topics = rare.requested(request.topics, time.monotonic())
        return (requests, *others)


class RareTopics:
    """Leaves dead letters out of the requests to one broker, except out of those that are due."""

    def __init__(self, *, is_rare: Callable[[str], bool] = lambda topic: topic.endswith(DEAD_LETTERS)) -> None:
        self._is_rare = is_rare
        self._due_at_s = 0.0

    def requested(self, topics: Requested, now_s: float) -> Requested:
        """Return what of these topics is requested now. A request never names none."""
        often = [(topic, partitions) for topic, partitions in topics if not self._is_rare(topic)]
        if often and now_s < self._due_at_s:
            return often
        self._due_at_s = now_s + DEAD_LETTERS_EVERY_S
        return topics


class PartitionEnds:
    """Where each partition ends by Kafka's last answer, and when that answer was read."""

    def __init__(self) -> None:
        self._known: dict[TopicPartition, tuple[int, End]] = {}

    def read(self, states: Mapping[Any, Any], assigned: Iterable[TopicPartition]) -> dict[TopicPartition, End]:
        """Return the ends of these partitions from aiokafka's states; one without an answer is missing.

        The states change on the consumer's thread.
        """
        found: dict[TopicPartition, End] = {}
        for each in assigned:
            # A named tuple equals a tuple, so aiokafka's partitions are found by ours.
            state = states.get(each)
            if state is None:
                continue
            # The time first: if an answer comes in between, its end is the later one.
            answered_at_ms, offset = state.timestamp, state.highwater
            if answered_at_ms is None or offset is None:
                continue
            known = self._known.get(each)
            if known is None or known[0] != answered_at_ms or known[1].offset != offset:
                answered_at = datetime.fromtimestamp(answered_at_ms / 1000, UTC)
                known = self._known[each] = answered_at_ms, End(offset=offset, answered_at=answered_at)
            found[each] = known[1]
        return found
