"""The order of a start. Each component starts when its dependencies answer; independent ones start in parallel.

1. PostgreSQL, Redis, Kafka and the simulators start; the jars download meanwhile.
2. When PostgreSQL accepts logins: the databases, then the registry, then the migrations.
3. When Kafka answers: the topics. When the registry answers: the schemas.
4. After all of that: the services and the tracker.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock

from stack import (
    containers,
    contract,
    databases,
    deploy,
    kafka,
    kafka_access,
    native,
    plan,
    postgres,
    providers,
    registry,
    selection,
    services,
)
from stack.components import Component
from stack.environment import own_environment
from stack.errors import ComponentFailed
from stack.home import Home, State
from stack.progress import Progress, Watcher
from stack.supervision import ProcessState, Supervisor
from stack.waiting import until

READY_DEADLINE_S = 180
"""Ten times what the slowest component takes on a quiet machine with two cores. Under a load of 15 all take 110 s."""
STARTS_MAX = 3
"""A component that has ended this often during its start will not become ready by itself."""
THREADS_MAX = 10
"""The most tasks that wait for one another in parallel: four components and five simulators."""


def component_of(home: Home, state: State, service: str, name: str) -> Component:
    """Return the process ``name`` of a service or an infrastructure component."""
    if service in plan.NATIVE:
        contained = state.docker and service in plan.INFRASTRUCTURE
        return containers.component(home, state, name) if contained else native.component(home, state, name)
    return services.component(home, state, service, name)


def components(home: Home, state: State) -> list[Component]:
    """Return every process of the plan, in starting order."""
    return [
        component_of(home, state, service, name)
        for service in state.components
        for name in plan.process_names(state, service)
    ]


class Start:
    """One start of a stack, with a supervisor that already has the programs."""

    def __init__(self, home: Home, state: State, supervisor: Supervisor, watch: Watcher) -> None:
        self._home = home
        self._state = state
        self._supervisor = supervisor
        self._watcher = watch
        self._components = components(home, state)
        self._databases_exist = Event()
        self._failed = Event()
        self._lock = Lock()

    def run(self) -> None:
        """Start everything and return when all of it is ready. Raises the first StackError."""
        wanted = set(self._state.components)
        with ThreadPoolExecutor(THREADS_MAX) as pool:
            # 1. to 3.
            tasks = [pool.submit(self._infrastructure, name) for name in plan.NATIVE if name in wanted]
            tasks += [
                pool.submit(self._begin, component)
                for component in self._components
                if component.service in providers.SIMULATORS
            ]
            self._finish(tasks)
            # 4.
            ours = [component for component in self._components if component.service in services.processes()]
            self._finish([pool.submit(self._begin, component) for component in ours])

    def _watch(self, progress: Progress) -> None:
        """Report progress. After a component has failed, tasks that still run (a download, say) end here."""
        if self._failed.is_set():
            raise ComponentFailed(f"{progress.component} was not awaited, because another component failed.")
        self._watcher(progress)

    def _finish(self, tasks: Iterable[Future[None]]) -> None:
        try:
            for task in tasks:
                task.result()
        except BaseException:
            self._failed.set()
            self._databases_exist.set()
            raise

    def _infrastructure(self, name: str) -> None:
        component = next(component for component in self._components if component.name == name)
        if not self._in_container(component):
            native.prepare(self._home, self._state, name, self._watch)
        if name == registry.NAME:
            self._databases_exist.wait()
        self._begin(component)
        if name == postgres.NAME:
            self._after_postgres()
        elif name == kafka.NAME:
            self._after_kafka()
        elif name == registry.NAME:
            self._after_registry()

    def _begin(self, component: Component) -> None:
        """Start one process and wait until it is ready."""
        self._watch(Progress(component=component.name, what="starting"))
        if self._in_container(component):
            containers.start(self._home, self._state, component.name)
        else:
            self._supervisor.start(component.name)
        self.await_ready(component)
        self._watch(Progress(component=component.name, what="ready"))

    def await_ready(self, component: Component) -> None:
        """Wait until a process is ready. Raises ComponentFailed if it keeps ending, or takes too long."""
        starts: set[int] = set()

        def check() -> None:
            if self._failed.is_set():
                raise ComponentFailed(f"{component.name} was not awaited, because another component failed.")
            if self._in_container(component):
                containers.check(self._state, component.name)
                return
            status = self._supervisor.status(component.name)
            if status.state == ProcessState.BACKOFF:
                starts.add(status.started_at_s)
            if len(starts) >= STARTS_MAX or status.state in (ProcessState.FATAL, ProcessState.EXITED):
                what = f"{component.name} ends as soon as it starts ({status.description})"
                raise self._home.failure(component.name, what)

        until(component.is_ready, what=f"{component.name} to be ready", deadline_s=READY_DEADLINE_S, check=check)

    def _in_container(self, component: Component) -> bool:
        return self._state.docker and component.service in plan.INFRASTRUCTURE

    def _after_postgres(self) -> None:
        port = self._state.ports[postgres.NAME]
        password = self._home.password(postgres.SUPERUSER)
        self._watch(Progress(component=postgres.NAME, what="creating databases"))
        databases.create(
            lambda database: postgres.connect(port, password, database),
            self._home.password,
            contract.database_rights(),
        )
        with postgres.connect(port, password) as server:
            server.execute("SELECT pg_reload_conf()")  # pg_hba.conf, for a server that ran already
        self._databases_exist.set()
        if set(self._state.components) & set(services.processes()):
            self._migrate()

    def _migrate(self) -> None:
        """Migrate the databases whose revisions changed, one at a time for each processor."""
        installed = filter(selection.is_installed, contract.databases())
        pending = {database: found for database in installed if (found := self._unmigrated(database))}
        if not pending:
            return
        self._watch(Progress(component=postgres.NAME, what="migrating"))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self._migrate_one, pending, pending.values()))
        for packages in pending.values():
            for package, digest in packages.items():
                self._done(f"migrations {package}", digest)

    def _unmigrated(self, database: str) -> dict[str, str]:
        """Return the packages whose revisions changed since the database was migrated, each with its digest."""
        packages = services.migrated_packages(self._state, database)
        digests = {package: deploy.digest_of_migrations(_folder_of(package) / "migrations") for package in packages}
        done = self._state.done
        return {package: digest for package, digest in digests.items() if done.get(f"migrations {package}") != digest}

    def _migrate_one(self, database: str, packages: Iterable[str]) -> None:
        environment = own_environment() | services.migration_environment(self._home, self._state, database)
        for package in packages:
            deploy.migrate(package, environment, self._home.log(f"migrate-{package}"))

    def _after_kafka(self) -> None:
        self._watch(Progress(component=kafka.NAME, what="creating topics"))
        port, tls = self._state.ports[kafka.NAME], self._state.tls
        admin = kafka.admin(kafka.login(self._home, port, tls=tls))
        deploy.create_topics(admin, contract.topics(), self._state.partitions)
        rights = contract.kafka_rights()
        kafka_access.upsert_users(
            admin, {user: kafka.login(self._home, port, user, tls=tls).password() for user in rights}
        )
        kafka_access.set_acls(admin, rights)

    def _after_registry(self) -> None:
        subjects = contract.subjects()
        digest = deploy.digest_of_subjects(subjects)
        if self._state.done.get("schemas") != digest:
            self._watch(Progress(component=registry.NAME, what="registering schemas"))
            deploy.register_schemas(registry.writer(self._home, self._state.ports[registry.NAME]), subjects)
            self._done("schemas", digest)

    def _done(self, what: str, digest: str) -> None:
        with self._lock:
            self._state.done[what] = digest
            self._home.save(self._state)


def _folder_of(package: str) -> Path:
    specification = importlib.util.find_spec(package)
    if specification is None or specification.origin is None:
        raise ComponentFailed(f"The package {package} is not installed; run './baraza' again to set it up.")
    return Path(specification.origin).parent
