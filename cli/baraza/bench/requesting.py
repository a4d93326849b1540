"""Single requests, timed one by one: orders at checkout, queries at the tracker."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from baraza.bench.sending import Threads, ask
from baraza.client import Tokens
from baraza.demo import percentile

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask."""

    method: str
    path: str
    body: bytes | None = None
    key: str | None = None


@dataclass(slots=True)
class Answers:
    """What was answered, and how long what was wanted took: an answer that sheds is quick and counts for nothing."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    began_at_s: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it as a script wants it."""
        ascending = sorted(self.latencies_ms)
        return {
            "requests": len(ascending),
            "shed": self.statuses[429],
            "errors": sum(count for status, count in self.statuses.items() if status >= 400 and status != 429),
            "requests_per_s": round(len(ascending) / max(0.001, self.seconds), 1),
            "p50_ms": percentile(ascending, 0.50),
            "p99_ms": percentile(ascending, 0.99),
            "max_ms": round(ascending[-1], 1) if ascending else None,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
        }


class Requests:
    """Asks over ``connections`` connections while it is entered, each again as soon as it is answered, or ``every_s``.

    An answer's time counts from when its request was due.
    """

    def __init__(
        self, url: str, tokens: Tokens, request: Callable[[], Request], *, connections: int, every_s: float = 0.0
    ) -> None:
        self._address = urlsplit(url)
        self._tokens = tokens
        self._request = request
        self._every_s = every_s
        self._lock = threading.Lock()
        self._answers = Answers()
        self._threads = Threads(connections, self._ask)

    def __enter__(self) -> Requests:
        self._threads.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.stop()

    def take(self) -> Answers:
        """Return what was answered since the last call."""
        with self._lock:
            answers, self._answers = self._answers, Answers()
        answers.seconds = self._answers.began_at_s - answers.began_at_s
        return answers

    def _ask(self, stopping: threading.Event) -> None:
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=TIMEOUT_S)
        due_s = time.monotonic() + random.uniform(0.0, self._every_s)  # so that connections take turns
        try:
            while not stopping.wait(max(0.0, due_s - time.monotonic())):
                with self._lock:
                    asked = self._request()
                headers = {"Authorization": self._tokens.header(), "Content-Type": "application/json"}
                if asked.key is not None:
                    headers["Idempotency-Key"] = asked.key
                status, _ = ask(connection, asked.method, asked.path, asked.body, headers)
                now_s = time.monotonic()
                with self._lock:
                    self._answers.statuses[status] += 1
                    if status < 300:
                        self._answers.latencies_ms.append(1_000 * (now_s - due_s))
                due_s = due_s + self._every_s if self._every_s else now_s
        finally:
            connection.close()
