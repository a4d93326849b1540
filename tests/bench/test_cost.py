"""The cost of a saga, relative to a fixed loop of bare statements: an increase by half fails.

Both costs are processor time, ours and that of PostgreSQL's processes that work for us. They are measured alternately
on one machine and one database with fsync on, and the cheapest round of each counts, so that the machine and its other
load cancel out. Kafka, Faust and HTTP are not included: ``./baraza bench`` measures them.

When a change makes sagas more expensive for a good reason, or cheaper, set RATIO to the value that this test prints.
"""

from __future__ import annotations

import random
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import psutil
import psycopg
import pytest
from sqlalchemy import Connection, Engine, MetaData, text

import bench_providers.courier.handlers
import bench_providers.courier.tables
import bench_providers.gateway.handlers
import bench_providers.gateway.tables
import checkout.handlers
import inventory.handlers
import ledger.handlers
import loyalty.handlers
from chassis.process.service import consumed_topics
from chassis.saga import outbox
from chassis.saga.batch import Batch
from chassis.saga.deferred import RawMessage
from chassis.saga.handlers import Handlers
from chassis.saga.outbox import OutboxRow
from chassis.saga.routing import Router
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.checkout import OrderSubmitted
from proof.databases import TABLES, TRACKER
from proof.schemas import LocalRegistry
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest.decoding import topics
from saga_tracker.ingest.recorder import Recorder
from saga_tracker.ingest.records import Record
from saga_tracker.store import consumed_offsets
from saga_tracker.store.cache import SagaCache
from stack import Stack
from support.builders import a
from support.postgres import scratch_database

RATIO = 1.1
"""The cost of a wave of sagas over that of the reference."""
HEADROOM = 1.5
"""Two runs differ by less, even on a machine with other load."""
ROUNDS = 5
SAGAS = 500
"""In one batch each, as under full load."""
REFERENCE_TRANSACTIONS = 40
PARTITIONS = 6
SKUS = 100
PLENTY = 1_000_000
STOCK = """
    INSERT INTO stock (sku, received, on_hand)
    SELECT 'sku-' || number, :plenty, :plenty FROM generate_series(0, :last) AS number
"""
ACCOUNTS = """
    INSERT INTO accounts (customer_id, granted, balance)
    SELECT 'customer-' || number, :plenty, :plenty FROM generate_series(0, :last) AS number
"""

HANDLERS: Mapping[str, Handlers] = {
    "checkout": Handlers.of(checkout.handlers.HANDLERS),
    "payment": Handlers.of(bench_providers.gateway.handlers.HANDLERS),
    "inventory": Handlers.of(inventory.handlers.HANDLERS),
    "loyalty": Handlers.of(loyalty.handlers.HANDLERS),
    "shipping": Handlers.of(bench_providers.courier.handlers.HANDLERS),
    "ledger": Handlers.of(ledger.handlers.HANDLERS),
}

RECORDS: Mapping[str, MetaData] = {
    "payment": bench_providers.gateway.tables.metadata,
    "shipping": bench_providers.courier.tables.metadata,
}
"""The tables of the providers inside of the process."""


@dataclass(kw_only=True)
class Service:
    """One service's part of a wave: one transaction for each batch, as in its worker."""

    name: str
    tx: Connection
    codec: Codec
    published: list[str] = field(default_factory=list)

    def handle(self, raws: Sequence[RawMessage]) -> Sequence[OutboxRow]:
        handlers = HANDLERS[self.name]
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
    """The tracker's part of a wave."""

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

    def orders(self) -> list[RawMessage]:
        """Return a wave of orders of one line."""
        orders = [
            a(
                OrderSubmitted,
                customer_id=f"customer-{number}",
                lines=[{"sku": f"sku-{number % SKUS}", "quantity": 1, "unit_price_minor": 1_299}],
                total_minor=1_299,
                payable_minor=1_289,
                points_to_burn=10,
            )
            for number in range(SAGAS)
        ]
        return [
            RawMessage(
                topic="checkout.events",
                partition=_partition(order.saga_id),
                key=order.saga_id.encode(),
                value=self.codec.encode("checkout.events", order),
                headers=(),
            )
            for order in orders
        ]

    def run(self, raws: Sequence[RawMessage]) -> None:
        """Handle these messages, and those that follow from them, until nothing is left to read."""
        queued: dict[str, list[RawMessage]] = defaultdict(list)
        self._append(queued, raws)
        while any(queued.values()):
            for name, participant in self.participants.items():
                batch, queued[name] = queued[name][:SAGAS], queued[name][SAGAS:]
                if batch:
                    self._append(queued, [_read(row) for row in participant.handle(batch)])

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


def _partition(saga_id: str) -> int:
    return zlib.crc32(saga_id.encode()) % PARTITIONS


