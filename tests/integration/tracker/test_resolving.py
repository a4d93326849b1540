"""Sagas whose facts contradict one another: one operator proposes how they end, another one approves it."""

from __future__ import annotations

from typing import Any

import pytest

from chassis.wire.envelope import new_id
from messages import inventory, ledger, loyalty, payment, saga, shipping
from messages.contract import Message
from support import operating
from support.tracker_peers import ORDER, TrackerPeers, fence_replies, message, successes

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The registry's client, a library, leaves its connections to the garbage collector."""

REASON = "the gateway and the warehouse agree on it"
UNDONE: list[tuple[type[Message], str]] = [
    (ledger.LedgerReversed, "post_ledger"),
    (shipping.ShipmentCancelled, "book_shipment"),
    (loyalty.LoyaltyPointsRestored, "burn_loyalty_points"),
    (inventory.InventoryReleased, "reserve_inventory"),
    (payment.PaymentRefunded, "authorize_payment"),
]
COMMANDS = ["ReverseLedger", "CancelShipment", "RestoreLoyaltyPoints", "ReleaseInventory", "RefundPayment"]


def call(wire: TrackerPeers, method: str, path: str, body: Any = None, *, by: str, **headers: str) -> Any:
    """Call the tracker's API as this operator, and return its response."""
    url = f"{wire.tracker_api}/v1{path}"
    return wire.http.request(method, url, json=body, headers=wire.token("operator", subject=by) | headers)


def propose(wire: TrackerPeers, saga_id: str, resolution: str, *, by: str) -> Any:
    etag = call(wire, "GET", f"/sagas/{saga_id}", by=by).headers["ETag"]
    body = {"reason": REASON, "resolution": resolution}
    return call(wire, "POST", f"/sagas/{saga_id}/resolve", body, by=by, **{"If-Match": etag})


def approve(wire: TrackerPeers, plan_id: str, *, by: str) -> Any:
    return call(wire, "POST", f"/plans/{plan_id}/apply", {"reason": REASON}, by=by)


def contradict(wire: TrackerPeers, *, up_to: int) -> str:
    """Park an order whose stock is recorded as rejected, and whose first ``up_to`` steps as run; return its id."""
    saga_id = new_id()
    facts = [*successes(saga_id, up_to=up_to), message(inventory.InventoryRejected, saga_id)]
    wire.publish(*facts)
    wire.has_recorded(*facts)  # it is parked after some of them, and the others would change it again
    wire.becomes(saga_id, "NEEDS_REVIEW")
    return saga_id


def test_two_operators_release_the_money_of_a_saga_whose_facts_contradict_one_another(wire: TrackerPeers) -> None:
    saga_id = contradict(wire, up_to=3)
    redriven = call(wire, "POST", "/plans", {"act": "REDRIVE", "selection": {"saga_ids": [saga_id]}}, by="ops-1").json()
    assert redriven["counts"] == {"NOT_RUNNABLE": 1}
    assert propose(wire, saga_id, "CONFIRMED", by="ops-1").status_code == 409
    proposed = propose(wire, saga_id, "COMPENSATED", by="ops-1")
    assert (proposed.status_code, proposed.json()["state"]) == (201, "PLANNED"), proposed.text
    plan_id = proposed.json()["plan_id"]
    alone = approve(wire, plan_id, by="ops-1")
    assert (alone.status_code, alone.json()["type"]) == (403, "urn:baraza:problem:second-operator")
    assert wire.saga(saga_id).state == "NEEDS_REVIEW"
    assert approve(wire, plan_id, by="ops-2").status_code == 202
    fences = ["FenceSaga"] * len(ORDER.services)
    wire.awaits(saga_id, *fences)
    for reply in fence_replies(saga_id, "authorize_payment", "burn_loyalty_points"):
        assert isinstance(reply, saga.SagaFenced)
        wire.publish(reply, topic=f"{reply.service}.events")
    for number, (reply_type, step) in enumerate(UNDONE, start=1):
        wire.awaits(saga_id, *fences, *COMMANDS[:number])
        wire.publish(message(reply_type, saga_id, step=step))
    row = wire.becomes(saga_id, "CANCELLED_COMPENSATED")
    assert (row.cause, row.reason) == ("CANCELLED", f"ops-1 and ops-2: {REASON}")
    acts = call(wire, "GET", f"/acts?saga_id={saga_id}", by="ops-1").json()["acts"]
    assert [(each["act"], each["actor"]) for each in acts] == [
        ("RESOLVE_COMPENSATED", "ops-2"),
        ("PROPOSE", "ops-1"),
    ]
    (entry,) = [entry for entry in wire.timeline(saga_id) if entry.type == "Resolve"]
    assert entry.detail == f"ops-2: {REASON}"


def test_a_saga_whose_steps_all_ran_is_confirmed_and_nothing_is_resolved_twice_or_after_a_change(
    wire: TrackerPeers,
) -> None:
    saga_id = contradict(wire, up_to=5)
    stale = propose(wire, saga_id, "COMPENSATED", by="ops-1").json()["plan_id"]
    last = message(ORDER.steps[-1].succeeds_with, saga_id)
    wire.publish(last)
    wire.has_recorded(last)
    approve(wire, stale, by="ops-2")
    plan = operating.applied(wire.http, wire.tracker_api, stale, wire.token("support"))
    assert plan["counts"] == operating.CHANGED, "what changed after the proposal is not resolved"
    plan_id = propose(wire, saga_id, "CONFIRMED", by="ops-2").json()["plan_id"]
    assert approve(wire, plan_id, by="ops-1").status_code == 202
    wire.becomes(saga_id, "CONFIRMED")
    wire.awaits(saga_id, "OrderConfirmed")
    again = propose(wire, saga_id, "COMPENSATED", by="ops-1")
    assert (again.status_code, again.json()["type"]) == (409, "urn:baraza:problem:not-runnable")
