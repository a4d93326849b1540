"""A console in front of an instance of ServiceNow, and one in front of a receiver of messages, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chassis.http.webhook_signing import new_secret
from support import consoles, itsm
from support.consoles import RunningConsole
from support.itsm import ServiceNowInstance, TicketSystem
from support.receivers import receiving
from support.ticketing import Receiving, Reporting, files, reset


@pytest.fixture(scope="package")
def only_instance() -> Iterator[ServiceNowInstance]:
    with itsm.servicenow() as found:
        yield found


@pytest.fixture(scope="package")
def servicenow_console(
    only_instance: ServiceNowInstance, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningConsole]:
    settings: dict[str, Any] = {
        **files(tmp_path_factory.mktemp("secrets"), f"{itsm.USER}:{itsm.PASSWORD}"),
        "tickets": "servicenow",
        "tickets_url": only_instance.url,
        "tickets_fields": '{"assignment_group": "payments", "caller_id": "baraza.integration"}',
        "runbooks_url": "https://git.example.com/",
    }
    with consoles.running(tmp_path_factory.mktemp("console"), **settings) as found:
        yield found


@pytest.fixture
def instance(only_instance: ServiceNowInstance) -> Iterator[ServiceNowInstance]:
    """The instance, without incidents."""
    only_instance.behave()
    only_instance.incidents.clear()
    only_instance.calls.clear()
    only_instance.searches_by_correlation_id = True
    yield only_instance
    only_instance.behave()


@pytest.fixture
def reporting(servicenow_console: RunningConsole, instance: ServiceNowInstance) -> Iterator[Reporting]:
    """The console in front of the instance, which knows no alarm."""
    reset(servicenow_console)
    yield Reporting(console=servicenow_console)
    reset(servicenow_console)


@pytest.fixture
def receiving_system(tmp_path: Path) -> Iterator[Receiving]:
    """A console in front of a system that keeps tickets by correlation id."""
    secret, system = new_secret(), TicketSystem()
    with receiving(reply=system.take) as receiver:
        settings: dict[str, Any] = {
            **files(tmp_path, secret), "tickets": "webhook", "tickets_url": receiver.url,
        }  # fmt: skip
        with consoles.running(tmp_path / "console", **settings) as console:
            yield Receiving(console=console, receiver=receiver, system=system, secret=secret)
