"""The port to a card gateway and its adapter over HTTP: what payment asks for, and what it can be told.

An answer that has no meaning here is an ``UnforeseenAnswer``, never a decline: money may hang on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol
from urllib.parse import quote

from messaging.downstream import Downstream, Response

from payment.fence import CallFence


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """Hold an amount on a payment method. ``reference`` is the saga id; the gateway's records are reconciled by it."""

    amount_minor: int
    currency: str
    token: str
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Settle an authorization."""

    authorization_id: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """Charge the customer nothing: void the authorization, or refund its capture where there is one."""

    authorization_id: str
    capture_id: str | None
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorized:
    """The gateway holds the amount."""

    authorization_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """The gateway refused to hold the amount. ``reason`` is a code, ``detail`` one sentence."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """The gateway settled the amount."""

    capture_id: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureFailed:
    """The gateway refused to settle. ``reason`` is a code, ``detail`` one sentence."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Voided:
    """The gateway holds nothing any more."""

    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refunded:
    """The gateway paid back."""

    refund_id: str
    amount_minor: int


class PaymentGateway(Protocol):
    """What payment needs of a gateway.

    Every call bears an idempotency key: the same key has one effect and one outcome, however often it is called. The
    ``find_…`` tell what became of a key: its outcome, or None where the gateway has never seen it. All of them raise
    ``messaging.downstream.Unavailable`` without an answer, and ``UnforeseenAnswer`` for one without a meaning.
    """

    def authorize(self, request: Authorization, key: str) -> Authorized | Declined: ...

    def capture(self, request: Capture, key: str) -> Captured | CaptureFailed: ...

    def undo(self, request: Undo, key: str) -> Voided | Refunded: ...

    def find_authorization(self, key: str) -> Authorized | Declined | None: ...

    def find_capture(self, key: str) -> Captured | CaptureFailed | None: ...

    def find_undo(self, key: str) -> Voided | Refunded | None: ...


class HttpPaymentGateway:
    """A ``PaymentGateway`` over HTTP, whose calls the fence keeps apart between replicas."""

    def __init__(self, downstream: Downstream, fence: CallFence) -> None:
        if downstream.duration_s_max >= fence.ttl_s:
            raise ValueError(
                f"A call may take {downstream.duration_s_max} s, the fence lasts {fence.ttl_s} s. "
                "Lower the timeout of the call, or the fence ends before it does."
            )
        self._downstream = downstream
        self._fence = fence

    def authorize(self, request: Authorization, key: str) -> Authorized | Declined:
        body = {
            "amount_minor": request.amount_minor,
            "currency": request.currency,
            "token": request.token,
            "reference": request.reference,
        }
        return _authorization(self._post("/v1/authorizations", body, key))

    def capture(self, request: Capture, key: str) -> Captured | CaptureFailed:
        path = f"/v1/authorizations/{quote(request.authorization_id, safe='')}/capture"
        return _capture(self._post(path, {"amount_minor": request.amount_minor}, key))

    def undo(self, request: Undo, key: str) -> Voided | Refunded:
        if request.capture_id is None:
            return _undo(self._post(f"/v1/authorizations/{quote(request.authorization_id, safe='')}/void", {}, key))
        path = f"/v1/captures/{quote(request.capture_id, safe='')}/refund"
        return _undo(self._post(path, {"amount_minor": request.amount_minor}, key))

    def find_authorization(self, key: str) -> Authorized | Declined | None:
        response = self._downstream.outcome_of(key)
        return None if response is None else _authorization(response)

    def find_capture(self, key: str) -> Captured | CaptureFailed | None:
        response = self._downstream.outcome_of(key)
        return None if response is None else _capture(response)

    def find_undo(self, key: str) -> Voided | Refunded | None:
        response = self._downstream.outcome_of(key)
        return None if response is None else _undo(response)

    def _post(self, path: str, body: Mapping[str, object], key: str) -> Response:
        with self._fence.hold(key):
            return self._downstream.request("POST", path, body=body, idempotency_key=key)


def _authorization(response: Response) -> Authorized | Declined:
    if response.status == HTTPStatus.CREATED:
        return Authorized(authorization_id=response.text("id"))
    if response.status == HTTPStatus.PAYMENT_REQUIRED:
        return Declined(reason=response.text("code"), detail=response.text("detail", default=""))
    raise response.unforeseen("neither authorized nor declined")


def _capture(response: Response) -> Captured | CaptureFailed:
    if response.status == HTTPStatus.CREATED:
        return Captured(capture_id=response.text("capture_id"), amount_minor=response.whole_number("amount_minor"))
    if response.status == HTTPStatus.PAYMENT_REQUIRED:
        return CaptureFailed(reason=response.text("code"), detail=response.text("detail", default=""))
    raise response.unforeseen("neither captured nor declined")


def _undo(response: Response) -> Voided | Refunded:
    if response.status == HTTPStatus.CREATED:
        amount_minor = response.whole_number("amount_minor")
        if response.text("status") == "voided":
            return Voided(amount_minor=amount_minor)
        return Refunded(refund_id=response.text("refund_id"), amount_minor=amount_minor)
    raise response.unforeseen("neither voided nor refunded")
