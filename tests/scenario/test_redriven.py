"""Orders that an unexpected error has parked, and the operator who redrives them once it is fixed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from support.lag import tracker_has_recorded_everything
from support.shop import Shop
from support.waiting import until

pytestmark = pytest.mark.timeout(400)  # It stops the tracker, starts it again, and four commands run.
STEP = "reserve_inventory"
WHY = "the constraint is gone"
PARKED = "SELECT count(*) FROM deferred WHERE saga_id = ANY(%s) AND handler = %s AND due_at IS NULL AND NOT behind"
PARKED_S = 60.0
"""All retries of a step take 6 s, and a restart of the tracker takes some more. A busy machine makes both longer."""


@contextmanager
def refusing(shop: Shop) -> Iterator[None]:
    """Make inventory's database refuse every reservation, as after a mistake in a migration."""
    with closing(psycopg.connect(shop.stack.database_url("inventory", "owner"), autocommit=True)) as owner:
        owner.execute("ALTER TABLE reservations ADD CONSTRAINT mistaken CHECK (false) NOT VALID")
        try:
            yield
        finally:
            owner.execute("ALTER TABLE reservations DROP CONSTRAINT mistaken")


def baraza(shop: Shop, *arguments: str) -> Any:
    """Run the command line as an operator does, and return its JSON."""
    command = [sys.executable, "-P", "-m", "baraza", *arguments, "--home", str(shop.stack.home), "--json"]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert completed.returncode == 0, completed.stderr
    return json.loads(completed.stdout)


def test_orders_parked_by_an_error_are_redriven_as_planned_and_confirmed(shop: Shop) -> None:
    # The retries take longer than a step's timeout in tests, so the tracker must be down until they are exhausted.
    with refusing(shop), shop.down("saga-tracker"):
        order_ids = sorted(shop.place(points=1).order_id for _ in range(3))
        until(
            lambda: shop.rows("inventory", PARKED, order_ids, STEP)[0][0],
            "inventory has parked the orders",
            holds=lambda count: count == len(order_ids),
            within_s=PARKED_S,
        )
    for order_id in order_ids:
        until(
            lambda: shop.saga(order_id)["saga"],  # noqa: B023 - it is called in this iteration
            f"{order_id} is parked",
            holds=lambda saga: saga["state"] == "NEEDS_REVIEW",
            within_s=PARKED_S,
        )
    tracker_has_recorded_everything(shop)  # a dead letter alone parks an order, and its events would change it again
    (group,) = [each for each in baraza(shop, "sagas", "review") if each["step"] == STEP]
    assert group["count"] == len(order_ids)
    assert "IntegrityError" in group["reason"]

    plan = baraza(shop, "redrive", "--plan", f"group={group['group']}")
    shown = [(item["saga_id"], item["state"], item["runs"]) for item in plan["items"]]
    assert shown == [(order_id, "PLANNED", f"RedriveStep {STEP}") for order_id in order_ids]

    applied = baraza(shop, "redrive", "--apply", plan["plan_id"], "--reason", WHY)
    assert (applied["state"], applied["counts"]) == ("APPLIED", {"DONE": len(order_ids)})
    assert {shop.outcome(order_id)["saga"]["state"] for order_id in order_ids} == {"CONFIRMED"}
    acts = [act for act in baraza(shop, "sagas", "acts") if act["plan_id"] == plan["plan_id"] and act["saga_id"]]
    assert sorted((act["saga_id"], act["act"], act["reason"]) for act in acts) == [
        (order_id, "REDRIVE", WHY) for order_id in order_ids
    ]