@pytest.fixture(scope="module")
def engine(infrastructure: Stack) -> Iterator[Engine]:
    """A database with a schema for each service."""
    with scratch_database(infrastructure) as engine:
        for schema, metadata in TABLES.items():
            with engine.begin() as tx:
                tx.execute(text(f"CREATE SCHEMA {schema}"))
                tx.execute(text(f"SET LOCAL search_path = {schema}"))
                metadata.create_all(tx)
                if records := RECORDS.get(schema):
                    records.create_all(tx)
        yield engine


@pytest.fixture(scope="module")
def connections(engine: Engine) -> Iterator[Mapping[str, Connection]]:
    """A connection for each service, into its own schema."""
    with ExitStack() as opened:
        found = {schema: opened.enter_context(engine.connect()) for schema in TABLES}
        for schema, tx in found.items():
            with tx.begin():
                tx.execute(text(f"SET search_path = {schema}"))
        yield found


@pytest.fixture(scope="module")
def system(connections: Mapping[str, Connection]) -> System:
    for service, statement, count in (("inventory", STOCK, SKUS), ("loyalty", ACCOUNTS, SAGAS)):
        with connections[service].begin():
            connections[service].execute(text(statement), {"plenty": PLENTY, "last": count - 1})
    codec = Codec(LocalRegistry())
    tracked = topics(DEFINITIONS)
    with connections[TRACKER].begin():
        partitions = [(topic, partition) for topic in tracked for partition in range(PARTITIONS)]
        consumed_offsets.begin(connections[TRACKER], dict.fromkeys(partitions, 0))
    participants: dict[str, Service | Tracker] = {
        name: Service(name=name, tx=connections[name], codec=codec) for name in HANDLERS
    }
    participants[TRACKER] = Tracker(tx=connections[TRACKER], recorder=Recorder(DEFINITIONS, codec, SagaCache()))
    readers: dict[str, list[str]] = defaultdict(list)
    for name, handlers in HANDLERS.items():
        for topic in consumed_topics(name, handlers):
            readers[topic].append(name)
    for topic in tracked:
        readers[topic].append(TRACKER)
    return System(codec=codec, participants=participants, readers=readers)


@pytest.fixture
def reference(engine: Engine) -> Iterator[psycopg.Connection]:
    address = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address) as connection:
        connection.execute("CREATE TABLE reference (id text PRIMARY KEY, number bigint, body bytea)")
        connection.commit()
        yield connection


def refer(connection: psycopg.Connection) -> None:
    """Insert, select and delete rows as any program would: independent of our code, and never changed."""
    for iteration in range(REFERENCE_TRANSACTIONS):
        ids = [f"{iteration}-{number}-{'x' * 16}" for number in range(SAGAS)]
        connection.execute(
            "INSERT INTO reference SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bytea[])",
            (ids, list(range(SAGAS)), [b"x" * 300] * SAGAS),
        )
        rows = connection.execute("SELECT id, number, body FROM reference WHERE id = ANY(%s)", (ids,)).fetchall()
        assert len(rows) == SAGAS
        connection.execute("DELETE FROM reference WHERE id = ANY(%s)", (ids,))
        connection.commit()


def cost_s(work: Callable[[], None], backends: Sequence[psutil.Process]) -> float:
    """Return the processor time that ``work`` takes in this process and in PostgreSQL's."""

    def used_s() -> float:
        return time.process_time() + sum(sum(backend.cpu_times()[:2]) for backend in backends)

    before_s = used_s()
    work()
    return used_s() - before_s


def test_a_saga_costs_no_more_than_before_relative_to_bare_statements(
    system: System, connections: Mapping[str, Connection], reference: psycopg.Connection
) -> None:
    pids = [tx.execute(text("SELECT pg_backend_pid()")).scalar_one() for tx in connections.values()]
    for tx in connections.values():
        tx.rollback()
    backends = [psutil.Process(pid) for pid in (*pids, reference.info.backend_pid)]
    system.run(system.orders())
    refer(reference)
    ours_s, reference_s = [], []
    for _ in range(ROUNDS):
        ours_s.append(cost_s(partial(system.run, system.orders()), backends))
        reference_s.append(cost_s(partial(refer, reference), backends))
    ratio = min(ours_s) / min(reference_s)
    print(f"ratio {ratio:.2f}: {1_000 * min(ours_s) / SAGAS:.3f} ms a saga, of {ours_s} s and {reference_s} s")
    states = "SELECT state, count(*) FROM sagas GROUP BY state"
    ended = [tuple(row) for row in connections[TRACKER].execute(text(states))]
    assert ended == [("CONFIRMED", (1 + ROUNDS) * SAGAS)]
    assert ratio <= RATIO * HEADROOM, f"a saga costs more: {ratio:.2f} times the reference, not {RATIO}"
