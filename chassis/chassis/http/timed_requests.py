"""Bounds what a client may leave half-sent: the time and the bytes of a header, the time of a body, the connections.

uvicorn bounds only the time between two requests. These bounds need no timer for each request: once a second the server
looks through its connections.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Collection
from enum import Enum
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_WITHIN_S: Final = 10.0
"""From the connection, or the response before, to the end of a request's header."""
BODY_WITHIN_S: Final = 20.0
BODY_BYTES_PER_S_MIN: Final = 65_536
"""A body has a second more for so many bytes that have come."""
HEADER_BYTES_MAX: Final = 65_536
DISCARDED_BYTES_MAX: Final = 8_388_608
"""What is read of a body after the response, so that the response reaches a client that sends all of it first."""
CONNECTIONS_MAX: Final = 10_000
READ_FIRST_S: Final = 0.001
FILES_RESERVED: Final = 256
"""File descriptors that are left for the database, Kafka, Redis and the providers."""

log = structlog.get_logger(__name__)


class Stage(Enum):
    """What a connection waits for."""

    HEADER = "header"
    BODY = "body"
    RESPONSE = "response"


class TimedProtocol(HttpToolsProtocol):
    """uvicorn's protocol that knows since when it waits, and for what."""

    header_within_s = HEADER_WITHIN_S
    body_within_s = BODY_WITHIN_S
    stage = Stage.HEADER
    waits_since_s = 0.0
    _received_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """Take a connection, unless there are as many as this process can have."""
        super().connection_made(transport)
        self._wait_for(Stage.HEADER)
        if len(self.connections) > connections_max():
            log.warning("Too many connections; a new one was closed.", connections=len(self.connections))
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse what has come; refuse a header that is too long."""
        if self.stage is not Stage.BODY:
            self._received_bytes += len(data)
        super().data_received(data)
        if self.stage is not Stage.BODY and self._received_bytes > HEADER_BYTES_MAX:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"A header has at most {HEADER_BYTES_MAX} bytes.")

    def on_headers_complete(self) -> None:
        """Wait for the body from now on."""
        self._wait_for(Stage.BODY)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count the bytes of the body."""
        self._received_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the response, or for the next request where it was sent already."""
        is_over = self.cycle is None or self.cycle.response_complete
        self._wait_for(Stage.HEADER if is_over else Stage.RESPONSE)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless one is being served or the rest of the body is still to come."""
        super().on_response_complete()
        if self.stage is Stage.RESPONSE and self.cycle.response_complete:
            self._wait_for(Stage.HEADER)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, unless the next request has come already: uvloop runs timers before it reads."""
        self.timeout_keep_alive_task = self.loop.call_later(READ_FIRST_S, super().timeout_keep_alive_handler)

    def close_if_late(self, now_s: float) -> None:
        """Close the connection where the client has had its time."""
        if self.transport.is_closing() or self.stage is Stage.RESPONSE:
            return
        if self.flow.read_paused:  # the service reads no further, so the client is not what it waits for
            self.waits_since_s = now_s
            return
        waited_s = now_s - self.waits_since_s
        if self.stage is Stage.HEADER:
            if waited_s > self.header_within_s:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"Send the header within {self.header_within_s:g} s.")
        elif waited_s > self.body_within_s + self._received_bytes / BODY_BYTES_PER_S_MIN:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"Send the body within {self.body_within_s:g} s, or steadily.")
        elif self.cycle.response_complete and self._received_bytes > DISCARDED_BYTES_MAX:
            self.transport.close()

    def _wait_for(self, stage: Stage) -> None:
        self.stage = stage
        self.waits_since_s = time.monotonic()
        self._received_bytes = 0

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Close the connection, with a problem where a request was begun and none of its response was sent."""
        is_begun = self._received_bytes > 0 or self.stage is Stage.BODY
        is_served = self.cycle is not None and not self.cycle.response_complete and self.stage is not Stage.BODY
        is_answered = self.stage is Stage.BODY and self.cycle.response_started
        if is_begun and not is_served and not is_answered:
            self.transport.write(_response(status, detail))
        self.transport.close()


def close_late(connections: Collection[Any]) -> None:
    """Close those of these connections whose client has had its time."""
    now_s = time.monotonic()
    for each in list(connections):
        each.close_if_late(now_s)


def _response(status: HTTPStatus, detail: str) -> bytes:
    problem = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    body = json.dumps(problem, separators=(",", ":"))
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
    return f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()


@cache
def connections_max() -> int:
    """Return how many connections this process can have: as many as it may have files, but for the reserved ones."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, max(1, soft - FILES_RESERVED))
