"""Sends orders to checkout: as many as are let through, or so many a second whatever becomes of them.

Bodies are written by hand and answers read as little as possible: the load shares the processors with the stack.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, Self, TypeAlias
from urllib.parse import urlsplit

from baraza.bench.following import Follower
from baraza.bench.workload import Order
from baraza.client import Tokens
from baraza.terminal import Refusal

BATCH_ORDERS = 100
SENDERS = 2
"""Checkout stores two batches at once; a third would only wait there."""
TIMEOUT_S = 30.0
BEAT_S = 0.02
"""Paced orders go out in beats of this length: close to even, and few enough requests to leave the processors alone."""
RETRYABLE = frozenset({429, 503})
RETRY_S = 0.1


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> tuple[int, bytes]:
    """Return the status and the body of the answer. A connection that was closed for its rest is opened once more.

    Only for what may be asked twice: orders are, for each has a key.
    """
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
    except ConnectionError:
        connection.close()
        connection.request(method, path, body, headers)
        response = connection.getresponse()
    return response.status, response.read()


class CheckoutClient:
    """One connection to checkout. One thread uses it at a time."""

    def __init__(self, url: str, tokens: Tokens, statuses: list[int]) -> None:
        """The status that each order is answered with goes to ``statuses``."""
        address = urlsplit(url)
        self._http = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
        self._tokens = tokens
        self._statuses = statuses

    def submit(self, orders: Sequence[Order]) -> list[str]:
        """Submit orders through the bulk path and return the ids of those that were taken."""
        body = f"[{','.join(order.keyed for order in orders)}]".encode()
        while True:
            headers = {"Authorization": self._tokens.header(), "Content-Type": "application/json"}
            status, answer = ask(self._http, "POST", "/v1/orders/bulk", body, headers)
            if status == 200:
                break
            self._statuses.extend([status] * len(orders))
            if status not in RETRYABLE:
                raise Refusal(f"checkout answered {status} to a batch of orders: {answer[:500]!r}")
            time.sleep(RETRY_S)
        results: list[dict[str, Any]] = json.loads(answer)["results"]
        self._statuses.extend([each["status"] for each in results])
        return [each["order"]["order_id"] for each in results if each["status"] == 202]

    def close(self) -> None:
        """End the connection."""
        self._http.close()


Due: TypeAlias = Callable[[threading.Event], tuple[list[Order], float]]
"""Returns the orders that are to be sent now, none or some, and since when; waits for them, until told to stop."""


def pressure(follower: Follower, orders: Iterator[Order], *, open_max: int) -> Due:
    """Return what keeps ``open_max`` orders open."""

    def due(_stopping: threading.Event) -> tuple[list[Order], float]:
        has_room = follower.wait_for_room(open_max - BATCH_ORDERS, BEAT_S * 10)
        return list(islice(orders, BATCH_ORDERS if has_room else 0)), time.monotonic()

    return due


def pace(orders: Iterator[Order], *, per_second: float) -> Due:
    """Return what sends ``per_second`` orders from now on; an order's time counts from when it was due.

    Whoever is late sends what has become due meanwhile in one request, all of it as if due with its first.
    """
    began_at_s = time.monotonic()
    beats_max = int(BATCH_ORDERS / max(1.0, per_second * BEAT_S))
    beats = sent = 0

    def due(stopping: threading.Event) -> tuple[list[Order], float]:
        nonlocal beats, sent
        due_at_s = began_at_s + (beats + 1) * BEAT_S
        stopping.wait(max(0.0, due_at_s - time.monotonic()))
        late = int((time.monotonic() - due_at_s) / BEAT_S)
        beats += 1 + max(0, min(late, beats_max - 1))
        already, sent = sent, int(beats * BEAT_S * per_second)
        return list(islice(orders, sent - already)), due_at_s

    return due


class Sending:
    """Sends what is due while it is entered, over SENDERS connections."""

    def __init__(self, till: Callable[[], CheckoutClient], follower: Follower, due: Due) -> None:
        self._till = till
        self._follower = follower
        self._due = due
        self._asking = threading.Lock()
        self._threads = Threads(SENDERS, self._send)

    def __enter__(self) -> Self:
        self._threads.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.stop()

    def _send(self, stopping: threading.Event) -> None:
        with closing(self._till()) as till:
            while not stopping.is_set():
                with self._asking:
                    batch, due_at_s = self._due(stopping)
                if batch:
                    self._follower.accepted(till.submit(batch), due_at_s)


class Threads:
    """Threads that do the same until they are told to stop; what one of them raises is raised at the end."""

    def __init__(self, count: int, work: Callable[[threading.Event], None]) -> None:
        self._stopping = threading.Event()
        self._work = work
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, name="load", daemon=True) for _ in range(count)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End them, and raise what ended one of them before."""
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
