"""The returns of the load: customers return a share of the accepted orders some seconds later, and cancel a few again.

A request without an answer is repeated under its key, as an order is.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from baraza.chaos.due_calls import DueCalls
from baraza.storefront.replay import RETRY_FOR_S, RETRYABLE
from baraza.storefront.returns import PARCELS, body_of
from baraza.system.client import Refused, Unreachable
from baraza.terminal import Refusal
from chassis.wire.envelope import new_id

RETURNED_SHARE = 0.2
RETURN_AFTER_S = (2.0, 15.0)
"""Longer than most orders take. One that is not confirmed by then cannot be returned."""
CANCELLED_SHARE = 0.15
CANCEL_AFTER_S = (0.0, 4.0)
"""Twice as long as the courier takes to collect a parcel, so that some cancellations come too late."""
RETRY_S = 1.0
NOT_FOUND = 404
RETRIED = RETRYABLE | {NOT_FOUND}
"""Where checkout runs a release before returns for a while, it does not know the path."""
NOT_RETURNABLE = "urn:baraza:problem:order-not-returnable"


class Checkout(Protocol):
    """Where returns are requested."""

    def call(self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None) -> Any: ...


@dataclass(slots=True, kw_only=True)
class Request:
    """A return that a customer requests. Since ``sent_at_s`` checkout may have accepted it."""

    order_id: str
    body: Mapping[str, Any]
    key: str = field(default_factory=lambda: f"chaos-return-{new_id()}")
    sent_at_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """A return that its customer cancels."""

    return_id: str


Call = Request | Cancellation


class Returns:
    """Requests returns while it is open, and records which were accepted. Thread-safe."""

    def __init__(self, checkout: Checkout, *, seed: int, outage_s: float = 0.0) -> None:
        self.accepted: dict[str, str] = {}
        """Return ids by idempotency key."""
        self.refused = 0
        """Returns of orders that were not confirmed."""
        self.cancellations = 0
        self._checkout = checkout
        self._retry_for_s = RETRY_FOR_S + outage_s
        self._chance = random.Random(f"returns {seed}")
        self._parcels = itertools.cycle(PARCELS)
        self._lock = threading.Lock()
        self._calls: DueCalls[Call] = DueCalls(self.make, name="returns", may_be_accepted=_may_be_accepted)

    @property
    def planned(self) -> list[Call]:
        """The calls that are to be made, the next one first."""
        return self._calls.planned

    def open(self) -> None:
        """Begin to make the calls that are due."""
        self._calls.open()

    def consider(self, order_id: str, order: Mapping[str, Any]) -> None:
        """Let the customer of an order that was accepted return it some seconds later, or keep it."""
        with self._lock:
            if self._chance.random() < RETURNED_SHARE:
                request = Request(order_id=order_id, body=body_of(order, next(self._parcels)))
                self._calls.plan(request, self._chance.uniform(*RETURN_AFTER_S))

    def check(self) -> None:
        """Raise the error that ended a thread before its time."""
        self._calls.check()

    def end(self) -> None:
        """Begin no return any more, and wait until those that were sent are answered. Raises Refusal."""
        self._calls.end()

    def close(self) -> None:
        """Drop whatever is not sent, answered or not."""
        self._retry_for_s = 0.0
        self._calls.close()

    def make(self, call: Call) -> None:
        """Make one call, and plan what follows from its answer. Raises Refusal where it can have none."""
        match call:
            case Request():
                self._request(call)
            case Cancellation():
                self._cancel(call)

    def _request(self, request: Request) -> None:
        now_s = time.monotonic()
        if request.sent_at_s is None:
            request.sent_at_s = now_s
        path, headers = f"/v1/orders/{request.order_id}/returns", {"Idempotency-Key": request.key}
        try:
            answer = self._checkout.call("POST", path, body=request.body, headers=headers)
        except (Refused, Unreachable) as error:
            self._on_failure(request, error)
            return
        with self._lock:
            self.accepted[request.key] = answer["return_id"]
            if self._chance.random() < CANCELLED_SHARE:
                self._calls.plan(Cancellation(return_id=answer["return_id"]), self._chance.uniform(*CANCEL_AFTER_S))

    def _on_failure(self, request: Request, error: Refused | Unreachable) -> None:
        """Count a refusal, or send the request again. Raises what no retry changes."""
        with self._lock:
            if isinstance(error, Refused) and error.problem.get("type") == NOT_RETURNABLE:
                self.refused += 1
                return
            if isinstance(error, Refused) and error.status not in RETRIED:
                raise error
            assert request.sent_at_s is not None, "it was sent"
            if time.monotonic() - request.sent_at_s > self._retry_for_s:
                raise Refusal(
                    f"checkout did not take a return of {request.order_id} within {self._retry_for_s:.0f} s: {error}"
                )
            self._calls.plan(request, RETRY_S)

    def _cancel(self, cancellation: Cancellation) -> None:
        """Cancel a return as its customer; a refusal, or no response, is ignored, as a customer would."""
        try:
            self._checkout.call("POST", f"/v1/returns/{cancellation.return_id}/cancel")
        except (Refused, Unreachable):
            return
        with self._lock:
            self.cancellations += 1


def _may_be_accepted(call: Call) -> bool:
    return isinstance(call, Request) and call.sent_at_s is not None
