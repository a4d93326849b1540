"""The example in docs/ reads every event of every event topic, with the stock client, as any consumer could."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from stack import contract
from support.shop import SCARCE, Shop
from support.topics import stored

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "analytics.py"
OF_ORDERS = {f"{name}.events" for name in ("checkout", "payment", "inventory", "loyalty", "shipping", "ledger", "saga")}
"""What an order leads to; the topics of payments may have no event yet."""


@pytest.mark.timeout(400)  # It starts an interpreter and reads every topic twice, beside the rest of the suite.
def test_the_example_counts_every_event_of_every_topic(shop: Shop) -> None:
    for order in (shop.place(points=2), shop.place(sku=SCARCE), shop.place(token="tok_capture_declined")):
        shop.outcome(order.order_id)
    shop.check_audit()
    ends, login = shop.stack.endpoints, shop.stack.kafka(contract.ANALYTICS)
    command = [sys.executable, "-W", "error", str(EXAMPLE), ends.kafka, ends.registry_url]
    command += [str(file) for file in (login.password_file, login.ca_file) if file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    topics = [topic for topic in contract.topics() if topic.endswith(".events")]
    expected = Counter(
        f"{message.topic} {message.headers['ce_type'].decode()}" for message in stored(shop.stack.kafka(), *topics)
    )
    assert read["events"] == expected
    assert {name.split()[0] for name in read["events"]} >= OF_ORDERS
    assert read["revenue_minor"] > 0


def test_the_example_imports_none_of_our_packages() -> None:
    imported = [line for line in EXAMPLE.read_text().splitlines() if line.startswith(("import ", "from "))]
    assert not [line for line in imported if line.split()[1].partition(".")[0] in ("messages", "chassis", "stack")]
