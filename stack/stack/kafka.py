"""Kafka in KRaft mode, broker and controller in one process on loopback, from the jars of Maven Central.

Every client needs a login, and a login has only the rights of its access list. Two logins may do everything: the
broker's own, and the deploy step's. The data folder is formatted with them; the deploy step creates all others.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from chassis.wire.kafka import MECHANISM, PLAIN_PROTOCOL, TLS_PROTOCOL, KafkaLogin
from stack import certificates, java
from stack.components import Component
from stack.contract import DEPLOY
from stack.environment import own_environment
from stack.errors import translated_os_errors
from stack.home import Home, replace
from stack.ports import LOOPBACK

NAME = "kafka"
CONTROLLER = "kafka-controller"
HEAP_MAX = "384m"
FORMAT_TIMEOUT_S = 60
REQUEST_TIMEOUT_S = 2.0
"""A login takes a few milliseconds on a quiet machine, and much longer while everything starts."""
BROKER = "broker"
"""The broker's own login, to itself and to the controller."""
CLIENTS, CONTROLLERS = "CLIENTS", "CONTROLLER"
STOP_WAIT_S = 30
ASCII_END = 0x80
LISTENERS = ("listeners", "advertised.listeners", "listener.security.protocol.map")
MESSAGE_BYTES_MAX = 1_048_588
"""Kafka's default, stated because producers and dead letters rely on it."""

PROPERTIES = {
    # One machine can hold only one copy.
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Nothing is deleted by age: weeks may pass between down and up.
    "log.retention.ms": "-1",
    "offsets.retention.minutes": "525600",
    "message.max.bytes": str(MESSAGE_BYTES_MAX),
    # An undeclared topic is a mistake.
    "auto.create.topics.enable": "false",
    # Small on two cores.
    "offsets.topic.num.partitions": "6",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "num.network.threads": "1",
    "num.io.threads": "2",
    "num.recovery.threads.per.data.dir": "2",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "log.segment.bytes": "268435456",
    "group.initial.rebalance.delay.ms": "0",
    # A killed broker can register again only after its last session has timed out.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "4000",
}

ACCESS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": f"User:{BROKER};User:{DEPLOY}",
    "allow.everyone.if.no.acl.found": "false",
    "sasl.enabled.mechanisms": MECHANISM,
    "sasl.mechanism.inter.broker.protocol": MECHANISM,
    "sasl.mechanism.controller.protocol": "PLAIN",
}

LOGGING = """\
<Configuration status="ERROR" shutdownHook="disable">
  <Appenders><Console name="console"><PatternLayout pattern="%d{ISO8601} %p %m (%c{1})%n"/></Console></Appenders>
  <Loggers><Root level="WARN"><AppenderRef ref="console"/></Root></Loggers>
</Configuration>
"""


def component(home: Home, jars: list[Path], port: int, *, tls: bool, optimised: bool) -> Component:
    """Return the broker, ``optimised`` for a long run or not. :func:`configure` must have run before it starts."""
    properties_file = str(home.folder(NAME) / "server.properties")
    return Component(
        name=NAME,
        service=NAME,
        command=(*_java(home, jars, HEAP_MAX, optimised=optimised), "kafka.Kafka", properties_file),
        stop_wait_s=STOP_WAIT_S,
        is_ready=lambda: is_ready(login(home, port, tls=tls)),
        address=f"{LOOPBACK}:{port}",
    )


def secret_of(user: str) -> str:
    """Return the name under which the home keeps the password of a Kafka login."""
    return f"{NAME}-{user}"


def login(home: Home, port: int, user: str = DEPLOY, *, tls: bool) -> KafkaLogin:
    """Return a user's login; its password is created at the first call."""
    home.password(secret_of(user))
    return KafkaLogin(
        address=f"{LOOPBACK}:{port}",
        user=user,
        password_file=home.password_file(secret_of(user)),
        ca_file=certificates.authority(home) if tls else None,
    )


def configure(
    home: Home,
    jars: list[Path],
    *,
    stack_id: str,
    port: int,
    controller_port: int,
    tls: bool,
    sides: Mapping[str, tuple[int, int]],
) -> None:
    """Write the configuration, and format the data folder where it is new. Raises StackError.

    Each of ``sides`` is a further listener: its port, and the port that it advertises.
    """
    folder = home.folder(NAME)
    data = folder / "data"
    file = folder / "server.properties"
    certificates.ensure(home, certificates.now())
    with translated_os_errors(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        chosen = properties(
            host=LOOPBACK, port=port, controller_host=LOOPBACK, controller_port=controller_port,
            advertised=f"{LOOPBACK}:{port}", data=str(data), password=home.password(secret_of(BROKER)),
            keystore=str(certificates.server(home)) if tls else None,
        )  # fmt: skip
        chosen |= _with_side_listeners(chosen, sides)
        replace(file, written(chosen))
        replace(folder / "log4j2.xml", LOGGING)
    if not (data / "meta.properties").exists():
        _format(home, jars, file, cluster_id(stack_id))


def properties(
    *, host: str, port: int, controller_host: str, controller_port: int, advertised: str, data: str,
    password: str, keystore: str | None,
) -> dict[str, str]:  # fmt: skip
    """Return the broker's properties. ``advertised`` is the address that clients use after the first connection.

    ``password`` is the broker's own. ``keystore``: the file with its key and certificates, None for no TLS.
    """
    clients = PLAIN_PROTOCOL if keystore is None else TLS_PROTOCOL
    stores = ("ssl.keystore", "ssl.truststore") if keystore is not None else ()
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller_host}:{controller_port}",
        "controller.listener.names": CONTROLLERS,
        "listeners": f"{CLIENTS}://{host}:{port},{CONTROLLERS}://{controller_host}:{controller_port}",
        "advertised.listeners": f"{CLIENTS}://{advertised}",
        "inter.broker.listener.name": CLIENTS,
        "listener.security.protocol.map": f"{CLIENTS}:{clients},{CONTROLLERS}:{PLAIN_PROTOCOL}",
        **{f"{store}.type": "PEM" for store in stores},
        **{f"{store}.location": str(keystore) for store in stores},
        **_own_logins(password),
        "log.dirs": data,
        **PROPERTIES,
    }


