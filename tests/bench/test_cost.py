"""The cost of a saga, relative to a fixed loop of bare statements: an increase by half fails.

Both costs are processor time, ours and that of PostgreSQL's processes that work for us. They are measured alternately
on one machine and one database with fsync on, and the cheapest round of each counts, so that the machine and its other
load cancel out. Kafka, Faust and HTTP are not included: ``./baraza bench`` measures them.

When a change makes sagas more expensive for a good reason, or cheaper, set RATIO to the value that this test prints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from chassis.saga.deferred import RawMessage
from chassis.saga.handlers import Handlers
from chassis.wire.codec import Codec
from messages.checkout import OrderSubmitted
from proof.databases import TRACKER
from proof.schemas import LocalRegistry
from stack import Stack
from support import together
from support.builders import a
from support.together import BATCH_SIZE, System, raw_of

RATIO = 1.1
"""The cost of a wave of sagas over that of the reference."""
HEADROOM = 1.5
"""Two runs differ by less, even on a machine with other load."""
ROUNDS = 5
SAGAS = BATCH_SIZE
"""In one batch each, as under full load."""
REFERENCE_TRANSACTIONS = 40
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


def orders(system: System) -> list[RawMessage]:
    """Return a wave of orders of one line."""
    found = [
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
    return [raw_of(order, "checkout.events", system.codec) for order in found]


@pytest.fixture(scope="module")
def database(infrastructure: Stack) -> Iterator[tuple[Engine, Mapping[str, Connection]]]:
    with together.databases(infrastructure, RECORDS) as found:
        yield found


@pytest.fixture(scope="module")
def engine(database: tuple[Engine, Mapping[str, Connection]]) -> Engine:
    return database[0]


@pytest.fixture(scope="module")
def connections(database: tuple[Engine, Mapping[str, Connection]]) -> Mapping[str, Connection]:
    """A connection for each service, into its own schema."""
    return database[1]


@pytest.fixture(scope="module")
def system(connections: Mapping[str, Connection]) -> System:
    for service, statement, count in (("inventory", STOCK, SKUS), ("loyalty", ACCOUNTS, SAGAS)):
        with connections[service].begin():
            connections[service].execute(text(statement), {"plenty": PLENTY, "last": count - 1})
    return together.system(HANDLERS, connections, Codec(LocalRegistry()))


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
    system.run(orders(system))
    refer(reference)
    ours_s, reference_s = [], []
    for _ in range(ROUNDS):
        ours_s.append(cost_s(partial(system.run, orders(system)), backends))
        reference_s.append(cost_s(partial(refer, reference), backends))
    ratio = min(ours_s) / min(reference_s)
    print(f"ratio {ratio:.2f}: {1_000 * min(ours_s) / SAGAS:.3f} ms a saga, of {ours_s} s and {reference_s} s")
    states = "SELECT state, count(*) FROM sagas GROUP BY state"
    ended = [tuple(row) for row in connections[TRACKER].execute(text(states))]
    assert ended == [("CONFIRMED", (1 + ROUNDS) * SAGAS)]
    assert ratio <= RATIO * HEADROOM, f"a saga costs more: {ratio:.2f} times the reference, not {RATIO}"
