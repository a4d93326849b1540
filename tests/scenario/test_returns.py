"""Returns of confirmed orders: what counts is refunded, credited and in stock again, whatever becomes of it."""

from __future__ import annotations

from typing import Any

import pytest

from support import operating
from support.rebuilt import ACTS, differences_after_a_rebuild, snapshot
from support.shop import SKU, Shop
from support.waiting import until

PRICE_MINOR, QUANTITY, POINTS = 250, 4, 4
"""Of the order that a test returns; each point pays one cent."""
PAYABLE_MINOR = QUANTITY * PRICE_MINOR - POINTS
STAFF = "staff"
"""The operator of every call of these tests."""


def confirmed(shop: Shop) -> str:
    """Place an order with points and wait until it is confirmed, also for checkout, which takes returns."""
    order = shop.place(points=POINTS)
    assert shop.outcome(order.order_id)["saga"]["state"] == "CONFIRMED"
    shop.knows(order.order_id, "CONFIRMED")
    return order.order_id


def given_back(shop: Shop, order_id: str) -> tuple[int, int, int]:
    """Return what an order's returns gave back: to the card, to the account of points, and to the stock."""
    refunds = shop.rows("payment", "SELECT amount_minor FROM refunds WHERE order_id = %s", order_id)
    credited = shop.rows("loyalty", "SELECT points FROM credits WHERE order_id = %s", order_id)
    returns = shop.rows("checkout", "SELECT return_id FROM returns WHERE order_id = %s", order_id)
    restocked = shop.rows(
        "inventory", "SELECT units FROM restocks WHERE saga_id = ANY(%s)", [row[0] for row in returns]
    )
    refunded, points, units = (sum(row[0] for row in rows) for rows in (refunds, credited, restocked))
    return refunded, points, units


def act(shop: Shop, saga_id: str, what: str, reason: str) -> None:
    operator = {"Authorization": f"Bearer {shop.token()}"}
    operating.act(shop.http, shop.stack.endpoints.url("saga-tracker-api"), saga_id, what, reason, operator)


def test_all_pieces_in_two_returns_give_back_exactly_what_was_paid(shop: Shop) -> None:
    order_id, before = confirmed(shop), shop.level(SKU)["on_hand"]
    for quantity in (3, 1):
        return_id = shop.request_return(order_id, quantity)
        assert shop.outcome(return_id)["saga"]["state"] == "CONFIRMED"
    assert given_back(shop, order_id) == (PAYABLE_MINOR, POINTS, QUANTITY)
    assert shop.level(SKU)["on_hand"] == before + QUANTITY
    forward = {"ReturnRequested", "ReturnApproved", "StepAwaited", "ParcelArrived", "InventoryRestocked"}
    forward |= {"ReturnRefunded", "ReturnPointsCredited", "ReturnPosted", "ReturnCompleted"}
    assert forward <= {entry["type"] for entry in shop.timeline(return_id)}
    with pytest.raises(AssertionError, match=r"409|422"):
        shop.request_return(order_id, 1)


@pytest.mark.parametrize(
    ("postal_code", "pieces", "good"),
    [("LOST-PARCEL", 2, 0), ("DAMAGED-PARCEL", 2, 0), ("SHORT-PARCEL", 1, 1)],
)
def test_what_is_lost_or_damaged_is_refunded_and_what_never_came_is_not(
    shop: Shop, postal_code: str, pieces: int, good: int
) -> None:
    order_id = confirmed(shop)
    return_id = shop.request_return(order_id, 2, postal_code=postal_code)
    assert shop.outcome(return_id)["saga"]["state"] == "CONFIRMED"
    refunded, points, units = given_back(shop, order_id)
    assert (refunded + points, units) == (pieces * PRICE_MINOR, good)


