"""Orphaned sagas, planted in the database, are found within a minute: repaired or parked."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from chassis.wire.envelope import new_id
from messages import checkout
from support.tracker_peers import TrackerPeers, message, successes, until

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The registry's client, a library, leaves its connections to the garbage collector."""

FOUND_WITHIN_S = 60.0
PLANTED = {
    "under way without a deadline": "deadline_at = NULL, waiting = NULL",
    "a deadline out of all bounds": "deadline_at = now() + interval '9 days'",
    "parked without a reason": "state = 'NEEDS_REVIEW', reason = NULL, deadline_at = NULL, waiting = NULL",
    "a command that was never issued": (
        "deadline_at = NULL, waiting = NULL, "
        "progress = jsonb_set(progress, '{known,timed_out}', to_jsonb(ARRAY['authorize_payment']))"
    ),
    "a definition that this release lacks": "deadline_at = NULL, saga_version = 99",
}
REPAIRED = "saga_id = :saga_id AND state = 'PENDING' AND deadline_at < now() + interval '1 hour'"


def test_planted_orphans_are_repaired_or_parked(wire: TrackerPeers) -> None:
    planted = {kind: new_id() for kind in PLANTED}
    for saga_id in planted.values():
        wire.publish(message(checkout.OrderSubmitted, saga_id))
        wire.becomes(saga_id, "PENDING")
    with wire.engine.begin() as tx:
        for kind, change in PLANTED.items():
            tx.execute(text(f"UPDATE sagas SET {change} WHERE saga_id = :saga_id"), {"saga_id": planted[kind]})  # noqa: S608
    *repaired, foreign = planted.items()
    for kind, saga_id in repaired:
        until(
            lambda: wire.one(f"SELECT 1 FROM sagas WHERE {REPAIRED}", saga_id=saga_id),  # noqa: S608, B023
            f"{kind} is repaired",
            within_s=FOUND_WITHIN_S,
        )
        assert "Orphaned" in [entry.type for entry in wire.timeline(saga_id)], kind
    assert wire.saga(planted["a command that was never issued"]).phase == "FENCING"
    kind, saga_id = foreign
    row = until(
        lambda: found if (found := wire.saga(saga_id)).state == "NEEDS_REVIEW" else None, kind, within_s=FOUND_WITHIN_S
    )
    assert row is not None
    assert row.reason == "this release has no order version 99"
    with wire.engine.begin() as tx:
        tx.execute(text("UPDATE sagas SET saga_version = 1 WHERE saga_id = :saga_id"), {"saga_id": saga_id})
    wire.becomes(saga_id, "PENDING")
    wire.publish(*successes(saga_id)[1:])
    wire.becomes(saga_id, "CONFIRMED")
