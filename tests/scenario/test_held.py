"""Services that stand still or are down past the saga's deadline, and customers who change their minds meanwhile.

A service that stands still waits for a lock inside its transaction, so its step succeeds when the saga has long given
it up. One that is down meets the trigger and the fence together when it comes back.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from chassis.wire.envelope import new_id
from support.shop import PlacedOrder, Shop
from support.waiting import until

STANDING = {"post_ledger": "ledger", "burn_loyalty_points": "loyalty", "reserve_inventory": "inventory"}
DOWN = {"book_shipment": "shipping", "authorize_payment": "payment"}
BACKWARDS = ("post_ledger", "book_shipment", "burn_loyalty_points", "reserve_inventory", "authorize_payment")
"""The last of the chain first: while an order is on its way to a step, those before it still work."""
FENCED_WITHIN_S = 90.0
"""A step whose service has not even taken its trigger waits for the saga's whole deadline: 45 s in tests."""


def await_fence(shop: Shop, order: PlacedOrder) -> Any:
    """Wait until the tracker fences the order."""
    return until(
        lambda: shop.saga(order.order_id)["saga"],
        f"{order.order_id} is fenced",
        holds=lambda saga: saga["phase"] == "FENCING",
        within_s=FENCED_WITHIN_S,
    )


def test_every_service_still_or_down_past_the_deadline_and_cancellation_meanwhile(shop: Shop) -> None:
    left: dict[str, PlacedOrder] = {}
    cancelled: dict[str, PlacedOrder] = {}
    with ExitStack() as back:
        for step in BACKWARDS:
            away = shop.blocked(STANDING[step]) if step in STANDING else shop.down(DOWN[step])
            back.enter_context(away)
            left[step], cancelled[step] = shop.place(points=3), shop.place(points=3)
            for order in (left[step], cancelled[step]):
                shop.reaches(order.order_id, step)
            shop.cancel(cancelled[step].order_id)
        for order in (*left.values(), *cancelled.values()):
            await_fence(shop, order)
    for step, order in left.items():
        check_the_late(shop, step, order)
    for step, order in cancelled.items():
        end = shop.outcome(order.order_id)
        assert (end["saga"]["state"], end["saga"]["cause"]) == ("CANCELLED_COMPENSATED", "CANCELLED"), (step, end)
        assert "ran" not in [each["outcome"] for each in end["steps"]]


def check_the_late(shop: Shop, step: str, order: PlacedOrder) -> None:
    """An order that was not cancelled ends as history turns out to be once it is certain."""
    end = shop.outcome(order.order_id)
    timeline = shop.timeline(order.order_id)
    assert [entry["step"] for entry in timeline if entry["kind"] == "timer"][:1] == [step]
    if step in STANDING:
        assert any(entry["late"] for entry in timeline), f"the success of {step} is not shown as late: {timeline}"
    if step == "post_ledger":
        assert end["saga"]["state"] == "CONFIRMED", "every step ran, and it was not cancelled"
    else:
        assert (end["saga"]["state"], end["saga"]["cause"]) == ("CANCELLED_COMPENSATED", "TIMED_OUT"), end["saga"]


CALLS = {"authorize_payment": ("gateway", "authorize"), "book_shipment": ("courier", "book"),
         "capture_payment": ("gateway", "capture")}  # fmt: skip


def test_cancellation_while_a_provider_is_asked(shop: Shop) -> None:
    orders: dict[str, PlacedOrder] = {}
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
