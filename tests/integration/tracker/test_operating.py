"""Operators' acts over HTTP, recorded by the worker. The test plays the services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from chassis.wire.envelope import new_id
from messages import checkout, saga
from messages.contract import Message
from support import operating
from support.tracker_peers import ORDER, TrackerPeers, message, successes, until

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The registry's client, a library, leaves its connections to the garbage collector."""

RESERVE = "reserve_inventory"


def url_of(wire: TrackerPeers) -> str:
    return f"{wire.tracker_api}/v1"


def acts_on(wire: TrackerPeers, saga_id: str, what: str, reason: str) -> None:
    operating.act(wire.http, wire.tracker_api, saga_id, what, reason, wire.token("operator"))


def dead_letter(wire: TrackerPeers, trigger: Message, *, redrive: int = 0, reason: str = "ZeroDivisionError") -> None:
    """Publish the dead letter of inventory when its retries for this trigger are exhausted."""
    topic = f"{trigger.OWNER}.events"
    wire.raw(
        f"{RESERVE}.dlq", trigger.saga_id, wire.codec.encode(topic, trigger), trigger,
        baraza_service="inventory", baraza_step=RESERVE, baraza_reason=reason, baraza_attempts="3",
        baraza_topic=topic, baraza_redrive=str(redrive),
    )  # fmt: skip
    wire.producer.flush(10)


def parked(wire: TrackerPeers, saga_id: str) -> list[Message]:
    """Park an order at its second step, and return the events of all its steps."""
    events = successes(saga_id)
    wire.publish(*events[:2])
    dead_letter(wire, events[1])
    wire.becomes(saga_id, "NEEDS_REVIEW")
    wire.has_recorded(*events[:2])  # its dead letter alone parks it, and the events would change it again
    return events


def tag(wire: TrackerPeers, saga_id: str) -> dict[str, str]:
    """Return the header that names the saga's current revision."""
    answer = wire.http.get(f"{url_of(wire)}/sagas/{saga_id}", headers=wire.token("operator"))
    return {"If-Match": answer.headers["ETag"]}


def redriven(saga_id: str, outcome: str, number: int) -> Message:
    return message(saga.StepRedriven, saga_id, step=RESERVE, attempt=number, outcome=outcome, service="inventory")


def test_an_operator_redrives_a_parked_order_until_it_runs(wire: TrackerPeers) -> None:
    url, operator, saga_id = url_of(wire), wire.token("operator"), new_id()
    events = parked(wire, saga_id)
    body = {"reason": "the division is fixed"}
    act = f"{url}/sagas/{saga_id}/redrive"
    assert wire.http.post(act, json=body, headers=wire.token("support") | tag(wire, saga_id)).status_code == 403
    assert wire.http.post(act, json=body, headers=operator).status_code == 428
    stale = wire.http.post(act, json=body, headers=operator | {"If-Match": '"999999"'})
    assert (stale.status_code, stale.headers["ETag"]) == (412, tag(wire, saga_id)["If-Match"])
    acts_on(wire, saga_id, "redrive", body["reason"])
    (first,) = wire.awaits(saga_id, "RedriveStep")
    assert isinstance(first, saga.RedriveStep)
    assert (first.step, first.attempt, first.reason) == (RESERVE, 1, "staff-1: the division is fixed")
    wire.publish(redriven(saga_id, "RESUMED", 1), topic="inventory.events")
    until(lambda: wire.saga(saga_id).waiting == f"{RESERVE} to run", "the step's timeout begins again")
    dead_letter(wire, events[1])  # a copy of the first dead letter is history
    dead_letter(wire, events[1], redrive=1, reason="KeyError")
    assert "KeyError" in wire.becomes(saga_id, "NEEDS_REVIEW").reason
    acts_on(wire, saga_id, "redrive", body["reason"])
    until(lambda: len(wire.outgoing(saga_id)) == 2, "the second redrive")
    wire.publish(redriven(saga_id, "RESUMED", 2), topic="inventory.events")
    wire.publish(*events[2:])
    wire.becomes(saga_id, "CONFIRMED")
    log = wire.http.get(f"{url}/acts", params={"saga_id": saga_id}, headers=operator).json()["acts"]
    assert [(each["actor"], each["act"], each["reason"]) for each in log] == [
        ("staff-1", "REDRIVE", "the division is fixed")
    ] * 2
    entries = wire.timeline(saga_id)
    causes = {entry.message_id: entry.causation_id for entry in entries}
    titles = {entry.message_id: entry.type for entry in entries}
    assert titles[str(causes[first.message_id])] == "Redrive"


def test_a_group_is_reviewed_planned_and_applied(wire: TrackerPeers) -> None:
    url, operator = url_of(wire), wire.token("operator")
    saga_ids = [new_id() for _ in range(5)]
    for saga_id in saga_ids:
        parked(wire, saga_id)
    groups = wire.http.get(f"{url}/review", headers=wire.token("support")).json()["groups"]
    (group,) = [each for each in groups if each["step"] == RESERVE and "ZeroDivisionError" in each["reason"]]
    selection = {"group": group["group"], "saga_ids": saga_ids}
    body = {"selection": selection}
    assert wire.http.post(f"{url}/plans", json=body, headers=wire.token("support")).status_code == 403
    plan = wire.http.post(f"{url}/plans", json=body, headers=operator).json()
    assert plan["counts"] == {"PLANNED": 5}
    apply = f"{url}/plans/{plan['plan_id']}/apply"
    for _ in range(2):
        assert wire.http.post(apply, json={"reason": "fixed"}, headers=operator).status_code == 202
    found = operating.applied(wire.http, wire.tracker_api, plan["plan_id"], operator)
    assert found["counts"] == {"DONE": 5}
    for saga_id in saga_ids:
        wire.awaits(saga_id, "RedriveStep")


