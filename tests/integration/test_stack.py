"""The stack's real infrastructure: durable, on loopback only, one login for each database, no process left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not in the stubs' way
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.schema_registry import SchemaRegistryClient

from messages.catalogue import MESSAGES
from stack import (
    DownloadFailed,
    InvalidSettings,
    NoStack,
    PortTaken,
    Stack,
    StackSettings,
    contract,
    deploy,
    down,
    downloads,
    from_environment,
    kafka,
    ports,
    postgres,
    strays,
    up,
)
from stack.contract import owner_of
from stack.downloads import Download
from stack.home import Home
from stack.settings import PARTITIONS_DEFAULT
from stack.waiting import until

INFRASTRUCTURE = ("postgres", "redis", "kafka", "registry")
DEADLINE_S = 60


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackSettings]:
    chosen = from_environment(home=tmp_path_factory.mktemp("stack"), only=INFRASTRUCTURE)
    try:
        yield chosen
    finally:
        down(chosen.home)


@pytest.fixture
def stack(settings: StackSettings) -> Stack:
    return up(settings)


def stack_id(stack: Stack) -> str:
    return str(json.loads((stack.home / "stack.json").read_text())["id"])


def processes(stack: Stack) -> list[psutil.Process]:
    return strays.find(stack_id(stack), stack.home / postgres.NAME)


def is_ready(stack: Stack) -> None:
    """Wait until every component answers; one that did may be too slow for a single question on a busy machine."""
    until(lambda: all(each.ready for each in stack.status()), what="every component", deadline_s=DEADLINE_S)


def listening_at(process: psutil.Process) -> set[str]:
    """Return the addresses that a process listens on: none where it has ended, as PostgreSQL's workers do at times."""
    with suppress(psutil.NoSuchProcess):
        found = process.net_connections("tcp")
        return {each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN}
    return set()


