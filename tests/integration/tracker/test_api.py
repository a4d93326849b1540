"""The tracker's API, with the data that its worker has recorded."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text

from chassis.http.problem import RETRY_AFTER_S
from chassis.wire.envelope import new_id
from messages import checkout, saga
from support.tracker_peers import DEADLINE_S, ORDER, TrackerPeers, message, successes, until

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The registry's client, a library, leaves its connections to the garbage collector."""


def test_a_saga_is_cancelled_by_staff_and_one_that_has_ended_is_not(wire: TrackerPeers) -> None:
    url = wire.stack.endpoints.http["saga-tracker-api"][0]
    saga_id, ended = new_id(), new_id()
    wire.publish(*successes(saga_id, up_to=1), *successes(ended))
    wire.becomes(saga_id, "PENDING")
    wire.becomes(ended, "CONFIRMED")
    support = wire.token("support")
    body = {"reason": "the customer called"}
    assert wire.http.post(f"{url}/v1/sagas/{saga_id}/cancel", json=body).status_code == 401
    assert (
        wire.http.post(f"{url}/v1/sagas/{saga_id}/cancel", json=body, headers=wire.token("customer")).status_code == 403
    )
    assert wire.http.post(f"{url}/v1/sagas/{ended}/cancel", json=body, headers=support).status_code == 409
    assert wire.http.post(f"{url}/v1/sagas/{new_id()}/cancel", json=body, headers=support).status_code == 404
    answer = wire.http.post(f"{url}/v1/sagas/{saga_id}/cancel", json=body, headers=support)
    assert answer.status_code == 202
    wire.awaits(saga_id, *["FenceSaga"] * len(ORDER.services))
    (act,) = [entry for entry in wire.timeline(saga_id) if entry.kind == "act"]
    assert (act.message_id, act.detail) == (answer.json()["command_id"], "staff-1: the customer called")
    wire.publish(message(saga.CancelSaga, ended, actor="staff-2", reason="too late"), topic="saga.commands")
    (refused,) = until(lambda: [entry for entry in wire.timeline(ended) if entry.kind == "act"], "the refused act")
    assert "refused" in refused.detail
    assert wire.saga(ended).state == "CONFIRMED"


def test_sagas_are_found_by_customer_state_step_and_age_page_by_page(wire: TrackerPeers) -> None:
    url = wire.stack.endpoints.http["saga-tracker-api"][0]
    staff, customer = wire.token("support"), f"customer-{new_id()}"
    mine = [new_id() for _ in range(5)]
    for saga_id in mine:
        wire.publish(message(checkout.OrderSubmitted, saga_id, customer_id=customer))
    until(lambda: all(wire.saga(saga_id) for saga_id in mine), "all are recorded")

    def page(**query: Any) -> Any:
        return wire.http.get(f"{url}/v1/sagas", params={"customer": customer, **query}, headers=staff).json()

    first = page(limit=2)
    second = page(limit=2, cursor=first["next_cursor"])
    third = page(limit=2, cursor=second["next_cursor"])
    for path in (f"sagas/{mine[0].lower()}", f"sagas/{mine[0].lower()}/timeline"):
        shown = wire.http.get(f"{url}/v1/{path}", headers=staff)
        assert (shown.status_code, mine[0] in shown.text) == (200, True), path
    found = [each["saga_id"] for answer in (first, second, third) for each in answer["sagas"]]
    assert found == mine[::-1]
    assert third["next_cursor"] is None
    assert page(state="CONFIRMED")["sagas"] == []
    assert len(page(step="authorize_payment", state="PENDING", type="order")["sagas"]) == 5
    assert page(older_than_s=3_600)["sagas"] == []
    assert page(limit=201)["status"] == 422
    assert page(cursor="bm9uZQ")["errors"][0]["pointer"] == "query:cursor"


