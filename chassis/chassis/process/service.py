"""Runs one process of a service: its worker on a thread, its API in front of it, and a way down that loses nothing."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog
import tenacity
from confluent_kafka.admin import AdminClient
from fastapi import APIRouter, FastAPI
from messages.contract import Message
from messages.saga import SagaFenced, StepRedriven
from sqlalchemy import Engine, text

from chassis.http import health, problem
from chassis.http.auth import Verifier
from chassis.http.server import Server, serve, server_of
from chassis.postgres import database
from chassis.process import heap
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
from chassis.wire.kafka import KafkaLogin
from chassis.wire.registry import RemoteRegistry

if TYPE_CHECKING:
    from chassis.telemetry.tracing import Traces

START_WITHIN_S = 60
"""Parts that start together wait for one another this long; then the process says which is missing and ends."""
LOOP_AGE_MAX_S = 30.0
"""A worker that has not looped for this long hangs; a batch takes well under a second."""
PART_TIMEOUT_S = 3.0
STOP_WITHIN_S = 9.0
"""From the signal to the end of the process; what a worker has not finished by then, its rows finish later."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What a service's handlers and API are built from. Nothing is connected yet but what they ask for."""

    settings: Settings
    engine: Engine
    codec: Codec
    verifier: Verifier
    traces: Traces | None = None

    def observer(self, handlers: Handlers | None = None) -> Observer:
        """Return who watches what a process with these handlers publishes."""
        answers = {message.FULL_NAME: step for message, step in handlers.answers.items()} if handlers else {}
        return Observer(self.settings.service, answers, self.traces)