def acts(wire: TrackerPeers, saga_id: str) -> list[tuple[str, str]]:
    """Return the operators' acts on the timeline."""
    return [(entry.type, entry.detail) for entry in wire.timeline(saga_id) if entry.kind == "act"]


def test_other_acts_are_on_the_timeline_with_actor_and_reason(wire: TrackerPeers) -> None:
    url, operator, saga_id = url_of(wire), wire.token("operator"), new_id()
    parked(wire, saga_id)
    for act, reason in (("annotate", "asked the warehouse"), ("compensate", "it is sold out")):
        acts_on(wire, saga_id, act, reason)
        until(lambda: acts(wire, saga_id)[-1:] == [(act.capitalize(), f"staff-1: {reason}")], f"{act} is recorded")  # noqa: B023
    wire.awaits(saga_id, *["FenceSaga"] * len(ORDER.services))
    assert [title for title, _ in acts(wire, saga_id)] == ["Annotate", "Compensate"]
    again = wire.http.post(
        f"{url}/sagas/{saga_id}/compensate", json={"reason": "again"}, headers=operator | tag(wire, saga_id)
    )
    assert again.status_code == 409
    blank = wire.http.post(f"{url}/sagas/{saga_id}/cancel", json={"reason": "   "}, headers=operator)
    assert blank.status_code == 422


def test_a_note_that_is_read_back_leaves_the_sagas_revision(wire: TrackerPeers) -> None:
    saga_id = new_id()
    parked(wire, saga_id)
    wire.records()
    before = wire.saga(saga_id).version
    acts_on(wire, saga_id, "annotate", "asked the warehouse")
    wire.records()  # the decision on Kafka, too
    assert wire.saga(saga_id).version == before + 1


def test_a_dead_letter_without_a_responsible_saga_is_open_until_it_is_closed(wire: TrackerPeers) -> None:
    url, operator, unknown, ended = url_of(wire), wire.token("operator"), new_id(), new_id()
    wire.publish(*successes(ended))
    wire.becomes(ended, "CONFIRMED")
    for saga_id in (unknown, ended):
        wire.raw(
            "checkout.dlq", saga_id, b"garbage", baraza_service="checkout", baraza_step="", baraza_reason="no schema",
            baraza_attempts="1", baraza_topic="saga.events",
        )  # fmt: skip
    wire.producer.flush(10)

    def letters() -> dict[str, Any]:
        found = wire.http.get(f"{url}/dead-letters", headers=operator).json()["letters"]
        return {each["saga_id"]: each for each in found if each["saga_id"] in (unknown, ended)}

    until(lambda: len(letters()) == 2, "both are open")
    found = letters()
    assert {saga_id: each["saga_state"] for saga_id, each in found.items()} == {unknown: None, ended: "CONFIRMED"}
    assert wire.saga(ended).state == "CONFIRMED"
    body = {"letter_ids": [each["letter_id"] for each in found.values()], "reason": "a test message"}
    assert len(wire.http.post(f"{url}/dead-letters/close", json=body, headers=operator).json()["closed"]) == 2
    assert letters() == {}
    assert wire.http.post(f"{url}/dead-letters/close", json=body, headers=operator).json()["closed"] == []
    assert any(entry.type == "CloseDeadLetter" for entry in wire.timeline(ended))


@pytest.mark.parametrize("process", ["saga-tracker", "saga-tracker-api"])
@pytest.mark.parametrize("statement", ["UPDATE operator_log SET reason = ''", "DELETE FROM operator_log"])
def test_the_operators_log_can_only_grow(wire: TrackerPeers, statement: str, process: str) -> None:
    login = wire.stack.environment(process)
    password = Path(login["BARAZA_DATABASE_PASSWORD_FILE"]).read_text().strip()
    url = login["BARAZA_DATABASE_URL"].replace("postgresql+psycopg:", "postgresql:")
    with psycopg.connect(url, password=password) as tx, pytest.raises(psycopg.errors.InsufficientPrivilege):
        tx.execute(statement)


@pytest.mark.usefixtures("with_short_deadlines")
def test_an_order_redriven_long_after_its_deadline_gets_its_whole_time_again(wire: TrackerPeers) -> None:
    saga_id = new_id()
    events = parked(wire, saga_id)
    with wire.engine.begin() as tx:
        tx.exec_driver_sql(
            "UPDATE sagas SET started_at = now() - interval '1 day' WHERE saga_id = %(saga_id)s", {"saga_id": saga_id}
        )
    acts_on(wire, saga_id, "redrive", "r")
    wire.awaits(saga_id, "RedriveStep")
    wire.publish(redriven(saga_id, "RESUMED", 1), topic="inventory.events")
    until(lambda: wire.saga(saga_id).waiting == f"{RESERVE} to run", "it is not stopped at once")
    wire.publish(*events[2:])
    wire.becomes(saga_id, "CONFIRMED")


def test_a_saga_of_a_later_release_is_shown_without_its_steps(wire: TrackerPeers) -> None:
    saga_id = new_id()
    wire.publish(message(checkout.OrderSubmitted, saga_id))
    wire.becomes(saga_id, "PENDING")
    with wire.engine.begin() as tx:
        tx.exec_driver_sql("UPDATE sagas SET saga_version = 99 WHERE saga_id = %(saga_id)s", {"saga_id": saga_id})
    detail = wire.http.get(f"{url_of(wire)}/sagas/{saga_id}", headers=wire.token("support")).json()
    assert (detail["saga"]["version"], detail["steps"]) == (99, [])
