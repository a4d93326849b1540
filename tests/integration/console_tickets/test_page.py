"""The page of a saga shows the tickets of the alarms that it is among: a real tracker, and the console as a process."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import create_engine

from chassis.postgres.database import prepare
from stack import contract
from stack.lifecycle import up
from stack.settings import from_environment
from support import itsm
from support.alertmanagers import alert, report
from support.console_stage import Stage
from support.consoles import ConsoleAddress
from support.itsm import ServiceNowInstance
from support.registries import codec_of
from support.ticketing import SECRET, files
from support.tracker_peers import ORDER, TrackerPeers
from support.waiting import until

TRACKER = ("saga-tracker", "saga-tracker-api", contract.CONSOLE)
SUPPORT = "sue.support"


@pytest.fixture(scope="module")
def own_instance() -> Iterator[ServiceNowInstance]:
    with itsm.servicenow() as found:
        yield found


@pytest.fixture(scope="module")
def stage(own_instance: ServiceNowInstance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("secrets")
    secrets = files(folder, f"{itsm.USER}:{itsm.PASSWORD}")
    variables = {
        "BARAZA_TICKETS": "servicenow",
        "BARAZA_TICKETS_URL": own_instance.url,
        **{f"BARAZA_{name.upper()}": str(path) for name, path in secrets.items()},
    }
    # No deadline passes while the test looks.
    environment = {contract.CONSOLE: variables, contract.TRACKER: {"BARAZA_TIMEOUT_FACTOR": "20"}}
    home = tmp_path_factory.mktemp("stack")
    stack = up(from_environment(home=home, only=TRACKER, environment=environment))
    engine = prepare(create_engine(stack.database_url("saga-tracker").replace("postgresql:", "postgresql+psycopg:")))
    try:
        with httpx.Client(timeout=60, trust_env=False) as http, codec_of(stack) as codec:
            wire = TrackerPeers(stack=stack, codec=codec, engine=engine, http=http)
            endpoints = stack.endpoints
            address = ConsoleAddress(url=endpoints.url(contract.CONSOLE), issuer=endpoints.url("issuer"), http=http)
            yield Stage(wire=wire, console=address)
            wire.close()
    finally:
        engine.dispose()
        stack.down()


def send(stage: Stage, status: str, step: str) -> None:
    one = alert("SagaStuck", status, summary="The oldest waits.", step=step)
    one["annotations"]["console"] = f"/sagas?type=order&step={step}&state=PENDING"
    answer = stage.console.http.post(
        f"{stage.console.url}/alarms", json=report(one), headers={"authorization": f"Bearer {SECRET}"}
    )
    assert answer.status_code == 200, answer.text


def waiting_at(stage: Stage, index: int) -> str:
    """Return an order that waits for this step."""
    saga_id = stage.begun(up_to=index)
    wanted = ORDER.steps[index].name
    until(lambda: stage.wire.saga(saga_id), f"it waits for {wanted}", holds=lambda row: row.step == wanted)
    return saga_id


def test_the_number_of_the_ticket_stands_on_the_pages_of_the_sagas_that_the_alarm_is_about(
    stage: Stage, own_instance: ServiceNowInstance
) -> None:
    stuck, elsewhere = waiting_at(stage, 1), waiting_at(stage, 2)
    browser = stage.console.signed_in(SUPPORT)
    assert "No open incident is about sagas like this one." in browser.get(f"/sagas/{stuck}").text
    send(stage, "firing", ORDER.steps[1].name)
    (incident,) = own_instance.incidents
    page = browser.get(f"/sagas/{stuck}").text
    assert f"<strong>{incident['number']}</strong></a> · SagaStuck: The oldest waits." in page
    assert f'href="{own_instance.url}/nav_to.do?uri=incident.do%3Fsys_id%3D{incident["sys_id"]}"' in page
    assert incident["number"] not in browser.get(f"/sagas/{elsewhere}").text
    send(stage, "resolved", ORDER.steps[1].name)
    assert incident["number"] not in browser.get(f"/sagas/{stuck}").text
