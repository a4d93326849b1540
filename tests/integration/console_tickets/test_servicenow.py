"""Incidents at ServiceNow: one for each alarm, whatever is lost, repeated or concurrent."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from stack import ports
from stack.components import responds
from support.alertmanagers import alert, body_of, report
from support.consoles import RunningConsole
from support.itsm import CLOSED, IN_PROGRESS, NEW, RESOLVED, Answer, Call, ServiceNowInstance
from support.ticketing import SECRET, SECRET_BEFORE, Reporting
from support.waiting import until

ENDED = report(alert(status="resolved"))
LOST = Answer(status=0, body=None)
AWAY = Answer(status=503, body={"error": {"message": "Service Unavailable"}})
QUIET_S = 601
"""Longer than Alertmanager would need to report an alarm again."""


def lose_the_answer(call: Call, answer: Answer) -> Answer:
    return LOST if call.method == "POST" else answer


def test_an_alarm_has_one_incident_from_its_begin_to_its_end(
    reporting: Reporting, instance: ServiceNowInstance
) -> None:
    assert reporting.taken(report(alert())) == "opened"
    (incident,) = instance.incidents
    assert incident["state"] == NEW
    assert incident["short_description"] == "SagasParked: 3 sagas are parked."
    assert f"Console: {reporting.console.url}/sagas?type=order" in incident["description"]
    assert "Runbook: https://git.example.com/docs/operations.md#sagasparked" in incident["description"]
    assert (incident["assignment_group"], incident["urgency"], incident["impact"]) == ("payments", "2", "3")

    for _ in range(3):
        assert reporting.taken(report(alert())) == "unchanged"
    assert instance.count("PATCH") == 0

    assert reporting.taken(report(alert(), alert(step="book_shipment", summary="One more."))) == "updated"
    assert "One more." in incident["description"]
    assert reporting.taken(ENDED) == "resolved"
    assert (incident["state"], incident["close_code"]) == (RESOLVED, "Solution provided")
    assert reporting.taken(ENDED) == "no_ticket"
    assert len(instance.incidents) == instance.count("POST") == 1


def test_an_alarm_that_fires_again_reopens_its_incident_until_that_is_closed(
    reporting: Reporting, instance: ServiceNowInstance
) -> None:
    reporting.taken(report(alert()))
    reporting.taken(ENDED)
    assert reporting.taken(report(alert())) == "reopened"
    (incident,) = instance.incidents
    assert incident["state"] == IN_PROGRESS
    assert incident["work_notes"] == "The alarm fires again since 2026-11-28T10:00:00+00:00."
    incident["state"] = CLOSED
    assert reporting.taken(report(alert())) == "opened"
    assert len(instance.incidents) == 2


def test_what_people_wrote_into_an_incident_stays(reporting: Reporting, instance: ServiceNowInstance) -> None:
    reporting.taken(report(alert()))
    (incident,) = instance.incidents
    own = {"assignment_group": "network", "urgency": "1", "short_description": "Ours now", "state": "3"}
    incident.update(own)
    assert reporting.taken(report(alert(summary="4 sagas are parked."))) == "updated"
    assert {name: incident[name] for name in own} == own


def test_a_lost_answer_opens_no_second_incident(reporting: Reporting, instance: ServiceNowInstance) -> None:
    instance.after = lose_the_answer
    assert reporting.send(report(alert())).status_code == 503
    instance.behave()
    again = reporting.send(report(alert()))
    assert (again.status_code, again.headers["retry-after"]) == (503, "10")
    assert instance.count("POST") == 1
    reporting.end_locks()
    assert reporting.taken(report(alert())) == "unchanged"
    assert len(instance.incidents) == 1


def test_with_a_lost_redis_a_lost_answer_opens_no_second_incident_either(
    reporting: Reporting, instance: ServiceNowInstance
) -> None:
    instance.after = lose_the_answer
    assert reporting.send(report(alert())).status_code == 503
    instance.behave()
    reporting.console.redis.flushall()
    assert reporting.taken(report(alert())) == "unchanged"
    assert len(instance.incidents) == 1


def test_an_incident_is_opened_while_redis_does_not_answer(reporting: Reporting, instance: ServiceNowInstance) -> None:
    reporting.console.redis.client_pause(30_000)
    assert reporting.taken(report(alert())) == "opened"
    assert reporting.taken(report(alert())) == "unchanged"
    assert len(instance.incidents) == 1
    # It answers this one when the pause is over, so that the next test has it.
    until(lambda: reporting.console.redis.ping(), "Redis answers again")


def test_reports_at_the_same_time_open_one_incident(reporting: Reporting, instance: ServiceNowInstance) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: reporting.send(report(alert())), range(24)))
    assert {each.status_code for each in answers} <= {200, 503}
    assert sum(each.status_code == 200 and each.json()["outcome"] == "opened" for each in answers) == 1
    assert len(instance.incidents) == 1


def test_two_incidents_of_an_alarm_are_both_resolved_at_its_end(
    reporting: Reporting, instance: ServiceNowInstance
) -> None:
    reporting.taken(report(alert()))
    instance.incidents.append({**instance.incidents[0], "sys_id": "f" * 32, "number": "INC0099999"})
    assert reporting.taken(report(alert())) == "unchanged"
    assert reporting.taken(ENDED) == "resolved"
    assert [each["state"] for each in instance.incidents] == [RESOLVED, RESOLVED]


def test_a_search_that_finds_incidents_of_others_changes_none(
    reporting: Reporting, instance: ServiceNowInstance
) -> None:
    foreign = {
        "sys_id": "a" * 32, "number": "INC0000001", "state": NEW, "description": "A printer.", "correlation_id": "",
    }  # fmt: skip
    instance.incidents.append(dict(foreign))
    instance.searches_by_correlation_id = False
    for reported in (report(alert()), ENDED):
        answer = reporting.send(reported)
        assert answer.status_code == 503
        assert "let the user read that field" in answer.json()["detail"]
    assert instance.incidents == [foreign]


@pytest.mark.parametrize(
    ("status", "why"),
    [(401, "refused with 401"), (403, "refused with 403"), (429, "refused with 429"), (500, "500"), (302, "302")],
)
def test_what_the_instance_refuses_is_reported_again_and_nothing_is_uncertain(
    reporting: Reporting, instance: ServiceNowInstance, status: int, why: str
) -> None:
    instance.before = lambda _: Answer(status=status, body={"error": {"message": "No."}})
    answer = reporting.send(report(alert()))
    assert answer.status_code == 503
    assert why in answer.json()["detail"]
    instance.behave()
    assert reporting.taken(report(alert())) == "opened"


def test_an_answer_that_is_a_page_is_no_answer(reporting: Reporting, instance: ServiceNowInstance) -> None:
    instance.before = lambda _: Answer(status=200, body="Your instance is hibernating.")
    assert reporting.send(report(alert())).status_code == 503
    assert instance.count("POST") == 0


def test_a_login_that_is_replaced_counts_from_the_next_call(reporting: Reporting, instance: ServiceNowInstance) -> None:
    file = reporting.console.settings.tickets_secret_file
    assert file is not None
    right = file.read_text()
    try:
        file.write_text("baraza.integration:old\n")
        assert "refused with 401" in reporting.send(report(alert())).json()["detail"]
        file.unlink()
        assert "BARAZA_TICKETS_SECRET_FILE" in reporting.send(report(alert())).json()["detail"]
    finally:
        file.write_text(right)
    assert reporting.taken(report(alert())) == "opened"


def test_an_alarm_that_ended_while_the_instance_was_away_has_its_incident_later(
    reporting: Reporting, instance: ServiceNowInstance
) -> None:
    instance.before = lambda _: AWAY
    assert reporting.send(report(alert())).status_code == 503
    reporting.console.clock.later_s = QUIET_S / 2
    until(lambda: reporting.oldest_left_s() >= QUIET_S / 2, "the metric shows the alarm without a ticket")
    instance.behave()
    assert instance.incidents == [], "Alertmanager reports it again while it fires, so that it is not tried from here"
    reporting.console.clock.later_s = QUIET_S
    until(lambda: len(instance.incidents) == 1, "the incident is opened from here")
    assert instance.incidents[0]["description"].endswith("If it has, resolve this ticket by hand.")
    until(lambda: reporting.oldest_left_s() == 0, "every alarm has its ticket")


def test_an_alarm_whose_end_was_reported_is_not_tried_any_more(
    reporting: Reporting, instance: ServiceNowInstance
) -> None:
    reporting.taken(report(alert()))
    instance.before = lambda _: AWAY
    assert reporting.send(report(alert(summary="4 are parked."))).status_code == 503
    assert reporting.console.redis.hlen("console:tickets:left") == 1
    instance.behave()
    assert reporting.taken(ENDED) == "resolved"
    assert reporting.console.redis.hlen("console:tickets:left") == 0


@pytest.mark.parametrize("secret", ["wrong", SECRET[:-1], f"{SECRET}1", f"{SECRET} {SECRET}"])
def test_without_the_secret_no_alarm_is_taken(reporting: Reporting, instance: ServiceNowInstance, secret: str) -> None:
    answer = reporting.send(report(alert()), secret)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert instance.calls == []


def test_the_secret_before_is_accepted_while_it_is_replaced(reporting: Reporting) -> None:
    assert reporting.send(report(alert()), SECRET_BEFORE).status_code == 200


def test_a_session_of_a_person_takes_no_alarm(reporting: Reporting, instance: ServiceNowInstance) -> None:
    browser = reporting.console.signed_in("opal.okafor")
    assert browser.post("/alarms", {"form_token": browser.token()}).status_code == 401
    assert instance.calls == []


def test_what_is_no_report_is_refused_with_what_to_change(reporting: Reporting, instance: ServiceNowInstance) -> None:
    answer = reporting.send(report(alert(), groupLabels={}))
    assert answer.status_code == 422
    assert "add alertname to group_by" in answer.json()["detail"]
    assert reporting.send_bytes(b"[").status_code == 422
    assert reporting.send_bytes(b" " * 4_194_305).status_code == 413
    assert instance.calls == []


@contextmanager
def process(console: RunningConsole, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the console as a process of its own, with the settings of another one."""
    given = {name: getattr(console.settings, name) for name in console.settings.model_fields_set}
    variables = {f"BARAZA_{name.upper()}": str(value) for name, value in {**given, "http_port": port}.items()}
    with log.open("ab") as out:
        command = (sys.executable, "-P", "-m", "console.main")
        running = subprocess.Popen(command, env={**os.environ, **variables}, stdout=out, stderr=subprocess.STDOUT)
        try:
            until(lambda: responds(f"http://127.0.0.1:{port}/readyz"), "the console is ready", within_s=120)
            yield running
        finally:
            running.kill()
            running.wait(15)


def test_a_console_that_is_killed_in_mid_call_opens_no_second_incident(
    reporting: Reporting, instance: ServiceNowInstance, tmp_path: Path
) -> None:
    port = ports.choose(("console",), {}, {})["console"]
    url, headers = f"http://127.0.0.1:{port}/alarms", {"authorization": f"Bearer {SECRET}"}
    is_stored, is_over = threading.Event(), threading.Event()

    def hold(call: Call, answer: Answer) -> Answer:
        if call.method == "POST":
            is_stored.set()
            is_over.wait(60)
        return answer

    def attempt() -> int:
        try:
            return httpx.post(
                url, content=body_of(report(alert())), headers=headers, trust_env=False, timeout=60
            ).status_code
        except httpx.HTTPError:
            return 0

    instance.after = hold
    with ThreadPoolExecutor(1) as pool, process(reporting.console, port, tmp_path / "log") as running:
        sent = pool.submit(attempt)
        assert is_stored.wait(60)
        running.kill()
        assert sent.result() == 0
        is_over.set()
    instance.behave()
    with process(reporting.console, port, tmp_path / "log"):
        assert attempt() == 503
        reporting.end_locks()
        assert attempt() == 200
    assert len(instance.incidents) == instance.count("POST") == 1
