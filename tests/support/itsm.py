"""Simulators of ITSMs for tests, over real HTTP: incidents of ServiceNow's table API, and a receiver of messages."""

from __future__ import annotations

import base64
import itertools
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.receivers import Received, Reply

USER, PASSWORD = "baraza.integration", "se:cret"
INCIDENTS = "/api/now/table/incident"
NEW, IN_PROGRESS, RESOLVED, CLOSED, CANCELLED = "1", "2", "6", "7", "8"
CLOSE_CODES = ("Solution provided", "No resolution provided")
Json = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request: its method, its path, its query and its body."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is answered. ``status`` 0: the connection is closed without an answer."""

    status: int
    body: Json


@dataclass(slots=True, kw_only=True)
class ServiceNowInstance:
    """An instance with its incidents. ``before`` may answer in its place, ``after`` may replace what it answers."""

    port: int = 0
    incidents: list[dict[str, str]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    before: Callable[[Call], Answer | None] = lambda _: None
    after: Callable[[Call, Answer], Answer] = lambda _, answer: answer
    searches_by_correlation_id: bool = True
    called_at_s: float = 0.0
    """When the last call came, by the monotonic clock."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(10_001))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of(self, state: str) -> list[dict[str, str]]:
        """Return the incidents in a state."""
        return [each for each in self.incidents if each["state"] == state]

    def count(self, method: str) -> int:
        """Return how many requests of a method came."""
        return sum(call.method == method for call in self.calls)

    def behave(self) -> None:
        """Answer as usual again."""
        self.before, self.after = (lambda _: None), (lambda _, answer: answer)

    def answer(self, call: Call, authorization: str) -> Answer:
        """Return the answer to one request."""
        self.calls.append(call)
        self.called_at_s = time.monotonic()
        if (instead := self.before(call)) is not None:
            return instead
        if authorization != f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}":
            return _refusal(401, "User Not Authenticated", "Required to provide Auth information")
        with self._lock:
            return self.after(call, self._act(call))

    def _act(self, call: Call) -> Answer:
        if call.method == "GET" and call.path == INCIDENTS:
            found = [each for each in self.incidents if self._matches(each, call.query.get("sysparm_query", ""))]
            limit = int(call.query.get("sysparm_limit", "10000"))
            return Answer(status=200, body={"result": [_shown(each, call) for each in found[:limit]]})
        if call.method == "POST" and call.path == INCIDENTS:
            made = {"sys_id": uuid.uuid4().hex, "number": f"INC{next(self._numbers):07}", "state": NEW, **call.body}
            self.incidents.append(made)
            return Answer(status=201, body={"result": _shown(made, call)})
        wanted = call.path.removeprefix(f"{INCIDENTS}/")
        incident = next((each for each in self.incidents if each["sys_id"] == wanted), None)
        if call.method != "PATCH" or incident is None:
            return _refusal(404, "No Record found", "Record doesn't exist or ACL restricts the record retrieval")
        if call.body.get("state") == RESOLVED and not (
            call.body.get("close_code") in CLOSE_CODES and call.body.get("close_notes")
        ):
            return _refusal(403, "Operation Failed", "Data Policy Exception: close_code and close_notes are mandatory")
        incident.update(call.body)
        return Answer(status=200, body={"result": _shown(incident, call)})

    def _matches(self, incident: Mapping[str, str], query: str) -> bool:
        """Evaluate an encoded query. A condition on a field that the user may not read is left out, as there."""
        for condition in query.split("^"):
            if condition.startswith("correlation_id="):
                wanted = condition.removeprefix("correlation_id=")
                if self.searches_by_correlation_id and incident.get("correlation_id") != wanted:
                    return False
            elif condition.startswith("stateNOT IN"):
                if incident["state"] in condition.removeprefix("stateNOT IN").split(","):
                    return False
            elif condition != "ORDERBYsys_created_on":
                raise AssertionError(f"The simulator does not know the condition {condition!r}.")
        return True


def _shown(incident: Mapping[str, str], call: Call) -> dict[str, str]:
    """Return the fields that were wanted; it ends lines in its own way."""
    wanted = call.query.get("sysparm_fields", "").split(",")
    shown = {name: incident.get(name, "") for name in wanted} if wanted != [""] else dict(incident)
    return {name: value.replace("\n", "\r\n") for name, value in shown.items()}


def _refusal(status: int, message: str, detail: str) -> Answer:
    return Answer(status=status, body={"error": {"message": message, "detail": detail}, "status": "failure"})


@dataclass(slots=True, kw_only=True)
class TicketSystem:
    """Any other ITSM behind the receiver of messages: idempotent by correlation id, as our docs demand."""

    tickets: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_away: bool = False

    def take(self, received: Received) -> Reply:
        """Make the ticket fit a message, and name it."""
        if self.is_away:
            return Reply(status=503)
        message = received.content
        data = message["data"]
        known = self.tickets.get(data["correlation_id"], {})
        number = known.get("number", f"OPS-{len(self.tickets) + 1}")
        is_open = message["type"] == "alarm.firing"
        self.tickets[data["correlation_id"]] = {**data, "number": number, "is_open": is_open}
        answer = {"number": number, "url": f"https://tickets.example.com/{number}"}
        return Reply(status=200, body=json.dumps(answer).encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def servicenow(port: int = 0) -> Iterator[ServiceNowInstance]:
    """Serve an instance while the block runs."""
    instance = ServiceNowInstance()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            address = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(address.query).items()}
            call = Call(method=self.command, path=address.path, query=query, body=json.loads(body) if body else None)
            answer = instance.answer(call, self.headers.get("Authorization", ""))
            self.close_connection = True
            if not answer.status:
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            try:
                self.wfile.write(json.dumps(answer.body).encode())
            except OSError:
                return  # the caller does not wait any more

        def do_GET(self) -> None:
            self.handle_any()

        def do_POST(self) -> None:
            self.handle_any()

        def do_PATCH(self) -> None:
            self.handle_any()

        def log_message(self, *_: object) -> None:
            pass

    with _Server(("127.0.0.1", port), Handler) as http:
        instance.port = http.server_port
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield instance
        finally:
            http.shutdown()
            thread.join()
