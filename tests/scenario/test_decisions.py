"""Orders whose steps say yes, no or nothing. All of them run at once, so that each test only looks at its own."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from chassis.wire.envelope import new_id
from support.shop import POINTS, SCARCE, PlacedOrder, Shop

STEPS = ("authorize_payment", "reserve_inventory", "burn_loyalty_points", "book_shipment", "capture_payment")
HANGS_S = 9.0
"""Past the step's timeout in tests (5 s): the effect comes when the saga is fenced, but before its fence is."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """An order, the faults that it meets, and how it must end. ``ran`` counts the steps that run."""

    order: Mapping[str, Any] = field(default_factory=dict)
    provider: str | None = None
    fault: Mapping[str, Any] = field(default_factory=dict)
    state: str = "CANCELLED_COMPENSATED"
    cause: str | None = None
    step: str | None = None
    ran: int = 6
    is_late: bool = False


CONFIRMED: dict[str, Any] = {"state": "CONFIRMED"}
CASES = {
    "a plain order": Case(**CONFIRMED),
    "an order with points": Case(order={"points": POINTS}, **CONFIRMED),
    "a lost answer of the gateway": Case(
        provider="gateway", fault={"operation": "authorize", "kind": "answer_lost", "times": 1}, **CONFIRMED
    ),
    "a lost answer of the courier": Case(
        provider="courier", fault={"operation": "book", "kind": "answer_lost", "times": 1}, **CONFIRMED
    ),
    "a gateway that limits": Case(
        provider="gateway", fault={"operation": "capture", "kind": "rate_limited", "times": 1}, **CONFIRMED
    ),
    "a declined card": Case(order={"token": "tok_declined"}, cause="REJECTED", step=STEPS[0], ran=0),
    "no stock": Case(order={"sku": SCARCE}, cause="REJECTED", step=STEPS[1], ran=1),
    "too few points": Case(order={"points": POINTS + 1}, cause="REJECTED", step=STEPS[2], ran=2),
    "an undeliverable address": Case(
        order={"postal_code": "UNDELIVERABLE", "points": 7}, cause="REJECTED", step=STEPS[3], ran=3
    ),
    "a declined capture": Case(order={"token": "tok_capture_declined"}, cause="REJECTED", step=STEPS[4], ran=4),
    "a gateway that stays down": Case(
        order={"token": "tok_gateway_error"}, cause=None, step=STEPS[0], ran=0
    ),
    "an authorization that comes too late": Case(
        provider="gateway", fault={"operation": "authorize", "kind": "hang", "delay_s": HANGS_S},
        cause="TIMED_OUT", step=STEPS[0], ran=1, is_late=True,
    ),
    "an authorization that never comes": Case(
        provider="gateway", fault={"operation": "authorize", "kind": "hang", "delay_s": HANGS_S, "effect": False},
        cause="TIMED_OUT", step=STEPS[0], ran=0,
    ),
    "a booking that comes too late": Case(
        provider="courier", fault={"operation": "book", "kind": "hang", "delay_s": HANGS_S},
        cause="TIMED_OUT", step=STEPS[3], ran=4, is_late=True,
    ),
    "a booking that never comes": Case(
        provider="courier", fault={"operation": "book", "kind": "hang", "delay_s": HANGS_S, "effect": False},
        cause="TIMED_OUT", step=STEPS[3], ran=3,
    ),
    "a capture that comes too late": Case(
        provider="gateway", fault={"operation": "capture", "kind": "hang", "delay_s": HANGS_S},
        cause="TIMED_OUT", step=STEPS[4], ran=5, is_late=True,
    ),
    "a capture that never comes": Case(
        provider="gateway", fault={"operation": "capture", "kind": "hang", "delay_s": HANGS_S, "effect": False},
        cause="TIMED_OUT", step=STEPS[4], ran=4,
    ),
}  # fmt: skip


def place(shop: Shop, case: Case) -> PlacedOrder:
    """Put the case's fault into force for a card and an address of its own, then submit its order."""
    order = {"token": f"tok_{new_id()}", "postal_code": new_id()[-20:], **case.order}
    if case.provider:
        word = order["token"] if case.provider == "gateway" else order["postal_code"]
        shop.fault(case.provider, **case.fault, match=word)
    return shop.place(**order)


@pytest.fixture(scope="module")
def ends(open_shop: Shop) -> dict[str, Any]:
    """Submit the orders of all cases at once, wait for their ends, and let the audit look at all of them."""
    placed = {name: place(open_shop, case) for name, case in CASES.items()}
    with ThreadPoolExecutor(len(CASES)) as threads:
        found = threads.map(lambda each: open_shop.outcome(each.order_id), placed.values())
        ends = dict(zip(placed, found, strict=True))
    open_shop.clear_faults()
    open_shop.check_audit()
    return ends


@pytest.mark.parametrize("name", CASES)
def test_an_order_ends_as_its_steps_decide(open_shop: Shop, ends: dict[str, Any], name: str) -> None:
    case, end = CASES[name], ends[name]
    saga = end["saga"]
    assert saga["state"] == case.state, saga
    if case.cause:
        # A call that hangs fails for the third time close to the step's timeout; either may come first.
        causes = {case.cause, "EXHAUSTED"} if case.cause == "TIMED_OUT" else {case.cause}
        assert saga["step"] == case.step, saga
        assert saga["cause"] in causes, saga
    timeline = open_shop.timeline(saga["saga_id"])
    outcomes = [step["outcome"] for step in end["steps"]]
    has_run = [outcome in ("ran", "compensated") for outcome in outcomes]
    assert has_run == [place < case.ran for place in range(len(outcomes))], outcomes
    if case.state == "CONFIRMED":
        assert set(outcomes) == {"ran"}
    else:
        assert "ran" not in outcomes, f"something that ran was left standing: {outcomes}"
    assert any(entry["late"] for entry in timeline) == case.is_late, timeline


def test_compensations_go_in_reverse_each_after_the_reply_to_the_one_before(
    open_shop: Shop, ends: dict[str, Any]
) -> None:
    timeline = open_shop.timeline(ends["a declined capture"]["saga"]["saga_id"])
    talk = [(entry["kind"], entry["step"]) for entry in timeline if entry["kind"] in ("command", "reply")]
    first = list(dict.fromkeys(talk))  # a command is sent again, and replied to again, where its reply is late
    compensated = ("book_shipment", "burn_loyalty_points", "reserve_inventory", "authorize_payment")
    assert first == [(kind, step) for step in compensated for kind in ("command", "reply")]


def test_checkout_tells_how_an_order_ended(open_shop: Shop, ends: dict[str, Any]) -> None:
    for name, end in ends.items():
        order = open_shop.call("checkout", "GET", f"/v1/orders/{end['saga']['saga_id']}")
        assert order["state"] == CASES[name].state
