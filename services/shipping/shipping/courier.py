"""The port to a courier: what shipping asks for, and what it can be told. Pure; adapters fit it to a courier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from messages.checkout import Address, OrderLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """Fetch these lines and bring them there. ``reference`` is the saga id."""

    reference: str
    ship_to: Address
    lines: Sequence[OrderLine]


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """The courier will ship."""

    tracking_number: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The courier will not ship. ``reason`` is a code, ``detail`` one sentence."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The courier will not ship any more."""

    tracking_number: str


class Courier(Protocol):
    """What shipping needs of a courier.

    Every call bears an idempotency key: the same key has one effect and one outcome, however often it is called. The
    ``find_…`` tell what became of a key: its outcome, or None where the courier has never seen it. All of them raise
    ``chassis.http.downstream.Unavailable`` without an answer, and ``UnforeseenAnswer`` for one without a meaning.
    """

    def book(self, request: Booking, key: str) -> Booked | Rejected: ...

    def cancel(self, tracking_number: str, key: str) -> Cancelled: ...

    def find_booking(self, key: str) -> Booked | Rejected | None: ...

    def find_cancellation(self, key: str) -> Cancelled | None: ...