class DependencyMissing(Exception):
    """A part that the process needs is not there. Start it, or look at the address in the process's settings."""

    def __init__(self, part: str, within_s: float, why: BaseException | None) -> None:
        super().__init__(f"Gave up: {part} was not ready within {within_s:.0f} s: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a service is made of: its handlers, the API beside them (None: only its health), its own measures.

    ``starts_without`` names the parts that it does not wait for at its start.
    """

    handlers: tuple[Handler, ...]
    app: FastAPI | None = None
    measures: tuple[Measure, ...] = ()
    starts_without: tuple[str, ...] = ()


def consumed_topics(service: str, handlers: Handlers) -> list[str]:
    """Return the topics that a service with these handlers reads."""
    topics = {f"{event.OWNER}.events" for event in handlers.events}
    return sorted(topics | {f"{service}.commands"})


def emitted(handlers: Handlers) -> set[type[Message]]:
    """Return every message type that the handlers answer with."""
    own: set[type[Message]] = {StepRedriven, *handlers.answers}
    return own | {SagaFenced} if handlers.steps else own


def api(title: str, parts: Dependencies, *routers: APIRouter, body_bytes_max: int = problem.BODY_BYTES_MAX) -> FastAPI:
    """Return an API with these routes: problems as RFC 9457 says, tokens verified against the issuer's keys."""
    app = FastAPI(title=title, version="1", docs_url=None, redoc_url=None, redirect_slashes=False)
    problem.install(app, body_bytes_max=body_bytes_max)
    metrics.install(app, parts.traces)
    app.state.verifier = parts.verifier
    app.state.engine = parts.engine
    for router in routers:
        app.include_router(router)
    return app


def open_dependencies(settings: Settings) -> Dependencies:
    """Make the parts of a process; nothing connects before it is used."""
    engine = database.create(settings.database_url, settings.database_password_file, application=settings.service)
    metrics.watch_pool(engine)
    return Dependencies(
        settings=settings,
        engine=engine,
        codec=Codec(RemoteRegistry(settings.registry_url)),
        verifier=Verifier(settings.jwks_url, settings.issuer, settings.audience),
        traces=traces_of(settings),
    )


def run(build: Callable[[Dependencies], Service]) -> int:
    """Run the service until SIGTERM or SIGINT and return the exit status: 0 when it was asked to stop.

    1. Wait for the parts: the database answers, the registry knows what we emit, Kafka has our topics.
    2. Start the worker on its thread, and serve the API on this one.
    3. On a signal, or when the worker ends: stop the API, finish the batch, publish, commit, leave the group.
    """
    settings = Settings()
    logs.configure(settings.service, settings.log_level)
    parts = open_dependencies(settings)
    service = build(parts)
    handlers = Handlers.of(service.handlers)
    topics = consumed_topics(settings.service, handlers)
    # 1.
    needed = needed_parts(parts, handlers, topics)
    try:
        wait_for({part: needed[part] for part in needed if part not in service.starts_without}, within_s=START_WITHIN_S)
    except DependencyMissing as missing:
        log.error(str(missing))
        return 1
    instance = f"{settings.service}-{socket.gethostname()}-{os.getpid()}"
    observer = parts.observer(handlers)
    metrics.watch_database(parts.engine, *table_gauges.OUTBOX, *table_gauges.WAITING, *service.measures)
    worker = Worker(
        settings.service,
        handlers,
        engine=parts.engine,
        codec=parts.codec,
        consumer=consumer(KafkaLogin.of(settings), settings.service, instance),
        relay=Relay(producer(KafkaLogin.of(settings), client_id=instance), observer),
        membership=Membership(lambda: kafka.answers(KafkaLogin.of(settings))),
        observer=observer,
    )
    app = service.app or api(settings.service, parts)
    app.include_router(
        health.router(
            alive={"the worker loops": lambda: time.monotonic() - worker.looped_at < LOOP_AGE_MAX_S},
            ready={
                "partitions are assigned": lambda: worker.membership.is_assigned,
                "the database answers": database.Pulse(parts.engine),
            },
        )
    )
    heap.freeze()
    # 2.
    server = server_of(app, settings)
    status = _serve(server, worker, topics)
    observer.close()
    _end(status)
    return status


def _end(status: int) -> None:
    """End at once. What is committed is kept; a thread that hangs (a request that waits for the database, a call) would
    hold up the interpreter's own end for as long as it hangs.
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
        log.error("The worker did not finish in time; its rows tell the next process what is left.")
        return 1
    if failed.is_set() or not server.started:
        return 1
    log.info("Stopped.")
    return 0


def needed_parts(parts: Dependencies, handlers: Handlers, topics: list[str]) -> Mapping[str, Callable[[], None]]:
    """Return how to try each part that the process needs; each raises, with the reason, until the part is there."""

    def ask_database() -> None:
        with parts.engine.connect() as connection:
            connection.execute(text("SELECT 1 FROM outbox LIMIT 1"))

    def ask_kafka() -> None:
        known = AdminClient(KafkaLogin.of(parts.settings).options()).list_topics(timeout=PART_TIMEOUT_S).topics
        if missing := [topic for topic in topics if topic not in known]:
            raise LookupError(f"no topic {', '.join(missing)}; run the deploy step that makes them.")

    return {
        "the database": ask_database,
        "the schema registry": lambda: parts.codec.learn(f"{parts.settings.service}.events", emitted(handlers)),
        "Kafka": ask_kafka,
    }


def wait_for(needed: Mapping[str, Callable[[], None]], *, within_s: float) -> None:
    """Wait for these parts, one after the other. Raises PartMissing for the first that is not there ``within_s``."""
    give_up_at = time.monotonic() + within_s
    for part, ask in needed.items():
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(max(0.0, give_up_at - time.monotonic())),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=3),
            before_sleep=partial(_say_what_is_missing, part),
        )
        try:
            retrying(ask)
        except tenacity.RetryError as error:
            raise DependencyMissing(part, within_s, error.last_attempt.exception()) from error


def _say_what_is_missing(part: str, state: tenacity.RetryCallState) -> None:
    log.warning("Waiting for a part.", part=part, error=str(state.outcome and state.outcome.exception()))
