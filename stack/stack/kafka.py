"""Kafka in KRaft mode, broker and controller in one process on loopback, from the jars of Maven Central."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from stack import java
from stack.errors import explained
from stack.home import Home, replace
from stack.parts import Part
from stack.ports import LOOPBACK

NAME = "kafka"
CONTROLLER = "kafka-controller"
HEAP_MAX = "384m"
FORMAT_TIMEOUT_S = 60
REQUEST_TIMEOUT_S = 1.0
STOP_WAIT_S = 30
LISTENERS = ("listeners", "advertised.listeners", "listener.security.protocol.map")
MESSAGE_BYTES_MAX = 1_048_588
"""Kafka's own default, stated because producers and dead letters rely on it."""

PROPERTIES = {
    # One copy is all that one machine can have.
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Nothing is ever dropped by age: a stack may rest for weeks between down and up.
    "log.retention.ms": "-1",
    "offsets.retention.minutes": "525600",
    "message.max.bytes": str(MESSAGE_BYTES_MAX),
    # A topic that nobody declared is a mistake.
    "auto.create.topics.enable": "false",
    # Small on two cores.
    "offsets.topic.num.partitions": "6",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "2",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "log.segment.bytes": "268435456",
    "group.initial.rebalance.delay.ms": "0",
    # A killed broker is let in again only when its last session has timed out.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "4000",
}

LOGGING = """\
<Configuration status="ERROR" shutdownHook="disable">
  <Appenders><Console name="console"><PatternLayout pattern="%d{ISO8601} %p %m (%c{1})%n"/></Console></Appenders>
  <Loggers><Root level="WARN"><AppenderRef ref="console"/></Root></Loggers>
</Configuration>
"""


def part(home: Home, jars: list[Path], port: int) -> Part:
    """Return the broker. :func:`configure` must have run before it starts."""
    return Part(
        name=NAME,
        service=NAME,
        command=(*_java(home, jars, HEAP_MAX), "kafka.Kafka", str(home.folder(NAME) / "server.properties")),
        stop_wait_s=STOP_WAIT_S,
        is_ready=lambda: is_ready(port),
        address=f"{LOOPBACK}:{port}",
    )


def configure(
    home: Home,
    jars: list[Path],
    *,
    stack_id: str,
    port: int,
    controller_port: int,
    sides: Mapping[str, tuple[int, int]],
) -> None:
    """Write the configuration, and format the data folder where it is new. Raises StackError.

    Each of ``sides`` is a further listener: its port, and the port that its clients are told.
    """
    folder = home.folder(NAME)
    data = folder / "data"
    file = folder / "server.properties"
    with explained(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        chosen = properties(
            host=LOOPBACK, port=port, controller_host=LOOPBACK, controller_port=controller_port,
            advertised=f"{LOOPBACK}:{port}", data=str(data),
        )  # fmt: skip
        chosen |= _with_sides(chosen, sides)
        replace(file, "".join(f"{name}={value}\n" for name, value in chosen.items()))
        replace(folder / "log4j2.xml", LOGGING)
    if not (data / "meta.properties").exists():
        _format(home, jars, file, cluster_id(stack_id))


def properties(
    *, host: str, port: int, controller_host: str, controller_port: int, advertised: str, data: str
) -> dict[str, str]:
    """Return the broker's properties. ``advertised`` is the address that clients are told."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller_host}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{advertised}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": data,
        **PROPERTIES,
    }


def _with_sides(chosen: Mapping[str, str], sides: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """Whoever connects to a side's listener is told the side's port, so that all of its traffic takes that way."""
    listeners, advertised, protocols = (chosen[name] for name in LISTENERS)
    for side, (port, told) in sides.items():
        listeners += f",{side.upper()}://{LOOPBACK}:{port}"
        advertised += f",{side.upper()}://{LOOPBACK}:{told}"
        protocols += f",{side.upper()}:PLAINTEXT"
    return dict(zip(LISTENERS, (listeners, advertised, protocols), strict=True))


def cluster_id(stack_id: str) -> str:
    """Return the stack's id in Kafka's spelling."""
    return base64.urlsafe_b64encode(bytes.fromhex(stack_id)).decode().rstrip("=")


def _format(home: Home, jars: list[Path], file: Path, cluster: str) -> None:
    arguments = ("kafka.tools.StorageTool", "format", "--ignore-formatted", f"--cluster-id={cluster}", "-c", str(file))
    with home.log(NAME).open("a") as output:
        try:
            subprocess.run(
                (*_java(home, jars, HEAP_MAX), *arguments), check=True, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, timeout=FORMAT_TIMEOUT_S,
            )  # fmt: skip
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise home.failure(NAME, "Kafka could not format its data folder") from error


def _java(home: Home, jars: list[Path], heap_max: str) -> tuple[str, ...]:
    logging = f"-Dlog4j2.configurationFile={home.folder(NAME) / 'log4j2.xml'}"
    return (*java.command(home, heap_max), logging, "-cp", ":".join(map(str, jars)))


def side(name: str) -> str:
    """Return the name of the port that the listener of a side listens on."""
    return f"{NAME}-{name}"


def admin(bootstrap: str) -> AdminClient:
    """Return an administrator's client that does not chatter while the broker is coming up."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200})


def is_ready(port: int) -> bool:
    """Return whether the broker answers and counts itself among the brokers."""
    try:
        return bool(admin(f"{LOOPBACK}:{port}").list_topics(timeout=REQUEST_TIMEOUT_S).brokers)
    except KafkaException:
        return False
