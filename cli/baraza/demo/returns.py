"""The returns of a demo: pieces of confirmed orders are sent back, and the courier does not bring every parcel.

It must never judge its own run: the audit does.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Protocol

from baraza.storefront.returns import PARCELS, body_of
from baraza.system.client import Refused
from baraza.system.running import TRACKER_API, Running
from baraza.terminal import Refusal, notify, progress
from chassis.wire.envelope import new_id

COMPLETED, FAILED = "CONFIRMED", "CANCELLED_COMPENSATED"
ENDED = frozenset({COMPLETED, FAILED, "NEEDS_REVIEW", "INCIDENT"})
"""Nothing more happens by itself."""
STALLED_AFTER_S = 120.0
"""Returns are stuck when none has ended for this long: a parcel takes two of the courier's days, seconds in a demo."""
POLL_S = 0.5
NOT_FOUND = 404


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnOutcome:
    """A return, and how far it came: ``reason`` explains a failure, or why it waits for a person."""

    return_id: str
    order_id: str
    title: str
    state: str = "PENDING"
    reason: str | None = None

    @property
    def summary(self) -> str:
        """What was returned and how it ended, in a few words."""
        ends = {COMPLETED: "completed", FAILED: f"failed: {self.reason}"}
        return f"{self.title} · {ends.get(self.state, self.state)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The returns of a run."""

    outcomes: Sequence[ReturnOutcome] = ()

    @property
    def completed(self) -> Sequence[ReturnOutcome]:
        """Those that were refunded."""
        return [each for each in self.outcomes if each.state == COMPLETED]

    @property
    def failed(self) -> Sequence[ReturnOutcome]:
        """Those that were cancelled, with everything that ran for them compensated."""
        return [each for each in self.outcomes if each.state == FAILED]

    @property
    def unfinished(self) -> Sequence[ReturnOutcome]:
        """Those that are parked, frozen or stuck."""
        return [each for each in self.outcomes if each.state not in (COMPLETED, FAILED)]

    def by_summary(self) -> Counter[str]:
        """Count the returns by what was returned and how it ended."""
        return Counter(each.summary for each in self.outcomes)


class Api(Protocol):
    """What is needed of a service's API."""

    def get(self, path: str) -> Any: ...

    def call(self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None) -> Any: ...


def run(stack: Running, order_ids: Sequence[str]) -> Returned:
    """Request a return of each of these confirmed orders, and follow each to its end. Raises Refusal."""
    if order_ids:
        notify(f"Returning pieces of {len(order_ids)} orders.")
    with (
        stack.api("checkout") as checkout,
        stack.api(TRACKER_API) as tracker,
        progress("returns ended", len(order_ids)) as advance,
    ):
        requested = list(_requested(checkout, order_ids))
        return Returned(outcomes=follow(tracker, requested, advance, stalled_after_s=STALLED_AFTER_S))


def _requested(checkout: Api, order_ids: Sequence[str]) -> Iterator[ReturnOutcome]:
    for order_id, parcel in zip(order_ids, cycle(PARCELS), strict=False):
        order = _confirmed(checkout, order_id)
        accepted = checkout.call(
            "POST",
            f"/v1/orders/{order_id}/returns",
            body=body_of(order, parcel),
            headers={"Idempotency-Key": f"demo-return-{new_id()}"},
        )
        yield ReturnOutcome(return_id=accepted["return_id"], order_id=order_id, title=parcel.title)


def _confirmed(checkout: Api, order_id: str) -> Any:
    """Return an order once checkout has read that it is confirmed. Raises Refusal where it does not in time."""
    deadline_s = time.monotonic() + STALLED_AFTER_S
    while (order := checkout.get(f"/v1/orders/{order_id}"))["state"] != "CONFIRMED":
        if time.monotonic() > deadline_s:
            raise Refusal(f"Checkout has order {order_id} as {order['state']}, although it is confirmed.")
        time.sleep(POLL_S)
    return order


def follow(
    tracker: Api, requested: Sequence[ReturnOutcome], advance: Callable[[int], None], *, stalled_after_s: float
) -> Sequence[ReturnOutcome]:
    """Poll the returns until each has ended or waits for a person, or none has ended for ``stalled_after_s``.

    ``advance`` is called with the number of returns that have ended since the last call.
    """
    found = {each.return_id: each for each in requested}
    changed_at_s = time.monotonic()
    while open_ids := [return_id for return_id, each in found.items() if each.state not in ENDED]:
        for return_id in open_ids:
            found[return_id] = _polled(tracker, found[return_id])
        ended = sum(1 for return_id in open_ids if found[return_id].state in ENDED)
        advance(ended)
        if ended:
            changed_at_s = time.monotonic()
        elif time.monotonic() - changed_at_s > stalled_after_s:
            break
        else:
            time.sleep(POLL_S)
    return list(found.values())


def _polled(tracker: Api, known: ReturnOutcome) -> ReturnOutcome:
    try:
        saga = tracker.get(f"/v1/sagas/{known.return_id}")["saga"]
    except Refused as error:
        if error.status != NOT_FOUND:  # Its first message has not reached the tracker yet.
            raise
        return known
    return ReturnOutcome(
        return_id=known.return_id,
        order_id=known.order_id,
        title=known.title,
        state=saga["state"],
        reason=saga["reason"],
    )
