"""What Kafka may do with messages: deliver each one again, in any order, long after every decision."""

from __future__ import annotations

import random
from typing import Any

from stack import contract
from support.lag import unhandled_counts
from support.shop import SCARCE, Shop
from support.topics import OutgoingMessage, Stored, publish, stored
from support.waiting import until

TIMES = 3
"""How often each message is delivered again."""
TOGETHER = 10
"""The random ids of so many orders are on one partition once in ten million times."""
REQUESTS = 5


def stored_state(shop: Shop, order_ids: list[str]) -> dict[str, Any]:
    """Return what every service and the tracker store about these orders; a repeated message must not change it."""
    effects = "SELECT saga_id, step, state FROM effects WHERE saga_id = ANY(%s) ORDER BY 1, 2"
    sagas = "SELECT saga_id, state, phase, step, cause, finished_at FROM sagas WHERE saga_id = ANY(%s) ORDER BY 1"
    timeline = "SELECT saga_id, message_id, kind, late FROM timeline WHERE saga_id = ANY(%s) ORDER BY seq"
    orders = "SELECT order_id, state, decided_at FROM orders WHERE order_id = ANY(%s) ORDER BY 1"
    found: dict[str, Any] = {service: shop.rows(service, effects, order_ids) for service in contract.services()}
    found["sagas"] = shop.rows("saga-tracker", sagas, order_ids)
    found["timeline"] = shop.rows("saga-tracker", timeline, order_ids)
    found["orders"] = shop.rows("checkout", orders, order_ids)
    for provider in ("gateway", "courier"):
        found[provider] = shop.http.get(f"{shop.stack.endpoints.url(provider)}/admin/summary").json()
    return found


def again(message: Stored) -> OutgoingMessage:
    return OutgoingMessage(
        topic=message.topic,
        partition=message.partition,
        key=message.key,
        value=message.value,
        headers=tuple(message.headers.items()),
    )


def test_every_message_delivered_again_in_any_order_changes_nothing(shop: Shop) -> None:
    placed = [shop.place(), shop.place(sku=SCARCE), shop.place(points=5), shop.place(token="tok_capture_declined")]
    order_ids = [order.order_id for order in placed]
    for order_id in order_ids:
        shop.outcome(order_id)
    until(lambda: unhandled_counts(shop), "everything is read", holds=lambda lag: not any(lag.values()))
    topics = [topic for topic in contract.topics() if not topic.endswith(".dlq")]
    keys = {order_id.encode() for order_id in order_ids}
    messages = [message for message in stored(shop.stack.kafka(), *topics) if message.key in keys] * TIMES
    before = stored_state(shop, order_ids)
    seed = random.randrange(2**32)
    random.Random(seed).shuffle(messages)
    publish(shop.stack.kafka(), [again(message) for message in messages])
    until(lambda: unhandled_counts(shop), "everything is read again", holds=lambda lag: not any(lag.values()))
    shop.check_audit()
    assert stored_state(shop, order_ids) == before, f"after {len(messages)} messages shuffled by random.Random({seed})"


def test_orders_accepted_together_share_a_partition(shop: Shop) -> None:
    """The partitioner puts them there, once acknowledgements have shown the number of partitions."""

    def partitions() -> set[int]:
        order_ids = shop.place_bulk(TOGETHER)
        for order_id in order_ids:
            shop.outcome(order_id)
        keys = {order_id.encode() for order_id in order_ids}
        return {each.partition for each in stored(shop.stack.kafka(), "checkout.events") if each.key in keys}

    until(partitions, "one partition has all orders of a request", holds=lambda found: len(found) == 1)
    together = [len(partitions()) == 1 for _ in range(REQUESTS)]
    assert together.count(False) <= 1, "and from then on, except where a request is interrupted for long"
