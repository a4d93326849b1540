"""docker-compose.yml, run with stand-in images: what it starts, what it allows, and that it survives kills."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import TypeAdapter

from chassis.http import gateway_accounts
from chassis.postgres.bounds import SERVER_PARAMETERS
from chassis.settings import TrustedIssuer
from console.settings import ConsoleSettings
from deploy import engine as engines
from deploy.engine import CHECKOUT, OURS, STAND_INS, Engine, run
from merchant import tokens
from mobile_money import short_codes as our_short_codes
from risk import rules as risk_rules
from simulators import short_codes as simulated_short_codes
from stack import contract, gateways, issuers, kafka, providers, redis, services, short_codes
from stack.settings import from_environment
from support.waiting import until

pytestmark = pytest.mark.timeout(900)

ORDERS, ORDERS_AGAIN = 60, 20
"""The first run is long enough to include a declined card; the demo chooses the same orders every time."""
KILLED = ("payment", "saga-tracker", "kafka")
UP_WITHIN_S = 300
OWN_KEYS = {
    contract.token_issuer(): {services.PAYER_KEY, services.MERCHANT_TOKEN_KEY},
    contract.webhook_sender(): {services.WEBHOOK_KEY},
    **{name: {services.PHONE_KEY} for name in (*contract.phone_keepers(), *providers.payers())},
}
"""The keys that only these services have."""
PAYING = Path(__file__).with_name("payments.py")
"""What a container runs to pay; the network has no way in for a test."""


class Composed:
    """The project of the compose file on one engine."""

    def __init__(self, engine: Engine, compose: Path, folder: Path) -> None:
        self._engine = engine
        self._compose = compose
        self._folder = folder
        ports = (
            "CHECKOUT", "MERCHANT", "MEMBERS", "NOTIFIER", "ISSUER", "SAGA_TRACKER_API", "CONSOLE", "PROMETHEUS",
            "GRAFANA", "ZIPKIN",
        )  # fmt: skip
        # With port 0 the engine chooses, so that it does not collide with a stack on this machine.
        self._environment = {**engine.environment, **{f"BARAZA_PORT_{port}": "0" for port in ports}}
        self._environment["COMPOSE_PROJECT_NAME"] = f"baraza-{uuid.uuid4().hex[:8]}"

    def __call__(self, *arguments: str) -> str:
        """Run ``docker compose``."""
        return run((str(self._compose), *arguments), environment=self._environment, cwd=self._folder)

    def log(self, container: str) -> str:
        """Return what a container has written."""
        return self._engine.docker("logs", container)

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return every container of the project, as the engine describes it, by service."""
        found = self("ps", "--all", "--quiet").split()
        inspected = json.loads(self._engine.docker("inspect", *found))
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in inspected}


@pytest.fixture(scope="module")
def compose() -> Path:
    """The current ``docker compose``."""
    return engines.compose(from_environment(os.environ).cache)


