"""Numbers that must agree: the code's own, the native stack's, compose's and the cluster's.

A deployment whose limit is smaller than another one's refuses what the code relies on, and shows it only under failure.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from chassis.http.server import CONNECTIONS_END_WITHIN_S
from chassis.postgres.database import POOL_SIZE_MAX, PULSE_WAIT_S
from chassis.process import intake, request_batcher, service, worker
from chassis.saga import dead_letters, publisher
from chassis.saga.dead_letters import DeadLetter, dead_letter_row
from chassis.saga.deferred import RawMessage
from chassis.wire import codec
from saga_tracker import main as tracker
from saga_tracker.ingest import app as tracker_app
from stack import components, contract, deploy, kafka, postgres, redis, services, settings
from stack.provision import DeploymentEndpoints

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
ONE_COPY = {"default.replication.factor", "min.insync.replicas", "offsets.topic.replication.factor",
            "transaction.state.log.replication.factor", "transaction.state.log.min.isr"}  # fmt: skip
"""On one machine there is one copy; the cluster has three."""

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    """The program that writes the cluster's manifests."""
    specification = importlib.util.spec_from_file_location("k8s_generate", K8S / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = sys.modules["k8s_generate"] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module
    del sys.modules["k8s_generate"]


@pytest.fixture(scope="module")
def generated(generator: ModuleType) -> list[Manifest]:
    """Its manifests."""
    return [one for manifests in generator.files().values() for one in manifests]


def of(kind: str, manifests: list[Manifest]) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}


def written(path: str) -> list[Manifest]:
    """Return the manifests of a file that is written by hand."""
    return list(yaml.safe_load_all((K8S / path).read_text()))


def composed(name: str) -> dict[str, Any]:
    part: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][name]
    return part


def seconds(text: str) -> float:
    """Return what compose's and PostgreSQL's ``20s`` is."""
    return float(text.removesuffix("s"))


def options(command: list[str], lead: str) -> dict[str, str]:
    """Return the settings of a server's command line: ``-cname=value``, or ``--name value``."""
    if lead == "-c":
        return dict(word.removeprefix("-c").split("=", 1) for word in command if word.startswith("-c"))
    places = [number for number, word in enumerate(command) if word.startswith("--")]
    return {command[at].removeprefix("--"): " ".join(command[at + 1 : end])
            for at, end in zip(places, [*places[1:], len(command)], strict=True)}  # fmt: skip


def largest_dead_letter() -> int:
    """Return the bytes of a dead letter of a message that exceeds every limit, and of one that just reaches them."""
    text = "\U0001d11e" * dead_letters.REASON_LENGTH_MAX
    letter = DeadLetter(service="payment", step="authorize_payment", reason=text, detail=text, attempts=1)
    found = 0
    for excess in (0, 1):
        raw = RawMessage(
            topic="checkout.events",
            partition=0,
            key=b"\xff" * (dead_letters.KEY_BYTES_MAX + excess),
            value=b"\xff" * (dead_letters.PAYLOAD_BYTES_MAX + excess),
            headers=tuple(("h", b"") for _ in range(dead_letters.HEADERS_BYTES_MAX + excess)),
        )
        row = dead_letter_row(raw, letter, row_id="1")
        # A header's name and value each have a length of at most three bytes before them.
        headers = sum(len(name.encode()) + len(value) + 6 for name, value in row.headers)
        found = max(found, len(row.payload) + len(row.saga_id.encode()) + headers)
    return found


def test_the_largest_dead_letter_fits_into_every_dead_letter_topic(generated: list[Manifest]) -> None:
    assert largest_dead_letter() < publisher.MESSAGE_BYTES_MAX
    topics = {one["spec"]["topicName"]: one["spec"]["config"] for one in of("KafkaTopic", generated).values()}
    letters = {name for name in contract.topics() if name.endswith(deploy.DEAD_LETTERS)}
    assert len(letters) > 6
    for name in contract.topics():
        # compose creates its topics by the same function as the native stack: stack.provision.
        assert deploy.settings_of(name).items() <= topics[name].items(), name
        limit = deploy.settings_of(name).get("max.message.bytes", kafka.MESSAGE_BYTES_MAX)
        assert limit == (publisher.MESSAGE_BYTES_MAX if name in letters else kafka.MESSAGE_BYTES_MAX)


