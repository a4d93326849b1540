"""The outbox publisher in its three owners, on real Kafka and PostgreSQL.

A removal that fails loses no id, and neither a crash nor a stop loses a row that was gathered and not yet published.

A row that is published and not removed is in flight for its process. If its id got lost, the row would stay in the
outbox until the process ends, since the sweep skips what is in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from typing import TypeAlias

import pytest
from pydantic import TypeAdapter
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from chassis.postgres.transient import transact
from chassis.process.intake import consumer
from chassis.process.membership import Membership
from chassis.process.worker import Worker
from chassis.saga import outbox
from chassis.saga.gathering import GatheringPublisher
from chassis.saga.handlers import Handlers
from chassis.saga.outbox import OutboxRow
from chassis.saga.publisher import OutboxPublisher, Relay, producer
from chassis.settings import GATHER_MAX_S
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from chassis.wire.registry import RemoteRegistry
from checkout import intake
from checkout import tables as checkout_tables
from checkout.domain import Cart
from checkout.order_batcher import OrderBatcher
from checkout.response_cache import ResponseCache
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest.consumer_progress import ConsumerGroups
from saga_tracker.ingest.deadlines import Deadlines
from saga_tracker.ingest.kafka_queries import KafkaQueries
from saga_tracker.ingest.operator_acts import OperatorActs
from saga_tracker.ingest.recorder import Recorder
from saga_tracker.ingest.worker import TrackerWorker
from saga_tracker.store import schema as tracker_schema
from saga_tracker.store.cache import SagaCache
from stack import Stack
from stack.deploy import create_topics
from stack.kafka import admin
from support import topics, toy
from support.postgres import scratch_database
from support.waiting import until

TOPIC = "publisher.test"
REFUSE_REMOVAL = text("""
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no removal now'; END $$;
    CREATE TRIGGER refuse BEFORE DELETE ON outbox EXECUTE FUNCTION refuse()
""")
ALLOW_REMOVAL = text("DROP TRIGGER refuse ON outbox; DROP FUNCTION refuse")

Owner: TypeAlias = tuple[OutboxPublisher, Callable[[], object]]
"""An owner's publisher, and what makes the owner remove delivered rows."""


def worker(stack: Stack, engine: Engine, relay: Relay) -> Owner:
    """Return the worker of a service; between two batches it removes rows in a transaction of their own."""
    toy.METADATA.create_all(engine)
    made = Worker(
        toy.NAME,
        Handlers.of(toy.handlers(toy.WellProvider())),
        engine=engine,
        codec=Codec(RemoteRegistry(stack.endpoints.registry_url)),
        consumer=consumer(stack.kafka(), "publisher-test", "publisher-test"),
        relay=relay,
        membership=Membership(lambda: True),
    )
    return made._publisher, made._publisher.remove_delivered


def tracker(stack: Stack, engine: Engine, relay: Relay) -> Owner:
    """Return the tracker's worker, which removes rows in the transaction of a tick."""
    tracker_schema.METADATA.create_all(engine)
    codec = Codec(RemoteRegistry(stack.endpoints.registry_url))
    cache = SagaCache()
    made = TrackerWorker(
        engine,
        Recorder(DEFINITIONS, codec, cache),
        Deadlines(DEFINITIONS, codec, cache),
        OperatorActs(DEFINITIONS, codec, cache),
        relay,
        ConsumerGroups(stack.kafka(), DEFINITIONS),
        KafkaQueries(stack.kafka()),
    )
    return made._publisher, lambda: made.tick({}, ())


def checkout(stack: Stack, engine: Engine, relay: Relay) -> Owner:
    """Return checkout's API, which removes rows in the transaction of the next batch of orders."""
    publisher, batcher = order_batcher(stack, engine, relay)
    cart = TypeAdapter(Cart).validate_python(
        {
            "customer_id": "customer-1", "currency": "USD", "lines": [{"sku": "unknown", "quantity": 1}],
            "points_to_burn": 0, "payment_method": {"token": "tok_visa"},
            "ship_to": {"name": "A", "street": "1 Road", "city": "Town", "postal_code": "1", "country": "US"},
        }
    )  # fmt: skip
    return publisher, lambda: batcher.submit_batch([intake.submission("client", new_id(), cart, None)])


