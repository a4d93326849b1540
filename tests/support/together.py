"""Services and the tracker on one thread and real PostgreSQL, with lists instead of Kafka's topics."""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, MetaData, text

from chassis.process.service import consumed_topics
from chassis.saga import outbox
from chassis.saga.batch import Batch
from chassis.saga.deferred import RawMessage
from chassis.saga.handlers import Handlers
from chassis.saga.outbox import OutboxRow
from chassis.saga.routing import Router
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from proof.databases import TABLES, TRACKER
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest.decoding import topics
from saga_tracker.ingest.recorder import Recorder
from saga_tracker.ingest.records import Record
from saga_tracker.store import consumed_offsets
from saga_tracker.store.cache import SagaCache
from stack import Stack
from support.postgres import scratch_database

PARTITIONS = 6
BATCH_SIZE = 500
"""Messages that one participant takes at once, as under full load."""


REDELIVERED = 0.2
"""The share of batches that come again."""


@dataclass(kw_only=True)
class Service:
    """One service: one transaction for each batch, as in its worker."""

    name: str
    handlers: Handlers
    tx: Connection
    codec: Codec
    published: list[str] = field(default_factory=list)

    def handle(self, raws: Sequence[RawMessage]) -> Sequence[OutboxRow]:
        handlers = self.handlers
        work = Router(self.name, handlers, self.codec).route(raws)
        if not work:
            return []
        with self.tx.begin():
            outbox.remove(self.tx, self.published)
            batch = Batch(
                self.tx, self.name, handlers, self.codec, work.saga_ids,
                now=datetime.now(UTC), new_id=new_id, jitter=random.Random(0),
            )  # fmt: skip
            batch.handle(work)
            rows = batch.finish().rows
        self.published = [row.id for row in rows]
        return rows


@dataclass(kw_only=True)
class Tracker:
    """The tracker: one transaction for each batch, as in its worker."""

    tx: Connection
    recorder: Recorder
    published: list[str] = field(default_factory=list)
    offsets: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))

    def handle(self, raws: Sequence[RawMessage]) -> Sequence[OutboxRow]:
        now = datetime.now(UTC)
        records = [
            Record(raw=raw, offset=self._next_offset(raw), timestamp_ms=int(now.timestamp() * 1000)) for raw in raws
        ]
        with self.tx.begin():
            outbox.remove(self.tx, self.published)
            recorded = self.recorder.record(self.tx, records, now=now)
        self.recorder.committed(recorded)
        self.published = [row.id for row in recorded.rows]
        return recorded.rows

    def _next_offset(self, raw: RawMessage) -> int:
        partition = (raw.topic, raw.partition)
        self.offsets[partition] += 1
        return self.offsets[partition] - 1


@dataclass(kw_only=True)
class System:
    """Every service and the tracker on one thread, with lists instead of Kafka's topics."""

    codec: Codec
    participants: Mapping[str, Service | Tracker]
    readers: Mapping[str, Sequence[str]]

    def run(self, raws: Sequence[RawMessage]) -> None:
        """Handle these messages, and those that follow from them, until nothing is left to read."""
        queued: dict[str, list[RawMessage]] = defaultdict(list)
        self._append(queued, raws)
        while any(queued.values()):
            for name, participant in self.participants.items():
                batch, queued[name] = queued[name][:BATCH_SIZE], queued[name][BATCH_SIZE:]
                if batch:
                    self._append(queued, [_read(row) for row in participant.handle(batch)])

    def run_in_any_order(self, raws: Sequence[RawMessage], chance: random.Random) -> None:
        """Do the same in small batches; topics overtake one another, and what was handled may come again.

        Within a topic the order is kept, as Kafka keeps it within a partition.
        """
        queued: dict[tuple[str, str], list[RawMessage]] = defaultdict(list)

        def append(found: Sequence[RawMessage]) -> None:
            for raw in found:
                for reader in self.readers[raw.topic]:
                    queued[reader, raw.topic].append(raw)

        append(raws)
        while waiting := sorted(key for key, messages in queued.items() if messages):
            key = chance.choice(waiting)
            size = chance.randint(1, 3)
            batch, queued[key] = queued[key][:size], queued[key][size:]
            append([_read(row) for row in self.participants[key[0]].handle(batch)])
            if chance.random() < REDELIVERED:
                queued[key] += batch

    def _append(self, queued: dict[str, list[RawMessage]], raws: Sequence[RawMessage]) -> None:
        for raw in raws:
            for reader in self.readers[raw.topic]:
                queued[reader].append(raw)


def _read(row: OutboxRow) -> RawMessage:
    return RawMessage(
        topic=row.topic,
        partition=_partition(row.saga_id),
        key=row.saga_id.encode(),
        value=row.payload,
        headers=row.headers,
    )


def raw_of(message: Message, topic: str, codec: Codec) -> RawMessage:
    """Return a message as Kafka would deliver it."""
    return RawMessage(
        topic=topic,
        partition=_partition(message.saga_id),
        key=message.saga_id.encode(),
        value=codec.encode(topic, message),
        headers=(),
    )


def _partition(saga_id: str) -> int:
    return zlib.crc32(saga_id.encode()) % PARTITIONS


def system(handlers: Mapping[str, Handlers], connections: Mapping[str, Connection], codec: Codec) -> System:
    """Return these services and the tracker, each on its own connection."""
    tracked = topics(DEFINITIONS)
    with connections[TRACKER].begin():
        partitions = [(topic, partition) for topic in tracked for partition in range(PARTITIONS)]
        consumed_offsets.begin(connections[TRACKER], dict.fromkeys(partitions, 0))
    participants: dict[str, Service | Tracker] = {
        name: Service(name=name, handlers=own, tx=connections[name], codec=codec) for name, own in handlers.items()
    }
    participants[TRACKER] = Tracker(tx=connections[TRACKER], recorder=Recorder(DEFINITIONS, codec, SagaCache()))
    readers: dict[str, list[str]] = defaultdict(list)
    for name, own in handlers.items():
        for topic in consumed_topics(name, own):
            readers[topic].append(name)
    for topic in tracked:
        readers[topic].append(TRACKER)
    return System(codec=codec, participants=participants, readers=readers)


@contextmanager
def databases(stack: Stack, records: Mapping[str, MetaData]) -> Iterator[tuple[Engine, Mapping[str, Connection]]]:
    """Yield a database with a schema for each service, and a connection into each.

    ``records`` are further tables by service: those of providers inside of its process.
    """
    with scratch_database(stack) as engine, ExitStack() as opened:
        for schema, metadata in TABLES.items():
            with engine.begin() as tx:
                tx.execute(text(f"CREATE SCHEMA {schema}"))
                tx.execute(text(f"SET LOCAL search_path = {schema}"))
                metadata.create_all(tx)
                if further := records.get(schema):
                    further.create_all(tx)
        found = {schema: opened.enter_context(engine.connect()) for schema in TABLES}
        for schema, tx in found.items():
            with tx.begin():
                tx.execute(text(f"SET search_path = {schema}"))
        yield engine, found