def test_the_largest_message_that_is_read_fits_into_every_topic() -> None:
    assert codec.MESSAGE_BYTES_MAX * 2 < kafka.MESSAGE_BYTES_MAX


def test_the_brokers_of_every_deployment_have_the_same_settings() -> None:
    (cluster,) = of("Kafka", written("base/kafka.yaml")).values()
    config = {name: str(value).lower() for name, value in cluster["spec"]["kafka"]["config"].items()}
    shared = (config.keys() & kafka.PROPERTIES.keys()) - ONE_COPY
    assert {name: config[name] for name in shared} == {name: kafka.PROPERTIES[name] for name in shared}
    assert {"message.max.bytes", "offsets.retention.minutes", "auto.create.topics.enable"} <= shared
    file = (ROOT / "compose" / "kafka.properties").read_text().splitlines()
    assert {f"{name}={value}" for name, value in kafka.PROPERTIES.items()} <= set(file)


def test_a_restored_database_finds_on_kafka_all_that_it_lacks(generator: ModuleType) -> None:
    """Kafka keeps messages and offsets for longer than backups are kept; dead letters for ever."""
    (store,) = of("ObjectStore", written("overlays/prod/backups.yaml")).values()
    backups = timedelta(days=int(store["spec"]["retentionPolicy"].removesuffix("d")))
    events = timedelta(milliseconds=generator.EVENTS_KEPT_MS)
    offsets = timedelta(minutes=int(kafka.PROPERTIES["offsets.retention.minutes"]))
    assert backups < events < offsets
    assert kafka.PROPERTIES["log.retention.ms"] == "-1"


