"""The infrastructure components as processes of this machine, from wheels and jars: without Docker or Java."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from stack import contract, debian, downloads, kafka, observers, postgres, redis, registry, services, toxiproxy
from stack.components import Component
from stack.errors import translated_os_errors
from stack.home import Home, State
from stack.progress import Progress, Watcher


def component(home: Home, state: State, name: str) -> Component:
    """Return an infrastructure component as a process, before any download."""
    cache = Path(state.cache)
    if name == postgres.NAME:
        return postgres.component(home, state.ports[name])
    if name == redis.NAME:
        return redis.component(home, state.ports[name])
    if name == toxiproxy.NAME:
        return toxiproxy.component(home, cache, state.ports[name])
    if name == observers.PROMETHEUS:
        return observers.prometheus(home, cache, state.ports[name])
    if name == observers.ZIPKIN:
        return observers.zipkin(home, downloads.files(name, cache)[0], state.ports[name])
    if name == kafka.NAME:
        jars = downloads.files(name, cache)
        return kafka.component(home, jars, state.ports[name], tls=state.tls, optimised=state.optimised)
    return registry.component(
        home,
        downloads.unpacked(downloads.files(name, cache)[0], cache),
        port=state.ports[name],
        management_port=state.ports[registry.MANAGEMENT],
        postgres_port=state.ports[postgres.NAME],
    )


def prepare(home: Home, state: State, name: str, watch: Watcher) -> None:
    """Download, configure and format what the component needs for its start. Raises StackError."""
    steps: dict[str, Callable[[], None]] = {
        postgres.NAME: lambda: _prepare_postgres(home),
        redis.NAME: lambda: _prepare_redis(home),
        kafka.NAME: lambda: _prepare_kafka(home, state, watch),
        registry.NAME: lambda: _prepare_registry(state, watch),
        toxiproxy.NAME: lambda: _prepare_toxiproxy(home, state, watch),
        observers.PROMETHEUS: lambda: _prepare_prometheus(home, state, watch),
        observers.ZIPKIN: lambda: _prepare_zipkin(state, watch),
    }
    steps[name]()


def _prepare_postgres(home: Home) -> None:
    postgres.create(home)
    postgres.configure(home, contract.database_rights())


def _prepare_redis(home: Home) -> None:
    folder = home.folder(redis.NAME)
    with translated_os_errors(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        redis.configure(home)


def _prepare_kafka(home: Home, state: State, watch: Watcher) -> None:
    jars = _fetch(kafka.NAME, state, watch)
    ports = state.ports
    sides = toxiproxy.SIDES if state.proxied else ()
    kafka.configure(
        home, jars, stack_id=state.id, port=ports[kafka.NAME], controller_port=ports[kafka.CONTROLLER],
        tls=state.tls,
        sides={side: (ports[kafka.side(side)], ports[toxiproxy.port_name(side, kafka.NAME)]) for side in sides},
    )  # fmt: skip


def _prepare_registry(state: State, watch: Watcher) -> None:
    cache = Path(state.cache)
    if not downloads.unpacked(downloads.files(registry.NAME, cache)[0], cache).exists():
        downloads.unpack(_fetch(registry.NAME, state, watch)[0], cache)


def _prepare_toxiproxy(home: Home, state: State, watch: Watcher) -> None:
    watch(Progress(component=toxiproxy.NAME, what="building"))
    toxiproxy.build(Path(state.cache))
    toxiproxy.configure(home, routes(state.ports))


def _prepare_prometheus(home: Home, state: State, watch: Watcher) -> None:
    watch(Progress(component=observers.PROMETHEUS, what="downloading"))
    debian.fetch(observers.PROMETHEUS, observers.PROMETHEUS, Path(state.cache))
    observers.configure(home, services.scraped(state))


def _prepare_zipkin(state: State, watch: Watcher) -> None:
    _fetch(observers.ZIPKIN, state, watch)


def routes(ports: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return every proxy by name, with its own port and its upstream's."""
    return {
        toxiproxy.port_name(side, target): (
            ports[toxiproxy.port_name(side, target)],
            ports[kafka.side(side) if target == kafka.NAME else target],
        )
        for side in toxiproxy.SIDES
        for target in services.PROXIED
    }


def _fetch(name: str, state: State, watch: Watcher) -> list[Path]:
    def arrived(done: int, total: int) -> None:
        watch(Progress(component=name, what="downloading", done=done, total=total))

    return downloads.fetch(name, Path(state.cache), arrived)
