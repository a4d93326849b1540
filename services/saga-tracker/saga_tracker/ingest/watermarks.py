"""Up to when everything that Kafka had is recorded: deadlines are judged by it, and people are told. Pure.

Kafka's answer to a fetch says where a partition ends, but it may have lain unread while the process stood still, and
where Kafka is away no answer comes at all. What is certain: the question was asked after the answer before it had been
read, so whatever Kafka had at that time lies before the end that is told now.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from saga_tracker.store.consumed_offsets import TopicPartition


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Where a partition ended by Kafka's last answer, and when that was read."""

    offset: int
    told_at: datetime


class WatermarkTracker:
    """What is certain of each partition. A mark is a time, and the offset before which everything up to then lies.

    One mark at a time is waited for, so that the reach goes on under load, when the end is never met.
    """

    def __init__(self) -> None:
        self._told_at: dict[TopicPartition, datetime] = {}
        self._marks: dict[TopicPartition, tuple[datetime, int]] = {}
        self._until: dict[TopicPartition, datetime] = {}

    def look(self, place: TopicPartition, end: End | None, offset: int) -> None:
        """Take in what Kafka told last (None: nothing yet) and the offset up to which all is recorded."""
        if end is not None:
            before = self._told_at.get(place)
            self._told_at[place] = end.told_at
            if before is not None and before < end.told_at:
                self._marks.setdefault(place, (before, end.offset))
        mark = self._marks.get(place)
        if mark is not None and mark[1] <= offset:
            self._until[place] = mark[0]
            del self._marks[place]

    def until(self, assigned: Iterable[TopicPartition]) -> dict[int, datetime]:
        """Return up to when everything is recorded on every topic, by partition; an unknown one is missing."""
        known: dict[int, datetime | None] = {}
        for place in assigned:
            _, partition = place
            until = self._until.get(place)
            least = known.get(partition, until)
            known[partition] = None if until is None or least is None else min(until, least)
        return {partition: until for partition, until in known.items() if until is not None}

    def is_met(self, assigned: Iterable[TopicPartition]) -> bool:
        """Say whether nothing is known to wait in these partitions."""
        return all(place in self._until and place not in self._marks for place in assigned)
