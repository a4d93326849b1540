"""Plans: another person's approval above a limit, pause, resume and stop, and what was parked again since."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from chassis.saga.dead_letters import DeadLetter, dead_letter_row
from chassis.saga.deferred import RawMessage
from chassis.wire.envelope import new_id
from saga_tracker.model.saga import Exhausted
from support.console_api import CODEC, Console, as_role, served
from support.together import raw_of
from support.tracker_peers import ORDER, message, successes

WHY = {"reason": "the carrier answers again"}
LIMIT = 3


@pytest.fixture
def console(engine: Engine) -> Iterator[Console]:
    """A tracker with parked sagas, more than one person may redrive."""
    with served(engine, approval_above=LIMIT) as console:
        yield console


PARKING = next(step for step in ORDER.steps if step.exhausted is Exhausted.PARK)


def parked(console: Console, count: int) -> list[str]:
    """Park so many orders: the step that parks has used up its retries."""
    found = [new_id() for _ in range(count)]
    before = ORDER.steps.index(PARKING)
    console.tracked.record(*[each for saga_id in found for each in successes(saga_id, up_to=before)])
    park(console, found)
    return found


def park(console: Console, saga_ids: list[str], redrive: int = 0) -> None:
    console.tracked.record_raw([letter_of(saga_id, redrive) for saga_id in saga_ids])


def letter_of(saga_id: str, redrive: int = 0) -> RawMessage:
    """Return the dead letter of the trigger of the step that parks."""
    raw = raw_of(message(PARKING.trigger, saga_id), PARKING.trigger_topic, CODEC)
    letter = DeadLetter(service=PARKING.service, step=PARKING.name, reason="no answer", attempts=5, redrive=redrive)
    row = dead_letter_row(raw, letter, row_id=new_id())
    return RawMessage(
        topic=row.topic, partition=raw.partition, key=raw.key, value=row.payload, headers=tuple(row.headers)
    )


def planned(console: Console, saga_ids: list[str], *, by: str = "Amina") -> Any:
    answer = console.post("/plans", {"selection": {"saga_ids": saga_ids}}, by=by)
    assert answer.status_code == 201, answer.text
    return answer.json()


def acts(console: Console, plan_id: str) -> list[tuple[str, str]]:
    return [(each["act"], each["actor"]) for each in console.get("/acts", plan_id=plan_id)["acts"]]


def test_a_plan_within_the_limit_needs_nobody_else(console: Console) -> None:
    plan = planned(console, parked(console, LIMIT))
    assert plan["needs_approval"] is False
    assert console.post(f"/plans/{plan['plan_id']}/apply", WHY).json()["state"] == "APPLYING"


def test_a_plan_beyond_the_limit_is_applied_after_another_person_has_approved_it(console: Console) -> None:
    saga_ids = parked(console, LIMIT + 1)
    plan = planned(console, saga_ids, by="Amina")
    path = f"/plans/{plan['plan_id']}"
    assert plan["needs_approval"] is True
    refused = console.post(f"{path}/apply", WHY)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:baraza:problem:not-approved")
    for same in ("Amina", "amina", "AMINA", " amina"):
        answer = console.post(f"{path}/approve", WHY, by=same, role="approver")
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:baraza:problem:second-operator"), same
    assert console.post(f"{path}/approve", WHY, by="Juma", role="operator").status_code == 403, "not the role"
    approved = console.post(f"{path}/approve", WHY, by="Juma", role="approver")
    assert (approved.status_code, approved.json()["approved_by"]) == (200, "Juma")
    assert console.post(f"{path}/approve", WHY, by="Wanjiru", role="approver").status_code == 409, "it has one"
    assert console.post(f"{path}/apply", WHY, by="Amina").json()["state"] == "APPLYING"
    console.tracked.apply_plans()
    found = console.get(path)
    assert (found["state"], found["counts"]) == ("APPLIED", {"DONE": LIMIT + 1})
    assert acts(console, plan["plan_id"])[-2:] == [("APPLY_PLAN", "Amina"), ("APPROVE_PLAN", "Juma")]


@pytest.mark.parametrize("name", ["Amina", "amina", "AMINA ", " aMINa"])
def test_postgresql_itself_refuses_an_approval_by_the_same_person(console: Console, name: str) -> None:
    plan = planned(console, parked(console, LIMIT + 1), by="Amina")
    update = "UPDATE plans SET approved_by = :name WHERE plan_id = :plan_id"
    with pytest.raises(IntegrityError, match="plans_approved_by_another"), console.engine.begin() as tx:
        tx.execute(text(update), {"name": name, "plan_id": plan["plan_id"]})


def test_postgresql_itself_refuses_to_run_a_plan_that_nobody_has_approved(console: Console) -> None:
    plan = planned(console, parked(console, LIMIT + 1))
    update = "UPDATE plans SET state = 'APPLYING' WHERE plan_id = :plan_id"
    with pytest.raises(IntegrityError, match="plans_approved"), console.engine.begin() as tx:
        tx.execute(text(update), {"plan_id": plan["plan_id"]})


def test_a_paused_plan_sends_nothing_until_it_is_resumed_and_then_the_rest(console: Console) -> None:
    plan = planned(console, parked(console, LIMIT))
    path = f"/plans/{plan['plan_id']}"
    assert console.post(f"{path}/pause", WHY).status_code == 409, "it is not under way"
    console.post(f"{path}/apply", {**WHY, "rate_per_s": 2})
    console.tracked.apply_plans()
    assert console.get(path)["counts"] == {"DONE": 1, "PLANNED": LIMIT - 1}
    assert console.post(f"{path}/pause", WHY, role="support").status_code == 403
    assert console.post(f"{path}/pause", WHY, by="Juma").json()["state"] == "PAUSED"
    go_on_now(console, plan["plan_id"])
    console.tracked.apply_plans()
    assert console.get(path)["counts"] == {"DONE": 1, "PLANNED": LIMIT - 1}, "it is paused"
    assert console.post(f"{path}/resume", WHY).json()["state"] == "APPLYING"
    for _ in range(LIMIT - 1):
        go_on_now(console, plan["plan_id"])
        console.tracked.apply_plans()
    assert (console.get(path)["state"], console.get(path)["counts"]) == ("APPLIED", {"DONE": LIMIT})
    assert console.post(f"{path}/resume", WHY).status_code == 409
    assert [each[0] for each in acts(console, plan["plan_id"])].count("PAUSE_PLAN") == 1


def go_on_now(console: Console, plan_id: str) -> None:
    """Let the rate of a plan allow its next part, whatever the time is."""
    with console.engine.begin() as tx:
        tx.execute(text("UPDATE plans SET next_at = now() - interval '1 s' WHERE plan_id = :id"), {"id": plan_id})


def test_a_stopped_plan_never_sends_the_rest_and_shows_which_sagas_that_are(console: Console) -> None:
    plan = planned(console, parked(console, LIMIT))
    path = f"/plans/{plan['plan_id']}"
    console.post(f"{path}/apply", {**WHY, "rate_per_s": 2})
    console.tracked.apply_plans()
    stopped = console.post(f"{path}/stop", WHY).json()
    assert (stopped["state"], stopped["counts"]) == ("STOPPED", {"DONE": 1, "STOPPED": LIMIT - 1})
    go_on_now(console, plan["plan_id"])
    console.tracked.apply_plans()
    for act in ("resume", "pause", "stop", "apply"):
        assert console.post(f"{path}/{act}", WHY).status_code == 409, act
    assert console.get(path)["counts"] == {"DONE": 1, "STOPPED": LIMIT - 1}
    assert len(console.get(f"{path}/items", state="STOPPED")["items"]) == LIMIT - 1
    assert [each["plan_id"] for each in console.get("/plans", state="STOPPED")["plans"]] == [plan["plan_id"]]
    assert console.get("/plans", state=["APPLYING", "PAUSED"])["plans"] == []


def test_a_plan_shows_what_it_would_send_and_which_sagas_were_parked_again_since(console: Console) -> None:
    saga_ids = parked(console, LIMIT)
    plan = planned(console, saga_ids)
    path = f"/plans/{plan['plan_id']}"
    (outcome,) = console.get(f"{path}/outcomes")["outcomes"]
    assert (outcome["state"], outcome["count"]) == ("PLANNED", LIMIT)
    assert outcome["runs"].startswith("RedriveStep")
    console.post(f"{path}/apply", WHY)
    console.tracked.apply_plans()
    assert console.get(f"{path}/outcomes")["parked_again"] == 0
    read_back(console)
    park(console, saga_ids[:1], redrive=1)
    assert console.get(f"{path}/outcomes")["parked_again"] == 1
    assert [each["saga_id"] for each in console.get(f"{path}/items", parked_again=True)["items"]] == saga_ids[:1]


def read_back(console: Console) -> None:
    """Let the tracker read its own decisions, as it does from Kafka."""
    query = "SELECT aggregatetype AS topic, partition, aggregateid AS key, payload FROM outbox"
    with console.engine.connect() as tx:
        columns = {row.column_name for row in tx.execute(text(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'outbox'"
        ))}  # fmt: skip
        assert {"aggregatetype", "partition", "aggregateid", "payload"} <= columns, columns
        rows = [row for row in tx.execute(text(query)) if row.topic == "saga.decisions"]
    console.tracked.record_raw([
        RawMessage(topic=row.topic, partition=row.partition, key=row.key.encode(), value=bytes(row.payload), headers=())
        for row in rows
    ])  # fmt: skip


def test_a_resolution_is_not_applied_by_the_same_person_in_other_capitals(console: Console) -> None:
    insert = """
        INSERT INTO plans (plan_id, act, selection, state, planned_by, planned_at)
        VALUES ('01ARZ3NDEKTSV4RRFFQ69G5FAV', 'RESOLVE_CONFIRMED', '{}', 'PLANNED', 'Amina', now())
    """
    with console.engine.begin() as tx:
        tx.execute(text(insert))
    path = "/plans/01ARZ3NDEKTSV4RRFFQ69G5FAV/apply"
    assert console.post(path, WHY, by="AMINA").status_code == 403
    assert console.post(path, WHY, by="Juma").json()["applied_by"] == "Juma"


def test_letters_are_listed_when_they_are_closed_and_shown_with_headers_and_a_masked_body(console: Console) -> None:
    letters = [letter_of(new_id()) for _ in range(3)]
    console.tracked.record_raw([RawMessage(
        topic=each.topic, partition=each.partition, key=each.key, headers=each.headers, value=each.value,
    ) for each in letters])  # fmt: skip
    owned = console.get("/dead-letters", state="OWNED")["letters"]
    assert len(owned) == 3
    shown = console.get(f"/dead-letters/{owned[0]['letter_id']}")
    assert dict(shown["headers"])["baraza_service"] == PARKING.service, shown["headers"]
    assert "customer-1" not in str(shown), "who it is about is masked"
    assert shown["body"]["saga_id"] == owned[0]["saga_id"]
    with console.engine.begin() as tx:
        tx.execute(text("UPDATE dead_letters SET open = true"))
    ids = [each["letter_id"] for each in owned]
    closed = console.post("/dead-letters/close", {**WHY, "letter_ids": ids[:2]}).json()["closed"]
    assert len(closed) == 2
    first = console.get("/dead-letters", state="CLOSED", limit=1)
    second = console.get("/dead-letters", state="CLOSED", limit=1, cursor=first["next_cursor"])
    found = [*first["letters"], *second["letters"]]
    assert sorted(each["letter_id"] for each in found) == sorted(ids[:2])
    assert (found[0]["resolved_by"], found[0]["resolved_why"]) == ("amina", WHY["reason"])
    assert second["next_cursor"] is None
    assert [each["letter_id"] for each in console.get("/dead-letters")["letters"]] == ids[2:]
    assert console.status("/dead-letters", cursor="bm9uZQ") == 422


def test_the_log_is_read_page_by_page_and_by_actor_act_and_time(console: Console) -> None:
    plans = [planned(console, parked(console, 1), by="Amina")["plan_id"] for _ in range(3)]
    for number, plan_id in enumerate(plans):
        console.post(f"/plans/{plan_id}/stop", WHY, by=f"person-{number}")
    first = console.get("/acts", limit=2)
    second = console.get("/acts", limit=2, cursor=first["next_cursor"])
    found = [*first["acts"], *second["acts"]]
    assert [each["actor"] for each in found] == ["person-2", "person-1", "person-0"]
    assert second["next_cursor"] is None
    assert [each["plan_id"] for each in console.get("/acts", actor="person-1")["acts"]] == plans[1:2]
    assert console.get("/acts", act="APPLY_PLAN")["acts"] == []
    since = found[1]["at"]
    assert [each["actor"] for each in console.get("/acts", since=since)["acts"]] == ["person-2", "person-1"]
    assert [each["actor"] for each in console.get("/acts", until=since)["acts"]] == ["person-0"]
    answer = console.http.get(f"{console.url}/v1/acts", headers=as_role("customer"))
    assert answer.status_code == 403
