"""The four infrastructure components in Docker, as an option: same addresses, data in named volumes.

testcontainers starts them. Its reaper stays off, since they outlive the process that starts them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import docker.errors  # type: ignore[import-untyped]
from docker.models.containers import Container  # type: ignore[import-untyped]
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient
from testcontainers.core.network import Network

from stack import certificates, kafka, postgres, redis, registry
from stack.components import Component, responds
from stack.errors import ComponentFailed, DockerUnavailable
from stack.home import Home, State
from stack.ports import LOOPBACK

STOP_WAIT_S = 60
LOG_LINES = 12
KAFKA_PORT, KAFKA_CONTROLLER_PORT, POSTGRES_PORT, REDIS_PORT, REGISTRY_PORT = 9092, 9093, 5432, 6379, 8080


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The image of one component: the port inside, the environment, the command, and the folder of its volume."""

    name: str
    port: int
    environment: dict[str, str]
    command: list[str] = field(default_factory=list)
    data: str | None = None


def component(home: Home, state: State, name: str) -> Component:
    """Return the component for readiness and status; it has no command, since it is no process of the supervisor."""
    port = state.ports[name]
    ready: dict[str, Callable[[], bool]] = {
        postgres.NAME: lambda: postgres.is_ready(port, home.password(postgres.SUPERUSER)),
        redis.NAME: lambda: redis.is_ready(port),
        kafka.NAME: lambda: kafka.is_ready(kafka.login(home, port, tls=state.tls)),
        registry.NAME: lambda: responds(f"{registry.url(port)}/subjects"),
    }
    address = registry.url(port) if name == registry.NAME else f"{LOOPBACK}:{port}"
    return Component(name=name, service=name, command=(), is_ready=ready[name], address=address)


def require() -> None:
    """Raise DockerUnavailable where Docker does not answer."""
    try:
        DockerClient().client.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise DockerUnavailable(
            "Docker does not answer; start its daemon and check that you may use it ('docker info'), "
            "or leave out --docker."
        ) from error


def start(home: Home, state: State, name: str) -> None:
    """Start a component's container, unless it runs. Raises DockerUnavailable."""
    if is_running(state, name):
        return
    stop(state, name)
    image = _image(home, state, name)
    testcontainers_config.ryuk_disabled = True
    container = DockerContainer(image.name).with_name(_name(state, name)).with_envs(**image.environment)
    container.with_command(image.command).with_network(_network(state)).with_network_aliases(name)
    container.ports[f"{image.port}/tcp"] = (LOOPBACK, state.ports[name])  # type: ignore[assignment]
    if image.data is not None:
        container.with_volume_mapping(_name(state, name), image.data, "rw")
    try:
        container.start()
    except (docker.errors.DockerException, OSError) as error:
        why = getattr(error, "explanation", None) or error
        raise DockerUnavailable(
            f"The image {image.name} does not start ({why}); try 'docker pull {image.name}', or leave out --docker."
        ) from error


def is_running(state: State, name: str) -> bool:
    """Return whether the component's container runs."""
    container = _find(state, name)
    return container is not None and container.status == "running"


def check(state: State, name: str) -> None:
    """Raise ComponentFailed where the component's container ended."""
    container = _find(state, name)
    if container is None or container.status in ("exited", "dead"):
        tail = container.logs(tail=LOG_LINES).decode(errors="replace") if container else ""
        raise ComponentFailed(f"The container {_name(state, name)} ended; its log ends:\n{tail}")


def stop(state: State, name: str) -> bool:
    """Stop and remove a component's container and return whether there was one; its volume stays."""
    container = _find(state, name)
    if container is None:
        return False
    container.stop(timeout=STOP_WAIT_S)
    container.remove()
    return True


def stop_network(state: State) -> None:
    """Remove the stack's own network."""
    for network in DockerClient().client.networks.list(names=[_name(state, "network")]):
        network.remove()


def _name(state: State, name: str) -> str:
    return f"baraza-{state.id[:12]}-{name}"


def _find(state: State, name: str) -> Container | None:
    try:
        return DockerClient().client.containers.get(_name(state, name))
    except docker.errors.NotFound:
        return None
    except (docker.errors.DockerException, OSError) as error:
        raise DockerUnavailable(f"Docker does not answer ({error}); start it and run this again.") from error


def _network(state: State) -> Network:
    network = Network()
    network.name = _name(state, "network")
    existing = DockerClient().client.networks.list(names=[network.name])
    if not existing:
        network.create()
    return network


def _image(home: Home, state: State, name: str) -> Image:
    if name == postgres.NAME:
        shared = {
            key: value for key, value in postgres.CONFIGURATION.items() if "listen" not in key and "socket" not in key
        }
        return Image(
            name="postgres:18",
            port=POSTGRES_PORT,
            environment={"POSTGRES_PASSWORD": home.password(postgres.SUPERUSER)},
            command=["postgres", *(f"-c{key}={value}" for key, value in shared.items())],
            data="/var/lib/postgresql",
        )
    if name == redis.NAME:
        # Inside, it must accept its network; on this machine it is published on loopback only.
        command = ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--dir", "/data", *redis.options()]
        command += [word for rule in redis.logins(home) for word in ("--user", rule)]
        return Image(name="redis:8", port=REDIS_PORT, environment={}, command=command, data="/data")
    if name == kafka.NAME:
        return _kafka(home, state)
    return Image(
        name="apicurio/apicurio-registry:3.3.3",
        port=REGISTRY_PORT,
        environment={
            **registry.storage(f"{postgres.NAME}:{POSTGRES_PORT}", home),
            **registry.access(home),
        },
    )


def _kafka(home: Home, state: State) -> Image:
    """The image's own start cannot format with a login, so the container writes the files and formats by itself.

    It listens inside its network; it is published on loopback only.
    """
    certificates.ensure(home, certificates.now())
    data, folder = "/var/lib/kafka/data", "/tmp/baraza"
    properties = kafka.properties(
        host="0.0.0.0", port=KAFKA_PORT, controller_host="localhost", controller_port=KAFKA_CONTROLLER_PORT,
        advertised=f"{LOOPBACK}:{state.ports[kafka.NAME]}", data=data,
        password=home.password(kafka.secret_of(kafka.BROKER)),
        keystore=f"{folder}/server.pem" if state.tls else None,
    )  # fmt: skip
    files = {
        "server.properties": kafka.written(properties),
        "format": "\n".join(
            kafka.format_arguments(home, kafka.cluster_id(state.id), f"{folder}/server.properties")[1:]
        ),
        "server.pem": certificates.server(home).read_text(),
    }
    variables = {name: f"BARAZA_{name.upper().replace('.', '_')}" for name in files}
    written = " && ".join(f'printf %s "${variables[name]}" >{folder}/{name}' for name in files)
    script = (
        f"umask 077 && mkdir -p {folder} && {written} && /opt/kafka/bin/kafka-storage.sh format @{folder}/format "
        f">/dev/null && exec /opt/kafka/bin/kafka-server-start.sh {folder}/server.properties"
    )
    return Image(
        name="apache/kafka:4.3.1",
        port=KAFKA_PORT,
        environment={
            **{variables[name]: text for name, text in files.items()},
            "KAFKA_HEAP_OPTS": f"-Xmx{kafka.HEAP_MAX}",
        },
        command=["sh", "-c", script],
        data=data,
    )
