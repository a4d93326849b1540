"""Submits many orders through checkout's bulk path, at a given rate or as fast as possible, each exactly once.

Every order has an idempotency key, so an order without an answer is submitted again.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Any, Protocol, Self

import httpx

from baraza.storefront.orderfile import Submission
from baraza.system.client import NotUnderstood, Unreachable, problem_of
from baraza.terminal import Refusal

BATCH_ORDERS = 50
"""Few enough that orders of one batch do not wait long for one another, many enough to share a commit."""
CALLS_MAX = 2
"""Checkout stores two batches at once; a third would only wait there."""
RETRY_FOR_S = 60.0
"""Longer than checkout takes to start again."""
RETRY_S = 0.5
RETRY_S_MAX = 5.0
DIGITS_MAX = 9
"""Of a number of seconds; with more of them it is longer than any wait of ours."""
ACQUIRE_TIMEOUT_S = 0.5
RETRYABLE = frozenset({409, 429, 500, 502, 503, 504})

NUMBER = re.compile(r"(?<![\w+])(?<!ISO )-?\d+\b")
"""A number of an order, not one of a standard (ISO 4217) or of a character (U+200B)."""

Result = dict[str, Any]
"""Checkout's answer to one order of a batch: ``status``, and ``order`` or ``problem``."""


class Window(Protocol):
    """Limits how many orders are open, and is notified of those that were accepted."""

    def acquire(self, count: int, timeout_s: float) -> bool:
        """Wait for ``count`` permits, each for one open order; False where they are not free in time."""
        ...

    def release(self, count: int) -> None:
        """Release the permits of orders that were refused."""
        ...

    def accepted(self, order_ids: Iterable[str]) -> None:
        """Record the orders that were accepted."""
        ...


class Checkout(Protocol):
    """Where orders are submitted: one process, or several in rotation."""

    def send(self, method: str, path: str, *, body: Any = None) -> httpx.Response:
        """Make one call and return the response, whatever its status. Raises Unreachable where there is none."""
        ...

    def check(self, response: httpx.Response) -> Any:
        """Return the response's JSON. Raises Refused where its status is an error."""
        ...


class Unlimited:
    """A window without a limit, for a replay whose orders are not followed."""

    def acquire(self, count: int, timeout_s: float) -> bool:
        """Any number of orders may be open."""
        del count, timeout_s
        return True

    def release(self, count: int) -> None:
        """There is nothing to release."""

    def accepted(self, order_ids: Iterable[str]) -> None:
        """The orders are not followed."""


@dataclass(slots=True)
class Intake:
    """Checkout's answers so far, counted. Thread-safe."""

    accepted: int = 0
    repeated: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By reason."""
    examples: dict[str, str] = field(default_factory=dict)
    """By reason the first order that was refused for it: its line and its key."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def total(self) -> int:
        """How many orders were answered."""
        return self.accepted + self.repeated + self.refused.total()

    def add(self, batch: Sequence[Submission], results: Sequence[Result]) -> None:
        """Count the results of a batch."""
        with self._lock:
            for order, result in zip(batch, results, strict=True):
                match result["status"]:
                    case 202:
                        self.accepted += 1
                    case 200:
                        self.repeated += 1
                    case _:
                        reason = reason_of(result["problem"])
                        self.refused[reason] += 1
                        self.examples.setdefault(reason, f"{order.where}, key {order.key}".removeprefix(", "))


def reason_of(problem: Result) -> str:
    """Return the field for which an order was refused, and why, without what differs between orders (line, number)."""
    errors = problem.get("errors") or []
    text = str(errors[0]["detail"]) if errors else str(problem.get("detail") or problem.get("title") or "refused")
    text = re.sub(r"^Line \d+ \(sku .*?\): ", "", text)
    text = NUMBER.sub("N", text, count=1) if errors else text
    where = re.sub(r"/\d+", "", str(errors[0]["pointer"])).removeprefix("#/").replace("/", ".") if errors else ""
    return f"{where}: {text}".removeprefix(": ").rstrip(".")


