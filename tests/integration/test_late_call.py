"""A process stands still in a call while its saga is fenced by a neighbour; then its request reaches the courier.

Nothing of ours may be sent after the deadline, but what was sent before can be under way for longer than anybody
assumes. The parcel must neither stay unknown nor stay booked.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import urllib3
from sqlalchemy import Engine, text

from chassis.postgres import migrations
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.loyalty import LoyaltyPointsBurned
from messages.saga import FenceSaga, SagaFenced
from messages.shipping import ShipmentCancelled
from simulators.testing import SimulatorProcess, free_port
from stack import Stack
from support.builders import a
from support.postgres import scratch_database
from support.registries import codec_of
from support.shipping_process import SERVICE, shipping
from support.tcp_proxy import TcpProxy, proxy_to
from support.topics import OutgoingMessage, Stored, publish, stored
from support.waiting import until

STEP = "book_shipment"
ADDRESS = {
    "name": "Ann", "street": "1 Elm St", "street_2": None, "city": "Salem", "region": "OR", "postal_code": "97301",
    "country": "US", "phone": None,
}  # fmt: skip
LINES = [{"sku": "tea", "quantity": 1, "unit_price_minor": 100}]


@pytest.fixture
def engine(infrastructure: Stack) -> Iterator[Engine]:
    with scratch_database(infrastructure) as engine:
        migrations.upgrade(SERVICE, engine)
        yield engine


@pytest.fixture
def codec(infrastructure: Stack) -> Iterator[Codec]:
    with codec_of(infrastructure) as codec:
        yield codec


@pytest.fixture
def way_to_courier(courier: SimulatorProcess) -> Iterator[TcpProxy]:
    with proxy_to("127.0.0.1", courier.port) as proxy:
        yield proxy


def send(stack: Stack, codec: Codec, message: Message, topic: str) -> None:
    value, key = codec.encode(topic, message), message.saga_id.encode()
    publish(stack.kafka(), [OutgoingMessage(topic=topic, partition=0, key=key, value=value)])


def published(stack: Stack, topic: str, saga_id: str) -> list[Stored]:
    """Return what shipping has published about a saga, each message once.

    The process that comes back takes its partitions again. What their last owner published within the half second
    before, and had not removed from the outbox yet, is published a second time: delivery is at least once.
    """
    found = [each for each in stored(stack.kafka(), topic) if each.key == saga_id.encode()]
    return list({(each.value, each.pairs): each for each in found}.values())


def replies(stack: Stack, codec: Codec, saga_id: str) -> list[Message]:
    """Return what shipping has announced about a saga."""
    return [codec.decode(each.value) for each in published(stack, f"{SERVICE}.events", saga_id)]


def letters(stack: Stack, saga_id: str) -> list[str]:
    """Return the reasons of a saga's dead letters."""
    return [each.headers["baraza_reason"].decode() for each in published(stack, f"{SERVICE}.dlq", saga_id)]


def shipments(courier: SimulatorProcess, saga_id: str) -> list[str]:
    """Return the states of a saga's shipments, as the courier knows them."""
    url = f"{courier.url}/admin/records?kind=shipment&after=0&limit=1000"
    records = urllib3.request("GET", url).json()["records"]
    return [record["state"] for record in records if record["reference"] == saga_id]


def state(engine: Engine, saga_id: str) -> tuple[str, bool]:
    """Return the state of the step's effect, and whether its saga is being fenced."""
    with engine.connect() as tx:
        query = text("SELECT state, closing FROM effects WHERE saga_id = :id AND step = :step")
        row = tx.execute(query, {"id": saga_id, "step": STEP}).one()
    return row.state, row.closing


@pytest.mark.timeout(180)
def test_a_parcel_that_is_booked_after_its_order_was_fenced_is_reported_and_cancelled(
    infrastructure: Stack,
    engine: Engine,
    codec: Codec,
    courier: SimulatorProcess,
    way_to_courier: TcpProxy,
    tmp_path: Path,
) -> None:
    saga_id = new_id()
    way_to_courier.vanish()
    with shipping(infrastructure, engine, way_to_courier.port, tmp_path / "log") as (stood_still, _):
        trigger = a(LoyaltyPointsBurned, saga_id=saga_id, ship_to=ADDRESS, lines=LINES)
        send(infrastructure, codec, trigger, "loyalty.events")
        until(lambda: b"".join(way_to_courier.held), "the request is on its way", holds=lambda held: b"POST" in held)
        os.kill(stood_still.pid, signal.SIGSTOP)
        try:
            other_way = free_port()  # its neighbour finds no courier at first, or it would make the call itself
            with shipping(infrastructure, engine, other_way, tmp_path / "log"), ExitStack() as later:
                fence = a(FenceSaga, saga_id=saga_id, steps=[STEP])
                send(infrastructure, codec, fence, f"{SERVICE}.commands")
                until(lambda: state(engine, saga_id), "the fence waits for the call", holds=lambda found: found[1])
                later.enter_context(proxy_to("127.0.0.1", courier.port, listens_on=other_way))
                until(lambda: state(engine, saga_id), "the step is fenced", holds=lambda found: found[0] == "FENCED")
                assert shipments(courier, saga_id) == []

                way_to_courier.reappear()
                until(lambda: shipments(courier, saga_id), "the parcel is booked after all")
                os.kill(stood_still.pid, signal.SIGCONT)

                until(lambda: letters(infrastructure, saga_id), "a dead letter reports it")
                undone = [SagaFenced, ShipmentCancelled]
                until(
                    lambda: [type(reply) for reply in replies(infrastructure, codec, saga_id)],
                    "it is cancelled, and nothing else is announced",
                    holds=lambda found: found == undone,
                )
        finally:
            os.kill(stood_still.pid, signal.SIGCONT)
    assert shipments(courier, saga_id) == ["cancelled"]
    assert state(engine, saga_id) == ("UNDONE", True)
    assert ["came back after its provider was queried" in reason for reason in letters(infrastructure, saga_id)] == [
        True
    ]
