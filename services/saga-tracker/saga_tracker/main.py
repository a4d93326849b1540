"""The tracker's worker process: wires its objects, and runs Faust until a signal stops it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI

from chassis.http import health, problem
from chassis.http.server import server_of
from chassis.postgres import database
from chassis.process import heap
from chassis.saga.publisher import Relay, producer
from chassis.settings import Settings
from chassis.telemetry import logs, metrics, table_gauges
from chassis.telemetry.observation import Observer, traces_of
from chassis.wire.codec import Codec
from chassis.wire.kafka import KafkaLogin
from chassis.wire.registry import RemoteRegistry
from saga_tracker import saga_metrics
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest import app as faust_app
from saga_tracker.ingest.app import EXIT_FAILED, Runtime
from saga_tracker.ingest.consumer_progress import ConsumerGroups
from saga_tracker.ingest.deadlines import Deadlines
from saga_tracker.ingest.decoding import topics
from saga_tracker.ingest.kafka_queries import KafkaQueries
from saga_tracker.ingest.operator_acts import OperatorActs
from saga_tracker.ingest.recorder import Recorder
from saga_tracker.ingest.worker import TrackerWorker
from saga_tracker.model.saga import scaled
from saga_tracker.store.cache import SagaCache

TICK_AGE_MAX_S = 30.0
"""A worker that has not ticked for this long is stuck; a tick takes well under a second."""
STOP_WITHIN_S = 8.0

log = structlog.get_logger()


def main() -> int:
    """Run until SIGTERM or SIGINT; the exit status is 0 after such a signal."""
    settings = Settings()
    logs.configure(settings.service, settings.log_level)
    instance = f"{settings.service}-{socket.gethostname()}-{os.getpid()}"
    engine = database.create(settings.database_url, settings.database_password_file, application=settings.service)
    metrics.watch_pool(engine)
    metrics.watch_database(engine, *table_gauges.OUTBOX)
    saga_metrics.initialise(DEFINITIONS.values())
    observer = Observer(settings.service, {}, traces_of(settings))
    definitions = scaled(DEFINITIONS, settings.timeout_factor)
    codec, cache = Codec(RemoteRegistry(settings.registry_url)), SagaCache()
    worker = TrackerWorker(
        engine,
        Recorder(definitions, codec, cache, reference_key=settings.reference_key),
        Deadlines(definitions, codec, cache),
        OperatorActs(definitions, codec, cache),
        Relay(producer(KafkaLogin.of(settings), client_id=instance), observer),
        ConsumerGroups(KafkaLogin.of(settings), definitions),
        KafkaQueries(KafkaLogin.of(settings)),
    )
    runtime = Runtime(worker)
    server = server_of(_health(runtime), settings)
    heap.freeze()
    threading.Thread(target=server.run, name="health", daemon=True).start()
    try:
        return uvloop.run(_run(KafkaLogin.of(settings), runtime, server))
    finally:
        observer.close()


async def _run(kafka: KafkaLogin, runtime: Runtime, server: uvicorn.Server) -> int:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    app = faust_app.create(kafka, topics(DEFINITIONS), runtime)
    await app.start()
    ends = [asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(app.wait_until_stopped())]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if not stopped.is_set():
        log.critical("Faust ended unexpectedly.", reason=repr(app.crash_reason))
        return EXIT_FAILED
    runtime.worker.stop()
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await app.stop()
            await loop.run_in_executor(None, runtime.close)
    except TimeoutError:
        log.error("The tracker did not stop in time. Messages that it has not published are in the outbox.")
        return EXIT_FAILED
    server.should_exit = True
    log.info("Stopped.")
    return 0


def _health(runtime: Runtime) -> FastAPI:
    app = FastAPI(title="saga-tracker worker", docs_url=None, redoc_url=None)
    problem.install(app)
    metrics.install(app)
    app.include_router(
        health.router(
            alive={"the worker ticks": lambda: time.monotonic() - runtime.ticked_at < TICK_AGE_MAX_S},
            ready={"partitions are assigned": lambda: bool(runtime.assigned)},
        )
    )
    return app


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # Threads of Faust and of librdkafka may still be running; they hold nothing that could be lost.
    os._exit(status)