@pytest.fixture(scope="module")
def composed(compose: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """The whole project, from our images and stand-ins; it is removed afterwards."""
    folder = tmp_path_factory.mktemp("compose")
    with engines.engine(tmp_path_factory.mktemp("engine"), from_environment(os.environ).cache) as engine:
        engine.make_stand_ins()
        engine.build_ours()
        shutil.copy(CHECKOUT / "docker-compose.yml", folder)
        shutil.copytree(CHECKOUT / "observability", folder / "observability")
        shutil.copytree(CHECKOUT / "compose", folder / "compose", ignore=shutil.ignore_patterns("secrets"))
        run(("sh", str(folder / "compose" / "secrets.sh")))
        project = Composed(engine, compose, folder)
        project("up", "--detach", "--no-build", "--pull=never", "--wait", f"--wait-timeout={UP_WITHIN_S}")
        yield project


def test_the_file_is_valid_for_the_current_compose_and_every_image_is_pinned(compose: Path) -> None:
    environment = {**os.environ, "BARAZA_VERSION": "0.1.0"}
    run((str(compose), "config", "--quiet", "--no-env-resolution"), environment=environment)
    images = {part["image"] for part in _services().values()}
    wanted = {image for image in images if not image.startswith("baraza/")}
    recipe = {image for image in _tags() if image.startswith(("python:", "ghcr.io/astral-sh/uv:"))}
    assert wanted | recipe == set(_tags())
    assert all(re.search(r":v?\d+(\.\d+)+", image) for image in _tags())


def test_every_service_of_the_code_has_its_own_database_login_and_no_other_secret() -> None:
    composed = _services()
    assert set(services.workers()) | set(providers.SIMULATORS) <= set(composed)
    for process in services.workers():
        used = {redis.secret_of(process)} if "BARAZA_REDIS_USER" in composed[process]["environment"] else set()
        used |= {services.WEBHOOK_SECRETS} if process in providers.called_back_by(providers.COURIER) else set()
        used |= _of_accounts(process) | OWN_KEYS.get(process, set())
        assert _secrets(composed[process]) == {contract.package_of(process), kafka.secret_of(process)} | used
    assert _secrets(composed[providers.COURIER]) == {services.WEBHOOK_SECRETS}
    for gateway in providers.ACCOUNT_HOLDERS:
        own = [each for each in gateways.ACCOUNTS if each.gateway == gateway]
        assert _secrets(composed[gateway]) == {name for each in own for name in (each.key, each.webhook_secrets)}
    for each in short_codes.SHORT_CODES:
        assert _secrets(composed[each.provider]) == set(each.secrets) - {each.secret(short_codes.CALLBACK)}
    for service in (*contract.services(), contract.TRACKER, contract.CONSOLE):
        assert _secrets(composed[f"{service}-tables"]) == {f"{contract.package_of(service)}_owner"}
    logins = {contract.DEPLOY, *contract.kafka_rights()}
    assert _secrets(composed["topics"]) == {kafka.secret_of(login) for login in logins}
    endpoints = json.loads((CHECKOUT / "compose" / "endpoints.json").read_text())
    assert set(endpoints["http"]) == set(services.processes()) | set(providers.SIMULATORS)


def test_the_console_has_its_keys_and_its_logins_at_redis_and_at_its_own_database() -> None:
    composed = _services()
    login = contract.package_of(contract.CONSOLE)
    own = {services.CONSOLE_KEY, services.CONSOLE_CLIENT, redis.secret_of(contract.CONSOLE), login}
    own |= {services.TICKETS_LOGIN, services.TICKETS_ALERTMANAGER}
    console, issuer = composed[contract.CONSOLE], composed[providers.ISSUER]
    assert _secrets(console) == own
    assert _secrets(issuer) == {services.CONSOLE_CLIENT}
    known = {f"BARAZA_{name.upper()}" for name in ConsoleSettings.model_fields}
    assert set(console["environment"]) <= known
    for name, file in console["environment"].items():
        assert not name.endswith("_FILE") or Path(file).name in own
    assert console["environment"]["BARAZA_DATABASE_URL"].endswith(f"//{login}@postgres/{login}")
    assert console["environment"]["BARAZA_TICKETS"] == "${BARAZA_TICKETS:-}", "tickets are off unless they are set"
    assert issuer["environment"]["BARAZA_CONSOLE_URL"] == console["environment"]["BARAZA_CONSOLE_URL"]
    for each in console["environment"]["BARAZA_CONSOLE_APIS"].split():
        service, _, url = each.partition("=")
        assert url == f"http://{service}:8080"
        assert service in composed


def test_every_api_and_the_console_trust_both_issuers_as_a_stack_does() -> None:
    composed = _services()
    wanted = issuers.trusted("http://issuer:8080")
    for process in services.processes():
        environment = composed[process]["environment"]
        assert TypeAdapter(tuple[TrustedIssuer, ...]).validate_json(environment["BARAZA_ISSUERS"]) == wanted, process
        assert environment["BARAZA_ISSUER"] == wanted[0].issuer


def test_both_sides_know_the_same_accounts_at_gateways_with_secrets_that_they_are_given() -> None:
    composed, folder = _services(), CHECKOUT / "compose"
    ours = gateway_accounts.read(folder / "gateway-accounts.json")
    assert {account.name for account in ours.accounts} == {account.name for account in gateways.ACCOUNTS}
    theirs = [
        account
        for gateway in providers.ACCOUNT_HOLDERS
        for account in json.loads((folder / f"{gateway}-accounts.json").read_text())["accounts"]
    ]
    assert {each["name"] for each in theirs} == {account.name for account in ours.accounts}
    for their in theirs:
        own = ours.account(their["name"])
        assert (str(own.api_key_file), str(own.webhook_secret_file)) == (
            their["api_key_file"], their["webhook_secret_file"]
        )  # fmt: skip
        assert {own.api_key_file.name, own.webhook_secret_file.name} <= _secrets(composed["payment"])
        assert their["webhook_url"] == f"http://payment:8080/v1/callbacks/{own.name}"
    for process in contract.account_readers():
        file = composed[process]["environment"]["BARAZA_GATEWAY_ACCOUNTS_FILE"]
        assert any(volume == f"./compose/gateway-accounts.json:{file}:ro" for volume in composed[process]["volumes"])


def test_both_sides_know_the_same_short_codes_with_secrets_that_they_are_given() -> None:
    composed, folder = _services(), CHECKOUT / "compose"
    (process,) = providers.payers()
    ours = our_short_codes.read(folder / "short-codes.json").short_codes
    assert {each.name for each in ours} == {each.name for each in short_codes.SHORT_CODES}
    for own in ours:
        (their,) = simulated_short_codes.read(folder / f"{own.provider}-short-codes.json").short_codes
        assert (their.short_code, their.key_file, their.secret_file) == (own.short_code, own.key_file, own.secret_file)
        assert {own.key_file.name, own.secret_file.name, own.callback_secret_file.name} <= _secrets(composed[process])
        assert str(own.callback_url) == f"http://{process}:8080/v1/callbacks/{own.name}"
    file = composed[process]["environment"]["BARAZA_SHORT_CODES_FILE"]
    assert any(volume == f"./compose/short-codes.json:{file}:ro" for volume in composed[process]["volumes"])


def test_every_file_that_a_setting_names_is_given_to_its_service_and_can_be_used(tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "compose", tmp_path / "compose", ignore=shutil.ignore_patterns("secrets"))
    run(("sh", str(tmp_path / "compose" / "secrets.sh")))
    for process in services.workers():
        part = _services()[process]
        mounted = {target: source for source, target, _ in map(_mount, part.get("volumes", ()))}
        for name, file in part["environment"].items():
            if not name.endswith("_FILE"):
                continue
            given = {f"/run/secrets/{secret}" for secret in _secrets(part)} | set(mounted)
            assert file in given, (process, name)
            here = tmp_path / mounted.get(file, f"compose/secrets/{Path(file).name}")
            assert here.read_text().strip(), (process, name)
    assert tokens.read(tmp_path / "compose" / "secrets" / services.MERCHANT_TOKEN_KEY, "baraza") is not None
    assert risk_rules.read((tmp_path / "compose" / "risk-rules.toml").read_text()).version
    lake, folders = (
        _services()["reconciliation"]["environment"]["BARAZA_LAKE_URL"],
        _services()["reconciliation"]["volumes"],
    )
    assert any(lake.startswith(f"{target}/") for _, target, mode in map(_mount, folders) if mode != "ro")
    assert set(_services()["notifier"]["networks"]) == {"inside", "outside"}


def test_the_broker_has_the_configuration_of_the_native_one() -> None:
    template = (CHECKOUT / "compose" / "kafka.properties").read_text().splitlines()[1:]
    wanted = kafka.properties(
        host="0.0.0.0", port=9092, controller_host="localhost", controller_port=9093, advertised="kafka:9092",
        data="/var/lib/kafka/data", password="@BROKER_PASSWORD@", keystore=None,
    )  # fmt: skip
    assert dict(line.split("=", 1) for line in template) == wanted


def test_postgres_has_the_bounds_of_the_native_one() -> None:
    command = _services()["postgres"]["command"]
    assert {f"-c{name}={value}" for name, value in SERVER_PARAMETERS.items()} <= set(command)


def test_every_password_is_created_once_and_redis_has_the_logins_of_the_contract(tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "compose", tmp_path / "compose", ignore=shutil.ignore_patterns("secrets"))
    made = []
    for _ in range(2):
        run(("sh", str(tmp_path / "compose" / "secrets.sh")))
        made.append({file.name: file.read_text() for file in (tmp_path / "compose" / "secrets").iterdir()})
    assert made[0] == made[1]
    declared = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["secrets"]
    assert {secret: f"./compose/secrets/{secret}" for secret in declared} == {
        secret: one["file"] for secret, one in declared.items()
    }
    assert set(declared) - set(made[0]) == set()
    keys, logins = contract.redis_keys(), made[0]["redis.acl"].splitlines()[1:]
    for login in logins:
        user = login.split()[1]
        digest = hashlib.sha256(made[0][redis.secret_of(user)].encode()).hexdigest()
        assert login == f"user {user} on #{digest} ~{keys[user]} {redis.COMMANDS}"
    assert {login.split()[1] for login in logins} == {
        part["environment"]["BARAZA_REDIS_USER"]
        for part in _services().values()
        if "BARAZA_REDIS_USER" in part.get("environment", {})
    }


def test_no_container_has_more_privileges_than_it_needs_and_only_loopback_is_published() -> None:
    for name, part in _services().items():
        assert part["read_only"] is True, name
        assert part["cap_drop"] == ["ALL"], name
        assert part["security_opt"] == ["no-new-privileges:true"], name
        assert part["mem_limit"], name
        assert all(port.startswith("127.0.0.1:") for port in part.get("ports", ())), name


def test_grafanas_provisioning_is_mounted_and_its_data_sources_are_services_of_the_file() -> None:
    composed, folder = _services(), CHECKOUT / "compose" / "grafana"
    mounted = {target: source for source, target, _ in map(_mount, composed["grafana"]["volumes"])}
    for file in folder.iterdir():
        assert f"/etc/grafana/provisioning/{file.stem}/baraza.yaml" in mounted
    (provider,) = yaml.safe_load((folder / "dashboards.yaml").read_text())["providers"]
    dashboards = [json.loads(file.read_text()) for file in (CHECKOUT / mounted[provider["options"]["path"]]).iterdir()]
    sources = yaml.safe_load((folder / "datasources.yaml").read_text())["datasources"]
    assert [urlsplit(source["url"]).hostname for source in sources if not _answers(source["url"], composed)] == []
    known = {(source["type"], source["uid"]) for source in sources}
    used = {(one["datasource"]["type"], one["datasource"]["uid"]) for board in dashboards for one in board["panels"]}
    assert used
    assert used <= known


def test_the_collector_accepts_the_services_spans_and_exports_them_to_a_service_of_the_file() -> None:
    composed = _services()
    configured = yaml.safe_load((CHECKOUT / "compose" / "collector.yaml").read_text())
    (pipeline,) = configured["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == set(configured[kind]), kind
    assert set(configured["service"]["extensions"]) == set(configured["extensions"])
    (exporter,) = configured["exporters"].values()
    assert _answers(exporter["endpoint"], composed)
    accepted = urlsplit(f"//{configured['receivers']['otlp']['protocols']['http']['endpoint']}")
    sent = {urlsplit(composed[process]["environment"]["BARAZA_OTLP_URL"]) for process in services.workers()}
    assert {(url.hostname, url.port) for url in sent} == {("collector", accepted.port)}


@pytest.fixture(scope="module")
def first_run(composed: Composed) -> dict[str, Any]:
    """The summary of the orders and of the audit, which is the last line of the demo's output."""
    return _scenario(composed, ORDERS)


@pytest.mark.compose
def test_orders_end_and_the_audit_is_green(first_run: dict[str, Any]) -> None:
    assert first_run["audit"] == "green"
    assert first_run["confirmed"] > 0
    assert first_run["cancelled"] > 0
    assert (first_run["parked"], first_run["unfinished"]) == (0, [])


@pytest.mark.compose
def test_a_merchant_pays_in_test_mode_at_each_gateway_and_the_audit_is_green(composed: Composed) -> None:
    name = f"payments-{uuid.uuid4().hex[:8]}"
    attached = composed(
        *("run", f"--name={name}", "--no-TTY", "--quiet-pull", "--entrypoint=python", "baraza"),
        *("-c", PAYING.read_text(), name.removeprefix("payments-")),
    )
    lines = [line for line in composed.log(name).splitlines() if line.startswith("{")]
    assert lines, f"The merchant wrote nothing:\n{composed.log(name)}\nWhat was attached had:\n{attached}"
    found = json.loads(lines[-1])
    assert found["payments"] == [
        {"gateway": gateway, "currency": currency, "status": status, "captured_minor": captured, "is_live": False}
        for currency, gateway in (("USD", providers.STRIPE), ("EUR", providers.ADYEN))
        for status, captured in (("CAPTURED", 10_000), ("FAILED", 0))
    ]
    assert (found["endpoints_listed"], found["private_endpoint"]) == (200, 422)
    composed("run", "--rm", "--no-TTY", "--quiet-pull", "baraza", "audit")


@pytest.mark.compose
def test_our_processes_run_without_root_on_a_read_only_file_system(
    composed: Composed, first_run: dict[str, Any]
) -> None:
    ours = (*services.workers(), *providers.SIMULATORS)
    containers = until(
        composed.containers,
        "each of our containers is healthy",
        holds=lambda found: {found[service]["State"]["Health"]["Status"] for service in ours} == {"healthy"},
    )
    for service in ours:
        assert containers[service]["Config"]["User"] == "10001:10001"
        assert containers[service]["HostConfig"]["ReadonlyRootfs"] is True
    assert composed("exec", "--no-TTY", "payment", "sh", "-c", "command -v gcc cc make uv pip || echo none") == "none\n"
    assert "Read-only" in composed("exec", "--no-TTY", "payment", "sh", "-c", "touch /opt/x 2>&1 || true")


@pytest.mark.compose
def test_after_kills_every_container_recovers_and_the_audit_is_green_again(
    composed: Composed, first_run: dict[str, Any]
) -> None:
    composed("kill", *KILLED)
    composed("start", *KILLED)
    until(
        lambda: {
            name: one["State"].get("Health", {}).get("Status", "running")
            for name, one in composed.containers().items()
            if one["State"]["Running"]
        },
        "every container to be healthy again",
        holds=lambda health: set(health.values()) <= {"healthy", "running"} and set(KILLED) <= set(health),
        within_s=UP_WITHIN_S,
    )
    again = _scenario(composed, ORDERS_AGAIN)
    assert again["audit"] == "green"
    assert (again["parked"], again["unfinished"]) == (0, [])


def _scenario(composed: Composed, orders: int) -> dict[str, Any]:
    """Return the demo's summary. The engine's log has all of its output; what is attached to may end before it."""
    name = f"demo-{orders}"
    attached = composed(
        *("run", f"--name={name}", "--no-TTY", "--quiet-pull", "baraza", "demo", f"--orders={orders}", "--json")
    )
    output = composed.log(name)
    summaries = [line for line in output.splitlines() if line.startswith("{")]
    assert summaries, f"The demo wrote no summary:\n{output}\nWhat was attached had:\n{attached}"
    summary: dict[str, Any] = json.loads(summaries[-1])
    return summary


def _mount(volume: str) -> tuple[str, str, str]:
    source, target, mode = volume.split(":") if volume.count(":") == 2 else (*volume.split(":"), "")
    return source, target, mode


def _answers(url: str, composed: dict[str, dict[str, Any]]) -> bool:
    """Return whether the address is a service's, at a port that it publishes; inside it listens on the same port."""
    address = urlsplit(url)
    ports = [int(port.rpartition(":")[2]) for port in composed.get(str(address.hostname), {}).get("ports", ())]
    return address.port in ports


def _services() -> dict[str, dict[str, Any]]:
    listed: dict[str, dict[str, Any]] = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
    return listed


def _secrets(part: dict[str, Any]) -> set[str]:
    return set(part.get("secrets", ()))


def _of_accounts(process: str) -> set[str]:
    """Return the secrets of the accounts at gateways that a service needs: keys to call, secrets to be called back."""
    keys = {each.key for each in gateways.ACCOUNTS if process in contract.account_callers()}
    is_called = process in providers.called_back_by(providers.STRIPE)
    if process in providers.payers():
        keys |= {name for each in short_codes.SHORT_CODES for name in each.secrets}
    return keys | {each.webhook_secrets for each in gateways.ACCOUNTS if is_called}


def _tags() -> list[str]:
    return [tag for tags in STAND_INS.values() for tag in tags if tag not in OURS.values()]
