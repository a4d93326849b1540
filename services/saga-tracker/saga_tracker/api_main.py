"""The tracker's query process: wires the API over the worker's database."""

from __future__ import annotations

import os
import socket

from fastapi import FastAPI
from messaging.server import server_of
from messaging.service import Parts, api, open_parts
from messaging.settings import Settings
from sqlalchemy.exc import OperationalError

from messaging import health, logs, metrics, outbox
from saga_tracker import measuring, operating, queries
from saga_tracker.api import Streams, router
from saga_tracker.cancelling import Cancellations
from saga_tracker.definitions import DEFINITIONS


def application(parts: Parts) -> FastAPI:
    """Return the API over these parts. Nothing connects before the first request."""
    instance = f"{parts.settings.service}-api-{socket.gethostname()}-{os.getpid()}"
    app = api("saga-tracker", parts, router, operating.router)
    metrics.watch_database(parts.engine, *measuring.MEASURES)
    measuring.announce(DEFINITIONS.values())
    app.state.streams = Streams()
    producer = outbox.producer(parts.settings.kafka_login, client_id=instance)
    app.state.cancellations = Cancellations(producer, parts.codec)
    app.include_router(health.router(alive={}, ready={"the database answers": lambda: _answers(parts)}))
    return app


def _answers(parts: Parts) -> bool:
    try:
        with parts.engine.connect() as tx:
            queries.recorded_until(tx)
    except OperationalError:
        return False
    return True


def main() -> int:
    """Serve until SIGTERM or SIGINT; exit status 1 where the address is taken."""
    settings = Settings()
    logs.configure(settings.service, settings.log_level)
    server = server_of(application(open_parts(settings)), settings)
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    raise SystemExit(main())