def test_a_parcel_that_is_not_handed_over_fails_the_return_and_may_be_sent_again(shop: Shop) -> None:
    order_id = confirmed(shop)
    return_id = shop.request_return(order_id, QUANTITY, postal_code="NOT-COLLECTED")
    saga = shop.outcome(return_id)["saga"]
    assert (saga["state"], saga["cause"]) == ("CANCELLED_COMPENSATED", "REJECTED")
    assert given_back(shop, order_id) == (0, 0, 0)
    again = shop.request_return(order_id, QUANTITY)
    assert shop.outcome(again)["saga"]["state"] == "CONFIRMED"
    assert given_back(shop, order_id) == (PAYABLE_MINOR, POINTS, QUANTITY)


def contradicted(shop: Shop) -> list[str]:
    """Return the sagas with a contradiction that is open, as an operator lists them."""
    found = shop.call("saga-tracker-api", "GET", "/v1/sagas?contradicted=true&type=return_order")["sagas"]
    return [each["saga_id"] for each in found]


def test_a_parcel_that_arrives_after_its_return_failed_calls_a_person_until_it_is_settled(shop: Shop) -> None:
    order_id = confirmed(shop)
    return_id = shop.request_return(order_id, QUANTITY, postal_code="FAILED-THEN-ARRIVED")
    assert shop.outcome(return_id)["saga"]["state"] == "CANCELLED_COMPENSATED"
    until(lambda: contradicted(shop), "the contradiction is listed", holds=lambda found: return_id in found)
    assert given_back(shop, order_id) == (0, 0, 0)
    act(shop, return_id, "settle", "The pieces were sent back to the customer.")
    saga = until(lambda: shop.saga(return_id)["saga"], "it is settled", holds=lambda found: found["settled_at"])
    assert (saga["state"], saga["settled_by"]) == ("CANCELLED_COMPENSATED", STAFF)
    assert return_id not in contradicted(shop)
    (settled,) = [entry for entry in shop.timeline(return_id) if entry["type"] == "Settle"]
    assert settled["detail"] == f"{STAFF}: The pieces were sent back to the customer."
    shop.check_audit()
    was = snapshot(shop.stack.database_url("saga-tracker", "audit"), return_id)
    assert len(was[ACTS]) == 1
    assert not (found := differences_after_a_rebuild(shop.stack, was, return_id)), "\n".join(found)


def test_a_return_that_is_cancelled_before_its_approval_gives_nothing_back(shop: Shop) -> None:
    order_id = confirmed(shop)
    with shop.blocked("checkout"):
        return_id = shop.request_return(order_id, 1)
        shop.reaches(return_id, "approve_return")
        shop.call("checkout", "POST", f"/v1/returns/{return_id}/cancel")
        until(
            lambda: shop.saga(return_id)["saga"],
            "the tracker fences it",
            holds=lambda saga: saga["phase"] == "FENCING",
        )
    saga = shop.outcome(return_id)["saga"]
    assert (saga["state"], saga["cause"]) == ("CANCELLED_COMPENSATED", "CANCELLED")
    assert given_back(shop, order_id) == (0, 0, 0)


def test_a_lost_webhook_is_made_up_for_by_a_query(shop: Shop) -> None:
    order_id = confirmed(shop)
    shop.fault("courier", operation="webhook", kind="answer_lost", rate=1.0)
    return_id = shop.request_return(order_id, 1)
    assert shop.outcome(return_id, within_s=90.0)["saga"]["state"] == "CONFIRMED"


def test_a_refund_that_the_gateway_does_not_make_parks_until_a_person_redrives_it(shop: Shop) -> None:
    order_id = confirmed(shop)
    shop.fault("gateway", operation="refund", kind="error", rate=1.0)
    return_id = shop.request_return(order_id, 1)
    # It is parked already where it is late, and then payment tries once more, which would succeed without the fault.
    parked: Any = until(
        lambda: shop.saga(return_id)["saga"],
        "it is parked, and payment tries no more",
        holds=lambda saga: (saga.get("reason") or "").startswith("refund_payment: "),
    )
    assert (parked["state"], parked["step"]) == ("NEEDS_REVIEW", "refund_payment")
    shop.clear_faults()
    act(shop, return_id, "redrive", "It is well again.")
    assert shop.outcome(return_id)["saga"]["state"] == "CONFIRMED"
