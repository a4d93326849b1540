"""Two replicas lock what they share in one order, whatever is in their batches: neither waits for the other's end.

A deadlock is no error for a saga: PostgreSQL ends one of the two after a second, and it is repeated. Here it fails.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, TypeAlias

import pytest
from sqlalchemy import Engine, text

import inventory.handlers
import loyalty.handlers
from chassis.postgres import migrations
from chassis.saga.batch import Batch
from chassis.saga.deferred import RawMessage
from chassis.saga.handlers import Handlers
from chassis.saga.routing import Work
from chassis.saga.steps import Reaction
from chassis.saga.unit_of_work import Delivery
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.inventory import InventoryReserved, ReleaseInventory
from messages.loyalty import RestoreLoyaltyPoints
from messages.payment import PaymentAuthorized, ReturnRefunded
from messages.saga import OrderConfirmed, OrderFailed
from messages.shipping import ParcelArrived
from proof.schemas import LocalRegistry
from stack import Stack
from support.builders import a
from support.postgres import scratch_database

SHARED = ("a", "b", "c", "d")
"""Few, so that nearly every batch of one replica meets the other's."""
UNKNOWN = "e"
"""A key that has no row until a return opens one."""
BATCHES = 60
AT_ONCE = 4
SAGAS = frozenset({("order", 1)})

Trigger: TypeAlias = Callable[[str], Message]
Command: TypeAlias = Callable[[str], Message]


def order(sku: str) -> Message:
    return a(PaymentAuthorized, lines=[{"sku": sku, "quantity": 1, "unit_price_minor": 1}])


def arrival(sku: str) -> Message:
    return a(ParcelArrived, saga_type="return_order", received=[{"sku": sku, "good": 1, "damaged": 0}])


def release(saga_id: str) -> Message:
    return a(ReleaseInventory, saga_id=saga_id, step="reserve_inventory")


def burn(customer_id: str) -> Message:
    return a(InventoryReserved, customer_id=customer_id, points_to_burn=1)


def refund(customer_id: str) -> Message:
    return a(ReturnRefunded, saga_type="return_order", customer_id=customer_id, points=1)


def restore(saga_id: str) -> Message:
    return a(RestoreLoyaltyPoints, saga_id=saga_id, step="burn_loyalty_points")


SERVICES: dict[str, tuple[ModuleType, Sequence[Trigger], Command, str]] = {
    "inventory": (
        inventory.handlers, (order, arrival), release,
        "INSERT INTO stock SELECT unnest(CAST(:keys AS text[])), 1000, 1000",
    ),
    "loyalty": (
        loyalty.handlers, (burn, refund), restore,
        "INSERT INTO accounts SELECT unnest(CAST(:keys AS text[])), 1000, 1000",
    ),
}  # fmt: skip


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, infrastructure: Stack) -> Iterator[tuple[str, Engine]]:
    """A service's name and its database, in which few rows are shared by all sagas."""
    with scratch_database(infrastructure) as engine:
        migrations.upgrade(request.param, engine)
        with engine.begin() as tx:
            tx.execute(text(SERVICES[request.param][3]), {"keys": list(SHARED)})
        yield request.param, engine


def handle(engine: Engine, service: str, handlers: Handlers, messages: Sequence[Message]) -> None:
    """Handle these messages in one transaction, which is not repeated."""
    commands = handlers.commands
    pairs = []
    for message in messages:
        topic = f"{service}.{'commands' if type(message) in commands else 'events'}"
        raw = RawMessage(topic=topic, partition=0, key=message.saga_id.encode(), value=b"", headers=())
        pairs += [(name, Delivery(message=message, raw=raw)) for name in handlers.for_message(type(message))]
    work = Work(deliveries=pairs)
    with engine.begin() as tx:
        batch = Batch(
            tx, service, handlers, Codec(LocalRegistry()), work.saga_ids,
            now=datetime.now(UTC), new_id=new_id, jitter=random.Random(0),
        )  # fmt: skip
        batch.handle(work)
        batch.finish()


@pytest.mark.timeout(180)
def test_steps_and_compensations_of_two_replicas_do_not_wait_for_each_other(service: tuple[str, Engine]) -> None:
    name, engine = service
    module, kinds, command, _ = SERVICES[name]
    handlers = Handlers.of(module.HANDLERS)
    together = threading.Barrier(2)

    def work(seed: int) -> None:
        chance, done = random.Random(seed), list[str]()
        for _ in range(BATCHES):
            triggers = [chance.choice(kinds)(key) for key in chance.choices((*SHARED, UNKNOWN), k=AT_ONCE)]
            commands = [command(saga_id) for saga_id in done]
            batch = [*triggers, *commands]
            chance.shuffle(batch)
            together.wait(60)
            handle(engine, name, handlers, batch)
            done = [each.saga_id for each in triggers]

    with ThreadPoolExecutor(2) as threads:
        try:
            for replica in [threads.submit(work, seed) for seed in range(2)]:
                replica.result()
        finally:
            together.abort()


def test_handlers_run_in_one_order_whatever_the_order_of_their_messages(infrastructure: Stack) -> None:
    ran: list[list[str]] = []

    def noting(name: str) -> Callable[[Sequence[Any], Any], None]:
        return lambda _events, _tx: ran[-1].append(name)

    handlers = Handlers.of(
        [
            Reaction(on=OrderFailed, sagas=SAGAS, apply=noting("failed")),
            Reaction(on=OrderConfirmed, sagas=SAGAS, apply=noting("confirmed")),
            Reaction(on=InventoryReserved, sagas=SAGAS, apply=noting("reserved")),
        ]
    )
    messages = [a(OrderFailed), a(OrderConfirmed), a(InventoryReserved)]
    with scratch_database(infrastructure) as engine:
        migrations.upgrade("checkout", engine)
        for each in itertools.permutations(messages):
            ran.append([])
            handle(engine, "checkout", handlers, each)
    assert len(ran) == 6
    assert len({tuple(order) for order in ran}) == 1, ran