def rows(stack: Stack, service: str, role: str, statement: str, *values: str) -> list[tuple[object, ...]]:
    with psycopg.connect(stack.database_url(service, role), autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def test_a_second_up_changes_nothing(stack: Stack, settings: StackSettings) -> None:
    before = {component.name: component.pid for component in stack.status()}
    again = up(settings)
    assert again.started == ()
    assert {component.name: component.pid for component in again.status()} == before
    is_ready(again)


def test_the_status_has_the_memory_and_the_start_of_every_process(stack: Stack) -> None:
    for component in stack.status():
        process = psutil.Process(component.pid)
        assert component.memory_bytes is not None
        assert component.memory_bytes > process.memory_info().shared
        assert component.started_at is not None
        assert abs(component.started_at.timestamp() - process.create_time()) < DEADLINE_S


def test_everything_listens_on_loopback_only(stack: Stack) -> None:
    listening = {address for process in processes(stack) for address in listening_at(process)}
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_passwords_are_readable_by_their_owner_only(stack: Stack) -> None:
    secrets = list((stack.home / "secrets").iterdir())
    assert len(secrets) > len(contract.services())
    assert {file.stat().st_mode & 0o777 for file in secrets} == {0o600}
    assert (stack.home / "secrets").stat().st_mode & 0o777 == 0o700


def test_durability_is_on(stack: Stack) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert rows(stack, "payment", "runtime", f"SHOW {setting}") == [("on",)]


def test_every_topic_has_the_same_number_of_partitions(stack: Stack) -> None:
    consumer = Consumer({**stack.kafka().options(), "group.id": "proof"})
    found = consumer.list_topics(timeout=DEADLINE_S).topics
    consumer.close()
    assert {len(found[topic].partitions) for topic in contract.topics()} == {6}


def test_a_topic_of_an_earlier_release_gets_the_settings_of_this_one(stack: Stack, settings: StackSettings) -> None:
    topic = next(name for name in contract.topics() if name.endswith(deploy.DEAD_LETTERS))
    admin = kafka.admin(stack.kafka())
    resource = ConfigResource(
        ResourceType.TOPIC, topic, incremental_configs=[
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in {"max.message.bytes": "2097152", "retention.ms": "86400000"}.items()
        ],
    )  # fmt: skip
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(DEADLINE_S)
    deploy.create_topics(admin, contract.topics(), settings.partitions or PARTITIONS_DEFAULT)

    def configured() -> dict[str, str]:
        (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
        return {name: entry.value for name, entry in future.result(DEADLINE_S).items()}

    wanted = {name: str(value) for name, value in deploy.settings_of(topic).items()}
    until(lambda: wanted.items() <= configured().items(), what="the topic's own settings", deadline_s=DEADLINE_S)
    assert configured()["retention.ms"] == "86400000", "what this release does not set is kept"


def test_an_undeclared_topic_is_not_created(stack: Stack) -> None:
    refused = []
    producer = Producer({**stack.kafka().options(), "message.timeout.ms": 3_000})
    producer.produce("undeclared.topic", b"x", on_delivery=lambda error, _: refused.append(error))
    producer.flush(DEADLINE_S)
    assert refused[0] is not None


def test_every_message_has_a_subject_under_its_compatibility_level(stack: Stack) -> None:
    assert {subject.message_type for subject in contract.subjects()} == set(MESSAGES.values())
    with SchemaRegistryClient(stack.registry_writer()) as client:
        for subject in contract.subjects():
            assert client.get_compatibility(subject.name) == subject.compatibility


def schema_ids(stack: Stack) -> dict[str, int | None]:
    with SchemaRegistryClient(stack.registry_writer()) as client:
        return {each.name: client.get_latest_version(each.name).schema_id for each in contract.subjects()}


def write(stack: Stack, word: str) -> None:
    rows(stack, "ledger", "owner", "CREATE TABLE IF NOT EXISTS kept (word text)")
    rows(stack, "ledger", "runtime", "INSERT INTO kept VALUES (%s)", word)
    producer = Producer({**stack.kafka().options(), "acks": "all"})
    producer.produce("ledger.dlq", word.encode(), partition=0)
    assert producer.flush(DEADLINE_S) == 0


def end_of(consumer: Consumer, partition: TopicPartition) -> int:
    """Return where a partition ends. Right after its start a broker may not lead its partitions yet."""
    ends: list[int] = []

    def is_read() -> bool:
        with suppress(KafkaException):
            ends.append(consumer.get_watermark_offsets(partition, timeout=DEADLINE_S)[1])
        return bool(ends)

    until(is_read, what="the end of the partition", deadline_s=DEADLINE_S)
    return ends[0]


def kept(stack: Stack, word: str) -> tuple[bool, bool]:
    """Return whether PostgreSQL and Kafka still have the word."""
    consumer = Consumer({**stack.kafka().options(), "group.id": "proof", "enable.auto.commit": False})
    end = end_of(consumer, TopicPartition("ledger.dlq", 0))
    consumer.assign([TopicPartition("ledger.dlq", 0, 0)])
    messages = consumer.consume(end, timeout=DEADLINE_S)
    consumer.close()
    return (word,) in rows(stack, "ledger", "audit", "SELECT word FROM kept"), word.encode() in [
        message.value() for message in messages
    ]


def test_down_and_up_keep_rows_messages_schema_ids_and_addresses(stack: Stack, settings: StackSettings) -> None:
    write(stack, "rested")
    ids, endpoints = schema_ids(stack), stack.endpoints
    stack.down()
    assert processes(stack) == []
    with pytest.raises(NoStack, match="is down"):
        Stack.load(settings.home)
    again = up(settings)
    assert (schema_ids(again), again.endpoints, kept(again, "rested")) == (ids, endpoints, (True, True))


def test_nothing_outlives_a_killed_supervisor(stack: Stack, settings: StackSettings) -> None:
    os.kill(int((settings.home / "run" / "supervisord.pid").read_text()), signal.SIGKILL)
    until(lambda: not processes(stack), what="every process to end", deadline_s=DEADLINE_S)
    is_ready(up(settings))


def test_after_a_kill_of_everything_all_that_was_acknowledged_is_there(stack: Stack, settings: StackSettings) -> None:
    write(stack, "survived")
    for process in processes(stack):
        with suppress(psutil.NoSuchProcess):  # it ended with one that was killed before it
            process.kill()
    assert kept(up(settings), "survived") == (True, True)


def test_a_killed_component_is_restarted(stack: Stack) -> None:
    (before,) = stack.pids("redis")
    stack.kill("redis")
    until(
        lambda: stack.pids("redis") not in ((), (before,)) and all(component.ready for component in stack.status()),
        what="redis to come back",
        deadline_s=DEADLINE_S,
    )


def test_two_starts_at_once_start_one_stack(stack: Stack, settings: StackSettings) -> None:
    stack.down()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(up, [settings, settings])
    assert sorted([first.started, second.started]) == [(), INFRASTRUCTURE]


def test_the_error_for_a_taken_port_names_its_owner_and_the_remedy(stack: Stack, settings: StackSettings) -> None:
    port = int(stack.endpoints.redis_url.rsplit(":", 1)[1].removesuffix("/0"))
    stack.down()
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(PortTaken, match=rf"Port {port}, kept for redis, .*{os.getpid()}.*BARAZA_PORT_REDIS"):
            up(settings)
        assert processes(stack) == []
        chosen = ports.choose(["other"], Home(settings.home).load().ports, {})["other"]
        moved = StackSettings(home=settings.home, cache=settings.cache, only=INFRASTRUCTURE, ports={"redis": chosen})
        assert up(moved).endpoints.redis_url == f"redis://127.0.0.1:{chosen}/0"


def test_the_number_of_partitions_cannot_change(stack: Stack, settings: StackSettings) -> None:
    wanted = StackSettings(home=settings.home, cache=settings.cache, only=INFRASTRUCTURE, partitions=12)
    with pytest.raises(InvalidSettings, match="has 6 partitions"):
        up(wanted)


class Mirror(BaseHTTPRequestHandler):
    """A file server that ends each connection after ``bytes_max`` bytes, as a bad line does."""

    content = bytes(range(256)) * 4096
    bytes_max = 400_000

    def do_GET(self) -> None:
        first = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        self.send_response(206)
        self.send_header("Content-Length", str(len(self.content) - first))
        self.end_headers()
        self.wfile.write(self.content[first : first + self.bytes_max])
        self.close_connection = True

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv(downloads.MIRROR_VARIABLE, f"http://127.0.0.1:{server.server_address[1]}")
        yield
        server.shutdown()
        thread.join()


def pin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digest: str) -> None:
    entry = {"path": "a/file.jar", "size": len(Mirror.content), "sha256": digest}
    (tmp_path / "downloads.json").write_text(json.dumps({"component": [entry]}))
    monkeypatch.setattr(downloads, "PINNED", tmp_path / "downloads.json")


@pytest.mark.usefixtures("mirror")
def test_a_broken_download_continues_where_it_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pin(monkeypatch, tmp_path, downloads.digest(Mirror.content))
    arrived: list[int] = []
    (file,) = downloads.fetch("component", tmp_path / "cache", lambda done, _total: arrived.append(done))
    assert file.read_bytes() == Mirror.content
    assert arrived[-1] == len(Mirror.content)


@pytest.mark.usefixtures("mirror")
def test_a_file_with_another_digest_is_refused_and_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pin(monkeypatch, tmp_path, "0" * 64)
    monkeypatch.setattr(downloads, "PAUSE_S", 0)
    monkeypatch.setattr(Mirror, "bytes_max", len(Mirror.content))
    with pytest.raises(DownloadFailed, match="another digest"):
        downloads.fetch("component", tmp_path / "cache", lambda _done, _total: None)
    assert not list((tmp_path / "cache").rglob("file.jar*"))


def test_the_list_of_pinned_files_is_complete() -> None:
    for component in ("kafka", "registry"):
        assert all(isinstance(entry, Download) and len(entry.sha256) == 64 for entry in downloads.pinned(component))


def test_databases_are_derived_from_the_definitions() -> None:
    assert contract.package_of(contract.TRACKER) == "saga_tracker"
    assert owner_of("saga_tracker") == "saga_tracker_owner"
