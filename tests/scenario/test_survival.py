"""Processes killed at the worst moment, replicas, and a system that goes down under load."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from stack import Stack, from_environment, up
from support.shop import SCARCE, PlacedOrder, Shop
from support.waiting import until

pytestmark = pytest.mark.timeout(600)  # Every process is stopped and started again.
STOPPED_S = 20.0


@contextmanager
def kafka_suspended(stack: Stack) -> Iterator[None]:
    """Suspend Kafka's process for the block: a service can commit, but cannot publish."""
    (kafka,) = stack.pids("kafka")
    os.kill(kafka, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(kafka, signal.SIGCONT)


def kill_before_publication(shop: Shop, service: str, order: PlacedOrder) -> None:
    """Wait until the service has committed an outbox row of the order, which it cannot publish, and kill it."""
    outbox = "SELECT type FROM outbox WHERE aggregateid = %s"
    until(lambda: shop.rows(service, outbox, order.order_id), f"{service} has committed", within_s=STOPPED_S)
    (pid,) = shop.stack.pids(service)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("service", ["payment", "inventory", "loyalty", "shipping", "ledger"])
def test_a_service_killed_between_its_effect_and_its_publication_loses_no_order(shop: Shop, service: str) -> None:
    with ExitStack() as suspended:
        with shop.blocked(service):
            order = shop.place(points=2)
            shop.stands_in_its_transaction(service)
            suspended.enter_context(kafka_suspended(shop.stack))
        kill_before_publication(shop, service, order)
    assert shop.outcome(order.order_id)["saga"]["state"] in ("CONFIRMED", "CANCELLED_COMPENSATED")


def test_checkout_killed_between_its_answer_and_the_publication_loses_no_order(shop: Shop) -> None:
    with kafka_suspended(shop.stack):
        order = shop.place()
        kill_before_publication(shop, "checkout", order)
    assert shop.outcome(order.order_id)["saga"]["state"] == "CONFIRMED"


def test_the_tracker_killed_between_its_decision_and_the_command_still_compensates(shop: Shop) -> None:
    with ExitStack() as suspended:
        with ExitStack() as blocked:
            with shop.blocked("inventory"):
                order = shop.place(sku=SCARCE)
                shop.reaches(order.order_id, "reserve_inventory")
                blocked.enter_context(shop.blocked("saga-tracker", table="consumed_offsets"))
            shop.stands_in_its_transaction("saga-tracker", table="consumed_offsets")
            suspended.enter_context(kafka_suspended(shop.stack))
        kill_before_publication(shop, "saga-tracker", order)
    saga = shop.outcome(order.order_id)["saga"]
    assert (saga["state"], saga["cause"]) == ("CANCELLED_COMPENSATED", "REJECTED")


def ends(shop: Shop, placed: list[PlacedOrder], within_s: float = 90.0) -> set[str]:
    """Wait until all of these orders have ended, and return their states."""
    order_ids = [order.order_id for order in placed]
    query = "SELECT state, count(*) FROM orders WHERE order_id = ANY(%s) GROUP BY state"
    counted = until(
        lambda: dict(shop.rows("checkout", query, order_ids)),
        f"{len(placed)} orders end",
        holds=lambda counts: "PENDING" not in counts,
        within_s=within_s,
    )
    return set(counted)


def test_replicas_share_the_work_and_one_of_each_may_be_killed_in_mid_batch(shop: Shop) -> None:
    home = shop.stack.home
    replicas = {"payment": 2, "inventory": 2, "checkout": 2}
    shop.stack = up(from_environment(home=home, replicas=replicas))
    try:
        with ThreadPoolExecutor(1) as thread:
            placing = thread.submit(shop.place_many, 200)
            under_way = "SELECT count(*) FROM sagas WHERE state = 'PENDING'"
            until(lambda: shop.rows("saga-tracker", under_way)[0][0] >= 10, "orders are under way")
            for service in ("payment", "inventory"):
                shop.stack.kill(f"{service}-2")
            placed = placing.result()
        # A killed member keeps its partitions until its session ends, which outlasts a step's timeout in tests.
        assert "CONFIRMED" in ends(shop, placed)
    finally:
        shop.stack = up(from_environment(home=home, replicas=dict.fromkeys(replicas, 1)))


def test_down_and_up_under_load_lose_no_order(shop: Shop) -> None:
    placed = shop.place_many(100)
    shop.stack.down()
    shop.stack = up(from_environment(home=shop.stack.home))
    assert ends(shop, placed) <= {"CONFIRMED", "CANCELLED_COMPENSATED"}


def test_a_service_stopped_under_load_and_started_again_confirms_every_order(shop: Shop) -> None:
    """No saga times out because a participant is down: the deadlines wait until it is back."""
    postponed = "SELECT count(*) FROM sagas WHERE waiting = 'reserve_inventory to be taken by inventory'"
    with ThreadPoolExecutor(1) as thread:
        placing = thread.submit(shop.place_many, 120)
        under_way = "SELECT count(*) FROM sagas WHERE state = 'PENDING'"
        until(lambda: shop.rows("saga-tracker", under_way)[0][0] >= 10, "orders are under way")
        with shop.down("inventory"):
            placed = placing.result()
            until(lambda: shop.rows("saga-tracker", postponed)[0][0], "deadlines are postponed")
    assert ends(shop, placed) == {"CONFIRMED"}