class Pace:
    """A rate limit in orders a second; without a rate it never waits."""

    def __init__(self, per_second: float | None) -> None:
        self._per_second = per_second
        self._next_at_s = time.monotonic()

    def wait(self, count: int) -> None:
        """Wait until ``count`` more orders are due."""
        if self._per_second is None:
            return
        now_s = time.monotonic()
        if self._next_at_s > now_s:
            time.sleep(self._next_at_s - now_s)
        self._next_at_s = max(self._next_at_s, now_s) + count / self._per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How many orders are submitted to a checkout: the window, the rate, and who is notified.

    ``checkpoint`` is called before every batch, and repeatedly while no permit is free; it may raise to end the replay.
    ``retry_for_s`` is how long checkout may be unavailable, or throttle, before the replay fails.
    """

    checkout: Checkout
    window: Window
    rate: float | None
    intake: Intake
    on_batch: Callable[[Sequence[Submission], Sequence[Result]], None] = lambda _sent, _results: None
    checkpoint: Callable[[], None] = lambda: None
    retry_for_s: float = RETRY_FOR_S

    def run(self, submissions: Iterable[Submission]) -> None:
        """Submit all in their order, at most CALLS_MAX batches at a time.

        Raises Refused, or Refusal where checkout is unavailable for too long; what was submitted before that stays.
        """
        pace = Pace(self.rate)
        with _Calls(self._send) as calls:
            for batch in _batches(submissions, _batch_orders(self.rate)):
                self.checkpoint()
                pace.wait(len(batch))
                while not self.window.acquire(len(batch), ACQUIRE_TIMEOUT_S):
                    self.checkpoint()
                calls.submit(batch)
            calls.finish()

    def _send(self, batch: Sequence[Submission], stopping: threading.Event) -> None:
        results = _submitted(self.checkout, batch, stopping, self.retry_for_s)
        accepted = [result["order"]["order_id"] for result in results if result["status"] in (200, 202)]
        self.window.accepted(accepted)
        self.window.release(len(results) - len(accepted))
        self.intake.add(batch, results)
        self.on_batch(batch, results)


def _batch_orders(rate: float | None) -> int:
    return BATCH_ORDERS if rate is None else max(1, min(BATCH_ORDERS, int(rate / 4)))


class _Calls:
    """At most CALLS_MAX batches in flight. An error in one is raised by the next call; exit cancels the rest."""

    def __init__(self, send: Callable[[Sequence[Submission], threading.Event], None]) -> None:
        self._send = send
        self._pool = ThreadPoolExecutor(CALLS_MAX, thread_name_prefix="replay")
        self._in_flight: set[Future[None]] = set()
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, batch: Sequence[Submission]) -> None:
        """Submit a batch, as soon as fewer than CALLS_MAX are in flight."""
        if len(self._in_flight) >= CALLS_MAX:
            self._wait_for_one()
        self._in_flight.add(self._pool.submit(self._send, batch, self._stopping))

    def finish(self) -> None:
        """Wait until no batch is in flight."""
        while self._in_flight:
            self._wait_for_one()

    def _wait_for_one(self) -> None:
        done, self._in_flight = wait(self._in_flight, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()


def _batches(items: Iterable[Submission], size: int) -> Iterator[list[Submission]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _submitted(
    checkout: Checkout, batch: Sequence[Submission], stopping: threading.Event, retry_for_s: float
) -> list[Result]:
    """Submit one batch until every order of it has a final result."""
    results: dict[int, Result] = {}
    """By index: a file may give one key to two orders, and each has a result of its own."""
    left = list(enumerate(batch))
    deadline_s = time.monotonic() + retry_for_s
    delay_s = RETRY_S
    while left:
        answers, retry_after_s = _call(checkout, [order for _, order in left])
        retried = []
        for (index, order), answer in zip(left, answers, strict=True):
            if answer["status"] in RETRYABLE:
                retried.append((index, order))
            else:
                results[index] = answer
        left = retried
        if left:
            if time.monotonic() > deadline_s:
                detail = answers[-1].get("problem", {}).get("detail", "no answer")
                raise Refusal(f"checkout did not take {len(left)} orders within {retry_for_s:.0f} s: {detail}")
            if stopping.wait(max(delay_s, retry_after_s)):
                raise Refusal("The replay was stopped.")
            delay_s = min(2 * delay_s, RETRY_S_MAX)
    return [results[index] for index in range(len(batch))]


def _retry_after_s(text: str) -> float:
    """Return how long checkout wants a retry to wait, RETRY_FOR_S at most; 0 where it gives no number of seconds."""
    if not text.isascii() or not text.isdecimal():
        return 0.0
    return float(min(int(text[:DIGITS_MAX]), int(RETRY_FOR_S)))


def _call(checkout: Checkout, batch: Sequence[Submission]) -> tuple[list[Result], float]:
    """Return a result for each order of the batch, and after how many seconds checkout wants a retry."""
    body = [{**sent.body, "idempotency_key": sent.key} for sent in batch]
    try:
        response = checkout.send("POST", "/v1/orders/bulk", body=body)
    except Unreachable as error:
        return [{"status": 503, "problem": {"detail": str(error)}}] * len(batch), 0.0
    if response.is_success:
        results: list[Result] = checkout.check(response)["results"]
        if not isinstance(results, list) or len(results) != len(batch):
            raise NotUnderstood(f"checkout did not answer with {len(batch)} results. Run ./baraza status.")
        return results, 0.0
    if response.status_code in RETRYABLE:
        answer = {"status": response.status_code, "problem": problem_of(response)}
        return [answer] * len(batch), _retry_after_s(response.headers.get("Retry-After", ""))
    checkout.check(response)
    raise Refusal(f"checkout answered {response.status_code}, which is not expected here; see its log.")
