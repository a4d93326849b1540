"""A stack elsewhere whose services are one HTTP server of a test, which records its requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stack import contract
from stack.providers import PROVIDERS

SERVICES = (*contract.services(), contract.TRACKER, contract.TRACKER_API, *PROVIDERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP response. ``status`` 0: the connection ends without one."""

    status: int = 200
    content: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request: its method and path, its headers, and its body as JSON."""

    request: str
    headers: dict[str, str]
    body: Any


@dataclass(slots=True)
class Elsewhere:
    """The services. ``answer`` is called for each request but those for a token."""

    answer: Callable[[Call], Answer]
    calls: list[Call] = field(default_factory=list)
    url: str = ""

    def endpoints(self, **changed: object) -> dict[str, object]:
        """Return the content of a file of endpoints."""
        return endpoints(self.url, **changed)

    def file(self, folder: Path, **changed: object) -> str:
        """Write a file of endpoints and return its path."""
        path = folder / "endpoints.json"
        path.write_text(json.dumps(self.endpoints(**changed)))
        return str(path)


def endpoints(url: str, **changed: object) -> dict[str, object]:
    """Return endpoints of a stack whose services are all at ``url``."""
    http = {name: [f"{url}/{name}"] for name in SERVICES}
    return {
        "kafka": "127.0.0.1:1", "registry_url": url, "redis_url": "redis://127.0.0.1:1",
        "databases": {"*": "127.0.0.1:1"}, "secrets": "/nowhere", "http": {**http, "issuer": [f"{url}/issuer"]},
        **changed,
    }  # fmt: skip


@contextmanager
def answering(answer: Callable[[Call], Answer]) -> Iterator[Elsewhere]:
    """Serve while the block runs."""
    stack = Elsewhere(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/issuer/token":
                self.respond(Answer(content=b'{"token": "t"}'))
                return
            request = Call(
                request=f"{self.command} {self.path}",
                headers={name.lower(): value for name, value in self.headers.items()},
                body=json.loads(content) if content else None,
            )
            stack.calls.append(request)
            self.respond(stack.answer(request))

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names are the server's

        def respond(self, answer: Answer) -> None:
            self.close_connection = True
            if not answer.status:
                return
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.content)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stack.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield stack
        finally:
            server.shutdown()
            thread.join()
