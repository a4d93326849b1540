"""Services that stand still past a step's timeout, and customers who change their minds meanwhile.

The service waits for a lock inside its transaction, so its step succeeds when the saga has long given it up.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from messaging.envelope import new_id
from support.shop import Placed, Shop
from support.waiting import until

LOCAL = {"post_ledger": "ledger", "burn_loyalty_points": "loyalty", "reserve_inventory": "inventory"}
"""The steps that touch only their service's database, the last of the chain first: those before it are not held."""


def stopped(shop: Shop, order: Placed) -> Any:
    """Wait until the tracker has given the way forward up."""
    return until(
        lambda: shop.saga(order.order_id),
        f"{order.order_id} is fenced",
        holds=lambda seen: seen["saga"]["phase"] == "FENCING",
    )


def test_success_after_the_timeout_and_cancellation_at_every_local_step(shop: Shop) -> None:
    late: dict[str, Placed] = {}
    cancelled: dict[str, Placed] = {}
    with ExitStack() as held:
        for step, service in LOCAL.items():
            held.enter_context(shop.held(service))
            late[step], cancelled[step] = shop.place(points=3), shop.place(points=3)
            for order in (late[step], cancelled[step]):
                shop.reaches(order.order_id, step)
            shop.cancel(cancelled[step].order_id)
        for order in (*late.values(), *cancelled.values()):
            stopped(shop, order)
    for step, order in late.items():
        end = shop.outcome(order.order_id)
        timeline = shop.timeline(order.order_id)
        assert [entry["step"] for entry in timeline if entry["kind"] == "timer"][:1] == [step]
        assert any(entry["late"] for entry in timeline), f"the success of {step} is not shown as late: {timeline}"
        expected = "CONFIRMED" if step == "post_ledger" else "CANCELLED_COMPENSATED"
        assert end["saga"]["state"] == expected, end["saga"]
    for step, order in cancelled.items():
        end = shop.outcome(order.order_id)
        assert (end["saga"]["state"], end["saga"]["cause"]) == ("CANCELLED_COMPENSATED", "CANCELLED"), (step, end)
        assert "ran" not in [each["outcome"] for each in end["steps"]]


CALLS = {"authorize_payment": ("gateway", "authorize"), "book_shipment": ("courier", "book"),
         "capture_payment": ("gateway", "capture")}  # fmt: skip


def test_cancellation_while_a_provider_is_asked(shop: Shop) -> None:
    orders: dict[str, Placed] = {}
    for step, (provider, operation) in CALLS.items():
        token, postal_code = f"tok_{new_id()}", new_id()[-20:]
        word = token if provider == "gateway" else postal_code
        shop.fault(provider, operation=operation, kind="hang", delay_s=4.0, match=word)
        orders[step] = shop.place(token=token, postal_code=postal_code)
    with ThreadPoolExecutor(len(orders)) as threads:
        list(threads.map(lambda step: shop.reaches(orders[step].order_id, step), orders))
    for order in orders.values():
        shop.cancel(order.order_id)
    for step, order in orders.items():
        saga = shop.outcome(order.order_id)["saga"]
        assert (saga["state"], saga["cause"]) == ("CANCELLED_COMPENSATED", "CANCELLED"), (step, saga)


@pytest.mark.parametrize("service", ["inventory", "shipping", "ledger"])
def test_a_service_that_is_down_past_the_timeout_leaves_nothing_half_done(shop: Shop, service: str) -> None:
    shop.stack.stop(service)
    order = shop.place(points=1)
    stopped(shop, order)
    shop.stack.start(service)
    shop.outcome(order.order_id)
