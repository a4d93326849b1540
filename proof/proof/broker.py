"""A broker in memory: partitions that only grow. The schedule decides who reads what, how often and how late."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from chassis.saga.deferred import RawMessage
from chassis.saga.outbox import OutboxRow
from saga_tracker.ingest.records import Record
from saga_tracker.store.consumed_offsets import TopicPartition


class Broker:
    """Topics that all have the same number of partitions."""

    def __init__(self, partition_count: int) -> None:
        self.partition_count = partition_count
        self.appended_count = 0
        self._logs: defaultdict[TopicPartition, list[Record]] = defaultdict(list)

    def publish(self, row: OutboxRow, *, now: datetime) -> None:
        """Append one row of an outbox."""
        key = row.saga_id.encode()
        partition = zlib.crc32(key) % self.partition_count if row.partition is None else row.partition
        log = self._logs[(row.topic, partition)]
        raw = RawMessage(
            topic=row.topic, partition=partition, offset=len(log), key=key, value=row.payload, headers=row.headers
        )
        self.appended_count += 1
        log.append(Record(raw=raw, offset=raw.offset, timestamp_ms=int(now.timestamp() * 1000)))

    def read(self, topic_partition: TopicPartition, offset: int, count: int | None = None) -> list[Record]:
        """Return the records from the offset on, ``count`` at most."""
        log = self._logs.get(topic_partition, [])
        return log[offset:] if count is None else log[offset : offset + count]

    def end(self, topic_partition: TopicPartition) -> int:
        """Return the offset of the next record."""
        return len(self._logs.get(topic_partition, ()))

    def all(self) -> Iterator[Record]:
        """Yield every record."""
        for log in self._logs.values():
            yield from log
