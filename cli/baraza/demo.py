"""The main job on real input: replays a retailer's baskets through the whole stack and follows each to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chassis.wire.envelope import new_id

from baraza.audit.report import Report
from baraza.audit.sources import TRACKER, connect
from baraza.client import Api, Refused, Unreachable
from baraza.dataset import Work
from baraza.decisions import Decisions, Tally
from baraza.replay import Intake, replay
from baraza.running import TRACKER_API, Running
from baraza.terminal import Refusal

STALL_S = 120.0
"""When no order has ended for so long, something is stuck: a step's timeout, a fence and its retries take less."""
LOOK_EVERY_S = 0.25
PARKED_EVERY_S = 2.0
STUCK_SHOWN_MAX = 10
PARKED_PAGE = 100

COURIER_FAULTS: tuple[Mapping[str, Any], ...] = (
    {"operation": "book", "kind": "hang", "rate": 0.004, "delay_s": 24},  # past the step's timeout: a late success
    {"operation": "book", "kind": "error", "rate": 0.004},  # down for good: the retries run out
    {"operation": "book", "kind": "error", "rate": 0.02, "times": 1},  # the retry gets through
    {"operation": "book", "kind": "answer_lost", "rate": 0.01, "times": 1},
)
GATEWAY_FAULTS: tuple[Mapping[str, Any], ...] = (
    {"operation": "authorize", "kind": "answer_lost", "rate": 0.005, "times": 1},
    {"operation": "authorize", "kind": "rate_limited", "rate": 0.005, "times": 1},
    {"operation": "capture", "kind": "decline", "rate": 0.003},
    {"operation": "capture", "kind": "slow", "rate": 0.01, "delay_s": 0.5},
)
"""What goes wrong at the providers. Seeded: the same share of the orders, whatever the order of their calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """How far a run is."""

    orders: int
    submitted: int
    refused: int
    tally: Tally
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a run. ``unfinished`` are orders that are parked or stuck."""

    intake: Intake
    tally: Tally
    latencies_ms: Sequence[float]
    examples: Mapping[str, str]
    unfinished: Sequence[str]
    late_successes: int
    late_example: str | None
    took_s: float
    orders_per_s: float
    stuck: str | None

    def summary(self, report: Report) -> dict[str, Any]:
        """Return the run and the audit's verdict as one object."""
        return {
            "orders": self.intake.total,
            "confirmed": self.tally.confirmed,
            "cancelled": self.tally.cancelled_total,
            "refused": self.intake.refused.total(),
            "late_successes": self.late_successes,
            "p50_ms": percentile(self.latencies_ms, 0.50),
            "p99_ms": percentile(self.latencies_ms, 0.99),
            "audit": "green" if report.is_green else "red",
            "accepted": self.intake.accepted + self.intake.repeated,
            "parked": self.tally.parked,
            "unfinished": list(self.unfinished),
            "cancelled_by": self.tally.cancelled,
            "refused_by": dict(self.intake.refused.most_common()),
            "took_s": round(self.took_s, 1),
            "orders_per_s": round(self.orders_per_s, 1),
            "broken_invariants": [finding.invariant.name for finding in report.findings if finding.total],
        }


def percentile(ascending: Sequence[float], share: float) -> float | None:
    """Return the value that ``share`` of the values do not exceed; None where there are none."""
    if not ascending:
        return None
    return round(ascending[min(len(ascending) - 1, int(share * len(ascending)))], 1)


@contextmanager
def faults(stack: Running) -> Iterator[None]:
    """Let some calls to the gateway and the courier fail while the block runs; other faults are removed."""
    providers = {"gateway": GATEWAY_FAULTS, "courier": COURIER_FAULTS}
    apis = {name: Api(name, stack.url(name), None) for name in providers}
    try:
        for name, listed in providers.items():
            apis[name].call("DELETE", "/admin/faults")
            for fault in listed:
                apis[name].call("POST", "/admin/faults", body=dict(fault))
        yield
    finally:
        for api in apis.values():
            with api:
                _remove_faults(api)


def _remove_faults(api: Api) -> None:
    try:
        api.call("DELETE", "/admin/faults")
    except Unreachable:
        return  # A provider that has gone fails nobody's calls by a fault any more; the run itself says that it has.


