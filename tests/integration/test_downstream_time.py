"""Every stage of a call ends with its time: lookup, connection, handshake, write and read stand still one by one."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chassis.http.breaker import CircuitState
from chassis.http.downstream import Downstream, NotTried, Response, Unavailable
from chassis.http.timed_connections import ending_by
from chassis.process.calls import Calls
from chassis.saga.deferred import RawMessage
from chassis.saga.steps import CALL_DURATION, ExternalStep
from chassis.saga.unit_of_work import CallResult, Delivery, PendingCall
from messages.loyalty import LoyaltyPointsBurned
from support import toy
from support.builders import a

TIMEOUT_S = 0.4
"""Of a call that is to end at its time limit before it is sent."""
SENT_S = 2.0
"""The time limit of a call that is sent before it ends, or answered: a loaded machine takes long for that."""
WAIT_S_MAX = 20.0
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HUGE = {"note": "x" * 30_000_000}
"""More than the buffers of both kernels hold together."""


@dataclass
class Server:
    """A server that accepts and reads only when the test lets it, and keeps what it has read of each connection."""

    listener: socket.socket
    reads: threading.Event = field(default_factory=threading.Event)
    received: list[tuple[bytes, str]] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    connections: list[socket.socket] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def accept(self) -> None:
        """Accept until the listener is shut down; each connection is read once ``reads`` is set."""
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            thread = threading.Thread(target=self.read, args=(connection,))
            self.threads.append(thread)
            thread.start()

    def read(self, connection: socket.socket) -> None:
        self.reads.wait(WAIT_S_MAX)
        content, end = b"", "open"
        with connection:
            connection.settimeout(WAIT_S_MAX)
            try:
                while chunk := connection.recv(1_000_000):
                    content += chunk
                    if content.endswith(b"{}"):
                        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                end = "closed"
            except ConnectionResetError:
                end = "reset"
            self.received.append((content, end))

    def close(self) -> None:
        """End what is still open, and everything that runs for it."""
        self.reads.set()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        for thread in self.threads:
            thread.join()


@contextmanager
def serving(*, accepts: bool = True) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        server = Server(listener)
        acceptor = threading.Thread(target=server.accept)
        if accepts:
            acceptor.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            if accepts:
                acceptor.join()
            server.close()


def to(port: int, *, scheme: str = "http", timeout_s: float = TIMEOUT_S) -> Downstream:
    return Downstream("gateway", f"{scheme}://localhost:{port}", timeout_s=timeout_s, concurrency_max=4)


def post(downstream: Downstream, body: dict[str, Any] | None = None) -> Future[Response]:
    """Make a call on a thread, so that one which never ends fails the test and does not hold it."""
    threads = ThreadPoolExecutor(1)
    called = threads.submit(downstream.request, "POST", "/", body=body or {}, idempotency_key="key")
    threads.shutdown(wait=False)
    return called


def ends(called: Future[Response], reason: str) -> Unavailable:
    """Return the failure with which a call ends, in its time and what a loaded machine adds."""
    with pytest.raises(Unavailable, match=reason) as raised:
        called.result(WAIT_S_MAX / 2)
    return raised.value


def until(description: str, condition: Callable[[], bool]) -> None:
    """Poll a described condition until it holds, or fail."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S_MAX} s: {description}"
        time.sleep(0.01)


