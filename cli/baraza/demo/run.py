"""One run: submits a retailer's baskets, and follows each order until it has ended or is parked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from baraza.audit.sources import TRACKER, connect, sources_of
from baraza.demo.open_orders import CONFIRMED_KEPT_MAX, OpenOrders
from baraza.demo.result import DemoProgress, DemoResult
from baraza.storefront.dataset import Workload
from baraza.storefront.replay import Intake, Replay
from baraza.system.client import Api, Refused
from baraza.system.running import TRACKER_API, Running
from baraza.terminal import Refusal
from chassis.wire.envelope import new_id

STALLED_AFTER_S = 120.0
"""An order is stuck when none has ended for this long: a step's timeout, a fence and its retries take less."""
POLL_S = 0.25
PARKED_POLL_S = 2.0
NAMED_MAX = 10
PARKED_PAGE = 100
NOT_FOUND = 404


def run(
    stack: Running, workload: Workload, *, in_flight: int, rate: float | None, show: Callable[[DemoProgress], None]
) -> DemoResult:
    """Submit the orders of the workload, at most ``in_flight`` open at a time, and follow each to its end.

    ``show`` is called several times a second. Raises Refusal.
    """
    started_at = datetime.now(UTC)
    with (
        OpenOrders(stack.kafka, stack.registry_url, open_max=in_flight) as orders,
        stack.api("checkout") as checkout,
        stack.api(TRACKER_API) as tracker,
    ):
        follower = _Follower(workload.orders, orders, tracker, Intake(), started_at, show)
        with _replaying(workload, checkout, orders, rate, follower.intake) as replaying:
            stuck = follower.follow(replaying)
        late, late_example = late_successes(stack, started_at)
        return DemoResult(
            intake=follower.intake,
            tally=orders.tally(),
            latencies_ms=orders.latencies_ms(),
            examples=orders.examples(),
            confirmed_orders=orders.confirmed_orders(CONFIRMED_KEPT_MAX),
            unfinished=[*orders.parked_orders(NAMED_MAX), *orders.still_open(NAMED_MAX)],
            late_successes=late,
            late_example=late_example,
            took_s=follower.elapsed_s,
            orders_per_s=follower.orders_per_s,
            stuck=stuck,
        )


@contextmanager
def _replaying(
    workload: Workload, checkout: Api, orders: OpenOrders, rate: float | None, intake: Intake
) -> Iterator[Future[None]]:
    """Submit the orders on a thread; the replay is stopped when the block is left."""
    stop = threading.Event()

    def checkpoint() -> None:
        if stop.is_set():
            raise Refusal("The run was stopped.")

    replay = Replay(checkout=checkout, window=orders, rate=rate, intake=intake, checkpoint=checkpoint)
    with ThreadPoolExecutor(1, thread_name_prefix="submissions") as pool:
        try:
            yield pool.submit(replay.run, workload.submissions(prefix=f"demo-{new_id()}-"))
        finally:
            stop.set()


@dataclass(slots=True)
class _Follower:
    """Follows a run until all of its orders have ended or are parked, or none has ended for STALLED_AFTER_S."""

    orders_total: int
    orders: OpenOrders
    tracker: Api
    intake: Intake
    started_at: datetime
    show: Callable[[DemoProgress], None]
    orders_per_s: float = 0.0
    """Orders that ended a second while orders were submitted."""
    _began_at_s: float = field(default_factory=time.monotonic)
    _parked_polled_at_s: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """How long the run has taken so far."""
        return time.monotonic() - self._began_at_s

    def follow(self, replaying: Future[None]) -> str | None:
        """Return None when all is done, or which orders are stuck and where. Raises what the replay raised."""
        seen, changed_at_s = -1, time.monotonic()
        while True:
            if replaying.done():
                replaying.result()
                if not self.orders_per_s:
                    self.orders_per_s = self.orders.ended / max(self.elapsed_s, 0.001)
                if self.orders.wait(POLL_S):
                    self._show_progress()
                    return None
            else:
                time.sleep(POLL_S)
            self._poll_parked()
            self._show_progress()
            total = self.orders.ended + self.intake.total
            if total != seen:
                seen, changed_at_s = total, time.monotonic()
            elif time.monotonic() - changed_at_s > STALLED_AFTER_S:
                return self._stuck()

    def _show_progress(self) -> None:
        self.show(
            DemoProgress(
                orders=self.orders_total,
                submitted=self.intake.total,
                refused=self.intake.refused.total(),
                tally=self.orders.tally(),
                elapsed_s=self.elapsed_s,
            )
        )

    def _poll_parked(self) -> None:
        if time.monotonic() - self._parked_polled_at_s < PARKED_POLL_S:
            return
        self._parked_polled_at_s = time.monotonic()
        self.orders.parked(parked_since(self.tracker, self.started_at))

    def _stuck(self) -> str:
        named = [
            f"{order_id} ({position_of(self.tracker, order_id)})" for order_id in self.orders.still_open(NAMED_MAX)
        ]
        return (
            f"No order has ended for {STALLED_AFTER_S:.0f} s. Still open: {', '.join(named)}. "
            "See ./baraza status and the logs in the stack's home."
        )


def position_of(tracker: Api, order_id: str) -> str:
    """Return an order's state and step in a few words."""
    try:
        saga = tracker.get(f"/v1/sagas/{order_id}")["saga"]
    except Refused as error:
        if error.status != NOT_FOUND:
            raise
        return "unknown to the tracker"
    return f"{saga['state']}, {saga['phase'].lower()} {saga['step']}"


def parked_since(tracker: Api, started_after: datetime) -> set[str]:
    """Return the ids of all sagas that started since then and are parked now."""
    found: set[str] = set()
    params: dict[str, str | int] = {
        "state": "NEEDS_REVIEW",
        "started_after": started_after.isoformat(),
        "limit": PARKED_PAGE,
    }
    while True:
        page = tracker.get("/v1/sagas", params)
        found.update(saga["saga_id"] for saga in page["sagas"])
        if page["next_cursor"] is None:
            return found
        params["cursor"] = page["next_cursor"]


def late_successes(stack: Running, started_at: datetime) -> tuple[int, str | None]:
    """Count the orders of this run with a step that ran after the saga was fenced, and return one of them."""
    with closing(connect(sources_of(stack), TRACKER)) as connection:
        row = connection.execute(
            "SELECT count(DISTINCT saga_id), min(saga_id) FROM timeline JOIN sagas USING (saga_id)"
            " WHERE late AND started_at >= %s",
            (started_at,),
        ).fetchone()
    return (row[0], row[1]) if row else (0, None)
