"""A provider contradicted itself about a step that nothing undoes: the API lists it until an operator settles it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from chassis.wire.envelope import new_id
from messages.checkout import ReturnApproved, ReturnRequested
from messages.contract import Message
from messages.saga import StepAwaited, StepContradicted
from support import operating
from support.builders import a
from support.tracker_peers import TrackerPeers, until

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The registry's client, a library, leaves its connections to the garbage collector."""

REASON = "the pieces were sent back"
STEP: dict[str, Any] = {"service": "shipping", "step": "collect_parcel", "attempt": 1}
EVIDENCE = {"recorded": "FAILED", "proven": "SUCCEEDED", "source": "query", "reference": None}


def of_return(message_type: type[Message], saga_id: str, **given: object) -> Message:
    return a(message_type, saga_id=saga_id, saga_type="return_order", **given)


def listed(wire: TrackerPeers, **params: str) -> list[str]:
    """Return the sagas that the API lists as contradicted and open, with these other filters."""
    url = f"{wire.tracker_api}/v1/sagas"
    found = wire.http.get(url, params={"contradicted": "true", **params}, headers=wire.token("support")).json()
    return [each["saga_id"] for each in found["sagas"]]


def settle(wire: TrackerPeers, saga_id: str) -> Any:
    url = f"{wire.tracker_api}/v1/sagas/{saga_id}"
    operator = wire.token("operator")
    etag = {"If-Match": wire.http.get(url, headers=operator).headers["ETag"]}
    return wire.http.post(f"{url}/settle", json={"reason": REASON}, headers=operator | etag)


def test_an_incident_is_listed_until_an_operator_settles_it_and_stays_an_incident(wire: TrackerPeers) -> None:
    saga_id = new_id()
    wire.publish(of_return(ReturnRequested, saga_id), of_return(ReturnApproved, saga_id))
    awaited = of_return(StepAwaited, saga_id, **STEP, undo=False, key="k", since=datetime.now(UTC))
    wire.publish(awaited, topic="shipping.events")
    until(lambda: (row := wire.saga(saga_id)) and row.awaits_since, "the outcome of the step comes later")
    assert settle(wire, saga_id).status_code == 409

    contradiction = of_return(StepContradicted, saga_id, **STEP, **EVIDENCE, undone_by_service=False)
    wire.publish(contradiction, replace(contradiction, message_id=new_id()), topic="shipping.events")
    row = wire.becomes(saga_id, "INCIDENT")
    assert (row.contradicted_at, row.settled_at) == (contradiction.occurred_at, None)
    assert listed(wire) == listed(wire, type="return_order") == [saga_id]
    assert listed(wire, type="order") == []

    operating.act(wire.http, wire.tracker_api, saga_id, "settle", REASON, wire.token("operator"))
    row = until(lambda: found if (found := wire.saga(saga_id)).settled_at else None, "the act is recorded")
    assert (row.state, row.settled_by, listed(wire)) == ("INCIDENT", "staff-1", [])
    until(lambda: settle(wire, saga_id).status_code == 409, "nothing is left to settle")
    (entry,) = [entry for entry in wire.timeline(saga_id) if entry.kind == "act"]
    assert (entry.type, entry.detail) == ("Settle", f"staff-1: {REASON}")
    log = wire.http.get(
        f"{wire.tracker_api}/v1/acts", params={"saga_id": saga_id},
        headers=wire.token("support"),
    ).json()["acts"]  # fmt: skip
    assert [(each["act"], each["actor"], each["reason"]) for each in log] == [("SETTLE", "staff-1", REASON)]
