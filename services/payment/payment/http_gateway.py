"""A ``PaymentGateway`` over HTTP. A lease keeps two replicas from making the same call at the same time.

An unexpected response is an ``UnforeseenAnswer``, never a decline: the gateway may have moved money.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote

from chassis.http.downstream import Downstream, Response
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
from payment.lease import CallLease


class HttpPaymentGateway:
    """A ``PaymentGateway`` over HTTP. Each call holds the lease of its idempotency key."""

    def __init__(self, downstream: Downstream, lease: CallLease) -> None:
        if downstream.duration_s_max >= lease.ttl_s:
            raise ValueError(
                f"A call may take {downstream.duration_s_max} s, but its lease expires after {lease.ttl_s} s. "
                "Lower the timeout of the call below the lease's."
            )
        self._downstream = downstream
        self._lease = lease

    def authorize(self, request: Authorization, key: str) -> Authorized | Declined:
        body = {
            "amount_minor": request.amount_minor,
            "currency": request.currency,
            "token": request.token,
            "reference": request.reference,
        }
        return _authorization(self._post("/v1/authorizations", body, key))

    def capture(self, request: Capture, key: str) -> Captured | CaptureDeclined:
        path = f"/v1/authorizations/{quote(request.authorization_id, safe='')}/capture"
        return _capture(self._post(path, {"amount_minor": request.amount_minor}, key))

    def undo(self, request: Undo, key: str) -> Voided | Refunded:
        if request.capture_id is None:
            return _undo(self._post(f"/v1/authorizations/{quote(request.authorization_id, safe='')}/void", {}, key))
        return _undo(self._post_refund(request.capture_id, request.amount_minor, key))

    def refund(self, request: PartialRefund, key: str) -> Refunded:
        return _refund(self._post_refund(request.capture_id, request.amount_minor, key))

    def find_authorization(self, key: str) -> Authorized | Declined | None:
        response = self._downstream.outcome_of(key)
        return None if response is None else _authorization(response)

    def find_capture(self, key: str) -> Captured | CaptureDeclined | None:
        response = self._downstream.outcome_of(key)
        return None if response is None else _capture(response)

    def find_undo(self, key: str) -> Voided | Refunded | None:
        response = self._downstream.outcome_of(key)
        return None if response is None else _undo(response)

    def find_refund(self, key: str) -> Refunded | None:
        response = self._downstream.outcome_of(key)
        return None if response is None else _refund(response)

    def _post_refund(self, capture_id: str, amount_minor: int, key: str) -> Response:
        return self._post(f"/v1/captures/{quote(capture_id, safe='')}/refund", {"amount_minor": amount_minor}, key)

    def _post(self, path: str, body: Mapping[str, object], key: str) -> Response:
        with self._lease.hold(key):
            return self._downstream.request("POST", path, body=body, idempotency_key=key)


def _authorization(response: Response) -> Authorized | Declined:
    if response.status == HTTPStatus.CREATED:
        return Authorized(authorization_id=response.text("id"))
    if response.status == HTTPStatus.PAYMENT_REQUIRED:
        return Declined(reason=response.text("code"), detail=response.text("detail", default=""))
    raise response.unforeseen("neither authorized nor declined")


def _capture(response: Response) -> Captured | CaptureDeclined:
    if response.status == HTTPStatus.CREATED:
        return Captured(capture_id=response.text("capture_id"), amount_minor=response.whole_number("amount_minor"))
    if response.status == HTTPStatus.PAYMENT_REQUIRED:
        return CaptureDeclined(reason=response.text("code"), detail=response.text("detail", default=""))
    raise response.unforeseen("neither captured nor declined")


def _undo(response: Response) -> Voided | Refunded:
    if response.status == HTTPStatus.CREATED:
        if response.text("status") == "voided":
            return Voided(amount_minor=response.whole_number("amount_minor"))
        return _refund(response)
    raise response.unforeseen("neither voided nor refunded")


def _refund(response: Response) -> Refunded:
    if response.status == HTTPStatus.CREATED:
        return Refunded(refund_id=response.text("refund_id"), amount_minor=response.whole_number("amount_minor"))
    raise response.unforeseen("not refunded")
