"""Runs one process of a service: its worker on a thread, its API in front of it, and a way down that loses nothing."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
import tenacity
import uvicorn
from fastapi import APIRouter, FastAPI
from messages.contract import Message, name_of
from messages.saga import SagaFenced, StepRedriven
from sqlalchemy import Engine, text

from messaging import database, health, logs, measures, metrics, outbox, problem
from messaging.auth import Verifier
from messaging.codec import Codec, RemoteRegistry
from messaging.handlers import Handlers
from messaging.metrics import Measure
from messaging.observation import Observer
from messaging.outbox import Relay
from messaging.settings import Settings
from messaging.steps import Handler
from messaging.worker import Worker, consumer

if TYPE_CHECKING:
    from messaging.tracing import Traces

START_WITHIN_S = 60
"""Parts that start together wait for one another this long; then the process says which is missing and ends."""
LOOP_AGE_MAX_S = 30.0
"""A worker that has not looped for this long hangs; a batch takes well under a second."""
JOIN_WITHIN_S = 9.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a service's handlers and API are built from. Nothing is connected yet but what they ask for."""

    settings: Settings
    engine: Engine
    codec: Codec
    verifier: Verifier
    traces: Traces | None = None

    def observer(self, handlers: Handlers | None = None) -> Observer:
        """Return who watches what a process with these handlers publishes."""
        answers = {name_of(message): step for message, step in handlers.answers.items()} if handlers else {}
        return Observer(self.settings.service, answers, self.traces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a service is made of: its handlers, the API beside them (None: only its health), its own measures."""

    handlers: tuple[Handler, ...]
    app: FastAPI | None = None
    measures: tuple[Measure, ...] = ()


def consumed_topics(service: str, handlers: Handlers) -> list[str]:
    """Return the topics that a service with these handlers reads."""
    topics = {f"{event.OWNER}.events" for event in handlers.events}
    return sorted(topics | {f"{service}.commands"})


def emitted(handlers: Handlers) -> set[type[Message]]:
    """Return every message type that the handlers answer with."""
    own: set[type[Message]] = {StepRedriven, *handlers.answers}
    return own | {SagaFenced} if handlers.steps else own


def api(
    title: str, parts: Parts, *routers: APIRouter, body_bytes_max: int = problem.BODY_BYTES_MAX
) -> FastAPI:
    """Return an API with these routes: problems as RFC 9457 says, tokens verified against the issuer's keys."""
    app = FastAPI(title=title, version="1", docs_url=None, redoc_url=None, redirect_slashes=False)
    problem.install(app, body_bytes_max=body_bytes_max)
    metrics.install(app, parts.traces)
    app.state.verifier = parts.verifier
    app.state.engine = parts.engine
    for router in routers:
        app.include_router(router)
    return app


def open_parts(settings: Settings) -> Parts:
    """Make the parts of a process; nothing connects before it is used."""
    engine = database.create(settings.database_url, settings.database_password_file, application=settings.service)
    metrics.watch_pool(engine)
    return Parts(
        settings=settings,
        engine=engine,
        codec=Codec(RemoteRegistry(settings.registry_url)),
        verifier=Verifier(settings.jwks_url, settings.issuer, settings.audience),
        traces=traces_of(settings),
    )


def traces_of(settings: Settings) -> Traces | None:
    """Return where spans go, None where no collector is named."""
    if not settings.otlp_url:
        return None
    # Imported only then: a process without a collector does not pay the 20 MB.
    from messaging.tracing import to_collector

    return to_collector(settings.service, settings.otlp_url, ratio=settings.trace_ratio)


def run(build: Callable[[Parts], Service]) -> int:
    """Run the service until SIGTERM or SIGINT and return the exit status: 0 when it was asked to stop.

    1. Wait for the parts: the database answers, the registry knows what we emit.
    2. Start the worker on its thread, and serve the API on this one.
    3. On a signal, or when the worker ends: stop the API, finish the batch, publish, commit, leave the group.
    """
    settings = Settings()
    logs.configure(settings.service, settings.log_level)
    parts = open_parts(settings)
    service = build(parts)
    handlers = Handlers.of(service.handlers)
    # 1.
    _wait_for_parts(parts, handlers)
    instance = f"{settings.service}-{socket.gethostname()}-{os.getpid()}"
    observer = parts.observer(handlers)
    metrics.watch_database(parts.engine, *measures.OUTBOX, *measures.WAITING, *service.measures)
    worker = Worker(
        settings.service,
        handlers,
        engine=parts.engine,
        codec=parts.codec,
        consumer=consumer(settings.kafka, settings.service, instance),
        relay=Relay(outbox.producer(settings.kafka, client_id=instance), observer),
        observer=observer,
    )
    app = service.app or api(settings.service, parts)
    app.include_router(
        health.router(
            alive={"the worker loops": lambda: time.monotonic() - worker.looped_at < LOOP_AGE_MAX_S},
            ready={"partitions are assigned": lambda: worker.is_assigned},
        )
    )
    # 2.
    server = server_of(app, settings)
    try:
        return _serve(server, worker, consumed_topics(settings.service, handlers))
    finally:
        observer.close()


def server_of(app: FastAPI, settings: Settings) -> uvicorn.Server:
    """Return the HTTP server of a process."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.http_host,
            port=settings.http_port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=3,
            server_header=False,
        )
    )


def _serve(server: uvicorn.Server, worker: Worker, topics: list[str]) -> int:
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
    _run_server(server)
    # 3.
    worker.stop()
    thread.join(JOIN_WITHIN_S)
    if failed.is_set() or thread.is_alive() or not server.started:
        return 1
    log.info("Stopped.")
    return 0


def _wait_for_parts(parts: Parts, handlers: Handlers) -> None:
    topic = f"{parts.settings.service}.events"
    for attempt in tenacity.Retrying(
        stop=tenacity.stop_after_delay(START_WITHIN_S),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=3),
        before_sleep=_say_what_is_missing,
        reraise=True,
    ):
        with attempt:
            with parts.engine.connect() as connection:
                connection.execute(text("SELECT 1 FROM outbox LIMIT 1"))
            parts.codec.learn(topic, emitted(handlers))


def _say_what_is_missing(state: tenacity.RetryCallState) -> None:
    log.warning("Waiting for a part.", error=str(state.outcome and state.outcome.exception()))


def _run_server(server: uvicorn.Server) -> None:
    """Serve until a signal. uvicorn raises the signal once more when it is done, which must not end the process yet."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    server.run()
