"""From settings to components: the processes of a stack and their ports. Pure, except for the choice of free ports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from stack import kafka, ports, postgres, redis, registry, selection, services, toxiproxy
from stack.errors import InvalidSettings
from stack.home import State
from stack.observers import OBSERVERS
from stack.providers import SIMULATORS
from stack.settings import PARTITIONS_DEFAULT, StackSettings

INFRASTRUCTURE = (postgres.NAME, redis.NAME, kafka.NAME, registry.NAME)
NATIVE = (*INFRASTRUCTURE, toxiproxy.NAME, *OBSERVERS)
"""Third-party components. Toxiproxy is there only for network faults on demand, the observers only on request."""
EXTRA_PORTS = {kafka.NAME: (kafka.CONTROLLER,), registry.NAME: (registry.MANAGEMENT,)}
"""Components that listen on a second port."""


def everything() -> tuple[str, ...]:
    """Return the names of all services and components, in starting order."""
    return (*INFRASTRUCTURE, *SIMULATORS, *services.processes())


def closure(names: Iterable[str]) -> list[str]:
    """Return these names and all their dependencies, in starting order. Raises InvalidSettings for an unknown name."""
    wanted = set(names)
    if unknown := wanted - set(everything()):
        raise InvalidSettings(f"There is no component {', '.join(sorted(unknown))}; known: {', '.join(everything())}.")
    if wanted & set(services.processes()):
        wanted |= {*INFRASTRUCTURE, *SIMULATORS}
    if registry.NAME in wanted:
        wanted.add(postgres.NAME)
    return [name for name in everything() if name in wanted]


def next_state(settings: StackSettings, before: State | None, *, is_alive: bool) -> State:
    """Return the next state of ``stack.json``. Raises InvalidSettings.

    A setting that is left out keeps its value. A stack that is up keeps its components and gains those of ``only``;
    without ``only`` it has those that its sagas need, and others are stopped.
    """
    state = before or State(docker=settings.docker, proxied=settings.proxied)
    _check_kept(settings, state, is_alive=is_alive)
    sagas = state.sagas if settings.sagas is None else list(settings.sagas)
    selection.check(sagas)
    kept = _known(state) if is_alive else []
    needed = (*INFRASTRUCTURE, *selection.components(sagas))
    components = needed if settings.only is None else closure((*settings.only, *kept))
    observed = state.observed or settings.observed
    replicas = {**state.replicas, **settings.replicas}
    _check_workers(replicas, "have replicas")
    substitutes = {**state.substitutes, **settings.substitutes}
    _check_workers(substitutes, "have a substitute")
    environment = {**state.environment, **{name: dict(values) for name, values in settings.environment.items()}}
    return replace(
        state,
        cache=str(settings.cache),
        tls=state.tls if settings.tls is None else settings.tls,
        optimised=settings.optimised,
        partitions=state.partitions or settings.partitions or PARTITIONS_DEFAULT,
        observed=observed,
        sagas=sagas,
        components=[*([toxiproxy.NAME] if state.proxied else []), *(OBSERVERS if observed else ()), *components],
        replicas=replicas,
        environment=environment,
        substitutes=substitutes,
        ports=_ports(settings, state, replicas),
    )


def _check_kept(settings: StackSettings, state: State, *, is_alive: bool) -> None:
    """Raise InvalidSettings where a setting contradicts a property that the home keeps."""
    if settings.docker and not state.docker:
        raise InvalidSettings(f"{settings.home} holds a stack without Docker; give --docker another --home.")
    if settings.proxied and (state.docker or not state.proxied):
        raise InvalidSettings(
            f"{settings.home} holds a stack without toxiproxy, which must be there from its first start."
        )
    if settings.partitions is not None and state.partitions not in (0, settings.partitions):
        raise InvalidSettings(
            f"{settings.home} has {state.partitions} partitions, which cannot change; use another --home for "
            f"{settings.partitions}."
        )
    if is_alive and settings.tls not in (None, state.tls):
        raise InvalidSettings(f"The stack in {settings.home} is up; run 'baraza down' before you change BARAZA_TLS.")


def process_names(state: State, name: str) -> tuple[str, ...]:
    """Return the processes of a service or component."""
    return services.replica_names(name, state.replicas.get(name, 1))


def ports_of(name: str) -> tuple[str, ...]:
    """Return the names of the ports that a process listens on."""
    return (name, *EXTRA_PORTS.get(name, ()))


def _check_workers(names: Iterable[str], what: str) -> None:
    if unknown := set(names) - set(services.workers()):
        raise InvalidSettings(f"{', '.join(sorted(unknown))} cannot {what}; {', '.join(services.workers())} can.")


def _known(state: State) -> list[str]:
    return [name for name in state.components if name not in (toxiproxy.NAME, *OBSERVERS)]


def _proxy_ports() -> list[str]:
    sides = [toxiproxy.port_name(side, target) for side in toxiproxy.SIDES for target in services.PROXIED]
    return [toxiproxy.NAME, *map(kafka.side, toxiproxy.SIDES), *sides]


def _ports(settings: StackSettings, state: State, replicas: dict[str, int]) -> dict[str, int]:
    """Choose every port at once, so that no address changes when a component is added later."""
    names = [
        port
        for name in everything()
        for process in services.replica_names(name, replicas.get(name, 1))
        for port in ports_of(process)
    ]
    if state.proxied:
        names += _proxy_ports()
    names += OBSERVERS
    if unknown := set(settings.ports) - set(names):
        raise InvalidSettings(
            f"BARAZA_PORT_… names no component: {', '.join(sorted(unknown))}; known: {', '.join(names)}."
        )
    return ports.choose(names, state.ports, settings.ports)