def written(properties: Mapping[str, str]) -> str:
    """Return the properties as Java reads them: in Latin-1, so any other letter is written as its UTF-16 units."""
    return "".join(f"{name}={_escaped(value)}\n" for name, value in properties.items())


def _escaped(value: str) -> str:
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[index : index + 2]) for index in range(0, len(units), 2))
    return "".join(chr(code) if code < ASCII_END else f"\\u{code:04x}" for code in codes)


def _own_logins(password: str) -> dict[str, str]:
    """The controller cannot use SCRAM, whose credentials it has yet to read; it accepts only the broker's login."""
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule"
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
    own = f'required username="{BROKER}" password="{password}"'
    return {
        **ACCESS,
        _logins_of(CLIENTS): f"{scram} {own};",
        f"listener.name.{CONTROLLERS.lower()}.sasl.enabled.mechanisms": "PLAIN",
        f"listener.name.{CONTROLLERS.lower()}.plain.sasl.jaas.config": f'{plain} {own} user_{BROKER}="{password}";',
    }


def _with_side_listeners(chosen: Mapping[str, str], sides: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """Add the sides' listeners. Each advertises its side's port, so that all traffic of its clients goes there."""
    listeners, advertised, protocols = (chosen[name] for name in LISTENERS)
    protocol, logins = protocols.partition(",")[0].partition(":")[2], {}
    for side, (port, advertised_port) in sides.items():
        listeners += f",{side.upper()}://{LOOPBACK}:{port}"
        advertised += f",{side.upper()}://{LOOPBACK}:{advertised_port}"
        protocols += f",{side.upper()}:{protocol}"
        logins[_logins_of(side)] = chosen[_logins_of(CLIENTS)]
    return {**dict(zip(LISTENERS, (listeners, advertised, protocols), strict=True)), **logins}


def _logins_of(listener: str) -> str:
    return f"listener.name.{listener.lower()}.{MECHANISM.lower()}.sasl.jaas.config"


def cluster_id(stack_id: str) -> str:
    """Return the stack's id in Kafka's spelling."""
    return base64.urlsafe_b64encode(bytes.fromhex(stack_id)).decode().rstrip("=")


def format_arguments(home: Home, cluster: str, properties_file: str) -> tuple[str, ...]:
    """Return the arguments that format the data folder, with the two logins that must exist before any other."""
    users = (BROKER, DEPLOY)
    logins = tuple(f"{MECHANISM}=[name={user},password={home.password(secret_of(user))}]" for user in users)
    added = tuple(word for one in logins for word in ("--add-scram", one))
    return ("format", "--ignore-formatted", f"--cluster-id={cluster}", "-c", properties_file, *added)


def _format(home: Home, jars: list[Path], file: Path, cluster: str) -> None:
    """Pass the arguments in a file, one a line, since every user can read a command line.

    The tool's output is discarded, since it contains the logins.
    """
    arguments = home.folder(NAME) / "format.arguments"
    replace(arguments, "\n".join(format_arguments(home, cluster, str(file))))
    with home.log(NAME).open("a") as output:
        try:
            subprocess.run(
                (*_java(home, jars, HEAP_MAX), "kafka.tools.StorageTool", f"@{arguments}"), check=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=output, timeout=FORMAT_TIMEOUT_S,
                env=own_environment(), cwd="/",
            )  # fmt: skip
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise home.failure(NAME, "Kafka could not format its data folder") from error
        finally:
            arguments.unlink()


def _java(home: Home, jars: list[Path], heap_max: str, *, optimised: bool = False) -> tuple[str, ...]:
    logging = f"-Dlog4j2.configurationFile={(home.folder(NAME) / 'log4j2.xml').as_uri()}"
    return (*java.command(home, heap_max, optimised=optimised), logging, "-cp", ":".join(map(str, jars)))


def side(name: str) -> str:
    """Return the name of the port of a side's listener."""
    return f"{NAME}-{name}"


def admin(login: KafkaLogin) -> AdminClient:
    """Return an administrator's client that logs nothing while the broker starts."""
    return AdminClient({**login.options(), "log_level": 0, "reconnect.backoff.max.ms": 200})


def is_ready(login: KafkaLogin) -> bool:
    """Return whether the broker accepts logins and lists itself as a broker."""
    try:
        return bool(admin(login).list_topics(timeout=REQUEST_TIMEOUT_S).brokers)
    except KafkaException:
        return False