def order_batcher(stack: Stack, engine: Engine, relay: Relay) -> tuple[OutboxPublisher, OrderBatcher]:
    """Return what stores and publishes orders, with its tables and the longest window that the settings admit."""
    checkout_tables.orders.metadata.create_all(engine)
    publisher = OutboxPublisher(partial(transact, engine), relay, new_relay=lambda: relay)
    terms = intake.Terms(codec=Codec(RemoteRegistry(stack.endpoints.registry_url)), rates={})
    cache = ResponseCache("redis://127.0.0.1:1/0", None)
    return publisher, OrderBatcher(engine, terms, publisher, cache, gather_s=GATHER_MAX_S)


@pytest.mark.parametrize("make", [worker, tracker, checkout])
def test_ids_whose_removal_failed_are_removed_by_the_next_one(
    infrastructure: Stack, make: Callable[[Stack, Engine, Relay], Owner]
) -> None:
    create_topics(admin(infrastructure.kafka()), (TOPIC,), 1)
    with scratch_database(infrastructure) as engine:
        publisher, remove = make(infrastructure, engine, Relay(producer(infrastructure.kafka(), client_id="test")))
        rows = [row_of(new_id()) for _ in range(3)]
        transact(engine, lambda tx: outbox.save(tx, rows))
        publisher.publish(rows)
        publisher.flush(10.0)
        with refused_removal(engine), pytest.raises(SQLAlchemyError, match="no removal now"):
            remove()
        assert len(left(engine)) == len(rows)
        until(lambda: (remove(), left(engine))[1], "the outbox is empty", holds=lambda ids: not ids)


def test_rows_that_were_gathered_when_the_process_was_killed_are_published_by_the_next_sweep(
    infrastructure: Stack,
) -> None:
    create_topics(admin(infrastructure.kafka()), (TOPIC,), 1)
    with scratch_database(infrastructure) as engine:
        toy.METADATA.create_all(engine)
        killed, next_one = (
            OutboxPublisher(partial(transact, engine), Relay(producer(infrastructure.kafka(), client_id=name)))
            for name in ("killed", "next")
        )
        gathering = GatheringPublisher(killed.publish, longest_s=GATHER_MAX_S, clock=lambda: 1_000.0)
        rows = [row_of(new_id()) for _ in range(3)]
        transact(engine, lambda tx: outbox.save(tx, rows))
        for row in rows:
            gathering.publish([row])
        killed.flush(10.0)
        assert published(infrastructure, rows) == [rows[0].id], "the others are gathered when the process is killed"
        next_one.publish_leftovers(None, age=timedelta(0))
        next_one.flush(10.0)
        assert published(infrastructure, rows) == [rows[0].id, *[row.id for row in rows]]
        next_one.remove_delivered(at_once=True)
        assert left(engine) == []


def test_a_stop_publishes_what_was_gathered(infrastructure: Stack) -> None:
    create_topics(admin(infrastructure.kafka()), (TOPIC,), 1)
    with scratch_database(infrastructure) as engine:
        relay = Relay(producer(infrastructure.kafka(), client_id="test"))
        _, batcher = order_batcher(infrastructure, engine, relay)
        rows = [row_of(new_id()) for _ in range(3)]
        transact(engine, lambda tx: outbox.save(tx, rows))
        with closing(asyncio.new_event_loop()) as loop:
            batcher.start(loop)
            for row in rows:
                batcher.publish([row])
            batcher.stop()
        assert published(infrastructure, rows) == [row.id for row in rows]
        assert left(engine) == []


def published(stack: Stack, rows: Sequence[OutboxRow]) -> list[str]:
    """Return the ids of those of the rows that are in Kafka, in its order."""
    by_key = {row.saga_id.encode(): row.id for row in rows}
    return [by_key[each.key] for each in topics.stored(stack.kafka(), TOPIC) if each.key in by_key]


def row_of(saga_id: str) -> OutboxRow:
    return OutboxRow(id=new_id(), topic=TOPIC, saga_id=saga_id, type="test", payload=b"", headers=(), partition=0)


@contextmanager
def refused_removal(engine: Engine) -> Iterator[None]:
    transact(engine, lambda tx: tx.execute(REFUSE_REMOVAL))
    yield
    transact(engine, lambda tx: tx.execute(ALLOW_REMOVAL))


def left(engine: Engine) -> list[str]:
    with engine.connect() as tx:
        return list(tx.execute(text("SELECT id FROM outbox")).scalars())
