"""Runs one process of a service: its worker on a thread, its API in front of it, and a shutdown that loses nothing."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog
import tenacity
from confluent_kafka.admin import AdminClient
from fastapi import APIRouter, FastAPI
from sqlalchemy import Engine, text

from chassis.http import health, problem
from chassis.http.auth import Verifier
from chassis.http.issuers import Issuers, general_verifier
from chassis.http.server import Server, serve, server_of
from chassis.postgres import database
from chassis.postgres.bounds import SERVING, Bounds
from chassis.postgres.transient import utc_now
from chassis.process import callbacks, heap
from chassis.process.background import Background, Task
from chassis.process.callback_inbox import CallbackInbox
from chassis.process.callbacks import CallbackAdapter
from chassis.process.intake import consumer
from chassis.process.membership import Membership
from chassis.process.worker import Worker
from chassis.saga.handlers import Handlers
from chassis.saga.publisher import Relay, producer
from chassis.saga.steps import Handler
from chassis.settings import Settings
from chassis.telemetry import logs, metrics, table_gauges
from chassis.telemetry.metrics import Measure
from chassis.telemetry.observation import Observer, traces_of
from chassis.wire import kafka
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from chassis.wire.kafka import KafkaLogin
from chassis.wire.registry import RemoteRegistry
from messages.contract import Message
from messages.saga import SagaFenced, StepAwaited, StepContradicted, StepRedriven

if TYPE_CHECKING:
    from chassis.telemetry.tracing import Traces

START_WITHIN_S = 60
"""Processes that start together wait for one another this long; then the process names what is missing and ends."""
LOOP_AGE_MAX_S = 30.0
"""A worker that has not looped for this long hangs; a batch takes well under a second."""
CHECK_TIMEOUT_S = 3.0
STOP_WITHIN_S = 9.0
"""From the signal to the end of the process; what a worker has not finished by then, the next process finishes."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What a service's handlers and API are built from. Each dependency connects on its first use."""

    settings: Settings
    engine: Engine
    codec: Codec
    verifier: Verifier | Issuers
    traces: Traces | None = None

    def observer(self, handlers: Handlers | None = None) -> Observer:
        """Return the observer of what a process with these handlers publishes."""
        answers = {message.FULL_NAME: step for message, step in handlers.answers.items()} if handlers else {}
        return Observer(self.settings.service, answers, self.traces)


class DependencyMissing(Exception):
    """A dependency that the process needs is not ready. Start it, or check its address in the process's settings."""

    def __init__(self, dependency: str, within_s: float, why: BaseException | None) -> None:
        super().__init__(
            f"{dependency} was not ready within {within_s:.0f} s: {why}. "
            f"Start it, or check its address in the process's settings."
        )


class Runner(Protocol):
    """What a process does on threads of its own, beside its worker. It must never end the process."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """Begin nothing more. What is under way is not waited for: another process finishes it from its rows."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a service consists of: its handlers, its API (None: its health only), and its own measures.

    ``starts_without`` names the dependencies that it does not wait for at its start, ``tasks`` what it does without a
    message, ``runners`` what it does so on threads of its own, and ``also_publishes`` the messages of other topics than
    its events, by topic. ``callbacks`` are the providers that call it back.
    """

    handlers: tuple[Handler, ...]
    app: FastAPI | None = None
    measures: tuple[Measure, ...] = ()
    tasks: tuple[Task, ...] = ()
    runners: tuple[Runner, ...] = ()
    also_publishes: Mapping[str, tuple[type[Message], ...]] = field(default_factory=dict)
    starts_without: tuple[str, ...] = ()
    callbacks: tuple[CallbackAdapter, ...] = ()


def consumed_topics(service: str, handlers: Handlers) -> list[str]:
    """Return the topics that a service with these handlers reads."""
    topics = {f"{event.OWNER}.events" for event in handlers.events}
    return sorted(topics | {f"{service}.commands"})


def emitted(handlers: Handlers) -> set[type[Message]]:
    """Return every message type that the handlers reply with."""
    own: set[type[Message]] = {StepRedriven, *handlers.answers}
    own |= {StepAwaited, StepContradicted} if handlers.awaited else set()
    return own | {SagaFenced} if handlers.steps else own


def api(
    title: str, dependencies: Dependencies, *routers: APIRouter, body_bytes_max: int = problem.BODY_BYTES_MAX
) -> FastAPI:
    """Return an API with these routes, with problems by RFC 9457 and tokens verified against the issuer's keys."""
    app = FastAPI(title=title, version="1", docs_url=None, redoc_url=None, redirect_slashes=False)
    problem.install(app, body_bytes_max=body_bytes_max)
    metrics.install(app, dependencies.traces)
    app.state.verifier = dependencies.verifier
    app.state.engine = dependencies.engine
    for router in routers:
        app.include_router(router)
    return app


def open_dependencies(settings: Settings, bounds: Bounds = SERVING) -> Dependencies:
    """Return the dependencies of a process; each connects on its first use, to PostgreSQL within these bounds."""
    engine = database.create(
        settings.database_url, settings.database_password_file, application=settings.service, bounds=bounds
    )
    metrics.watch_pool(engine)
    return Dependencies(
        settings=settings,
        engine=engine,
        codec=Codec(RemoteRegistry(settings.registry_url)),
        verifier=general_verifier(settings),
        traces=traces_of(settings),
    )


def measures_of(handlers: Handlers) -> tuple[Measure, ...]:
    """Return the gauges of the chassis' tables in the database of a service with these handlers."""
    evidence = table_gauges.EVIDENCE if handlers.awaited else ()
    return (*table_gauges.OUTBOX, *table_gauges.WAITING, *evidence)


