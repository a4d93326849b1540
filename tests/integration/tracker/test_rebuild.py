"""A tracker whose database is lost or restored: it does not act on it before it is rebuilt, and then is as it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import LiteralString

import pytest

from chassis.wire.envelope import new_id
from messages import inventory, ledger, loyalty, payment, saga, shipping
from messages.contract import Message, name_of
from stack import StackError
from support.rebuilt import LETTERS, Rows, differences, rows, snapshot
from support.tracker_peers import ORDER, STEPS, TrackerPeers, fence_replies, message, successes, until

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The registry's client, a library, leaves its connections to the garbage collector."""

UNDONE: tuple[tuple[str, type[Message]], ...] = (
    ("post_ledger", ledger.LedgerReversed),
    ("book_shipment", shipping.ShipmentCancelled),
    ("burn_loyalty_points", loyalty.LoyaltyPointsRestored),
    ("reserve_inventory", inventory.InventoryReleased),
    ("authorize_payment", payment.PaymentRefunded),
)


def check_same(was: Mapping[LiteralString, Rows], url: str, saga_id: str) -> None:
    for query, before in was.items():
        assert before or query == LETTERS
        assert not (found := differences(before, rows(url, query, saga_id))), "\n".join(found)


def cancel_after_every_step_ran(wire: TrackerPeers, saga_id: str) -> list[str]:
    """Cancel a saga whose steps have all run, which its tracker does not know yet; return what the tracker sent."""
    wire.publish(message(saga.CancelSaga, saga_id, actor="staff-2", reason="asked"), topic="saga.commands")
    names = ["FenceSaga"] * len(ORDER.services)
    wire.awaits(saga_id, *names)
    for reply in fence_replies(saga_id, *STEPS):
        assert isinstance(reply, saga.SagaFenced)
        wire.publish(reply, topic=f"{reply.service}.events")
    for step, reply_type in UNDONE:
        (command,) = [each.compensation.command for each in ORDER.steps if each.name == step and each.compensation]
        names.append(name_of(command))
        wire.awaits(saga_id, *names)
        wire.publish(message(reply_type, saga_id, step=step))
    names.append("OrderFailed")
    wire.awaits(saga_id, *names)
    wire.becomes(saga_id, "CANCELLED_COMPENSATED")
    return names


@pytest.mark.timeout(900)  # The stack waits for a minute until it reports that the tracker does not start.
def test_a_restored_tracker_stops_until_it_is_rebuilt_and_sends_nothing_again(
    wire: TrackerPeers, tmp_path: Path
) -> None:
    saga_id = new_id()
    first, *others = successes(saga_id)
    wire.publish(first)
    wire.becomes(saga_id, "PENDING")
    wire.stack.backup("saga-tracker", tmp_path / "before")
    names = cancel_after_every_step_ran(wire, saga_id)
    wire.publish(*others)
    wire.records()
    url = wire.stack.database_url("saga-tracker", "audit")
    was = snapshot(url, saga_id)

    since = wire.stack.restore("saga-tracker", tmp_path / "before")
    logged = len(wire.stack.log("saga-tracker").read_text())
    with pytest.raises(StackError):
        wire.stack.start("saga-tracker")
    until(
        lambda: "Rebuild it before the tracker acts on it" in wire.stack.log("saga-tracker").read_text()[logged:],
        "the tracker ends with the reason",
    )
    wire.stack.stop("saga-tracker")
    wire.stack.reconcile("saga-tracker", since)
    wire.records()
    assert [name_of(type(each)) for each in wire.outgoing(saga_id)] == names
    check_same(was, url, saga_id)

    wire.stack.rebuild(tmp_path / "after")
    wire.records()
    assert [name_of(type(each)) for each in wire.outgoing(saga_id)] == names
    check_same(was, url, saga_id)