def test_a_list_that_the_database_cannot_return_in_time_is_refused_with_the_time_to_retry(wire: TrackerPeers) -> None:
    url = wire.stack.endpoints.http["saga-tracker-api"][0]
    with wire.engine.connect() as other, other.begin():
        other.execute(text("LOCK TABLE sagas IN ACCESS EXCLUSIVE MODE"))
        answer = wire.http.get(f"{url}/v1/sagas", headers=wire.token("support"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, str(RETRY_AFTER_S))
    assert "longer than a request may take" in answer.json()["detail"]


def test_sagas_are_found_by_a_customer_as_it_is_typed_and_as_an_earlier_release_stored_it(wire: TrackerPeers) -> None:
    url = wire.stack.endpoints.http["saga-tracker-api"][0]
    customer, normal, stored = f"caf\u00e9-{new_id()}", new_id(), new_id()
    wire.publish(message(checkout.OrderSubmitted, normal, customer_id=customer))
    wire.publish(message(checkout.OrderSubmitted, stored, customer_id=f" {customer}"))
    until(lambda: all(wire.saga(saga_id) for saga_id in (normal, stored)), "both are recorded")

    def found(typed: str) -> set[str]:
        answer = wire.http.get(f"{url}/v1/sagas", params={"customer": typed}, headers=wire.token("support")).json()
        return {each["saga_id"] for each in answer["sagas"]}

    assert found(customer) == found(f"{customer} ") == found(customer.replace("\u00e9", "e\u0301")) == {normal}
    assert found(f" {customer}") == {normal, stored}
    for typed in (normal, normal.lower()):
        answer = wire.http.get(f"{url}/v1/sagas/{typed}", headers=wire.token("support"))
        assert answer.json()["saga"]["saga_id"] == normal


def test_a_timeline_shows_what_happened_and_its_freshness(wire: TrackerPeers) -> None:
    url = wire.stack.endpoints.http["saga-tracker-api"][0]
    staff, saga_id = wire.token("operator"), new_id()
    events = successes(saga_id, up_to=2)
    wire.publish(*events)
    until(lambda: len(wire.timeline(saga_id)) == 3, "three entries")

    def fresh() -> Any:
        answer = wire.http.get(f"{url}/v1/sagas/{saga_id}/timeline", headers=staff).json()
        as_of = answer["freshness"]["as_of"]
        return answer if as_of and datetime.fromisoformat(as_of) > events[-1].occurred_at else None

    timeline = until(fresh, "a timeline that is fresher than its last event")
    assert {entry["message_id"] for entry in timeline["entries"]} == {event.message_id for event in events}
    assert 0 <= timeline["freshness"]["lag_s"] < DEADLINE_S
    detail = wire.http.get(f"{url}/v1/sagas/{saga_id}", headers=staff).json()
    assert [step["outcome"] for step in detail["steps"]] == ["ran", "ran", "waiting", "not_run", "not_run", "not_run"]


def test_a_live_timeline_continues_after_the_last_event_and_ends_with_the_saga(wire: TrackerPeers) -> None:
    url = wire.stack.endpoints.http["saga-tracker-api"][0]
    staff, saga_id = wire.token("support"), new_id()
    events = successes(saga_id)
    wire.publish(events[0])
    (first,) = until(lambda: wire.timeline(saga_id), "the first entry")
    seen: list[str] = []
    stream = f"{url}/v1/sagas/{saga_id}/timeline/stream"
    with wire.http.stream("GET", stream, headers=staff) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            seen += [line] if line.startswith(("id:", "event:")) else []
            if line == "event: freshness" and seen.count(line) == 1:
                # The last event alone confirms the order and ends the stream: the others are recorded first.
                wire.publish(*events[1:-1])
                until(lambda: len(wire.timeline(saga_id)) == len(events) - 1, "all but the last event are recorded")
                wire.publish(events[-1])
    assert seen.count("event: entry") == len(events) + 1
    assert seen[-1] == "event: end"
    resumed = wire.http.get(stream, headers=staff | {"Last-Event-ID": str(first.seq)}).text
    assert resumed.count("event: entry") == len(events)
