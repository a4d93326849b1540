"""Reads ranges of topics for a reconciliation, with the service's own login. It publishes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from chassis.process.intake import raw_of
from chassis.saga.deferred import RawMessage
from chassis.wire.kafka import KafkaLogin

TIMEOUT_S = 10.0
READ_SIZE_MAX = 500


class CannotReconcile(Exception):
    """Nothing was changed; the message names what prevents it, and what to do."""


class Reader:
    """Reads ranges of topics with the service's own login, and sets the offsets at which the service continues."""

    def __init__(self, login: KafkaLogin, group: str) -> None:
        self._group = group
        self._admin = AdminClient(login.options())
        self._consumer = Consumer({**login.options(), "group.id": group, "enable.auto.commit": False})

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def check_stopped(self) -> None:
        """Raise CannotReconcile while a process of the service runs, since it would decide at the same time."""
        found = self._admin.describe_consumer_groups([self._group])[self._group].result(TIMEOUT_S)
        if found.members:
            names = ", ".join(sorted(member.client_id for member in found.members))
            raise CannotReconcile(f"{self._group} still runs ({names}). Stop all its processes first.")

    def offsets_at(self, topics: Iterable[str], since: datetime) -> list[TopicPartition]:
        """Return the offset of each partition of the topics at that time: its end where it has no later message."""
        listed = self._admin.list_topics(timeout=TIMEOUT_S).topics
        at_ms = int(since.timestamp() * 1_000)
        times = [TopicPartition(topic, number, at_ms) for topic in topics for number in listed[topic].partitions]
        found = self._consumer.offsets_for_times(times, timeout=TIMEOUT_S)
        return [
            each if each.offset >= 0 else TopicPartition(each.topic, each.partition, self._end(each)) for each in found
        ]

    def read(self, begins: Sequence[TopicPartition]) -> Iterator[tuple[int, RawMessage]]:
        """Yield every message from these offsets to the present ends, with the time at which it was published."""
        ends = {(begin.topic, begin.partition): self._end(begin) for begin in begins}
        left = [begin for begin in begins if begin.offset < ends[begin.topic, begin.partition]]
        unfinished = {(begin.topic, begin.partition) for begin in left}
        if left:
            self._consumer.assign(left)
        while unfinished:
            messages = self._consumer.consume(READ_SIZE_MAX, TIMEOUT_S)
            if not messages:
                raise CannotReconcile(
                    f"Kafka returned nothing for {TIMEOUT_S:.0f} s, although more is stored. Run ./baraza status."
                )
            for message in messages:
                if message.error() is not None:
                    raise CannotReconcile(f"{self._group} cannot read from Kafka: {message.error()}.")
                raw = raw_of(message)
                if raw.offset < ends[raw.topic, raw.partition]:
                    yield message.timestamp()[1], raw
                if raw.offset + 1 >= ends[raw.topic, raw.partition]:
                    unfinished.discard((raw.topic, raw.partition))
        self._consumer.unassign()

    def committed(self, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        """Return the offsets that the service has committed, by topic and partition; none where it never did."""
        listed = self._admin.list_topics(timeout=TIMEOUT_S).topics
        partitions = [TopicPartition(topic, number) for topic in topics for number in listed[topic].partitions]
        found = self._consumer.committed(partitions, timeout=TIMEOUT_S)
        return {(each.topic, each.partition): each.offset for each in found if each.offset >= 0}

    def commit_back(self, offsets: Sequence[TopicPartition]) -> None:
        """Commit these offsets for the service, except where the committed offset is an earlier one."""
        committed = self._consumer.committed(list(offsets), timeout=TIMEOUT_S)
        back = [offset for offset, now in zip(offsets, committed, strict=True) if now.offset > offset.offset]
        if back:
            self._consumer.commit(offsets=back, asynchronous=False)

    def _end(self, topic_partition: TopicPartition) -> int:
        return self._consumer.get_watermark_offsets(topic_partition, timeout=TIMEOUT_S)[1]
