"""A message that no service of ours sent contradicts an order's history; two operators release its money and stock."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

from chassis.wire.envelope import headers, new_id, new_traceparent
from messages.inventory import InventoryRejected
from support.lag import tracker_has_recorded_everything
from support.rebuilt import ACTS, differences_after_a_rebuild, snapshot
from support.registries import codec_of
from support.shop import SKU, Shop
from support.topics import OutgoingMessage, publish
from support.waiting import until

TOPIC = "inventory.events"
REASON = "the warehouse has the goods, and the gateway has the money"


def forge_a_rejection(shop: Shop, order_id: str) -> None:
    """Publish that the order's stock was rejected, under a name that is not inventory's."""
    partition = shop.rows("saga-tracker", "SELECT partition FROM sagas WHERE saga_id = %s", order_id)[0][0]
    event = InventoryRejected(
        message_id=new_id(),
        saga_id=order_id,
        saga_type="order",
        saga_version=1,
        causation_id=None,
        occurred_at=datetime.now(UTC),
        reason="out_of_stock",
        detail="",
        sku=SKU,
        requested=4,
        available=0,
    )
    with codec_of(shop.stack) as codec:
        value = codec.encode(TOPIC, event)
    forged = OutgoingMessage(
        topic=TOPIC,
        partition=partition,
        key=order_id.encode(),
        value=value,
        headers=tuple(headers(event, source="nobody", traceparent=new_traceparent())),
    )
    publish(shop.stack.kafka(), [forged])


def sagas(shop: Shop, *arguments: str) -> tuple[int, Any]:
    """Run ``baraza sagas``; return its status, and its JSON or what it wrote about a refusal."""
    command = (sys.executable, "-m", "baraza.main", "sagas", *arguments, "--home", str(shop.stack.home), "--json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else done.stderr


def test_two_operators_undo_an_order_whose_history_contradicts_itself(shop: Shop) -> None:
    with shop.down("shipping"):
        order_id = shop.place(points=3).order_id
        shop.reaches(order_id, "book_shipment")
        forge_a_rejection(shop, order_id)
        until(
            lambda: shop.saga(order_id)["saga"],
            "the contradiction parks it",
            holds=lambda saga: saga["state"] == "NEEDS_REVIEW",
        )
    posted = "SELECT 1 FROM effects WHERE saga_id = %s AND step = 'post_ledger' AND state = 'DONE'"
    until(lambda: shop.rows("ledger", posted, order_id), "its steps went on, and the money was captured")
    recorded = "SELECT 1 FROM timeline WHERE saga_id = %s AND type = 'LedgerPosted'"
    until(lambda: shop.rows("saga-tracker", recorded, order_id), "the tracker knows, and does nothing about it")
    tracker_has_recorded_everything(shop)  # the ledger's event may come before others, which would change the saga

    status, plan = sagas(shop, "resolve", order_id, "--as", "compensated", "--reason", REASON, "--by", "ops-1")
    assert status == 0, plan
    status, refusal = sagas(shop, "approve", plan["plan_id"], "--reason", REASON, "--by", "ops-1")
    assert (status, "another operator" in refusal) == (1, True), refusal
    status, applied = sagas(shop, "approve", plan["plan_id"], "--reason", REASON, "--by", "ops-2")
    assert (status, applied["state"]) == (0, "APPLIED"), applied

    end = shop.outcome(order_id)
    assert (end["saga"]["state"], end["saga"]["cause"]) == ("CANCELLED_COMPENSATED", "CANCELLED"), end
    shop.knows(order_id, "CANCELLED_COMPENSATED")
    shop.check_audit()
    was = snapshot(shop.stack.database_url("saga-tracker", "audit"), order_id)
    assert len(was[ACTS]) == 1, "the approval"
    assert not (found := differences_after_a_rebuild(shop.stack, was, order_id)), "\n".join(found)