def test_a_database_has_a_connection_for_the_whole_pool_of_every_process(generated: list[Manifest]) -> None:
    clusters, scaled, rolled = (of(kind, generated) for kind in ("Cluster", "ScaledObject", "Deployment"))
    for database in contract.databases():
        users = [process for process in services.processes() if services.database_of(process) == database]
        pods = sum(
            scaled[process]["spec"]["maxReplicaCount"]
            + rolled[process]["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
            for process in users
        )
        parameters = clusters[f"{database.replace('_', '-')}-db"]["spec"]["postgresql"]["parameters"]
        assert pods * POOL_SIZE_MAX < int(parameters["max_connections"]), database
    assert len(services.processes()) * POOL_SIZE_MAX < postgres.CONNECTIONS_MAX
    chosen = options(composed("postgres")["command"], "-c")
    assert "max_connections" in chosen
    assert chosen.items() <= postgres.CONFIGURATION.items()


def test_every_deployment_waits_until_a_process_has_stopped(generated: list[Manifest]) -> None:
    assert worker.STOP_WITHIN_S + CONNECTIONS_END_WITHIN_S <= service.STOP_WITHIN_S
    assert request_batcher.STOP_WITHIN_S + CONNECTIONS_END_WITHIN_S <= service.STOP_WITHIN_S
    longest = max(service.STOP_WITHIN_S, tracker.STOP_WITHIN_S)
    assert longest < components.STOP_WAIT_S
    for process in services.workers():
        pod = of("Deployment", generated)[process]["spec"]["template"]["spec"]
        pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pause + longest < pod["terminationGracePeriodSeconds"], process
        assert seconds(composed(process)["stop_grace_period"]) == components.STOP_WAIT_S, process
    assert seconds(composed("postgres")["stop_grace_period"]) == postgres.STOP_WAIT_S
    assert seconds(composed("kafka")["stop_grace_period"]) == kafka.STOP_WAIT_S


def test_every_probe_waits_longer_than_the_check_behind_it(generated: list[Manifest]) -> None:
    hung = min(service.LOOP_AGE_MAX_S, tracker.TICK_AGE_MAX_S)
    assert PULSE_WAIT_S < components.READY_TIMEOUT_S
    for process in services.workers():
        (container,) = of("Deployment", generated)[process]["spec"]["template"]["spec"]["containers"]
        start, alive, ready = (container[f"{name}Probe"] for name in ("startup", "liveness", "readiness"))
        assert {probe["httpGet"]["path"] for probe in (start, alive)} == {"/livez"}
        assert ready["httpGet"]["path"] == "/readyz"
        assert all(probe["timeoutSeconds"] > PULSE_WAIT_S for probe in (start, alive, ready)), process
        assert start["periodSeconds"] * start["failureThreshold"] > service.START_WITHIN_S, process
        # A restart is the last resort: the process itself notices earlier that it hangs.
        assert alive["periodSeconds"] * alive["failureThreshold"] >= hung, process
    health = re.search(r"HEALTHCHECK.*--timeout=(\d+)s.*--start-period=(\d+)s", (ROOT / "Dockerfile").read_text())
    assert health is not None
    assert int(health[1]) > PULSE_WAIT_S
    assert int(health[2]) > service.START_WITHIN_S


def test_every_topic_has_the_same_partitions_and_no_group_has_more_members(generated: list[Manifest]) -> None:
    (partitions,) = {one["spec"]["partitions"] for one in of("KafkaTopic", generated).values()}
    assert {one["spec"]["maxReplicaCount"] for one in of("ScaledObject", generated).values()} == {partitions}
    assert DeploymentEndpoints.model_fields["partitions"].default == settings.PARTITIONS_DEFAULT
    assert not any("PARTITIONS" in name for name in composed("topics").get("environment", {}))


def test_a_member_that_is_gone_is_noticed_alike_in_every_group() -> None:
    assert intake.SESSION_TIMEOUT_MS == tracker_app.SESSION_TIMEOUT_S * 1000


def test_redis_may_use_the_same_memory_everywhere_and_evicts_the_same_keys() -> None:
    native = options(list(redis.options()), "--")
    (deployment,) = of("Deployment", written("base/redis.yaml")).values()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    for chosen in (options(composed("redis")["command"], "--"), options(container["args"], "--")):
        for name in ("maxmemory", "maxmemory-policy"):
            assert chosen[name] == native[name]
    least = int(native["maxmemory"].removesuffix("mb"))
    assert int(container["resources"]["limits"]["memory"].removesuffix("Mi")) > least
    assert int(composed("redis")["mem_limit"].removesuffix("m")) > least


def test_every_deployment_runs_the_same_releases() -> None:
    jars = (ROOT / "stack" / "stack" / "downloads.json").read_text()
    (cluster,) = of("Kafka", written("base/kafka.yaml")).values()
    assert composed("kafka")["image"] == f"apache/kafka:{cluster['spec']['kafka']['version']}"
    assert f"/kafka-server/{cluster['spec']['kafka']['version']}/" in jars
    (registry,) = [
        container["image"]
        for container in of("Deployment", written("base/registry.yaml"))["registry"]["spec"]["template"]["spec"][
            "containers"
        ]
    ]
    assert composed("registry")["image"] == registry
    assert f"/apicurio-registry-app/{registry.rpartition(':')[2]}/" in jars
    (own_redis,) = of("Deployment", written("base/redis.yaml"))["redis"]["spec"]["template"]["spec"]["containers"]
    assert composed("redis")["image"] == own_redis["image"]
    databases = {
        one["spec"]["imageName"].rpartition(":")[2]
        for path in (
            "base/registry.yaml",
            *(f"base/generated/{name}" for name in ("payment.yaml", "saga-tracker.yaml")),
        )
        for one in of("Cluster", written(path)).values()
    }
    assert databases == {composed("postgres")["image"].rpartition(":")[2]}
    assert f"pginstall{next(iter(databases)).partition('.')[0]}/bin" == postgres.PROGRAMS
