"""The HTTP server of a process, for an API or for its health alone."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Protocol

import uvicorn
from fastapi import FastAPI

from chassis.http.timed_requests import TimedProtocol, close_late

CONNECTIONS_END_WITHIN_S = 3
"""How long open requests may take after the signal to stop; then their connections are closed."""
TICKS_PER_S = 10


class Address(Protocol):
    """Where a process listens: a part of its settings."""

    @property
    def http_host(self) -> str: ...

    @property
    def http_port(self) -> int: ...


class Server(uvicorn.Server):
    """The HTTP server of a process. It passes a signal on at once, before it waits for open requests."""

    asked_at: float | None = None
    on_signal: Callable[[], None] | None = None

    async def on_tick(self, counter: int) -> bool:
        """Close connections with half-sent requests, once a second; return whether to stop."""
        if counter % TICKS_PER_S == 0:
            close_late(self.server_state.connections)
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Record when the signal came, and call ``on_signal`` for what runs beside the server."""
        self.asked_at = self.asked_at or time.monotonic()
        if self.on_signal is not None:
            self.on_signal()
        super().handle_exit(sig, frame)


def server_of(app: FastAPI, settings: Address) -> Server:
    """Return the HTTP server of a process."""
    return Server(
        uvicorn.Config(
            app,
            http=TimedProtocol,
            ws="none",
            host=settings.http_host,
            port=settings.http_port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=CONNECTIONS_END_WITHIN_S,
            server_header=False,
        )
    )


def serve(server: uvicorn.Server) -> None:
    """Serve until a signal. uvicorn raises the signal again when it has stopped; that must not end the process yet."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    server.run()
