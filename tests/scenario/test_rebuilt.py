"""The tracker's database rebuilt from Kafka alone: every saga, its timeline and every id comes out as it was."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from messages import saga
from stack import contract
from support.lag import tracker_has_recorded_everything
from support.rebuilt import SAGAS, differences_after_a_rebuild, snapshot
from support.registries import codec_of
from support.shop import SCARCE, Shop
from support.tracker_peers import message
from support.waiting import until

HANGS_S = 9.0
"""Past the step's timeout in tests (5 s): the effect comes when the saga is fenced, but before its fence is."""


@pytest.fixture
def orders(shop: Shop) -> dict[str, str]:
    """Run orders into every kind of end: confirmed, rejected, timed out, cancelled, and cancelled too late."""
    placed = {
        "confirmed": shop.place(points=3),
        "rejected": shop.place(sku=SCARCE),
        "declined at the capture": shop.place(token="tok_capture_declined", points=2),
        "cancelled too late": shop.place(),
    }
    shop.fault("gateway", operation="authorize", kind="hang", delay_s=HANGS_S, match="tok_hangs")
    placed["stopped, and late"] = shop.place(token="tok_hangs")
    with shop.blocked("shipping"):
        placed["cancelled"] = shop.place()
        shop.reaches(placed["cancelled"].order_id, "book_shipment")
        shop.cancel(placed["cancelled"].order_id)
        until(lambda: shop.saga(placed["cancelled"].order_id)["saga"]["cause"], "the saga is cancelled")
    for order in placed.values():
        shop.outcome(order.order_id)
    shop.clear_faults()
    refuse_to_cancel(shop, placed["cancelled too late"].order_id)
    return {name: order.order_id for name, order in placed.items()}


def refuse_to_cancel(shop: Shop, saga_id: str) -> None:
    """Request by a command what the API would refuse: the cancellation of a saga that has ended."""
    ((partition,),) = shop.rows("saga-tracker", "SELECT partition FROM sagas WHERE saga_id = %s", saga_id)
    command = message(saga.CancelSaga, saga_id, actor="staff-1", reason="too late")
    with codec_of(shop.stack) as codec:
        value = codec.encode(contract.SAGA_COMMANDS, command)
    producer = Producer(shop.stack.kafka().options())
    producer.produce(contract.SAGA_COMMANDS, value, saga_id.encode(), partition=partition)
    assert producer.flush(10) == 0
    until(lambda: [entry for entry in shop.timeline(saga_id) if entry["kind"] == "act"], "the refusal is recorded")


def test_a_tracker_rebuilt_from_kafka_has_every_saga_as_it_was(shop: Shop, orders: dict[str, str]) -> None:
    tracker_has_recorded_everything(shop)
    was = snapshot(shop.stack.database_url("saga-tracker", "audit"))
    states = {name: was[SAGAS][(saga_id,)] for name, saga_id in orders.items()}
    ends = {name: (row["state"], row["cause"]) for name, row in states.items()}
    # A call that hangs fails for the last time close to the step's timeout; either may come first.
    assert ends.pop("stopped, and late") in {("CANCELLED_COMPENSATED", cause) for cause in ("TIMED_OUT", "EXHAUSTED")}
    assert ends == {
        "confirmed": ("CONFIRMED", None),
        "rejected": ("CANCELLED_COMPENSATED", "REJECTED"),
        "declined at the capture": ("CANCELLED_COMPENSATED", "REJECTED"),
        "cancelled": ("CANCELLED_COMPENSATED", "CANCELLED"),
        "cancelled too late": ("CONFIRMED", None),
    }
    assert not (found := differences_after_a_rebuild(shop.stack, was)), "\n".join(found)
