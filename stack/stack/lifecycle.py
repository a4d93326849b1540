"""A stack that can be started, inspected and stopped: the interface for the command line and for tests."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from chassis.wire.kafka import KafkaLogin
from chassis.wire.redis import RedisLogin
from stack import (
    backups,
    containers,
    contract,
    kafka,
    plan,
    ports,
    postgres,
    providers,
    redis,
    registry,
    rotation,
    selection,
    services,
    strays,
    toxiproxy,
)
from stack.components import Component
from stack.contract import AUDIT, DEPLOY, owner_of
from stack.environment import require_private
from stack.errors import ComponentFailed, InvalidSettings, NoStack, NotStarted, StackError
from stack.home import Home, State
from stack.ports import LOOPBACK
from stack.progress import Progress, Watcher, silent
from stack.settings import StackSettings
from stack.starting import Start, component_of, components
from stack.status import ComponentStatus, status_of
from stack.supervision import Supervisor

OWNER, RUNTIME = "owner", "runtime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The addresses of a stack. ``http`` holds the base addresses of our processes by service, one for each replica.

    ``absent`` has a sentence for each service that is not started, because none of the selected sagas needs it.
    """

    kafka: str
    registry_url: str
    postgres_host: str
    postgres_port: int
    redis_url: str
    jwks_url: str
    http: Mapping[str, tuple[str, ...]]
    absent: Mapping[str, str] = field(default_factory=dict)

    def url(self, service: str) -> str:
        """Return the base address of a service's first process, for example of ``checkout`` or ``saga-tracker-api``."""
        return self.urls(service)[0]

    def urls(self, service: str) -> tuple[str, ...]:
        """Return the base addresses of a service's processes. Raises NotStarted, or InvalidSettings for no service."""
        if service in self.absent:
            raise NotStarted(self.absent[service])
        if not (urls := self.http.get(service)):
            raise InvalidSettings(f"The stack has no address of {service}; known: {', '.join(self.http)}.")
        return urls


