"""A gateway and a courier in memory, behind the ports that payment and shipping call.

Each keeps one outcome for each key, as the real ones do, and a count of its effects for each saga, which the checks
read. The schedule decides what happens on the way (slow, lost, failed); here a call has arrived.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, cast

from payment.gateway import (
    Authorization,
    Authorized,
    Capture,
    Captured,
    CaptureDeclined,
    Declined,
    PartialRefund,
    Refunded,
    Undo,
    Voided,
)
from shipping.courier import Booked, Booking, Cancelled, Rejected

Outcome = TypeVar("Outcome")


CAPTURE = "capture "


class KeyMisused(AssertionError):
    """A key was used again with another request, which a provider would refuse."""


@dataclass(slots=True)
class Provider:
    """Outcomes by key, and the number of effects by saga and kind."""

    chance: random.Random
    refusal_rate: float
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    amounts: Counter[tuple[str, str]] = field(default_factory=Counter)
    parts: Counter[str] = field(default_factory=Counter)
    """What was refunded in part, by order."""
    _outcomes: dict[str, object] = field(default_factory=dict)
    _requests: dict[str, object] = field(default_factory=dict)

    def _once(self, key: str, request: object, effect: Callable[[str], Outcome]) -> Outcome:
        if self._requests.setdefault(key, request) != request:
            raise KeyMisused(f"{key} was used with {self._requests[key]}, then with {request}.")
        if key not in self._outcomes:
            self._outcomes[key] = effect(key.partition(":")[0])
        return cast(Outcome, self._outcomes[key])

    def _refuses(self) -> bool:
        return self.chance.random() < self.refusal_rate

    def _note(self, saga_id: str, kind: str, amount_minor: int = 0) -> None:
        self.done[(saga_id, kind)] += 1
        self.amounts[(saga_id, kind)] += amount_minor


class Gateway(Provider):
    """The card gateway: authorizes, captures, voids and refunds."""

    def authorize(self, request: Authorization, key: str) -> Authorized | Declined:
        """Authorize the amount."""

        def effect(saga_id: str) -> Authorized | Declined:
            if self._refuses():
                return Declined(reason="card_declined", detail="The card was declined.")
            self._note(saga_id, "authorized", request.amount_minor)
            return Authorized(authorization_id=f"auth {saga_id}")

        return self._once(key, request, effect)

    def capture(self, request: Capture, key: str) -> Captured | CaptureDeclined:
        """Capture the amount."""

        def effect(saga_id: str) -> Captured | CaptureDeclined:
            if self._refuses():
                return CaptureDeclined(reason="expired", detail="The authorization has expired.")
            self._note(saga_id, "captured", request.amount_minor)
            return Captured(capture_id=f"{CAPTURE}{saga_id}", amount_minor=request.amount_minor)

        return self._once(key, request, effect)

    def undo(self, request: Undo, key: str) -> Voided | Refunded:
        """Void the authorization, or refund the capture where there is one."""

        def effect(saga_id: str) -> Voided | Refunded:
            if request.capture_id is None:
                self._note(saga_id, "voided", request.amount_minor)
                return Voided(amount_minor=request.amount_minor)
            self._note(saga_id, "refunded", request.amount_minor)
            return Refunded(refund_id=f"refund {saga_id}", amount_minor=request.amount_minor)

        return self._once(key, request, effect)

    def refund(self, request: PartialRefund, key: str) -> Refunded:
        """Refund a part of a capture, together no more than was captured."""

        def effect(saga_id: str) -> Refunded:
            order_id = request.capture_id.removeprefix(CAPTURE)
            self.parts[order_id] += request.amount_minor
            assert self.parts[order_id] <= self.amounts[(order_id, "captured")], "more is refunded than was captured"
            self._note(saga_id, "refunded in part", request.amount_minor)
            return Refunded(refund_id=f"refund {saga_id}", amount_minor=request.amount_minor)

        return self._once(key, request, effect)

    def find_refund(self, key: str) -> Refunded | None:
        """Return the outcome of a refund of a part, None for an unknown key."""
        return cast("Refunded | None", self._outcomes.get(key))

    def find_authorization(self, key: str) -> Authorized | Declined | None:
        """Return the outcome of an authorization, None for an unknown key."""
        return cast("Authorized | Declined | None", self._outcomes.get(key))

    def find_capture(self, key: str) -> Captured | CaptureDeclined | None:
        """Return the outcome of a capture, None for an unknown key."""
        return cast("Captured | CaptureDeclined | None", self._outcomes.get(key))

    def find_undo(self, key: str) -> Voided | Refunded | None:
        """Return the outcome of an undo, None for an unknown key."""
        return cast("Voided | Refunded | None", self._outcomes.get(key))


class Courier(Provider):
    """The courier: books shipments and cancels them."""

    def book(self, request: Booking, key: str) -> Booked | Rejected:
        """Book the shipment."""

        def effect(saga_id: str) -> Booked | Rejected:
            if self._refuses():
                return Rejected(reason="undeliverable_address", detail="The address does not exist.")
            self._note(saga_id, "booked")
            return Booked(tracking_number=f"track {saga_id}")

        return self._once(key, request, effect)

    def cancel(self, tracking_number: str, key: str) -> Cancelled:
        """Cancel the shipment."""

        def effect(saga_id: str) -> Cancelled:
            self._note(saga_id, "cancelled")
            return Cancelled(tracking_number=tracking_number)

        return self._once(key, tracking_number, effect)

    def find_booking(self, key: str) -> Booked | Rejected | None:
        """Return the outcome of a booking, None for an unknown key."""
        return cast("Booked | Rejected | None", self._outcomes.get(key))

    def find_cancellation(self, key: str) -> Cancelled | None:
        """Return the outcome of a cancellation, None for an unknown key."""
        return cast("Cancelled | None", self._outcomes.get(key))
