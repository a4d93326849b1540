"""Tracks up to when everything in Kafka is recorded. Deadlines are judged by it, and the API shows it. Pure.

Kafka's answer to a fetch reports where a partition ends. The answer may have waited in a buffer while the process was
suspended, and none comes while Kafka is unavailable. One thing is certain: a fetch is sent after the answer before it
was read. So everything that Kafka had at that time lies before the end that the new answer reports.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from saga_tracker.store.consumed_offsets import TopicPartition


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Where a partition ended by Kafka's last answer, and when that answer was read."""

    offset: int
    answered_at: datetime


class WatermarkTracker:
    """The watermark of each partition: the time up to which everything is recorded.

    A mark is a time, and the offset before which everything up to that time lies. Each partition has at most one mark
    to reach, so that the watermark advances under load, when the end is never reached.
    """

    def __init__(self) -> None:
        self._answered_at: dict[TopicPartition, datetime] = {}
        self._marks: dict[TopicPartition, tuple[datetime, int]] = {}
        self._recorded_until: dict[TopicPartition, datetime] = {}

    def observe(self, topic_partition: TopicPartition, end: End | None, offset: int) -> None:
        """Add Kafka's last answer (None: none yet) and the offset up to which everything is recorded."""
        if end is not None:
            before = self._answered_at.get(topic_partition)
            self._answered_at[topic_partition] = end.answered_at
            if before is not None and before < end.answered_at:
                self._marks.setdefault(topic_partition, (before, end.offset))
        mark = self._marks.get(topic_partition)
        if mark is not None and mark[1] <= offset:
            self._recorded_until[topic_partition] = mark[0]
            del self._marks[topic_partition]

    def recorded_until(self, assigned: Iterable[TopicPartition]) -> dict[int, datetime]:
        """Return up to when everything is recorded on every topic, by partition number; an unknown one is missing."""
        earliest: dict[int, datetime | None] = {}
        for topic_partition in assigned:
            _, partition = topic_partition
            until = self._recorded_until.get(topic_partition)
            before = earliest.get(partition, until)
            earliest[partition] = None if until is None or before is None else min(until, before)
        return {partition: until for partition, until in earliest.items() if until is not None}

    def is_caught_up(self, assigned: Iterable[TopicPartition]) -> bool:
        """Return whether no message is known to wait in these partitions."""
        return all(each in self._recorded_until and each not in self._marks for each in assigned)
