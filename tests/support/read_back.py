"""Kafka between the tracker and itself, played by a test: its decisions come back to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine

from chassis.saga.deferred import RawMessage
from chassis.saga.outbox import OutboxRow
from saga_tracker.ingest.recorder import Recorder
from saga_tracker.ingest.records import Record
from saga_tracker.model.saga import DECISIONS_TOPIC
from saga_tracker.store import consumed_offsets


def read_back(engine: Engine, recorder: Recorder, rows: Sequence[OutboxRow], *, now: datetime) -> list[OutboxRow]:
    """Deliver the decisions among these outbox rows to the tracker, and return what it sends because of them."""
    decisions = [row for row in rows if row.topic == DECISIONS_TOPIC]
    if not decisions:
        return []
    with engine.begin() as tx:
        partitions = {(row.topic, row.partition or 0) for row in decisions}
        consumed_offsets.begin(tx, dict.fromkeys(partitions, 0))
        offsets = consumed_offsets.load(tx, partitions)
        batch: list[Record] = []
        for row in decisions:
            topic_partition = row.topic, row.partition or 0
            offset = offsets[topic_partition]
            raw = RawMessage(
                topic=row.topic, partition=row.partition or 0, offset=offset, key=row.saga_id.encode(),
                value=row.payload, headers=row.headers,
            )  # fmt: skip
            batch.append(Record(raw=raw, offset=offset, timestamp_ms=int(now.timestamp() * 1000)))
            offsets[topic_partition] += 1
        return recorder.record(tx, batch, now=now).rows
