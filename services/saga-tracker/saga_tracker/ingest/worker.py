"""The blocking half of the worker: transactions and publishing, on one thread. It knows no Faust.

Whatever it cannot repeat raises, and the process ends: the stored offsets say where the next one begins.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from chassis.postgres.transient import TransientRetry, utc_now
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.saga.publisher import OutboxPublisher, Relay
from sqlalchemy import Connection, Engine

from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest.consumer_progress import ConsumerGroups
from saga_tracker.ingest.decoding import Record
from saga_tracker.ingest.operator_acts import apply_next
from saga_tracker.ingest.recorder import Recorded, Recorder
from saga_tracker.store import consumed_offsets
from saga_tracker.store.conflicts import Overtaken
from saga_tracker.store.consumed_offsets import TopicPartition

ORPHANS_EVERY_S = 10.0
"""Nobody should ever be found; what is, waits no longer than a step may."""
FLUSH_WITHIN_S = 5.0

Result = TypeVar("Result")

log = structlog.get_logger()


class Work:
    """What the worker does for its partitions. All methods but :meth:`stop` belong to one thread."""

    def __init__(self, engine: Engine, recorder: Recorder, relay: Relay, groups: ConsumerGroups) -> None:
        self._engine = engine
        self._recorder = recorder
        self._groups = groups
        self._stopping = threading.Event()
        self._patience = TransientRetry(self._stopping)
        self._publisher = OutboxPublisher(self._transact, relay)
        self._orphans_at = 0.0
        self.offsets: dict[TopicPartition, int] = {}
        """Where each assigned partition goes on; read by the other thread as well."""

    def stop(self) -> None:
        """Give up waiting for a part that is away."""
        self._stopping.set()

    def begin(
        self, assigned: Collection[TopicPartition], earliest: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Return where the assigned partitions go on: at the stored offset, or where a new one begins in Kafka.

        What the last owner of the partitions left in the outbox is published first.
        """

        def offsets(tx: Connection) -> dict[TopicPartition, int]:
            consumed_offsets.begin(tx, earliest)
            return consumed_offsets.load(tx, assigned)

        self.offsets = self._transact(offsets)
        self._recorder.begin(self.offsets)
        self._publisher.publish_leftovers({partition for _, partition in assigned}, age=timedelta(0))
        return self.offsets

    def unknown(self, assigned: Collection[TopicPartition]) -> set[TopicPartition]:
        """Return the partitions that were never consumed."""
        stored = self._transact(lambda tx: consumed_offsets.load(tx, assigned))
        return set(assigned).difference(stored)

    def record(self, batch: Sequence[Record]) -> None:
        """Record a batch in one transaction, then publish what it led to. Raises OffsetGap, Overtaken."""

        def transaction(tx: Connection) -> Recorded:
            return self._recorder.record(tx, batch, now=utc_now())

        try:
            recorded = self._transact(transaction)
        except Overtaken:
            # What was remembered no longer holds, and is forgotten by now; if another worker goes on, it ends here.
            recorded = self._transact(transaction)
        self._recorder.committed(recorded)
        self._publisher.publish(recorded.rows)
        self.offsets.update(recorded.offsets)

    def tick(self, until: Mapping[int, datetime], partitions: Collection[int]) -> None:
        """Record deadlines that passed, and look after the outbox. ``until`` is up to when all is recorded.

        Delivered rows are removed here and not with each batch, which would be a statement more for a row or two.
        """
        now_s = time.monotonic()
        seeks_orphans = now_s >= self._orphans_at

        due_services = self._transact(lambda tx: self._recorder.due_services(tx, until)) if until else set()
        taken = self._groups.progress_of(due_services)

        def transaction(tx: Connection) -> list[OutboxRow]:
            outbox.remove(tx, delivered)
            rows = self._recorder.sweep(tx, until, taken, now=utc_now()) if until else []
            rows += apply_next(tx, self._recorder, DEFINITIONS, partitions, now=utc_now())
            if seeks_orphans:
                rows += self._recorder.wake_orphans(tx, partitions, now=utc_now())
            return rows

        with self._publisher.removal() as delivered:
            rows = self._transact(transaction)
        self._publisher.publish(rows)
        if seeks_orphans:
            self._orphans_at = now_s + ORPHANS_EVERY_S
        self._publisher.sweep(partitions)

    def finish(self) -> None:
        """Publish what is on its way and leave no delivered row behind."""
        self._publisher.flush(FLUSH_WITHIN_S)
        self._publisher.remove_delivered(at_once=True)

    def _transact(self, transaction: Callable[[Connection], Result]) -> Result:
        return self._patience.transact(self._engine, transaction)
