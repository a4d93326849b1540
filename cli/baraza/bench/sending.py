"""Sends orders to checkout: as many as are let through, or so many a second whatever becomes of them.

Bodies are written by hand and answers read as little as possible: the load shares the processors with the stack.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any
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


class Till:
    """One connection to checkout. One thread uses it at a time."""

    def __init__(self, url: str, tokens: Tokens) -> None:
        address = urlsplit(url)
        self._http = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
        self._tokens = tokens

    def submit(self, orders: Sequence[Order]) -> list[str]:
        """Submit orders through the bulk path and return the ids of those that were taken."""
        body = f"[{','.join(order.keyed for order in orders)}]".encode()
        while True:
            status, answer = self.post("/v1/orders/bulk", body)
            if status == 200:
                break
            if status not in RETRYABLE:
                raise Refusal(f"checkout answered {status} to a batch of orders: {answer[:500]!r}")
            time.sleep(RETRY_S)
        results: list[dict[str, Any]] = json.loads(answer)["results"]
        return [each["order"]["order_id"] for each in results if each["status"] == 202]

    def post(self, path: str, body: bytes, key: str | None = None) -> tuple[int, bytes]:
        """Post JSON and return the answer's status and body."""
        headers = {"Authorization": self._tokens.header(), "Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        self._http.request("POST", path, body, headers)
        response = self._http.getresponse()
        return response.status, response.read()

    def close(self) -> None:
        """End the connection."""
        self._http.close()


class Pressure:
    """Keeps ``open_max`` orders open while it is entered."""

    def __init__(self, till: Callable[[], Till], follower: Follower, orders: Iterator[Order], *, open_max: int) -> None:
        self._till = till
        self._follower = follower
        self._orders = orders
        self._open_max = open_max
        self._taking = threading.Lock()
        self._threads = Threads(SENDERS, self._send)

    def __enter__(self) -> Pressure:
        self._threads.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.stop()

    def _send(self, stopping: threading.Event) -> None:
        till = self._till()
        try:
            while not stopping.is_set():
                if not self._follower.wait_for_room(self._open_max - BATCH_ORDERS, BEAT_S * 10):
                    continue
                with self._taking:
                    batch = list(islice(self._orders, BATCH_ORDERS))
                self._follower.accepted(till.submit(batch), time.monotonic())
        finally:
            till.close()


class Pace:
    """Sends ``per_second`` orders while it is entered; an order's time counts from when it was due."""

    def __init__(
        self, till: Callable[[], Till], follower: Follower, orders: Iterator[Order], *, per_second: float
    ) -> None:
        self._till = till
        self._follower = follower
        self._orders = orders
        self._per_second = per_second
        self._taking = threading.Lock()
        self._began_at_s = 0.0
        self._beats = 0
        self._sent = 0
        self._threads = Threads(SENDERS, self._send)

    def __enter__(self) -> Pace:
        self._began_at_s = time.monotonic()
        self._threads.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.stop()

    def _send(self, stopping: threading.Event) -> None:
        till = self._till()
        try:
            while not stopping.is_set():
                with self._taking:
                    self._beats += 1
                    due_s = self._began_at_s + self._beats * BEAT_S
                    count = int(self._beats * BEAT_S * self._per_second) - self._sent
                    self._sent += count
                    batch = list(islice(self._orders, count))
                if stopping.wait(max(0.0, due_s - time.monotonic())):
                    return
                if batch:
                    self._follower.accepted(till.submit(batch), due_s)
        finally:
            till.close()


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