class Stack:
    """The stack of one home."""

    def __init__(self, home: Home, state: State, started: tuple[str, ...] = (), stopped: tuple[str, ...] = ()) -> None:
        self._home = home
        self._state = state
        self._supervisor = Supervisor(home, state.id)
        self.started = started
        """The processes that this object's ``up`` started; empty where the stack ran already."""
        self.stopped = stopped
        """The services and simulators that this object's ``up`` stopped, because no selected saga needs them."""

    @classmethod
    def load(cls, home: Path) -> Stack:
        """Return the stack that is up in ``home``. Raises NoStack where there is none or it is down."""
        folder = Home(home)
        stack = cls(folder, folder.load())
        if not stack._supervisor.is_alive():
            raise NoStack(f"The stack in {home} is down; start it with 'baraza up'.")
        return stack

    @property
    def home(self) -> Path:
        """The folder that holds everything."""
        return self._home.path

    @property
    def endpoints(self) -> Endpoints:
        """The addresses of this stack."""
        kept = self._state.ports
        ours = selection.components(self._state.sagas)
        others = [name for name in plan.everything() if name not in (*plan.INFRASTRUCTURE, *ours)]
        addresses = {
            name: tuple(services.http_url(self._state, process) for process in self._names(name)) for name in ours
        }
        return Endpoints(
            kafka=f"{LOOPBACK}:{kept[kafka.NAME]}",
            registry_url=registry.url(kept[registry.NAME]),
            postgres_host=LOOPBACK,
            postgres_port=kept[postgres.NAME],
            redis_url=f"redis://{LOOPBACK}:{kept[redis.NAME]}/0",
            jwks_url=f"{services.http_url(self._state, providers.ISSUER)}/.well-known/jwks.json",
            http=addresses,
            absent={name: selection.absence(name, self._state.sagas) for name in others},
        )

    def shortage(self) -> str | None:
        """Return a sentence for a disk without space for the stack's data; None where there is some."""
        return self._home.shortage()

    def database_url(self, service: str, role: str = RUNTIME) -> str:
        """Return the address of a service's database, password included, for ``runtime``, ``owner`` or ``audit``.

        The service may be spelt as its package. Raises ValueError for another role.
        """
        process = service.replace("_", "-")
        database = services.database_of(process)
        login = {RUNTIME: contract.package_of(process), OWNER: owner_of(database), AUDIT: AUDIT}.get(role)
        if login is None:
            raise ValueError(f"There is no role {role!r}; known: {RUNTIME}, {OWNER}, {AUDIT}.")
        password = quote(self._home.password(login))
        return f"postgresql://{login}:{password}@{LOOPBACK}:{self._state.ports[postgres.NAME]}/{database}"

    @property
    def toxiproxy_url(self) -> str:
        """The address of the API for network faults. Raises NoStack where the stack has no toxiproxy."""
        if not self._state.proxied:
            raise NoStack(f"The stack in {self._home.path} has no toxiproxy; start another one with it.")
        return toxiproxy.url(self._state.ports[toxiproxy.NAME])

    def kafka(self, user: str = DEPLOY) -> KafkaLogin:
        """Return the login of a user of Kafka, for example ``operator``; by default the one that may do everything."""
        return kafka.login(self._home, self._state.ports[kafka.NAME], user, tls=self._state.tls)

    def redis(self, user: str = DEPLOY) -> RedisLogin:
        """Return the login of a user of Redis, for example ``checkout``; by default the one that may do everything."""
        redis.password(self._home, user)
        return RedisLogin(user, self._home.password_file(redis.secret_of(user)))

    def registry_writer(self) -> dict[str, str]:
        """Return the options of a registry client that may register schemas for the next few minutes."""
        return registry.writer(self._home, self._state.ports[registry.NAME])

    def rotate(self, login: str) -> None:
        """Give a login new passwords at Kafka, PostgreSQL and Redis, where it has one. Raises InvalidSettings."""
        rotation.rotate(self._home, self._state, login)

    def backup(self, service: str, file: Path) -> None:
        """Write a copy of a service's database while everything runs. Raises InvalidSettings, ComponentFailed."""
        backups.dump(self._home, self._state, service, file)

    def restore(self, service: str, file: Path) -> datetime:
        """Stop a service, restore its database from ``file``, and return the time of that copy. It stays stopped.

        Raises InvalidSettings, NotStarted, ComponentFailed.
        """
        self._require(service)
        archive = backups.inspect(self._home, self._state, service, file)
        for name in self._names(service):
            self.stop(name)
        try:
            backups.load(self._home, self._state, service, file)
        except StackError as error:
            raise ComponentFailed(
                f"{error}\nThe database of {service} is as it was; start it again with 'baraza up'."
            ) from error
        return archive.taken_at

    def reconcile(self, service: str, since: datetime) -> str:
        """Add what a stopped service has published on Kafka to its database, and start the service.

        Returns its report. Raises InvalidSettings, or ComponentFailed where it fails; then the service stays stopped.
        """
        self._require(service)
        report = backups.reconcile(self._home, self._state, service, since)
        for name in self._names(service):
            self.start(name)
        return report

    def rebuild(self, file: Path) -> str:
        """Write the tracker's database into ``file``, then empty it, rebuild it from Kafka and start the tracker.

        Returns the report. Raises InvalidSettings, or ComponentFailed; then the tracker stays stopped.
        """
        self.backup(contract.TRACKER, file)
        for name in self._names(contract.TRACKER):
            self.stop(name)
        backups.empty(self._home, self._state, contract.TRACKER)
        report = backups.rebuild(self._home, self._state)
        for name in self._names(contract.TRACKER):
            self.start(name)
        return report

    def reread(self, topics: Sequence[str]) -> str:
        """Let the tracker read these topics from Kafka's earliest messages again, and return the report of that.

        Raises ComponentFailed.
        """
        for name in self._names(contract.TRACKER):
            self.stop(name)
        report = backups.reread(self._home, self._state, topics)
        for name in self._names(contract.TRACKER):
            self.start(name)
        return report

    def password(self, login: str) -> str:
        """Return the password of a PostgreSQL login, for example ``payment_owner``."""
        return self._home.password(login)

    def environment(self, process: str) -> dict[str, str]:
        """Return the ``BARAZA_*`` variables of a process of ours, for example ``payment`` or ``payment-2``."""
        return services.environment(self._home, self._state, self._component(process).service, process)

    def log(self, process: str) -> Path:
        """Return the file with a process's output."""
        return self._home.log(process)

    def pids(self, service: str) -> tuple[int, ...]:
        """Return the process ids of a service's replicas that run now."""
        found = (self._supervisor.status(name).pid for name in self._names(service))
        return tuple(pid for pid in found if pid)

    def pid(self, process: str) -> int:
        """Return the id of one process, 0 while there is none."""
        return self._supervisor.status(process).pid

    def layout(self) -> dict[str, object]:
        """Return the number of partitions, the number of processes by service, and how Kafka was started."""
        state = self._state
        processes = {name: len(self._names(name)) for name in state.components}
        return {
            "partitions": state.partitions,
            "tls": state.tls,
            "optimised": state.optimised,
            "processes": processes,
        }

    def process_ids(self) -> dict[str, int]:
        """Return the id of every running process by name, without the supervisor."""
        return {name: status.pid for name, status in self._supervisor.statuses().items() if status.pid}

    @property
    def substitutes(self) -> Mapping[str, str]:
        """By service, the package that runs in the place of the service's own."""
        return self._state.substitutes

    def kill(self, process: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one process; the supervisor restarts it if it ends."""
        self._supervisor.signal(process, number)

    def stop(self, process: str) -> None:
        """Stop one process; it stays down until :meth:`start`."""
        self._supervisor.stop((process,))

    def start(self, process: str) -> None:
        """Start one process and return when it is ready. Raises ComponentFailed."""
        self._supervisor.start(process)
        Start(self._home, self._state, self._supervisor, silent).await_ready(self._component(process))

    def restart(self, process: str) -> None:
        """Stop one process, start it again, and return when it is ready. Raises ComponentFailed."""
        self.stop(process)
        self.start(process)

    def status(self) -> list[ComponentStatus]:
        """Return the status of every process and container of the stack, in starting order."""
        return [
            status_of(component, self._state, self._supervisor) for component in components(self._home, self._state)
        ]

    def down(self, watch: Watcher = silent) -> None:
        """Stop every process, in the reverse order of the start. Data stays. Raises StackError."""
        down(self._home.path, watch)

    def _require(self, service: str) -> None:
        """Raise NotStarted for a service that no selected saga needs: it is not one of the processes here."""
        if text := self.endpoints.absent.get(service):
            raise NotStarted(text)

    def _names(self, service: str) -> tuple[str, ...]:
        return plan.process_names(self._state, service)

    def _component(self, process: str) -> Component:
        for service in self._state.components:
            if process in self._names(service):
                return component_of(self._home, self._state, service, process)
        raise StackError(
            f"The stack in {self._home.path} has no {process}; it has {', '.join(self._state.components)}."
        )


def up(settings: StackSettings, watch: Watcher = silent) -> Stack:
    """Start the missing processes of a stack and return when all are ready; those that run stay as they are.

    Those that run and that no selected saga needs are stopped.

    A failed start of a stack that was down leaves no process behind. Raises StackError.
    """
    home = Home(settings.home)
    require_private(settings.cache)
    home.prepare()
    with home.locked():
        before = home.load() if home.state_file.exists() else None
        if settings.docker or (before and before.docker):
            containers.require()
        was_alive = before is not None and Supervisor(home, before.id).is_alive()
        state = plan.next_state(settings, before, is_alive=was_alive)
        if not was_alive:
            _clear(home, state)
        idle = _idle(home, state, was_alive=was_alive)
        ports.check({name: state.ports[name] for process in idle for name in plan.ports_of(process)})
        home.save(state)
        supervisor = Supervisor(home, state.id)
        try:
            idle = _start(home, state, supervisor, watch, idle, was_alive=was_alive)
        except BaseException:
            if not was_alive:
                _stop(home, state, supervisor, watch)
            raise
        kept = before.components if before is not None and was_alive else []
        stopped = tuple(name for name in kept if name not in state.components)
        return Stack(home, state, started=tuple(idle), stopped=stopped)


def down(home_path: Path, watch: Watcher = silent) -> bool:
    """Stop every process of the home, with or without its supervisor; return whether there was any.

    Raises NoStack where the home holds no stack.
    """
    home = Home(home_path)
    state = home.load()
    with home.locked():
        return _stop(home, state, Supervisor(home, state.id), watch)


def _start(
    home: Home, state: State, supervisor: Supervisor, watch: Watcher, idle: list[str], *, was_alive: bool
) -> list[str]:
    if not was_alive:
        supervisor.launch()
    supervised = [component for component in components(home, state) if component.command]
    changed = supervisor.apply(supervised)
    started = [*idle, *(name for name in changed if name not in idle)]
    if started:
        Start(home, state, supervisor, watch).run()
    return started


def _idle(home: Home, state: State, *, was_alive: bool) -> list[str]:
    """Return the planned processes that do not run."""
    supervisor = Supervisor(home, state.id)
    running = {name for name, status in supervisor.statuses().items() if status.pid} if was_alive else set()
    if state.docker:
        running |= {name for name in plan.INFRASTRUCTURE if containers.is_running(state, name)}
    return [component.name for component in components(home, state) if component.name not in running]


def _clear(home: Home, state: State) -> None:
    """End the processes of a killed supervisor, and clear deploy steps whose database is gone."""
    strays.sweep(state.id, home.folder(postgres.NAME))
    if not state.docker and not (home.folder(postgres.NAME) / "PG_VERSION").exists():
        state.done.clear()
    folder = services.simulator_folder(home)
    folder.mkdir(mode=0o700, exist_ok=True)


def _stop(home: Home, state: State, supervisor: Supervisor, watch: Watcher) -> bool:
    """Stop in this order: our processes, the simulators, the registry, Kafka, Redis, PostgreSQL, the supervisor."""
    was_alive = supervisor.is_alive()
    if was_alive:
        known = supervisor.statuses()
        ours = [name for name in known if name not in (*providers.SIMULATORS, *plan.NATIVE)]
        for group in (ours, providers.SIMULATORS, *((name,) for name in reversed(plan.NATIVE))):
            present = [name for name in group if name in known]
            for name in present:
                watch(Progress(component=name, what="stopping"))
            supervisor.stop(present)
            for name in present:
                watch(Progress(component=name, what="stopped"))
        supervisor.shutdown()
    stopped = [containers.stop(state, name) for name in reversed(plan.INFRASTRUCTURE)] if state.docker else []
    if state.docker:
        containers.stop_network(state)
    swept = strays.sweep(state.id, home.folder(postgres.NAME))
    return was_alive or any(stopped) or bool(swept)