def run(stack: Running, work: Work, *, in_flight: int, rate: float | None, show: Callable[[Glance], None]) -> Outcome:
    """Submit the work's orders, at most ``in_flight`` open at a time, and follow all to their ends.

    ``show`` is called several times a second. Raises Refusal.
    """
    began_at = datetime.now(UTC)
    with (
        Decisions(stack.kafka, stack.registry_url, open_max=in_flight) as decisions,
        stack.api("checkout") as checkout,
        stack.api(TRACKER_API) as tracker,
        ThreadPoolExecutor(1, thread_name_prefix="submissions") as pool,
    ):
        intake = Intake()
        stop = threading.Event()

        def checkpoint() -> None:
            if stop.is_set():
                raise Refusal("The run was stopped.")

        submissions = work.submissions(prefix=f"demo-{new_id()}-")
        replaying = pool.submit(
            replay, submissions, checkout, window=decisions, rate=rate, intake=intake, checkpoint=checkpoint
        )
        try:
            follower = _Follower(work.orders, decisions, tracker, intake, began_at, show)
            stuck = follower.follow(replaying)
        finally:
            stop.set()
        tally = decisions.tally()
        unfinished = [*decisions.parked_orders(STUCK_SHOWN_MAX), *decisions.still_open(STUCK_SHOWN_MAX)]
        late, late_example = late_successes(stack, began_at)
        return Outcome(
            intake=intake,
            tally=tally,
            latencies_ms=decisions.latencies_ms(),
            examples=decisions.examples(),
            unfinished=unfinished,
            late_successes=late,
            late_example=late_example,
            took_s=follower.elapsed_s,
            orders_per_s=follower.orders_per_s,
            stuck=stuck,
        )


class _Follower:
    """Looks at a run until all of its orders have ended or are parked, or nothing has moved for STALL_S."""

    def __init__(
        self,
        orders: int,
        decisions: Decisions,
        tracker: Api,
        intake: Intake,
        began_at: datetime,
        show: Callable[[Glance], None],
    ) -> None:
        self._orders = orders
        self._decisions = decisions
        self._tracker = tracker
        self._intake = intake
        self._began_at = began_at
        self._show = show
        self._started_at_s = time.monotonic()
        self._looked_for_parked_at_s = self._started_at_s
        self.orders_per_s = 0.0

    @property
    def elapsed_s(self) -> float:
        """How long the run has taken so far."""
        return time.monotonic() - self._started_at_s

    def follow(self, replaying: Future[None]) -> str | None:
        """Return None when all is done, or which orders are stuck and where. Raises what the replay raised."""
        moved, moved_at_s = -1, time.monotonic()
        while True:
            if replaying.done():
                replaying.result()
                if not self.orders_per_s:
                    self.orders_per_s = self._decisions.decided / max(self.elapsed_s, 0.001)
                if self._decisions.wait(LOOK_EVERY_S):
                    self._glance()
                    return None
            else:
                time.sleep(LOOK_EVERY_S)
            self._look_for_parked()
            self._glance()
            total = self._decisions.decided + self._intake.total
            if total != moved:
                moved, moved_at_s = total, time.monotonic()
            elif time.monotonic() - moved_at_s > STALL_S:
                return self._stuck()

    def _glance(self) -> None:
        self._show(
            Glance(
                orders=self._orders,
                submitted=self._intake.total,
                refused=self._intake.refused.total(),
                tally=self._decisions.tally(),
                elapsed_s=self.elapsed_s,
            )
        )

    def _look_for_parked(self) -> None:
        if time.monotonic() - self._looked_for_parked_at_s < PARKED_EVERY_S:
            return
        self._looked_for_parked_at_s = time.monotonic()
        self._decisions.parked(parked_since(self._tracker, self._began_at))

    def _stuck(self) -> str:
        places = [
            f"{order_id} ({place_of(self._tracker, order_id)})"
            for order_id in self._decisions.still_open(STUCK_SHOWN_MAX)
        ]
        return (
            f"No order has ended for {STALL_S:.0f} s. Still open: {', '.join(places)}. "
            "See ./baraza status and the logs in the stack's home."
        )


def place_of(tracker: Api, order_id: str) -> str:
    """Return where an order stands, in a few words."""
    try:
        saga = tracker.get(f"/v1/sagas/{order_id}")["saga"]
    except Refused as error:
        if error.status != 404:
            raise
        return "not known to the tracker"
    return f"{saga['state']}, {saga['phase'].lower()} {saga['step']}"


def parked_since(tracker: Api, began_at: datetime) -> set[str]:
    """Return the ids of all sagas that started since then and are parked now."""
    found: set[str] = set()
    params: dict[str, str | int] = {
        "state": "NEEDS_REVIEW",
        "started_after": began_at.isoformat(),
        "limit": PARKED_PAGE,
    }
    while True:
        page = tracker.get("/v1/sagas", params)
        found.update(saga["saga_id"] for saga in page["sagas"])
        if page["next_cursor"] is None:
            return found
        params["cursor"] = page["next_cursor"]


def late_successes(stack: Running, began_at: datetime) -> tuple[int, str | None]:
    """Count the orders of this run of which a step ran after they had been given up, and return one of them."""
    with closing(connect(stack.sources(), TRACKER)) as connection:
        row = connection.execute(
            "SELECT count(DISTINCT saga_id), min(saga_id) FROM timeline JOIN sagas USING (saga_id)"
            " WHERE late AND started_at >= %s",
            (began_at,),
        ).fetchone()
    return (row[0], row[1]) if row else (0, None)
