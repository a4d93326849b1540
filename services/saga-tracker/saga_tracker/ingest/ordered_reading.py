"""Reads one partition number of many topics, in the order of the messages' times and within bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from confluent_kafka import Consumer, Message, TopicPartition

from chassis.process.intake import raw_of
from saga_tracker.ingest.records import Record, text_header

BUFFERED_MAX = 2_000
"""Messages of one topic that wait for the other topics. A topic with more is paused until half of them are taken."""
READ_MAX = 500
TIMEOUT_S = 20.0
OWN_SOURCE = "/baraza/saga-tracker"


class NotReadable(Exception):
    """Kafka did not return what it has stored. The text says what, and what to do."""


class OrderedReader:
    """Reads one partition number of these topics, from the first offset of each up to its end.

    A message's time is when Kafka got it; of the tracker's own messages it is when the tracker decided, just before.
    """

    def __init__(self, consumer: Consumer, partition: int, ranges: Mapping[str, tuple[int, int]]) -> None:
        self._consumer = consumer
        self._partition = partition
        self._ends = {topic: end for topic, (first, end) in ranges.items() if first < end}
        self._firsts = {topic: ranges[topic][0] for topic in self._ends}
        self._waiting: dict[str, deque[tuple[float, Record]]] = {topic: deque() for topic in self._ends}
        self._unfinished = set(self._ends)
        self._paused: set[str] = set()

    def read(self) -> Iterator[Record]:
        """Yield every message. Raises NotReadable."""
        if not self._ends:
            return
        self._consumer.assign([TopicPartition(topic, self._partition, first) for topic, first in self._firsts.items()])
        while self._unfinished or any(self._waiting.values()):
            while any(not self._waiting[topic] for topic in self._unfinished):
                self._fetch()
            topic = min((topic for topic, found in self._waiting.items() if found), key=self._time_of_first)
            yield self._waiting[topic].popleft()[1]
            if topic in self._paused and len(self._waiting[topic]) < BUFFERED_MAX // 2:
                self._consumer.resume([TopicPartition(topic, self._partition)])
                self._paused.discard(topic)
        self._consumer.unassign()

    def _time_of_first(self, topic: str) -> float:
        return self._waiting[topic][0][0]

    def _fetch(self) -> None:
        first = self._consumer.poll(TIMEOUT_S)
        if first is None:
            missing = ", ".join(sorted(topic for topic in self._unfinished if not self._waiting[topic]))
            raise NotReadable(
                f"Kafka returned nothing of partition {self._partition} of {missing} for {TIMEOUT_S:.0f} s, although "
                f"more is stored. Look at Kafka, then begin again."
            )
        # A poll returns with the first message. With a timeout, consume would wait for READ_MAX of them.
        for message in (first, *self._consumer.consume(READ_MAX, 0.0)):
            if message.error() is not None:
                raise NotReadable(f"Kafka refused to be read: {message.error()}.")
            self._keep(message)

    def _keep(self, message: Message) -> None:
        raw = raw_of(message)
        topic, end = raw.topic, self._ends[raw.topic]
        if raw.offset < end:
            record = Record(raw=raw, offset=raw.offset, timestamp_ms=message.timestamp()[1])
            self._waiting[topic].append((_time_of(record), record))
        if raw.offset + 1 >= end:
            self._unfinished.discard(topic)
        elif len(self._waiting[topic]) > BUFFERED_MAX and topic not in self._paused:
            self._consumer.pause([TopicPartition(topic, self._partition)])
            self._paused.add(topic)


def _time_of(record: Record) -> float:
    """Return the time by which a message is ordered, in milliseconds."""
    if text_header(record.raw, "ce_source") == OWN_SOURCE and not record.raw.topic.endswith(".dlq"):
        try:
            decided_at = datetime.fromisoformat(text_header(record.raw, "ce_time"))
        except ValueError:
            return record.timestamp_ms
        return (decided_at if decided_at.tzinfo else decided_at.replace(tzinfo=UTC)).timestamp() * 1000
    return record.timestamp_ms
