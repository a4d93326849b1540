"""A running stack whose sagas are selected anew: the difference is stopped and started, and nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from stack import Stack, contract, from_environment, selection, up
from stack.providers import SIMULATORS
from support.shop import Shop
from support.waiting import until

pytestmark = pytest.mark.timeout(600)  # Every test stops services and starts them again.
SMALL = "manual_posting"


def baraza(shop: Shop, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "baraza.main", *arguments, "--home", str(shop.stack.home))
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def small(shop: Shop) -> Iterator[Stack]:
    """The stack with the smallest saga alone, after an order. Afterwards it has everything again."""
    assert shop.outcome(shop.place().order_id)["saga"]["state"] == "CONFIRMED"
    try:
        yield up(from_environment(home=shop.stack.home, sagas=(SMALL,)))
    finally:
        up(from_environment(home=shop.stack.home, sagas=()))


def test_an_order_waits_for_services_that_are_not_selected_and_is_confirmed_once_they_are(
    shop: Shop, small: Stack
) -> None:
    assert set(small.stopped) >= {"payment", "gateway", "shipping", "courier"}
    assert small.pids("checkout")
    order = shop.place()

    listed = until(
        lambda: json.loads(baraza(shop, "status", "--json").stdout),
        "every component answers in time",
        holds=lambda found: all(component["ready"] for component in found),
    )
    started = {component["service"] for component in listed}
    assert started & {*contract.services(), *SIMULATORS} == set(selection.components((SMALL,))) - {
        contract.TRACKER,
        contract.TRACKER_API,
    }
    assert all(component["memory_bytes"] and component["started_at"] for component in listed)
    refused = baraza(shop, "catalogue", "stock", "tea")
    assert refused.returncode == 1
    assert f"inventory is not started: the stack runs {SMALL}. Start it with: ./baraza up --sagas" in refused.stderr
    shop.reaches(order.order_id, "authorize_payment")
    assert baraza(shop, "timeline", order.order_id).returncode == 0
    assert baraza(shop, "up").returncode == 0
    assert "payment" not in Stack.load(small.home).process_ids(), "a home keeps its selection"

    assert baraza(shop, "up", "--sagas", "all").returncode == 0
    assert shop.outcome(order.order_id)["saga"]["state"] == "CONFIRMED"


def test_the_audit_names_the_provider_whose_records_it_lacks(shop: Shop, small: Stack) -> None:
    refused = baraza(shop, "audit", "--wait", "0")
    assert refused.returncode == 1
    assert "records of the gateway. gateway is not started" in refused.stderr
