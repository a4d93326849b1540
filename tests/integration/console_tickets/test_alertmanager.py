"""A real Alertmanager with our routes, the console, and an instance of ServiceNow that goes away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import ports
from support import alertmanagers
from support.alertmanagers import Alertmanager
from support.itsm import NEW, RESOLVED, Answer, ServiceNowInstance
from support.ticketing import SECRET, Reporting
from support.waiting import until

PARKED = {"alertname": "SagasParked", "severity": "ticket", "saga": "order", "step": "authorize_payment"}
QUIET_S = 601
LONGEST_PAUSE_S = 8.0
"""Longer than any pause between two attempts within the ten seconds that it makes them."""


@pytest.fixture
def alertmanager(reporting: Reporting, tmp_path: Path) -> Iterator[Alertmanager]:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    port = ports.choose(("alertmanager",), {}, {})["alertmanager"]
    receiver = f"{reporting.console.url}/alarms"
    with alertmanagers.running(tmp_path / "alertmanager", port, receiver=receiver, secret_file=secret) as found:
        yield found


def away(_: object) -> Answer:
    return Answer(status=503, body={})


def test_an_alarm_opens_updates_and_resolves_one_incident(
    alertmanager: Alertmanager, instance: ServiceNowInstance
) -> None:
    for _ in range(3):
        alertmanager.fire(PARKED, summary="3 are parked.", runbook="docs/operations.md#sagasparked")
    until(lambda: len(instance.incidents) == 1, "the incident is opened")
    # Another alert of the same group.
    alertmanager.fire({**PARKED, "cause": "DECLINED"}, summary="2 more.")
    until(lambda: "2 more." in instance.incidents[0]["description"], "the incident shows the second alert")
    alertmanager.end({**PARKED, "cause": "DECLINED"})
    alertmanager.end(PARKED)
    until(lambda: instance.incidents[0]["state"] == RESOLVED, "the incident is resolved")
    assert len(instance.incidents) == instance.count("POST") == 1


def test_alarms_of_other_steps_have_incidents_of_their_own(
    alertmanager: Alertmanager, instance: ServiceNowInstance
) -> None:
    for step in ("authorize_payment", "book_shipment"):
        alertmanager.fire({**PARKED, "step": step}, summary=f"Parked at {step}.")
    until(lambda: len(instance.incidents) == 2, "each has its incident")
    alertmanager.end({**PARKED, "step": "book_shipment"})
    until(lambda: len(instance.of(RESOLVED)) == 1, "one is resolved")
    assert "authorize_payment" in instance.of(NEW)[0]["description"]


def test_an_alarm_that_fires_while_the_instance_is_away_has_its_incident_when_it_is_back(
    alertmanager: Alertmanager, instance: ServiceNowInstance
) -> None:
    instance.before = away
    alertmanager.fire(PARKED, summary="3 are parked.")
    until(lambda: instance.count("GET") >= 3, "Alertmanager reports it again")
    instance.behave()
    until(lambda: len(instance.incidents) == 1, "the incident is opened")


def test_an_alarm_that_ended_while_the_instance_was_away_is_not_lost(
    alertmanager: Alertmanager, instance: ServiceNowInstance, reporting: Reporting
) -> None:
    instance.before = away
    alertmanager.fire(PARKED, summary="3 are parked.")
    until(lambda: instance.count("GET") >= 1, "it was reported")
    alertmanager.end(PARKED)
    until(lambda: _quiet_s(instance) > LONGEST_PAUSE_S, "Alertmanager reports it no more")
    instance.behave()
    reporting.console.clock.later_s = QUIET_S
    until(lambda: len(instance.incidents) == 1, "the incident is opened from the console")
    assert "it may have ended" in instance.incidents[0]["description"]


def test_an_alarm_reaches_a_console_that_was_down(
    alertmanager: Alertmanager, instance: ServiceNowInstance, reporting: Reporting
) -> None:
    reporting.console.server.stop()
    try:
        alertmanager.fire(PARKED, summary="3 are parked.")
        log = until(lambda: _failures(alertmanager), "Alertmanager cannot report it")
        assert log > 0
    finally:
        reporting.console.server.start()
    until(lambda: len(instance.incidents) == 1, "the incident is opened")


def _failures(alertmanager: Alertmanager) -> float:
    name = 'alertmanager_notification_requests_failed_total{integration="webhook"}'
    text = alertmanager.http.get(f"{alertmanager.url}/metrics").text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def _quiet_s(instance: ServiceNowInstance) -> float:
    """Return for how long no call has come."""
    return time.monotonic() - instance.called_at_s
