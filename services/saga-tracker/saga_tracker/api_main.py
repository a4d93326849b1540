"""The tracker's API process: wires the HTTP API to the worker's database."""

from __future__ import annotations

import os
import socket

from fastapi import FastAPI

from chassis.http import health
from chassis.http.server import server_of
from chassis.postgres import database
from chassis.postgres.bounds import QUERYING
from chassis.process.service import Dependencies, api, open_dependencies
from chassis.saga import publisher
from chassis.settings import Settings
from chassis.telemetry import logs, metrics
from chassis.wire.kafka import KafkaLogin
from saga_tracker import saga_metrics
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.http.break_glass import LoggedBreakGlass
from saga_tracker.http.cancellations import Cancellations
from saga_tracker.http.live import Streams
from saga_tracker.http.now_api import Answers
from saga_tracker.http.routers import ROUTERS
from saga_tracker.store import queries


def application(dependencies: Dependencies) -> FastAPI:
    """Return the API with these dependencies. Nothing connects before the first request."""
    instance = f"{dependencies.settings.service}-api-{socket.gethostname()}-{os.getpid()}"
    app = api("saga-tracker", dependencies, *ROUTERS)
    app.state.verifier = LoggedBreakGlass(dependencies.verifier, dependencies.engine)
    metrics.watch_database(dependencies.engine, *saga_metrics.MEASURES)
    saga_metrics.initialise(DEFINITIONS.values())
    app.state.streams, app.state.answers = Streams(), Answers()
    app.state.approval_above = dependencies.settings.approval_above
    app.state.reference_key = dependencies.settings.reference_key
    producer = publisher.producer(KafkaLogin.of(dependencies.settings), client_id=instance)
    app.state.cancellations = Cancellations(producer, dependencies.codec)
    answers = database.Pulse(dependencies.engine, queries.recorded_until)
    app.include_router(health.router(alive={}, ready={"the database answers": answers}))
    return app


def main() -> int:
    """Serve until SIGTERM or SIGINT; the exit status is 1 where the address is in use."""
    settings = Settings()
    logs.configure(settings.service, settings.log_level)
    server = server_of(application(open_dependencies(settings, QUERYING)), settings)
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    raise SystemExit(main())
