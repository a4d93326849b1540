"""What waits for days costs rows and nothing else: no sweep and no batch reads more because a million sagas wait.

PostgreSQL counts the rows that a transaction reads, so no time is judged. With ``BARAZA_WAITING=1000000``,
``-s`` and ``--timeout 900`` that many wait, and the times are printed beside those of empty tables.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, text

import inventory.handlers
import shipping.tables
from chassis.saga import attempt_rows, deferred, effects, evidence, outbox
from chassis.saga.handlers import Handlers
from chassis.telemetry import table_gauges
from chassis.wire.codec import Codec
from messages.checkout import OrderSubmitted
from proof.databases import TRACKER
from proof.schemas import LocalRegistry
from saga_tracker import saga_metrics
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest.deadlines import Deadlines
from saga_tracker.store import sagas
from saga_tracker.store.cache import SagaCache
from stack import Stack
from support import together
from support.builders import a
from support.together import System, raw_of

WAITING = int(os.environ.get("BARAZA_WAITING", "20000"))
TIMED = 5
BATCH = 100
PARTITIONS = range(together.PARTITIONS)
CODEC = Codec(LocalRegistry())
READ_MAX = 20
"""Rows that a sweep may read, however many wait. It finds none, and looks into each partition's part of an index."""

IN_DOUBT = """
    INSERT INTO sagas (saga_id, saga_type, saga_version, subject, state, phase, step, cause, reason, partition,
                       progress, version, started_at, updated_at, awaits_since)
    SELECT '01' || lpad(number::text, 24, '0'), 'return_order', 1, 'c' || number % 1000, :state, :phase,
           'collect_parcel', 'CANCELLED', 'c1: changed their mind', number % :partitions,
           '{"known": {"ran": ["approve_return"], "awaited": ["collect_parcel"], "in_doubt": ["collect_parcel"]},
             "issued": {"fence": 1}}',
           4, now() - number * interval '1 second', now() - number * interval '1 second',
           now() - number * interval '1 second'
    FROM generate_series(1, :count) AS number
"""
EFFECTS = """
    INSERT INTO effects (saga_id, step, state, attempt, updated_at)
    SELECT '01' || lpad(number::text, 24, '0'), 'collect_parcel', 'SENT', 1, now()
    FROM generate_series(1, :count) AS number
"""
STEPS = """
    INSERT INTO awaited_steps (saga_id, step, topic, partition, headers, payload, query_at, queries, queried_since,
                               redrive)
    SELECT '01' || lpad(number::text, 24, '0'), 'collect_parcel', 'checkout.events', number % :partitions, '[]',
           convert_to(repeat('x', 300), 'UTF8'), now() + interval '1 hour' + number % 86400 * interval '1 second', 9,
           now() - interval '1 day', 0
    FROM generate_series(1, :count) AS number
"""
ATTEMPTS = """
    INSERT INTO attempts (saga_id, step, number, key, state, cancel, sends, first_sent_at, last_sent_at, was_not_found,
                          is_contradicted, provider_id)
    SELECT '01' || lpad(number::text, 24, '0'), 'collect_parcel', 1, 'key-' || number, 'OPEN', 'NONE', 1, now(), now(),
           false, false, 'courier:' || number
    FROM generate_series(1, :count) AS number
"""
READ = """
    SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)
    FROM pg_stat_xact_user_tables
    WHERE schemaname = current_schema()
"""

Work = Callable[[Connection], object]


def tracker_sweeps() -> dict[str, Work]:
    """Return what the tracker does on its own, by name."""
    deadlines = Deadlines(DEFINITIONS, CODEC, SagaCache())

    def until() -> Mapping[int, datetime]:
        return dict.fromkeys(PARTITIONS, datetime.now(UTC))

    return {
        "tracker: postpone": lambda tx: sagas.put_off(tx, until(), limit=100),
        "tracker: due": lambda tx: sagas.load_due(tx, until(), limit=100),
        "tracker: orphans": lambda tx: deadlines.wake_orphans(tx, PARTITIONS, now=datetime.now(UTC)),
    }


def service_sweeps() -> dict[str, Work]:
    """Return what a service with such steps does on its own, by name."""

    def now() -> datetime:
        return datetime.now(UTC)

    return {
        "service: ladder": lambda tx: attempt_rows.due(tx, PARTITIONS, now=now(), limit=200),
        "service: evidence": lambda tx: evidence.waiting(tx, PARTITIONS, now=now(), limit=200),
        "service: evidence again": lambda tx: list(evidence.orphans(tx, now=now())),
        "service: deferred": lambda tx: deferred.due(tx, PARTITIONS, now=now(), limit=200),
        "service: settled": lambda tx: deferred.wake_settled(tx, PARTITIONS, now=now()),
        "service: outbox": lambda tx: outbox.leftovers(tx, PARTITIONS, age=timedelta(0)),
        **{
            f"service: {measure.name}": lambda tx, measure=measure: list(measure.query(tx))  # type: ignore[misc]
            for measure in (*table_gauges.OUTBOX, *table_gauges.WAITING, *table_gauges.EVIDENCE)
        },
    }


