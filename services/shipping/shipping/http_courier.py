"""A ``Courier`` over HTTP. An unexpected response is an ``UnforeseenAnswer``, never a rejection."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from chassis.http.downstream import Downstream, Response
from shipping.courier import Booked, Booking, Cancelled, Rejected

REJECTIONS = frozenset({"undeliverable_address", "overweight", "no_capacity"})
"""The courier's codes for a rejection. A 422 with any other code is an invalid request, which is our error."""


class HttpCourier:
    """A ``Courier`` over HTTP."""

    def __init__(self, downstream: Downstream) -> None:
        self._downstream = downstream

    def book(self, request: Booking, key: str) -> Booked | Rejected:
        ship_to = request.ship_to
        # In an order that must not change: a booking that is repeated across a release has the same bytes.
        address = {
            "name": ship_to.name,
            "street": ship_to.street,
            "city": ship_to.city,
            "postal_code": ship_to.postal_code,
            "country": ship_to.country,
            "street_2": ship_to.street_2,
            "region": ship_to.region,
            "phone": ship_to.phone,
        }
        body = {
            "reference": request.reference,
            "ship_to": {name: value for name, value in address.items() if value},
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
