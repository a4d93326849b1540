"""Alarms as Alertmanager reports them: one id for each, what a ticket shows of one, and which sagas it is about."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from console.settings import ConsoleSettings
from console.tickets.alarms import Alarm, BadAlarm, alarm_of
from support.alertmanagers import CONFIGURATION, ROOT, alert, amtool, body_of, report

CONSOLE, RUNBOOKS = "https://console.example.com", "https://git.example.com/baraza/"
SAGA: dict[str, Any] = {
    "saga_id": "0" * 26, "type": "order", "state": "NEEDS_REVIEW", "step": "authorize_payment", "awaits_since": None,
    "contradicted_at": None, "settled_at": None,
}  # fmt: skip
ALARMS = yaml.safe_load((ROOT / "observability" / "alerts.yml").read_text())


def read(reported: Any) -> Alarm:
    return alarm_of(body_of(reported), console_url=CONSOLE, runbooks_url=RUNBOOKS)


def with_page(page: str) -> Alarm:
    one = alert()
    one["annotations"]["console"] = page
    return read(report(one))


def test_a_ticket_shows_the_summary_since_when_the_runbook_and_the_page_of_the_console() -> None:
    alarm = read(report(alert()))
    assert alarm.title == "SagasParked: 3 sagas are parked."
    assert alarm.text.splitlines() == [
        "- 3 sagas are parked. (since 2026-11-28 10:00:00 UTC) [saga=order, severity=ticket, step=authorize_payment]",
        "",
        "Console: https://console.example.com/sagas?type=order&step=authorize_payment&state=NEEDS_REVIEW",
        "Runbook: https://git.example.com/baraza/docs/operations.md#sagasparked",
    ]
    assert (alarm.is_firing, alarm.severity, alarm.began_at) == (True, "ticket", "2026-11-28T10:00:00+00:00")


def test_an_alarm_that_ended_shows_from_when_to_when_it_lasted() -> None:
    alarm = read(report(alert(status="resolved")))
    assert not alarm.is_firing
    assert "(from 2026-11-28 10:00:00 UTC to 2026-11-28 11:00:00 UTC, ended)" in alarm.text


def test_of_a_group_every_alert_is_shown_and_the_firing_ones_make_the_title() -> None:
    ended = alert(status="resolved", step="a_step", summary="It was parked.")
    alarm = read(report(ended, alert(step="b_step"), alert(step="c_step"), truncatedAlerts=7))
    assert alarm.is_firing
    assert alarm.title == "SagasParked: 3 sagas are parked. And 1 more."
    assert "It was parked." in alarm.text
    assert "And 7 more alerts of this group." in alarm.text
    assert alarm.pages == tuple(f"/sagas?type=order&step={step}_step&state=NEEDS_REVIEW" for step in "bc")


def test_each_report_of_a_group_has_the_same_id_and_another_group_or_console_has_another() -> None:
    first = read(report(alert()))
    again = report(alert(status="resolved", step="another"), groupKey="another route")
    again["groupLabels"] = dict(reversed(report(alert())["groupLabels"].items()))
    assert read(again).correlation_id == first.correlation_id
    assert read(report(alert(saga="payment"))).correlation_id != first.correlation_id
    elsewhere = alarm_of(body_of(report(alert())), console_url="https://test.example.com", runbooks_url="")
    assert elsewhere.correlation_id != first.correlation_id


def test_a_group_without_a_name_is_refused_with_what_to_change() -> None:
    with pytest.raises(BadAlarm, match="add alertname to group_by"):
        read(report(alert(), groupLabels={"saga": "order"}))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"version": "3"}, "version"),
        ({"status": "silenced"}, "status"),
        ({"alerts": []}, "alerts"),
        ({"groupLabels": {"alertname": 7}}, "groupLabels.alertname"),
        ({"alerts": [alert() | {"startsAt": "yesterday"}]}, "alerts.0.startsAt"),
    ],
)
def test_what_is_no_report_is_refused_with_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadAlarm) as refused:
        read({**report(alert()), **changes})
    assert str(refused.value).startswith(f"{field}:")


@given(st.binary(max_size=200))
def test_no_bytes_are_anything_but_an_alarm_or_refused(body: bytes) -> None:
    with pytest.raises(BadAlarm):
        alarm_of(body, console_url=CONSOLE, runbooks_url="")


def test_an_alarm_is_stored_and_read_as_it_is() -> None:
    alarm = read(report(alert(topic="payment.dlq")))
    assert Alarm.from_json(alarm.to_json()) == alarm
    noted = alarm.with_note("A note.")
    assert noted.with_note("A note.") == noted != alarm


@pytest.mark.parametrize(
    ("page", "changes", "is_about"),
    [
        ("/sagas?type=order&step=authorize_payment&state=NEEDS_REVIEW", {}, True),
        ("/sagas?type=order&step=authorize_payment&state=NEEDS_REVIEW", {"state": "PENDING"}, False),
        ("/sagas?type=payment&state=NEEDS_REVIEW", {}, False),
        ("/sagas?state=PENDING&state=NEEDS_REVIEW", {}, True),
        ("/sagas?awaiting=on", {}, False),
        ("/sagas?awaiting=on", {"awaits_since": "2026-11-28T10:00:00Z"}, True),
        ("/sagas?contradicted=on", {"contradicted_at": "2026-11-28T10:00:00Z"}, True),
        ("/sagas?contradicted=on", {"contradicted_at": "2026-11-28T10:00:00Z", "settled_at": "2026-11-29"}, False),
        ("/sagas?type=order&older_than_s=60", {}, False),
        ("/sagas", {}, False),
        ("/reconciliation", {}, False),
        (f"/sagas/{'0' * 26}", {}, True),
        (f"/sagas/{'1' * 26}", {}, False),
    ],
)
def test_an_alarm_is_about_the_sagas_that_its_page_lists(page: str, changes: dict[str, Any], is_about: bool) -> None:
    assert with_page(page).concerns({**SAGA, **changes}, []) is is_about


def test_an_alarm_of_dead_letters_is_about_the_sagas_with_an_open_letter_on_its_topic() -> None:
    alarm = with_page("/letters")
    assert not alarm.concerns(SAGA, [{"topic": "payment.dlq"}])
    with_topic = read(report(alert("DeadLetters", topic="payment.dlq", step="x")))
    assert with_topic.concerns(SAGA, [{"topic": "payment.dlq"}])
    assert not with_topic.concerns(SAGA, [{"topic": "shipping.dlq"}])


@pytest.mark.parametrize(
    "page", ["https://evil.example.com/", "//evil.example.com/", "/\\evil", "/a b", "javascript:1"]
)
def test_no_alert_leads_out_of_the_console(page: str) -> None:
    alarm = with_page(page)
    assert (alarm.pages, alarm.console) == ((), f"{CONSOLE}/")


def settings(tmp_path: Path, **changes: Any) -> ConsoleSettings:
    file = tmp_path / "secret"
    file.write_text("one\n")
    given_ = {
        "console_url": CONSOLE, "issuer": "i", "jwks_url": "j", "console_key_file": file,
        "console_client_secret_file": file, "tickets": "servicenow", "tickets_url": "https://now.example.com",
        "tickets_secret_file": file, "tickets_alertmanager_file": file, **changes,
    }  # fmt: skip
    return ConsoleSettings(**given_)


def test_tickets_are_off_unless_an_itsm_is_named(tmp_path: Path) -> None:
    assert ConsoleSettings.model_fields["tickets"].default == ""
    assert settings(tmp_path).check_tickets()[0] == "https://now.example.com"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tickets_url": "http://now.example.com"}, "BARAZA_TICKETS_URL"),
        ({"tickets_url": ""}, "BARAZA_TICKETS_URL"),
        ({"tickets_secret_file": None}, "BARAZA_TICKETS_SECRET_FILE"),
        ({"tickets_alertmanager_file": None}, "BARAZA_TICKETS_ALERTMANAGER_FILE"),
    ],
)
def test_a_setting_that_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        settings(tmp_path, **changes).check_tickets()


@pytest.mark.parametrize("fields", ["[]", '{"a": 1}', "a"])
def test_fields_of_incidents_are_an_object_of_texts(tmp_path: Path, fields: str) -> None:
    with pytest.raises(ValueError, match="BARAZA_TICKETS_FIELDS"):
        _ = settings(tmp_path, tickets_fields=fields).incident_fields


def test_our_routes_are_valid_and_group_by_the_name_of_the_alarm() -> None:
    checked = subprocess.run([str(amtool()), "check-config", str(CONFIGURATION)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    routes = yaml.safe_load(CONFIGURATION.read_text())["route"]["routes"]
    (tickets,) = (each for each in routes if each["receiver"] == "tickets")
    assert tickets["group_by"][0] == "alertname"
    severities = {
        rule["labels"]["severity"] for group in ALARMS["groups"] for rule in group["rules"] if "alert" in rule
    }
    assert severities == {"page", "ticket"}


def test_each_page_that_a_rule_names_is_one_of_the_console(console_paths: set[str]) -> None:
    named = {
        rule["annotations"]["console"].partition("?")[0]
        for group in ALARMS["groups"]
        for rule in group["rules"]
        if "console" in rule.get("annotations", {})
    }
    assert len(named) >= 5
    assert named <= console_paths


@pytest.fixture(scope="module")
def console_paths() -> set[str]:
    from console import pages

    return {route.path for route in pages.routes()}
