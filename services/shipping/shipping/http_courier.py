"""A courier over HTTP. An unexpected response is an ``UnforeseenAnswer``, never a rejection."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from chassis.http.downstream import Downstream, Response
from chassis.saga.answers import Accepted, NotFound, Proven, QueryAnswer, SendAnswer
from chassis.saga.attempts import Outcome
from messages.checkout import Address
from shipping.collection_bodies import answer_of
from shipping.courier import Booked, Booking, Cancelled, Pickup, Rejected
from shipping.parcels import ParcelEnd, Report

REJECTIONS = frozenset({"undeliverable_address", "overweight", "no_capacity"})
"""The courier's codes for a rejection. A 422 with any other code is an invalid request, which is our error."""


NOT_COLLECTABLE, CALLED_OFF = "not_collectable", "called_off"
"""The courier's codes for a request to collect that it refuses for good."""
CANCEL_REFUSALS = frozenset({"already_collected", "already_ended"})
COLLECTION_NOT_FOUND = "collection_not_found"


class HttpCourier:
    """A ``Courier`` and a ``PickupCourier`` over HTTP."""

    def __init__(self, downstream: Downstream) -> None:
        self._downstream = downstream

    def book(self, request: Booking, key: str) -> Booked | Rejected:
        body = {
            "reference": request.reference,
            "ship_to": _address(request.ship_to),
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

    def collect(self, request: Pickup, key: str) -> SendAnswer:
        body = {
            "reference": request.reference,
            "collect_from": _address(request.collect_from),
            "lines": [{"sku": line.sku, "quantity": line.quantity} for line in request.lines],
        }
        response = self._downstream.request("POST", "/v1/collections", body=body, idempotency_key=key)
        if response.status == HTTPStatus.ACCEPTED:
            return _answer(response)
        if response.status == HTTPStatus.UNPROCESSABLE_ENTITY and response.code == NOT_COLLECTABLE:
            return Proven(outcome=Outcome.REFUSED, detail=Report(end=ParcelEnd.NOT_COLLECTABLE).detail)
        if response.status == HTTPStatus.CONFLICT and response.code == CALLED_OFF:
            return Proven(outcome=Outcome.VOIDED, detail=Report(end=ParcelEnd.CALLED_OFF).detail)
        raise response.unforeseen("neither accepted nor refused")

    def find_collection(self, key: str, provider_id: str | None) -> QueryAnswer:
        response = self._downstream.request("GET", _path_of(key))
        if response.status == HTTPStatus.NOT_FOUND and response.code == COLLECTION_NOT_FOUND:
            return NotFound()
        if response.status == HTTPStatus.OK:
            return _answer(response)
        raise response.unforeseen("neither a collection nor unknown")

    def call_off(self, key: str, provider_id: str | None) -> Proven:
        path = f"{_path_of(key)}/cancel"
        response = self._downstream.request("POST", path, body={}, idempotency_key=f"{key}:cancel")
        if response.status == HTTPStatus.CONFLICT and response.code in CANCEL_REFUSALS:
            return Proven(outcome=Outcome.CANCEL_REFUSED)
        answer = _answer(response) if response.status == HTTPStatus.CREATED else None
        if not isinstance(answer, Proven) or answer.outcome is not Outcome.VOIDED:
            raise response.unforeseen("neither called off nor refused")
        return answer


def _address(address: Address) -> dict[str, str]:
    """Return an address in an order that must not change: what is repeated across a release has the same bytes."""
    fields = {
        "name": address.name,
        "street": address.street,
        "city": address.city,
        "postal_code": address.postal_code,
        "country": address.country,
        "street_2": address.street_2,
        "region": address.region,
        "phone": address.phone,
    }
    return {name: value for name, value in fields.items() if value}


def _path_of(key: str) -> str:
    return f"/v1/collections/by-key/{quote(key, safe='')}"


def _answer(response: Response) -> Accepted | Proven:
    try:
        return answer_of(response.body)
    except ValueError as error:
        raise response.unforeseen(str(error)) from error


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