@contextmanager
def lookups_standing_still(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let no lookup of a name end before the event is set."""
    goes_on, look_up = threading.Event(), socket.getaddrinfo

    def slow(*args: Any, **more: Any) -> Any:
        assert goes_on.wait(6 * WAIT_S_MAX)
        return look_up(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", slow)
        try:
            yield goes_on
        finally:
            goes_on.set()


def no_lookup() -> bool:
    return not any(thread.name == "lookup" for thread in threading.enumerate())


def test_a_lookup_that_stands_still_ends_the_call_and_nothing_is_sent_later(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server, lookups_standing_still(monkeypatch) as goes_on:
        server.reads.set()
        downstream = to(server.port, timeout_s=SENT_S)

        assert ends(post(downstream), "cannot be reached").certain_no_effect
        goes_on.set()
        until("the lookup has ended", no_lookup)

        assert (server.threads, server.received) == ([], [])
        assert post(downstream).result(WAIT_S_MAX).status == 200, "the result of the slow lookup was lost"
    assert [content.count(b"POST") for content, _ in server.received] == [1]


def test_calls_that_connect_together_share_one_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server, lookups_standing_still(monkeypatch):
        calls = [post(downstream) for downstream in [to(server.port)] for _ in range(3)]
        until("a lookup is under way", lambda: not no_lookup())
        assert sum(thread.name == "lookup" for thread in threading.enumerate()) == 1
        for call in calls:
            ends(call, "cannot be reached")


def test_a_call_does_not_act_after_its_deadline_however_long_its_lookup_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The effect may be fenced at the deadline: what leaves after it would be an effect that no process knows of."""
    with serving() as server, lookups_standing_still(monkeypatch) as goes_on:
        server.reads.set()
        downstream = to(server.port, timeout_s=2.0)
        result = result_of(downstream, left=CALL_DURATION)

        assert result.failure is not None
        goes_on.set()
        until("the lookup has ended", no_lookup)
        assert server.received == []


@pytest.mark.parametrize("left_s", [CALL_DURATION.total_seconds() - 0.1, 0.0, -5.0])
def test_a_call_that_could_outlast_its_deadline_is_not_begun(left_s: float) -> None:
    with serving() as server:
        result = result_of(to(server.port), left=timedelta(seconds=left_s))

        assert isinstance(result.failure, NotTried)
        assert server.threads == []


def result_of(downstream: Downstream, *, left: timedelta) -> CallResult:
    """Return the result of a call of the toy's step, whose deadline is so far away."""

    class Provider(toy.WellProvider):
        def send(self, request: str, key: str) -> str:
            return str(downstream.request("POST", "/", body={}, idempotency_key=key).status)

    (step,) = [each for each in toy.handlers(Provider()) if isinstance(each, ExternalStep)]
    message = a(LoyaltyPointsBurned)
    raw = RawMessage(topic=toy.INPUT, partition=0, key=message.saga_id.encode(), value=b"", headers=())
    delivery = Delivery(message=message, raw=raw)
    calls = Calls(lambda: NOW)
    calls.begin(PendingCall(handler=step, delivery=delivery, request="", attempt=1, deadline_at=NOW + left))
    calls.wait(WAIT_S_MAX)
    (result,) = calls.collect()
    calls.close()
    return result


def test_a_connection_that_hangs_ends_the_call() -> None:
    with serving(accepts=False) as server:
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:  # they fill the queue of the listener, which drops what comes then
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", server.port))

        assert ends(post(to(server.port)), "cannot be reached").certain_no_effect
        for each in waiting:
            each.close()


def test_a_handshake_that_stands_still_ends_the_call() -> None:
    with serving() as server:
        ends(post(to(server.port, scheme="https")), "no answer|cannot be reached")
        server.reads.set()
        until("the server has read what came", lambda: bool(server.received))

    assert b"POST" not in server.received[0][0]


def test_a_server_that_stops_reading_never_gets_the_rest_of_the_request() -> None:
    with serving() as server:
        ends(post(to(server.port, timeout_s=SENT_S), HUGE), "gave no answer")
        server.reads.set()
        until("the server has read what came", lambda: bool(server.received))

    (content, end) = server.received[0]
    assert (len(content) < len(json.dumps(HUGE)), end) == (True, "reset")


def test_a_call_without_an_answer_is_reset_and_not_closed_in_order() -> None:
    """A server that has not begun learns from the reset that no client waits; nothing more is sent."""
    with serving() as server:
        body = {"note": "x"}  # the server answers an empty object alone
        server.reads.set()
        ends(post(to(server.port, timeout_s=SENT_S), body), "gave no answer")
        until("the server has read what came", lambda: bool(server.received))

    assert server.received[0][1] == "reset"


def test_a_pooled_connection_sends_nothing_for_a_call_whose_time_is_over() -> None:
    with serving() as server:
        server.reads.set()
        downstream = to(server.port, timeout_s=WAIT_S_MAX)
        assert downstream.request("POST", "/", body={}).status == 200
        with ending_by(time.monotonic()), pytest.raises(NotTried, match="no time is left"):
            downstream.request("POST", "/", body={})
        assert downstream.breaker.state is CircuitState.CLOSED
        assert downstream.request("POST", "/", body={}).status == 200
        assert len(server.threads) == 1, "the connection was not kept"
        downstream._pool.close()

    assert server.received[0][0].count(b"POST") == 2
