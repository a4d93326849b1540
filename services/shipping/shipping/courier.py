"""The port to a courier and its adapter over HTTP: what shipping asks for, and what it can be told.

An answer that has no meaning here is an ``UnforeseenAnswer``, never a rejection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol
from urllib.parse import quote

from messages.checkout import Address, OrderLine
from messaging.downstream import Downstream, Response

REJECTIONS = frozenset({"undeliverable_address", "overweight", "no_capacity"})
"""The courier's codes that mean no. A 422 with any other code is a request that we built wrongly."""


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
    ``messaging.downstream.Unavailable`` without an answer, and ``UnforeseenAnswer`` for one without a meaning.
    """

    def book(self, request: Booking, key: str) -> Booked | Rejected: ...

    def cancel(self, tracking_number: str, key: str) -> Cancelled: ...

    def find_booking(self, key: str) -> Booked | Rejected | None: ...

    def find_cancellation(self, key: str) -> Cancelled | None: ...


class HttpCourier:
    """A ``Courier`` over HTTP."""

    def __init__(self, downstream: Downstream) -> None:
        self._downstream = downstream

    def book(self, request: Booking, key: str) -> Booked | Rejected:
        ship_to = request.ship_to
        body = {
            "reference": request.reference,
            "ship_to": {
                "name": ship_to.name,
                "street": ship_to.street,
                "city": ship_to.city,
                "postal_code": ship_to.postal_code,
                "country": ship_to.country,
            },
            "lines": [{"sku": line.sku, "quantity": line.quantity} for line in request.lines],
        }
        return _booking(self._downstream.request("POST", "/v1/shipments", body=body, idempotency_key=key))

    def cancel(self, tracking_number: str, key: str) -> Cancelled:
        path = f"/v1/shipments/{quote(tracking_number, safe='')}/cancel"
        return _cancellation(self._downstream.request("POST", path, body={}, idempotency_key=key))

    def find_booking(self, key: str) -> Booked | Rejected | None:
        response = self._downstream.outcome_of(key)
        return None if response is None else _booking(response)

    def find_cancellation(self, key: str) -> Cancelled | None:
        response = self._downstream.outcome_of(key)
        return None if response is None else _cancellation(response)


def _booking(response: Response) -> Booked | Rejected:
    if response.status == HTTPStatus.CREATED:
        return Booked(tracking_number=response.text("tracking_number"))
    if response.status == HTTPStatus.UNPROCESSABLE_ENTITY and response.code in REJECTIONS:
        return Rejected(reason=response.code, detail=response.text("detail", default=""))
    raise response.unforeseen("neither booked nor rejected")


def _cancellation(response: Response) -> Cancelled:
    if response.status == HTTPStatus.CREATED:
        return Cancelled(tracking_number=response.text("tracking_number"))
    raise response.unforeseen("not cancelled")
