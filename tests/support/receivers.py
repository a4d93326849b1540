"""Endpoints of merchants for tests: real HTTP servers on this machine whose answers a test lays out."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request: its path, its headers in small letters, its bytes."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def content(self) -> Any:
        return json.loads(self.body)

    def verify(self, secret: str) -> Any:
        """Return the content where the standard's own package accepts the signature."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A response. ``status`` 0: the connection is closed without one."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(slots=True)
class Receiver:
    """One endpoint. ``reply`` answers each request; a test may block in it."""

    reply: Callable[[Received], Reply] = lambda _: Reply()
    requests: list[Received] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.requests]


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


@contextmanager
def receiving(reply: Callable[[Received], Reply] | Reply | None = None, **server: Any) -> Iterator[Receiver]:
    """Serve an endpoint while the block runs. ``tls`` is the server's context."""
    receiver = Receiver()
    if reply is not None:
        fixed = reply
        receiver.reply = (lambda _: fixed) if isinstance(fixed, Reply) else fixed

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            received = Received(path=self.path, headers=headers, body=body)
            receiver.requests.append(received)
            answer = receiver.reply(received)
            self.close_connection = True
            if not answer.status:
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(answer.body)
            except OSError:
                return  # the caller has read as much as it wants

        def log_message(self, *_: object) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as http:
        if "tls" in server:
            http.socket = server["tls"].wrap_socket(http.socket, server_side=True)
        receiver.port = http.server_port
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            http.shutdown()
            thread.join()
