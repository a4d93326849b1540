"""Single requests, timed one by one: orders at checkout, queries at the tracker."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from baraza.bench.load import Threads, exchange
from baraza.percentiles import percentile
from baraza.system.client import Tokens

TIMEOUT_S = 30.0
THROTTLED = 429


@dataclass(frozen=True, slots=True)
class Request:
    """One request; ``key`` is its idempotency key. With a ``cookie`` it is of a browser, and has no token."""

    method: str
    path: str
    body: bytes | None = None
    key: str | None = None
    cookie: str | None = None


@dataclass(slots=True)
class Responses:
    """Responses by status, and the latencies of successful ones only, because a throttled request is quick."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    began_at_s: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that --json prints."""
        ascending = sorted(self.latencies_ms)
        errors = sum(count for status, count in self.statuses.items() if status >= 400 and status != THROTTLED)
        return {
            "requests": len(ascending),
            "shed": self.statuses[THROTTLED],
            "errors": errors,
            "requests_per_s": round(len(ascending) / max(0.001, self.seconds), 1),
            "p50_ms": percentile(ascending, 0.50),
            "p99_ms": percentile(ascending, 0.99),
            "max_ms": round(ascending[-1], 1) if ascending else None,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
        }


class Requests:
    """Sends requests over ``connections`` connections while it is entered: one after another, or one ``every_s``.

    A latency counts from when the request was due.
    """

    def __init__(
        self, url: str, tokens: Tokens | None, request: Callable[[], Request], *, connections: int, every_s: float = 0.0
    ) -> None:
        self._address = urlsplit(url)
        self._tokens = tokens
        self._request = request
        self._every_s = every_s
        self._lock = threading.Lock()
        self._responses = Responses()
        self._threads = Threads(connections, self._send)

    def __enter__(self) -> Self:
        self._threads.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.stop()

    def take(self) -> Responses:
        """Return the responses since the last call."""
        with self._lock:
            responses, self._responses = self._responses, Responses()
        responses.seconds = self._responses.began_at_s - responses.began_at_s
        return responses

    def _send(self, stopping: threading.Event) -> None:
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=TIMEOUT_S)
        due_s = time.monotonic() + random.uniform(0.0, self._every_s)  # so that the connections do not send together
        try:
            while not stopping.wait(max(0.0, due_s - time.monotonic())):
                with self._lock:
                    request = self._request()
                headers = self._headers(request)
                status, _ = exchange(connection, request.method, request.path, request.body, headers)
                now_s = time.monotonic()
                with self._lock:
                    self._responses.statuses[status] += 1
                    if status < 300:
                        self._responses.latencies_ms.append(1_000 * (now_s - due_s))
                due_s = due_s + self._every_s if self._every_s else now_s
        finally:
            connection.close()

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {} if self._tokens is None else {"Authorization": self._tokens.header()}
        if request.cookie is not None:
            return {**headers, "Cookie": request.cookie, "Accept": "text/html"}
        keys = {} if request.key is None else {"Idempotency-Key": request.key}
        return {**headers, "Content-Type": "application/json", **keys}
