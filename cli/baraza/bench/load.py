"""Submits orders or payments: as many as the window admits, or at a fixed rate whatever their outcome.

Bodies are written by hand and responses parsed as little as possible: the load shares the processors with the stack.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol, Self, TypeAlias
from urllib.parse import urlsplit

from baraza.bench.follower import Follower
from baraza.bench.orders import Order
from baraza.system.client import Tokens
from baraza.terminal import Refusal

BATCH_ORDERS = 100
CONNECTIONS = 2
"""Checkout stores two batches at once; a third would only wait there."""
TIMEOUT_S = 30.0
ROOM_TIMEOUT_S = 0.2
RETRYABLE = frozenset({429, 503})
RETRY_S = 0.1


def exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> tuple[int, bytes]:
    """Return the status and the body of the response. Where the server has closed an idle connection, send it again.

    Only for idempotent requests: orders are, because each has a key.
    """
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
    except ConnectionError:
        connection.close()
        connection.request(method, path, body, headers)
        response = connection.getresponse()
    return response.status, response.read()


class Client(Protocol):
    """A connection to the service that orders or payments enter by, for one thread at a time."""

    def submit(self, orders: Sequence[Order]) -> list[str | None]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """How a load enters the stack: its connections, and the most that one of them submits together."""

    connect: Callable[[], Client]
    connections: int = CONNECTIONS
    batch_size_max: int = BATCH_ORDERS


class Answered(NamedTuple):
    """An order or payment that was accepted: when it was due to be sent, and when it was answered (monotonic)."""

    due_at_s: float
    at_s: float


class CheckoutClient:
    """One connection to checkout, for one thread at a time. It appends each order's status to ``statuses``."""

    def __init__(self, url: str, tokens: Tokens, statuses: list[int]) -> None:
        address = urlsplit(url)
        self._http = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
        self._tokens = tokens
        self._statuses = statuses

    def submit(self, orders: Sequence[Order]) -> list[str | None]:
        """Submit orders through the bulk path. Return their ids, None for one that is not accepted. Raises Refusal."""
        body = f"[{','.join(order.keyed for order in orders)}]".encode()
        while True:
            headers = {"Authorization": self._tokens.header(), "Content-Type": "application/json"}
            status, response = exchange(self._http, "POST", "/v1/orders/bulk", body, headers)
            if status == 200:
                break
            self._statuses.extend([status] * len(orders))
            if status not in RETRYABLE:
                raise Refusal(f"checkout answered {status} to a batch of orders: {response[:500]!r}")
            time.sleep(RETRY_S)
        results: list[dict[str, Any]] = json.loads(response)["results"]
        self._statuses.extend([each["status"] for each in results])
        return [each["order"]["order_id"] if each["status"] == 202 else None for each in results]

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


class DueOrder(NamedTuple):
    """An order, and when it is due to be sent (monotonic)."""

    order: Order
    at_s: float


Schedule: TypeAlias = Callable[[threading.Event], list[DueOrder]]
"""Waits until orders are due or the event is set; returns the orders that are due, possibly none."""


def saturating(
    follower: Follower, orders: Iterator[Order], *, open_max: int, batch_size_max: int = BATCH_ORDERS
) -> Schedule:
    """Return the schedule that keeps ``open_max`` orders open."""

    def due(_stopping: threading.Event) -> list[DueOrder]:
        has_room = follower.wait_for_room(open_max - batch_size_max, ROOM_TIMEOUT_S)
        now_s = time.monotonic()
        return [DueOrder(order, now_s) for order in islice(orders, batch_size_max if has_room else 0)]

    return due


def paced(
    orders: Iterator[Order],
    times_s: Iterator[float],
    *,
    batch_size_max: int = BATCH_ORDERS,
    clock: Callable[[], float] = time.monotonic,
) -> Schedule:
    """Return the schedule that sends each order at its time.

    A late sender sends everything that has become due meanwhile in one request, each order due at its own time.
    """
    following = (DueOrder(order, at_s) for order, at_s in zip(orders, times_s, strict=False))
    upcoming = next(following)

    def due(stopping: threading.Event) -> list[DueOrder]:
        nonlocal upcoming
        stopping.wait(max(0.0, upcoming.at_s - clock()))
        now_s = clock()
        found: list[DueOrder] = []
        while len(found) < batch_size_max and upcoming.at_s <= now_s:
            found.append(upcoming)
            upcoming = next(following)
        return found

    return due


class Load:
    """Submits the orders that are due while it is entered. It appends each accepted one to ``answered``."""

    def __init__(self, entry: Entry, follower: Follower, due: Schedule, answered: list[Answered]) -> None:
        self._connect = entry.connect
        self._follower = follower
        self._due = due
        self._answered = answered
        self._due_lock = threading.Lock()
        self._threads = Threads(entry.connections, self._send)

    def __enter__(self) -> Self:
        self._threads.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.stop()

    def _send(self, stopping: threading.Event) -> None:
        with closing(self._connect()) as client:
            while not stopping.is_set():
                with self._due_lock:
                    batch = self._due(stopping)
                if batch:
                    ids = client.submit([each.order for each in batch])
                    now_s = time.monotonic()
                    accepted = [(order_id, each.at_s) for order_id, each in zip(ids, batch, strict=True) if order_id]
                    self._answered.extend(Answered(due_at_s, now_s) for _, due_at_s in accepted)
                    self._follower.accepted(accepted)


class Threads:
    """Threads that run the same function until they are stopped; an error of one of them is raised by ``stop``."""

    def __init__(self, count: int, work: Callable[[threading.Event], None]) -> None:
        self._stopping = threading.Event()
        self._work = work
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, name="load", daemon=True) for _ in range(count)]

    def start(self) -> None:
        """Start all."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop all, and raise the error that ended one of them before."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._work(self._stopping)
        except Exception as error:  # raised again by stop, on the thread that measures
            self._failure = error
