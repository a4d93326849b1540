"""The settings of a stack. The environment is read only by :func:`from_environment`, which ``main`` calls."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stack.environment import cache_folder
from stack.errors import InvalidSettings

PARTITIONS_DEFAULT = 6
"""Enough for three replicas on two cores; more only costs open files."""
PARTITIONS_MAX = 256
REPLICAS_MAX = 16
"""A replica beyond the number of partitions would be idle; this bounds a typing error."""
PORT_VARIABLE = "BARAZA_PORT_"
TLS_VARIABLE = "BARAZA_TLS"
RESERVED_CHARACTERS = frozenset("\n\r;#\"'\\,")
"""Characters that a path cannot have in the supervisor's configuration file, or in a list of Kafka's folders."""
PORT_DIGITS_MAX = 5

Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """How to start a stack. A setting that is left out keeps its last value, or has its default.

    - ``sagas``: the names of the selected sagas. Only what they need is started; none: all that are installed.
    - ``only``: the components to start, with those that they need; None means all that the sagas need.
    - ``replicas``: the number of processes by service. ``ports``: fixed ports by component.
    - ``tls``: whether connections to Kafka are encrypted. It can change while the stack is down.
    - ``optimised``: Kafka's Java compiles for a long run. That costs more in the first minute under load, then less.
    - ``proxied``: toxiproxy stands between our processes and the infrastructure.
    - ``observed``: Prometheus and Zipkin run as well.
    - ``environment``: more variables by process; those under ``*`` go to every process of ours.
    - ``substitutes``: by service, the package whose ``main`` runs in the place of the service's own. Its migrations run
      on the service's database after the service's own.
    """

    home: Path
    cache: Path
    docker: bool = False
    proxied: bool = False
    observed: bool = False
    tls: bool | None = None
    optimised: bool = False
    sagas: tuple[str, ...] | None = None
    only: tuple[str, ...] | None = None
    partitions: int | None = None
    replicas: Mapping[str, int] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, Environment] = field(default_factory=dict)
    substitutes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in (self.home, self.cache):
            _check_folder(path)
        if ":" in str(self.cache):
            raise InvalidSettings(f"The folder {self.cache} has a colon, which separates Java's files; choose another.")
        if self.partitions is not None and not 1 <= self.partitions <= PARTITIONS_MAX:
            raise InvalidSettings(f"{self.partitions} partitions; choose 1 to {PARTITIONS_MAX}.")
        for service, count in self.replicas.items():
            if not 1 <= count <= REPLICAS_MAX:
                raise InvalidSettings(f"{count} replicas of {service}; choose 1 to {REPLICAS_MAX}.")
        for component, port in self.ports.items():
            if not 1024 <= port <= 65535:
                raise InvalidSettings(f"Port {port} for {component}; choose 1024 to 65535.")


def default_home() -> Path:
    """Return ``.baraza`` in the checkout that this code runs from, or else in the working directory."""
    checkout = Path(__file__).resolve().parents[2]
    return (checkout if (checkout / "uv.lock").exists() else Path.cwd()) / ".baraza"


def from_environment(
    environ: Environment = os.environ,
    *,
    home: Path | None = None,
    docker: bool = False,
    proxied: bool = False,
    observed: bool = False,
    sagas: tuple[str, ...] | None = None,
    only: tuple[str, ...] | None = None,
    partitions: int | None = None,
    replicas: Mapping[str, int] | None = None,
    environment: Mapping[str, Environment] | None = None,
) -> StackSettings:
    """Return the settings of a command line: its options, else ``BARAZA_HOME``, ``BARAZA_CACHE``,
    ``BARAZA_TLS`` (on or off) and ``BARAZA_PORT_<PART>``, for example ``BARAZA_PORT_KAFKA_CONTROLLER=29093``.

    Raises InvalidSettings.
    """
    return StackSettings(
        home=Path(home or environ.get("BARAZA_HOME") or default_home()).absolute(),
        cache=cache_folder(environ),
        docker=docker,
        proxied=proxied,
        observed=observed,
        tls=_switch(TLS_VARIABLE, environ.get(TLS_VARIABLE)),
        sagas=sagas,
        only=only,
        partitions=partitions,
        replicas=replicas or {},
        ports=dict(_port(name, value) for name, value in environ.items() if name.startswith(PORT_VARIABLE)),
        environment=environment or {},
    )


def _check_folder(path: Path) -> None:
    """Raise InvalidSettings for a folder whose name a component cannot be given."""
    text = str(path)
    if not path.is_absolute() or RESERVED_CHARACTERS & set(text) or not text.isprintable():
        raise InvalidSettings(
            f"The folder {text!r} must be absolute, in UTF-8, and free of quotes, backslashes, commas, ';' and '#'; "
            "choose another."
        )


def port_variable(component: str) -> str:
    """Return the name of the variable that fixes a component's port."""
    return PORT_VARIABLE + component.upper().replace("-", "_")


def _switch(name: str, value: str | None) -> bool | None:
    if value not in (None, "on", "off"):
        raise InvalidSettings(f"{name} is {value!r}; give on or off.")
    return None if value is None else value == "on"


def _port(name: str, value: str) -> tuple[str, int]:
    component = name.removeprefix(PORT_VARIABLE).lower().replace("_", "-")
    if not value.isascii() or not value.isdecimal() or len(value) > PORT_DIGITS_MAX:
        raise InvalidSettings(f"{name} is {value!r}; give a port number, 1024 to 65535.")
    return component, int(value)
