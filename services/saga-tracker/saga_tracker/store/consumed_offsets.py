"""The next offset of every topic partition, moved in the transaction that records the messages before it.

A batch is recorded once: the move fails where another worker has moved the offset meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import Connection, TextClause, text

from chassis.postgres.statement import Statement
from saga_tracker.store.conflicts import Overtaken

TopicPartition: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOffset:
    """The next offset of a partition, and the id of the topic that it belongs to; None where that is unknown."""

    next_offset: int
    topic_id: str | None = None


_STORED = """
    SELECT topic, partition, next_offset, topic_id
    FROM consumed_offsets
    JOIN unnest(CAST(:topics AS text[]), CAST(:partitions AS smallint[])) AS row (topic, partition)
        USING (topic, partition)
"""
LOAD = text(_STORED)
LOCK = text(_STORED + "ORDER BY topic, partition FOR UPDATE OF consumed_offsets")

MOVE = Statement("""
    UPDATE consumed_offsets
    SET next_offset = row.next_offset
    FROM unnest(CAST(%(topics)s AS text[]), CAST(%(partitions)s AS smallint[]), CAST(%(offsets)s AS bigint[]),
                CAST(%(stored)s AS bigint[]))
         AS row (topic, partition, next_offset, stored)
    WHERE consumed_offsets.topic = row.topic AND consumed_offsets.partition = row.partition
      AND consumed_offsets.next_offset = row.stored
""")

BEGIN = text("""
    INSERT INTO consumed_offsets (topic, partition, next_offset)
    SELECT topic, partition, next_offset
    FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS smallint[]), CAST(:offsets AS bigint[]))
         AS row (topic, partition, next_offset)
    ON CONFLICT DO NOTHING
""")

IDENTIFY = text("""
    UPDATE consumed_offsets
    SET topic_id = row.topic_id
    FROM unnest(CAST(:topics AS text[]), CAST(:ids AS text[])) AS row (topic, topic_id)
    WHERE consumed_offsets.topic = row.topic AND consumed_offsets.topic_id IS NULL
""")

DISCARD = text("""
    DELETE FROM consumed_offsets WHERE topic = ANY(CAST(:topics AS text[]))
""")


def load(tx: Connection, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the stored offsets of these partitions; one that was never consumed is missing."""
    return _offsets(_read(tx, LOAD, partitions))


def load_with_ids(tx: Connection, partitions: Collection[TopicPartition]) -> dict[TopicPartition, StoredOffset]:
    """Return the stored offsets of these partitions with the ids of their topics."""
    return _read(tx, LOAD, partitions)


def lock(tx: Connection, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the stored offsets of these partitions, and keep them locked until the commit."""
    return _offsets(_read(tx, LOCK, partitions))


def move(
    tx: Connection, stored: Mapping[TopicPartition, int], offsets: Mapping[TopicPartition, int]
) -> Callable[[], None]:
    """Move partitions from their ``stored`` offsets to these ``offsets``, without waiting for the result.

    Call the returned function before the commit: it raises Overtaken where another worker has moved one.
    """
    moved = {partition: offset for partition, offset in offsets.items() if offset != stored[partition]}
    if not moved:
        return lambda: None
    parameters = _parameters(moved)
    parameters["stored"] = [stored[partition] for partition in sorted(moved)]
    pending = MOVE.submit(tx, parameters)

    def check() -> None:
        if pending.change_count() != len(moved):
            raise Overtaken("Another worker has recorded some of these messages; they must not be recorded twice.")

    return check


def begin(tx: Connection, offsets: Mapping[TopicPartition, int]) -> None:
    """Store the first offsets of partitions that were never consumed."""
    if offsets:
        tx.execute(BEGIN, _parameters(offsets))


def identify(tx: Connection, topic_ids: Mapping[str, str]) -> None:
    """Store the ids of these topics with the offsets that have none."""
    if topic_ids:
        ordered = sorted(topic_ids)
        tx.execute(IDENTIFY, {"topics": ordered, "ids": [topic_ids[topic] for topic in ordered]})


def discard(tx: Connection, topics: Collection[str]) -> int:
    """Delete the offsets of these topics, which are then read from Kafka's earliest messages; return how many."""
    return tx.execute(DISCARD, {"topics": sorted(topics)}).rowcount


def _offsets(stored: Mapping[TopicPartition, StoredOffset]) -> dict[TopicPartition, int]:
    return {topic_partition: position.next_offset for topic_partition, position in stored.items()}


def _read(
    tx: Connection, statement: TextClause, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, StoredOffset]:
    rows = tx.execute(
        statement,
        {"topics": [topic for topic, _ in partitions], "partitions": [number for _, number in partitions]},
    )
    return {
        (row.topic, row.partition): StoredOffset(next_offset=row.next_offset, topic_id=row.topic_id) for row in rows
    }


def _parameters(offsets: Mapping[TopicPartition, int]) -> dict[str, object]:
    ordered = sorted(offsets)
    return {
        "topics": [topic for topic, _ in ordered],
        "partitions": [number for _, number in ordered],
        "offsets": [offsets[partition] for partition in ordered],
    }
