"""A gateway over real HTTP that a test scripts: it answers by method and path, and keeps what it was sent.

It knows neither Stripe nor Adyen: a test lays out the answers, or gives a function that makes them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, kw_only=True)
class Got:
    """One request as it came; ``form`` is its body as an HTML form, ``body`` as JSON."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def key(self) -> str | None:
        return self.headers.get("idempotency-key")

    @property
    def form(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(self.content.decode()).items()}

    @property
    def body(self) -> Any:
        return json.loads(self.content)

    @property
    def line(self) -> str:
        return f"{self.method} {urlsplit(self.path).path}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer; one of status 0 is none: the connection is closed."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


Answering = Callable[[Got], Answer]


@dataclass
class GatewayStub:
    """The stub. ``answer`` makes each answer; ``scripted`` are taken first, in their order."""

    answer: Answering
    got: list[Got] = field(default_factory=list)
    scripted: list[Answer] = field(default_factory=list)
    url: str = ""

    @property
    def lines(self) -> list[str]:
        return [each.line for each in self.got]

    def take(self, got: Got) -> Answer:
        self.got.append(got)
        return self.scripted.pop(0) if self.scripted else self.answer(got)


@contextmanager
def serving(stub: GatewayStub) -> Iterator[GatewayStub]:
    """Serve a stub on a free port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            got = Got(
                method=self.command,
                path=self.path,
                headers={name.lower(): value for name, value in self.headers.items()},
                content=self.rfile.read(length),
            )
            answer = stub.take(got)
            if not answer.status:
                self.close_connection = True
                return
            content = b"" if answer.body is None else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815 — the library calls them so

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that goes away in the middle is what tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
