"""Services that stand still or are away past every deadline, and customers who change their minds meanwhile.

A service that stands still waits for a lock inside its transaction. One that is away meets the trigger, and of a
cancelled order the fence as well, when it comes back. No order is lost to that: only those that were cancelled end so.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from chassis.wire.envelope import new_id
from support.shop import PlacedOrder, Shop
from support.waiting import until

STANDING = {"post_ledger": "ledger", "burn_loyalty_points": "loyalty", "reserve_inventory": "inventory"}
DOWN = {"book_shipment": "shipping", "authorize_payment": "payment"}
BACKWARDS = ("post_ledger", "book_shipment", "burn_loyalty_points", "reserve_inventory", "authorize_payment")
"""The last of the chain first: while an order is on its way to a step, those before it still work."""
WAITING = "SELECT waiting FROM sagas WHERE saga_id = %s"


def reaches_in_its_transaction(shop: Shop, step: str, order: PlacedOrder) -> None:
    """Wait until the step's service has taken the order's trigger and stands still, or is known to be away."""
    shop.reaches(order.order_id, step)
    if step in STANDING:
        shop.stands_in_its_transaction(STANDING[step])


def await_postponement(shop: Shop, step: str, order: PlacedOrder) -> None:
    """Wait until the step's deadline has passed without an end."""
    postponed = f"{step} to be taken by {(STANDING | DOWN)[step]}"
    until(
        lambda: shop.rows("saga-tracker", WAITING, order.order_id)[0][0],
        f"{step} is postponed",
        holds=lambda waiting: waiting == postponed,
    )


def await_fence(shop: Shop, order: PlacedOrder) -> None:
    """Wait until the tracker fences the order."""
    until(
        lambda: shop.saga(order.order_id)["saga"],
        f"{order.order_id} is fenced",
        holds=lambda saga: saga["phase"] == "FENCING",
    )


def test_every_service_still_or_away_past_its_deadline_and_cancellation_meanwhile(shop: Shop) -> None:
    left: dict[str, PlacedOrder] = {}
    cancelled: dict[str, PlacedOrder] = {}
    with ExitStack() as back:
        for step in BACKWARDS:
            away = shop.blocked(STANDING[step]) if step in STANDING else shop.down(DOWN[step])
            back.enter_context(away)
            cancelled[step] = shop.place(points=3)
            reaches_in_its_transaction(shop, step, cancelled[step])
            left[step] = shop.place(points=3)
            shop.reaches(left[step].order_id, step)
            shop.cancel(cancelled[step].order_id)
        for order in cancelled.values():
            await_fence(shop, order)
        for step, order in left.items():
            await_postponement(shop, step, order)
    for step, order in left.items():
        end = shop.outcome(order.order_id)
        assert end["saga"]["state"] == "CONFIRMED", (step, end)
        assert "timer" not in [entry["kind"] for entry in shop.timeline(order.order_id)]
    for step, order in cancelled.items():
        end = shop.outcome(order.order_id)
        assert (end["saga"]["state"], end["saga"]["cause"]) == ("CANCELLED_COMPENSATED", "CANCELLED"), (step, end)
        assert "ran" not in [each["outcome"] for each in end["steps"]]
        if step in STANDING:
            timeline = shop.timeline(order.order_id)
            assert any(entry["late"] for entry in timeline), f"the success of {step} is not shown as late: {timeline}"


CALLS = {"authorize_payment": ("gateway", "authorize"), "book_shipment": ("courier", "book"),
         "capture_payment": ("gateway", "capture")}  # fmt: skip


def test_cancellation_while_a_provider_is_asked(shop: Shop) -> None:
    orders: dict[str, PlacedOrder] = {}
    for step, (provider, operation) in CALLS.items():
        token, postal_code = f"tok_{new_id()}", new_id()[-20:]
        word = token if provider == "gateway" else postal_code
        shop.fault(provider, operation=operation, kind="hang", delay_s=4.0, match=word)
        orders[step] = shop.place(token=token, postal_code=postal_code)

    def cancel_there(step: str) -> None:
        shop.reaches(orders[step].order_id, step)
        shop.cancel(orders[step].order_id)

    with ThreadPoolExecutor(len(orders)) as threads:
        list(threads.map(cancel_there, orders))
    for step, order in orders.items():
        saga = shop.outcome(order.order_id)["saga"]
        assert (saga["state"], saga["cause"]) == ("CANCELLED_COMPENSATED", "CANCELLED"), (step, saga)
