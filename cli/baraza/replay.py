"""Submits many orders through checkout's bulk path: as fast as it is told to, each exactly once.

Every order has an idempotency key, so whatever was not answered is simply sent again.
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
from typing import Any, Protocol

import httpx

from baraza.client import Unreachable, problem_of
from baraza.orderfile import Submission
from baraza.terminal import Refusal

BATCH_ORDERS = 50
"""Few enough that orders of one batch do not wait long for one another, many enough to share a commit."""
CALLS_MAX = 2
"""Checkout stores two batches at once; a third would only wait there."""
PATIENCE_S = 60.0
"""How long checkout may be away, or ask to wait, before a replay gives up."""
RETRY_S = 0.5
RETRY_S_MAX = 5.0
PLACES_POLL_S = 0.5
RETRYABLE = frozenset({409, 429, 500, 502, 503, 504})

Outcome = dict[str, Any]


class Window(Protocol):
    """Bounds how many orders are open, and is told which were accepted."""

    def take_places(self, count: int, timeout_s: float) -> bool:
        """Wait until ``count`` more orders may be open; False where none came free in time."""
        ...

    def give_back(self, count: int) -> None:
        """Give back the places of orders that were refused."""
        ...

    def accepted(self, order_ids: Iterable[str]) -> None:
        """Note the orders that were accepted."""
        ...


class Checkout(Protocol):
    """Where orders are submitted: one process, or several in turn."""

    def send(self, method: str, path: str, *, body: Any = None) -> httpx.Response:
        """Make one call and return whatever was answered. Raises Unreachable where nothing was."""
        ...

    def check(self, response: httpx.Response) -> Any:
        """Return the answer's JSON. Raises Refused where it is a refusal."""
        ...


class Boundless:
    """A window for a replay that nobody follows."""

    def take_places(self, count: int, timeout_s: float) -> bool:
        """Any number of orders may be open."""
        del count, timeout_s
        return True

    def give_back(self, count: int) -> None:
        """There is nothing to give back."""

    def accepted(self, order_ids: Iterable[str]) -> None:
        """Nobody follows them."""


@dataclass(slots=True)
class Intake:
    """What checkout has said to the orders so far. Any thread may add to it."""

    accepted: int = 0
    repeated: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By reason."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def total(self) -> int:
        """How many orders were answered."""
        return self.accepted + self.repeated + self.refused.total()

    def add(self, results: Sequence[Outcome]) -> None:
        """Count a batch of results."""
        with self._lock:
            for result in results:
                match result["status"]:
                    case 202:
                        self.accepted += 1
                    case 200:
                        self.repeated += 1
                    case _:
                        self.refused[reason_of(result["problem"])] += 1


def reason_of(problem: Outcome) -> str:
    """Return why an order was refused, without what differs from one order to the next (line, sku, number)."""
    errors = problem.get("errors") or []
    text = str(errors[0]["detail"]) if errors else str(problem.get("detail") or problem.get("title") or "refused")
    text = re.sub(r"^Line \d+ \(sku .*?\): ", "", text)
    text = re.sub(r"-?\d+", "N", text, count=1) if errors else text
    return text.rstrip(".")


class Pace:
    """Lets so many orders a second pass; without a rate, as many as come."""

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


def replay(
    submissions: Iterable[Submission],
    checkout: Checkout,
    *,
    window: Window,
    rate: float | None,
    intake: Intake,
    on_batch: Callable[[Sequence[Submission], Sequence[Outcome]], None] = lambda _sent, _results: None,
    checkpoint: Callable[[], None] = lambda: None,
    batch_orders: int = BATCH_ORDERS,
) -> None:
    """Submit all, in their order, at most CALLS_MAX batches at a time.

    ``checkpoint`` is called before every batch, and now and then while no place is free; it may raise to end the
    replay. Raises Refused, or Refusal where checkout is away for too long; what was submitted until then stays.
    """
    pace = Pace(rate)
    calls = ThreadPoolExecutor(CALLS_MAX, thread_name_prefix="replay")
    under_way: set[Future[None]] = set()
    stopping = threading.Event()

    def send(batch: Sequence[Submission]) -> None:
        results = _send(checkout, batch, stopping)
        taken = [result["order"]["order_id"] for result in results if result["status"] in (200, 202)]
        window.accepted(taken)
        window.give_back(len(results) - len(taken))
        intake.add(results)
        on_batch(batch, results)

    try:
        for batch in _batches(submissions, batch_orders if rate is None else max(1, min(batch_orders, int(rate / 4)))):
            checkpoint()
            pace.wait(len(batch))
            while not window.take_places(len(batch), PLACES_POLL_S):
                checkpoint()
            if len(under_way) >= CALLS_MAX:
                under_way = _settled(under_way, FIRST_COMPLETED)
            under_way.add(calls.submit(send, batch))
        while under_way:
            under_way = _settled(under_way, FIRST_COMPLETED)
    finally:
        stopping.set()
        calls.shutdown(wait=True, cancel_futures=True)


def _settled(futures: set[Future[None]], until: str) -> set[Future[None]]:
    done, rest = wait(futures, return_when=until)
    for future in done:
        future.result()
    return rest


def _batches(items: Iterable[Submission], size: int) -> Iterator[list[Submission]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _send(checkout: Checkout, batch: Sequence[Submission], stopping: threading.Event) -> list[Outcome]:
    """Submit one batch until every order of it has an answer for good."""
    results: dict[int, Outcome] = {}
    """By place: a file may give one key to two orders, and each has an answer of its own."""
    left = list(enumerate(batch))
    give_up_at_s = time.monotonic() + PATIENCE_S
    delay_s = RETRY_S
    while left:
        answers, asked_to_wait_s = _call(checkout, [order for _, order in left])
        retried = []
        for (place, order), answer in zip(left, answers, strict=True):
            if answer["status"] in RETRYABLE:
                retried.append((place, order))
            else:
                results[place] = answer
        left = retried
        if left:
            if time.monotonic() > give_up_at_s:
                detail = answers[-1].get("problem", {}).get("detail", "no answer")
                raise Refusal(f"checkout did not take {len(left)} orders within {PATIENCE_S:.0f} s: {detail}")
            if stopping.wait(max(delay_s, asked_to_wait_s)):
                raise Refusal("The replay was stopped.")
            delay_s = min(2 * delay_s, RETRY_S_MAX)
    return [results[place] for place in range(len(batch))]


def _call(checkout: Checkout, batch: Sequence[Submission]) -> tuple[list[Outcome], float]:
    body = [{**sent.body, "idempotency_key": sent.key} for sent in batch]
    try:
        response = checkout.send("POST", "/v1/orders/bulk", body=body)
    except Unreachable as error:
        return [{"status": 503, "problem": {"detail": str(error)}}] * len(batch), 0.0
    if response.is_success:
        results: list[Outcome] = response.json()["results"]
        return results, 0.0
    if response.status_code in RETRYABLE:
        retry_after = response.headers.get("Retry-After", "0")
        answer = {"status": response.status_code, "problem": problem_of(response)}
        return [answer] * len(batch), float(retry_after) if retry_after.isdigit() else 0.0
    checkout.check(response)
    raise Refusal(f"checkout answered {response.status_code}, which it never should.")