def run(build: Callable[[Dependencies], Service]) -> int:
    """Run the service until SIGTERM or SIGINT and return the exit status: 0 after a signal.

    1. Wait for the dependencies: PostgreSQL answers, the registry has our schemas, Kafka has our topics.
    2. Start the worker and the tasks, each on a thread, and serve the API on this one.
    3. On a signal, or when the worker ends: stop the API, finish the batch, publish, commit, leave the group.
    """
    settings = Settings()
    logs.configure(settings.service, settings.log_level)
    dependencies = open_dependencies(settings)
    service = build(dependencies)
    handlers = Handlers.of(service.handlers)
    topics = consumed_topics(settings.service, handlers)
    # 1.
    needed = needed_dependencies(dependencies, handlers, topics, also_publishes=service.also_publishes)
    try:
        wait_for({name: needed[name] for name in needed if name not in service.starts_without}, within_s=START_WITHIN_S)
    except DependencyMissing as missing:
        log.error(str(missing))
        return 1
    observer = dependencies.observer(handlers)
    metrics.watch_database(dependencies.engine, *measures_of(handlers), *service.measures)
    worker = _worker(dependencies, handlers, observer, service.callbacks)
    app = service.app or api(settings.service, dependencies)
    inbox = CallbackInbox(dependencies.engine)
    for adapter in service.callbacks:
        app.include_router(callbacks.router(adapter, inbox, clock=utc_now, new_id=new_id))
    app.include_router(_health(worker, dependencies.engine))
    heap.freeze()
    # 2. and 3.
    beside: tuple[Runner, ...] = (Background(dependencies.engine, service.tasks), inbox, *service.runners)
    for runner in beside:
        runner.start()
    status = _serve(server_of(app, settings), worker, topics)
    for runner in beside:
        runner.stop()
    observer.close()
    _end(status)
    return status


def _worker(
    dependencies: Dependencies, handlers: Handlers, observer: Observer, adapters: Sequence[CallbackAdapter]
) -> Worker:
    settings = dependencies.settings
    login = KafkaLogin.of(settings)
    instance = f"{settings.service}-{socket.gethostname()}-{os.getpid()}"
    return Worker(
        settings.service,
        handlers,
        engine=dependencies.engine,
        codec=dependencies.codec,
        consumer=consumer(login, settings.service, instance),
        relay=Relay(producer(login, client_id=instance), observer),
        membership=Membership(lambda: kafka.answers(login)),
        observer=observer,
        adapters=adapters,
    )


def _health(worker: Worker, engine: Engine) -> APIRouter:
    return health.router(
        alive={"the worker loops": lambda: time.monotonic() - worker.looped_at < LOOP_AGE_MAX_S},
        ready={
            "partitions are assigned": lambda: worker.membership.is_assigned,
            "the database answers": database.Pulse(engine),
        },
    )


def _end(status: int) -> None:
    """End the process at once. What is committed is kept.

    The interpreter's own exit would wait for a thread that hangs in a call or in a request to the database.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _serve(server: Server, worker: Worker, topics: list[str]) -> int:
    failed = threading.Event()

    def work() -> None:
        try:
            worker.run(topics)
        except BaseException:
            log.exception("The worker failed; the process ends and is started again.")
            failed.set()
            raise SystemExit(1) from None
        finally:
            server.should_exit = True

    thread = threading.Thread(target=work, name="worker", daemon=True)
    thread.start()
    server.on_signal = worker.stop
    serve(server)
    # 3.
    worker.stop()
    thread.join(max(0.0, (server.asked_at or time.monotonic()) + STOP_WITHIN_S - time.monotonic()))
    if thread.is_alive():
        log.error("The worker did not finish in time; the next process continues from its rows.")
        return 1
    if failed.is_set() or not server.started:
        return 1
    log.info("Stopped.")
    return 0


def needed_dependencies(
    dependencies: Dependencies,
    handlers: Handlers,
    topics: list[str],
    *,
    also_publishes: Mapping[str, tuple[type[Message], ...]] | None = None,
) -> Mapping[str, Callable[[], None]]:
    """Return a check for each dependency of the process; it raises, with the reason, until the dependency is ready."""
    settings = dependencies.settings

    def check_database() -> None:
        with dependencies.engine.connect() as connection:
            connection.execute(text("SELECT 1 FROM outbox LIMIT 1"))

    def check_registry() -> None:
        dependencies.codec.learn(f"{settings.service}.events", emitted(handlers))
        for topic, message_types in (also_publishes or {}).items():
            dependencies.codec.learn(topic, message_types)

    def check_kafka() -> None:
        known = AdminClient(KafkaLogin.of(settings).options()).list_topics(timeout=CHECK_TIMEOUT_S).topics
        if missing := [topic for topic in topics if topic not in known]:
            raise LookupError(f"no topic {', '.join(missing)}; run the deploy step that creates them")

    return {"PostgreSQL": check_database, "The schema registry": check_registry, "Kafka": check_kafka}


def wait_for(checks: Mapping[str, Callable[[], None]], *, within_s: float) -> None:
    """Wait until these checks pass, one after the other. Raises DependencyMissing for the first that does not in time.

    ``within_s`` is for all of them together.
    """
    deadline = time.monotonic() + within_s
    for dependency, check in checks.items():
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(max(0.0, deadline - time.monotonic())),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=3),
            before_sleep=partial(_log_missing, dependency),
        )
        try:
            retrying(check)
        except tenacity.RetryError as error:
            raise DependencyMissing(dependency, within_s, error.last_attempt.exception()) from error


def _log_missing(dependency: str, state: tenacity.RetryCallState) -> None:
    error = str(state.outcome and state.outcome.exception())
    log.warning("%s is not ready, retrying.", dependency, dependency=dependency, error=error)