def gauges() -> dict[str, Work]:
    """Return the tracker's gauges, by name. They count, so they are paced by what they take (chassis.telemetry)."""
    return {
        f"gauge: {measure.name}": lambda tx, measure=measure: list(measure.query(tx))  # type: ignore[misc]
        for measure in saga_metrics.MEASURES
    }


def batches(system: System) -> Mapping[str, Callable[[], object]]:
    """Return an ordinary batch of the tracker, and the loads of a service's batch."""

    def tracked() -> object:
        raws = [raw_of(a(OrderSubmitted), "checkout.events", CODEC) for _ in range(BATCH)]
        return system.participants[TRACKER].handle(raws)

    return {f"tracker: a batch of {BATCH} orders": tracked}


def loads(tx: Connection) -> object:
    """Load what a batch of a service loads, of sagas that wait for nothing."""
    ids = [a(OrderSubmitted).saga_id for _ in range(BATCH)]
    return effects.load(tx, ids), attempt_rows.load(tx, ids)


@pytest.fixture(scope="module")
def connections(infrastructure: Stack) -> Iterator[Mapping[str, Connection]]:
    with together.databases(infrastructure, {}) as (_, found):
        yield found


@pytest.fixture(scope="module")
def system(connections: Mapping[str, Connection]) -> System:
    assert "attempts" in shipping.tables.metadata.tables
    return together.system({"inventory": Handlers.of(inventory.handlers.HANDLERS)}, connections, CODEC)


def rows_read(tx: Connection, work: Work) -> int:
    """Return how many rows a transaction reads."""
    with tx.begin():
        before = tx.execute(text(READ)).scalar_one()
        work(tx)
        return int(tx.execute(text(READ)).scalar_one() - before)


def ms(work: Callable[[], object]) -> float:
    """Return the median of how long it takes."""
    took = []
    for _ in range(TIMED):
        began_s = time.perf_counter()
        work()
        took.append(1_000 * (time.perf_counter() - began_s))
    return statistics.median(took)


def in_transaction(tx: Connection, work: Work) -> Callable[[], object]:
    def run() -> None:
        with tx.begin():
            work(tx)

    return run


def times_ms(connections: Mapping[str, Connection], system: System) -> dict[str, float]:
    """Return how long each of them takes."""
    tracker, service = connections[TRACKER], connections["shipping"]
    found = {name: ms(in_transaction(tracker, work)) for name, work in (tracker_sweeps() | gauges()).items()}
    found |= {name: ms(in_transaction(service, work)) for name, work in service_sweeps().items()}
    found["service: loads of a batch"] = ms(in_transaction(service, loads))
    return found | {name: ms(work) for name, work in batches(system).items()}


def fill(connections: Mapping[str, Connection], *, state: str, phase: str, count: int) -> None:
    """Let that many sagas wait, in the tracker's tables and in those of the service."""
    given = {"count": count, "partitions": len(PARTITIONS)}
    tracker, service = connections[TRACKER], connections["shipping"]
    with tracker.begin():
        tracker.execute(text("TRUNCATE sagas"))
        tracker.execute(text(IN_DOUBT), {**given, "state": state, "phase": phase})
    with service.begin():
        service.execute(text("TRUNCATE effects, awaited_steps, attempts"))
        service.execute(text(EFFECTS), {"count": count})
        service.execute(text(STEPS), given)
        service.execute(text(ATTEMPTS), {"count": count})
    for tx in (tracker, service):
        with tx.begin():
            tx.execute(text("ANALYZE"))


@pytest.mark.parametrize(("state", "phase"), [("IN_DOUBT", "FENCING"), ("PENDING", "RUNNING")])
def test_no_sweep_reads_the_sagas_that_wait(
    connections: Mapping[str, Connection], system: System, state: str, phase: str
) -> None:
    fill(connections, state=state, phase=phase, count=0)
    empty = times_ms(connections, system)
    fill(connections, state=state, phase=phase, count=WAITING)
    tracker, service = connections[TRACKER], connections["shipping"]
    read = {name: rows_read(tracker, work) for name, work in tracker_sweeps().items()}
    read |= {name: rows_read(service, work) for name, work in service_sweeps().items()}
    read["service: loads of a batch"] = rows_read(service, loads)
    for name, took_ms in times_ms(connections, system).items():
        print(f"{state:9} {name:50} {empty[name]:9.2f} {took_ms:9.2f} ms {read.get(name, '')}")
    counting = gauges()["gauge: baraza_sagas_awaiting"]
    assert rows_read(tracker, counting) >= WAITING, "what counts them reads them, so reading is seen"
    assert {name: count for name, count in read.items() if count > READ_MAX} == {}


def test_a_ladder_reads_no_more_when_all_that_waits_is_due(connections: Mapping[str, Connection]) -> None:
    fill(connections, state="IN_DOUBT", phase="FENCING", count=WAITING)
    service = connections["shipping"]
    with service.begin():
        service.execute(text("UPDATE awaited_steps SET query_at = now()"))
        service.execute(text("ANALYZE awaited_steps"))
    found: list[object] = []
    read = rows_read(
        service, lambda tx: found.extend(attempt_rows.due(tx, PARTITIONS, now=datetime.now(UTC), limit=READ_MAX))
    )
    assert len(found) == READ_MAX
    assert read <= READ_MAX * len(PARTITIONS) < WAITING
