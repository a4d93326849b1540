"""A real server closes what clients leave half-sent, and nothing else. Its deadlines are shortened."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI

from chassis.http import problem
from chassis.http.auth import Principal, require
from chassis.http.json_body import JsonRoute
from chassis.http.server import server_of
from chassis.http.timed_requests import HEADER_BYTES_MAX, TimedProtocol
from chassis.settings import Settings
from support.issuer import token, verifying
from support.waiting import until

DEADLINE_S = 30.0
CLOSED = b""


class ShortProtocol(TimedProtocol):
    """The protocol with short deadlines."""

    header_within_s = 1.5
    body_within_s = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server, and the event for which its slow endpoint waits."""

    port: int
    go_on: threading.Event

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)


def application(go_on: threading.Event) -> FastAPI:
    app = FastAPI()
    problem.install(app, body_bytes_max=8_000_000)
    router = APIRouter(route_class=JsonRoute)

    @router.put("/lines")
    async def put_lines(lines: list[int]) -> int:
        return len(lines)

    @router.put("/guarded")
    async def put_guarded(lines: list[int], caller: Annotated[Principal, Depends(require("operator"))]) -> str:
        return f"{caller.subject} sent {len(lines)}"

    @router.get("/slow")
    def slow() -> bool:
        return go_on.wait(DEADLINE_S)

    app.include_router(router)
    return app


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    go_on = threading.Event()
    with verifying() as verifier:
        app = application(go_on)
        app.state.verifier = verifier
        settings = Settings(
            service="test", kafka="", registry_url="", database_url="", database_password_file=Path("none")
        )
        serving = server_of(app, settings)
        assert serving.config.http is TimedProtocol
        serving.config.http = ShortProtocol
        thread = threading.Thread(target=serving.run, daemon=True)
        thread.start()
        until(lambda: serving.started, "the server listens", holds=bool)
        port = serving.servers[0].sockets[0].getsockname()[1]
        yield Running(port=port, go_on=go_on)
        serving.should_exit = True
        thread.join(DEADLINE_S)


def received(connection: socket.socket) -> bytes:
    """Return everything that comes until the server closes the connection."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


PUT = b"PUT /lines HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "begun",
    [
        b"G",
        b"GET /slow HTTP/1.1\r\nHost: x\r\nX-Long: ",
        PUT + b"Content-Length: 9\r\n\r\n[1,",
        PUT + b"Transfer-Encoding: chunked\r\n\r\n4\r\n[1,2\r\n",
        PUT + b"Content-Length: 4000000\r\n\r\n" + b" " * 200_000,
    ],
    ids=["a letter", "a header", "a body", "a chunk", "a long body"],
)
def test_a_half_sent_request_is_answered_and_closed(server: Running, begun: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(begun)
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer
    assert b"\r\nconnection: close\r\n" in answer.lower()


def test_a_connection_without_a_request_is_closed(server: Running) -> None:
    with server.connect() as connection:
        assert received(connection) == CLOSED


@pytest.mark.parametrize(
    "begun",
    [b"\r\n", b"GET /slow HTTP/1.1\r\nX: ", PUT + b"Content-Length: 100000\r\n\r\n["],
    ids=["lines", "header", "body"],
)
def test_a_request_that_comes_byte_by_byte_is_closed(server: Running, begun: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(begun)
        connection.settimeout(0.05)
        drip = b"\r\n" if begun == b"\r\n" else b" "

        def is_closed() -> bool:
            try:
                connection.sendall(drip)
                return connection.recv(65_536) == CLOSED
            except TimeoutError:
                return False
            except (ConnectionResetError, BrokenPipeError):
                return True

        until(is_closed, "the server closes the connection", holds=bool)


def test_a_header_without_end_is_refused(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nX: " + b"x" * (2 * HEADER_BYTES_MAX))
        assert received(connection).startswith(b"HTTP/1.1 431 ")


def test_a_request_that_is_being_served_may_take_longer_than_its_client_may(server: Running) -> None:
    waiting = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
    waiting.request("GET", "/slow")
    for _ in range(3):
        with server.connect() as half_sent:
            assert received(half_sent) == CLOSED, "longer than a deadline has passed"
    server.go_on.set()
    response = waiting.getresponse()
    assert (response.status, response.read()) == (200, b"true")
    waiting.request("PUT", "/lines", b"[1]", {"Content-Type": "application/json"})
    assert waiting.getresponse().read() == b"1", "the connection is kept"
    waiting.close()


def test_a_client_that_sends_all_of_a_long_body_first_reads_why_it_is_refused(server: Running) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
    body = b"[" + b"1," * 2_000_000 + b"1]"
    headers = {"Content-Type": "application/json"}
    authorized = headers | {"Authorization": f"Bearer {token('ann', 'operator')}"}
    client.request("PUT", "/guarded", body, headers)
    refused = client.getresponse()
    assert (refused.status, b"bearer token" in refused.read()) == (401, True)
    client.request("PUT", "/guarded", b"[1]", authorized)
    assert client.getresponse().read() == b'"ann sent 1"'
    client.close()
