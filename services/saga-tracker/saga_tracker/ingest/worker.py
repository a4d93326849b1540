"""The blocking half of the worker process: transactions and publishing, on one thread. It must never use Faust.

An error that cannot be repeated is raised and ends the process; the next one continues at the stored offsets.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

from sqlalchemy import Connection, Engine

from chassis.postgres.transient import TransientRetry, utc_now
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.saga.publisher import OutboxPublisher, Relay
from saga_tracker.ingest import positions
from saga_tracker.ingest.consumer_progress import ConsumerGroups
from saga_tracker.ingest.deadlines import Deadlines
from saga_tracker.ingest.kafka_queries import KafkaQueries
from saga_tracker.ingest.operator_acts import OperatorActs
from saga_tracker.ingest.outgoing import END_TOPIC
from saga_tracker.ingest.positions import Available
from saga_tracker.ingest.recorder import RecordedBatch, Recorder
from saga_tracker.ingest.records import Record
from saga_tracker.model.saga import DECISIONS_TOPIC
from saga_tracker.store import consumed_offsets, rollups
from saga_tracker.store.conflicts import Overtaken
from saga_tracker.store.consumed_offsets import StoredOffset, TopicPartition

ORPHANS_EVERY_S = 10.0
"""There should be no orphan; one that exists waits no longer than a step may take."""
FLUSH_WITHIN_S = 5.0
DECISIONS_MAX = 500
"""Decisions that one transaction records when partitions are assigned. There are a few, of the last owner."""

Result = TypeVar("Result")


class RebuildIncomplete(Exception):
    """The database lacks facts that Kafka has, so the worker must not decide on it."""


class TrackerWorker:
    """The transactions of the worker's partitions. All methods but :meth:`stop` belong to one thread."""

    def __init__(
        self,
        engine: Engine,
        recorder: Recorder,
        deadlines: Deadlines,
        operator_acts: OperatorActs,
        relay: Relay,
        groups: ConsumerGroups,
        queries: KafkaQueries,
    ) -> None:
        self._engine = engine
        self._recorder = recorder
        self._deadlines = deadlines
        self._operator_acts = operator_acts
        self._groups = groups
        self._queries = queries
        self._stopping = threading.Event()
        self._retry = TransientRetry(self._stopping)
        self._publisher = OutboxPublisher(self._transact, relay)
        self._orphans_at = 0.0
        self.offsets: dict[TopicPartition, int] = {}
        """The next offset of each assigned partition; the other thread reads it as well."""

    def stop(self) -> None:
        """Stop waiting for PostgreSQL."""
        self._stopping.set()

    def stored(self, assigned: Collection[TopicPartition]) -> dict[TopicPartition, StoredOffset]:
        """Return the stored offsets of these partitions; one that was never consumed is missing.

        Raises RebuildIncomplete where a rebuild has begun, and has not recorded everything yet.
        """
        being_rebuilt = [(END_TOPIC, partition) for _, partition in assigned]

        def load(tx: Connection) -> dict[TopicPartition, StoredOffset]:
            if consumed_offsets.load(tx, being_rebuilt):
                raise RebuildIncomplete(
                    "This database is being rebuilt, or a rebuild of it did not complete; then begin again with an "
                    "empty one: docs/operations.md, 'Rebuilding the tracker'."
                )
            return consumed_offsets.load_with_ids(tx, assigned)

        return self._transact(load)

    def begin(
        self, stored: Mapping[TopicPartition, StoredOffset], available: Mapping[TopicPartition, Available]
    ) -> dict[TopicPartition, int]:
        """Return the next offset of each partition: the stored one, or of a new partition Kafka's earliest.

        ``stored`` was read before ``available``, what Kafka has. What the last owner of the partitions left in the
        outbox is published first. Raises OffsetsInvalid where a stored offset does not fit what Kafka has.
        """
        topic_ids = self._queries.topic_ids({topic for topic, _ in available})
        available = {each: replace(found, topic_id=topic_ids.get(each[0])) for each, found in available.items()}
        positions.check(stored, available)
        earliest = {each: found.earliest for each, found in available.items() if each not in stored}

        def offsets(tx: Connection) -> dict[TopicPartition, int]:
            consumed_offsets.begin(tx, earliest)
            consumed_offsets.identify(tx, topic_ids)
            if available:
                rollups.count_again(tx, {partition for _, partition in available})
            return consumed_offsets.load(tx, available)

        self.offsets = self._transact(offsets)
        self._recorder.begin(self.offsets)
        self._record_decisions(available)
        self._publisher.publish_leftovers({partition for _, partition in available}, age=timedelta(0))
        return self.offsets

    def _record_decisions(self, available: Mapping[TopicPartition, Available]) -> None:
        """Record the decisions that Kafka has before anything else: a database that did not make them must not act."""
        for (topic, partition), found in available.items():
            first = self.offsets[topic, partition]
            if topic != DECISIONS_TOPIC or first >= found.end:
                continue
            records = self._queries.decisions(partition, first, found.end)
            while batch := list(islice(records, DECISIONS_MAX)):
                self.record(batch)

    def check(self, before: Mapping[TopicPartition, int], available: Mapping[TopicPartition, Available]) -> None:
        """Raise OffsetsInvalid unless Kafka has these offsets, which were recorded before ``available`` was read."""
        positions.check({each: StoredOffset(next_offset=offset) for each, offset in before.items()}, available)

    def record(self, batch: Sequence[Record]) -> None:
        """Record a batch in one transaction, then publish what follows. Raises OffsetGap, Overtaken."""

        def transaction(tx: Connection) -> RecordedBatch:
            return self._recorder.record(tx, batch, now=utc_now())

        try:
            recorded = self._transact(transaction)
        except Overtaken:
            # The cached sagas were stale and are evicted by now. If another worker is the owner, this fails again.
            recorded = self._transact(transaction)
        self._recorder.committed(recorded)
        self._publisher.publish(recorded.rows)
        self.offsets.update(recorded.offsets)

    def tick(self, recorded_until: Mapping[int, datetime], partitions: Collection[int]) -> None:
        """Observe the services, record deadlines that passed, apply plans, and clear the outbox.

        ``recorded_until`` is up to when everything is recorded, by partition. Delivered rows are deleted here and not
        with each batch, which would cost a statement more for a row or two.
        """
        now_s = time.monotonic()
        seeks_orphans = now_s >= self._orphans_at

        self._groups.observe(self.offsets)

        def transaction(tx: Connection) -> list[OutboxRow]:
            outbox.remove(tx, delivered)
            rows: list[OutboxRow] = []
            if recorded_until:
                rows += self._deadlines.sweep(tx, recorded_until, self._groups.history, now=utc_now())
            rows += self._operator_acts.apply_next(tx, partitions, now=utc_now())
            if seeks_orphans:
                rows += self._deadlines.wake_orphans(tx, partitions, now=utc_now())
                rollups.remove_empty(tx, partitions)
            return rows

        with self._publisher.removal() as delivered:
            rows = self._transact(transaction)
        self._publisher.publish(rows)
        if seeks_orphans:
            self._orphans_at = now_s + ORPHANS_EVERY_S
        self._publisher.sweep(partitions)

    def finish(self) -> None:
        """Wait for the rows that are being published, and delete every delivered row."""
        self._publisher.flush(FLUSH_WITHIN_S)
        self._publisher.remove_delivered(at_once=True)

    def _transact(self, transaction: Callable[[Connection], Result]) -> Result:
        return self._retry.transact(self._engine, transaction)
