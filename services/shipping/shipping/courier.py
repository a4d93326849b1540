"""The port to a courier: shipping's requests and the courier's outcomes. Pure; an adapter implements it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis.saga.answers import Proven, QueryAnswer, SendAnswer
from messages.checkout import Address, OrderLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """Ship these lines to this address. ``reference`` is the saga id."""

    reference: str
    ship_to: Address
    lines: Sequence[OrderLine]


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """The courier booked the shipment."""

    tracking_number: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The courier rejected the shipment. ``reason`` is a code, ``detail`` one sentence."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The courier cancelled the shipment."""

    tracking_number: str


class Courier(Protocol):
    """The operations that shipping needs of a courier.

    Every call has an idempotency key: one key has one effect and one outcome, however often it is called. The
    ``find_…`` methods return the outcome of a key, or None when the courier has never seen it. All methods raise
    ``chassis.http.downstream.Unavailable`` without a response, and ``UnforeseenAnswer`` for an unexpected one.
    """

    def book(self, request: Booking, key: str) -> Booked | Rejected: ...

    def cancel(self, tracking_number: str, key: str) -> Cancelled: ...

    def find_booking(self, key: str) -> Booked | Rejected | None: ...

    def find_cancellation(self, key: str) -> Cancelled | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pickup:
    """Collect these lines at this address, and bring them to us. ``reference`` is the saga id."""

    reference: str
    collect_from: Address
    lines: Sequence[OrderLine]


class PickupCourier(Protocol):
    """What shipping needs of a courier that collects parcels, whose ends it reports days later.

    An attempt is known by its key, before and after the courier has an id for it. ``Proven.detail`` is the courier's
    :class:`~shipping.parcels.Report`. What is called off before its request arrives must never be collected.
    """

    def collect(self, request: Pickup, key: str) -> SendAnswer: ...

    def find_collection(self, key: str, provider_id: str | None) -> QueryAnswer: ...

    def call_off(self, key: str, provider_id: str | None) -> Proven: ...
