"""Adyen's Checkout API behind the port.

A payment is answered at once, or its outcome comes by webhook. Captures, cancels and refunds are only ever
``received``. There is no query: a repeat under the same key within a week returns the stored answer. A cancel by our
own reference fences a payment whose answer was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from chassis.http.downstream import Response, Unavailable
from chassis.saga.answers import Accepted, NotFound, Proven, QueryAnswer, SendAnswer
from chassis.saga.attempts import Outcome
from payment.gateways.adyen_bodies import GATEWAY, payment_said
from payment.gateways.amounts import ADYEN, AmountNotTaken
from payment.gateways.client import Account
from payment.gateways.notices import payment_reference
from payment.gateways.port import (
    Authorize,
    Capture,
    Refund,
    Refused,
    Requested,
    Void,
    gateway_id,
    provider_id,
)

IN_USE, STORE_AWAY = "704", "703"
"""The codes of a key whose first request is under way, and of a store of keys that is away."""
TRANSIENT: Final = "transient-error"
RETURN_URL: Final = "https://localhost/"
"""It is required. Only a shopper's browser follows it, and what needs the shopper is refused."""
VERSION_PATH: Final = "/v72"
"""The version of the API that this is written for, for an account whose address has no path."""


class AdyenGateway:
    """The ``Gateway`` of one account at Adyen. ``api_key`` is read anew for each call."""

    def __init__(self, account: Account, *, merchant_account: str, api_key: Callable[[], str], path: str = "") -> None:
        self._account = account
        self._merchant_account = merchant_account
        self._api_key = api_key
        self._path = path

    def send(self, request: Requested, key: str) -> SendAnswer:
        """Send an attempt."""
        match request:
            case Authorize():
                return self._pay(request, key)
            case Capture():
                return self._modify(request, "captures", request.amount_minor, key)
            case Refund():
                return self._modify(request, "refunds", request.amount_minor, key)
            case Void():
                return self._void(request, key)

    def query(self, request: Requested, key: str, provider_id: str | None) -> QueryAnswer:
        """Return that the attempt was received, where that is known. Its outcome comes by webhook alone."""
        if provider_id is None:
            return NotFound()
        return Accepted(provider_id=provider_id, reference=gateway_id(provider_id))

    def cancel(self, request: Requested, key: str, provider_id: str | None) -> Accepted | Proven:
        """Cancel an authorization, by our own reference where its id is not known. The outcome comes by webhook."""
        assert isinstance(request, Authorize), "only an authorization is cancelled before its outcome is known"
        payment = payment_reference(request.payment_id, key)
        self._cancel(gateway_id(provider_id), payment, reference=key, key=f"{key}:cancel")
        return Accepted()

    def _pay(self, request: Authorize, key: str) -> SendAnswer:
        try:
            value = ADYEN.units_of(request.amount_minor, request.currency)
        except AmountNotTaken as error:
            return Refused(gateway=GATEWAY, reason=error.reason, text=str(error)).proven()
        body = {
            "amount": {"currency": request.currency, "value": value},
            "merchantAccount": self._merchant_account,
            "paymentMethod": {"type": "scheme", "storedPaymentMethodId": request.token},
            "reference": payment_reference(request.payment_id, key),
            "returnUrl": RETURN_URL,
            "shopperReference": request.payer,
            "shopperInteraction": "ContAuth",
            "recurringProcessingModel": "CardOnFile",
            "additionalData": {"manualCapture": "true"},
            "metadata": {"key": key},
        }
        response = self._post("/payments", body, key)
        if response.status == HTTPStatus.OK:
            answer = payment_said(response, request, value, self._account.name, body["reference"])
            if answer is None:
                return self._give_back(response, request, key)
            return answer
        return self._refused(response) or Accepted()

    def _give_back(self, response: Response, request: Authorize, key: str) -> Proven:
        """Cancel an authorization of less than was requested, and refuse it."""
        psp = response.text("pspReference")
        self._cancel(psp, payment_reference(request.payment_id, key), reference=key, key=f"{key}:partial")
        text = "Only a part of the amount was authorized; it is given back."
        refused = Refused(gateway=GATEWAY, reason="partially_authorized", text=text)
        return refused.proven(provider_id=self._id("payment", psp))

    def _modify(self, request: Capture | Refund, what: str, amount_minor: int, key: str) -> SendAnswer:
        """Request a capture or a refund, whose outcome comes by webhook under the id that the answer gives."""
        try:
            value = ADYEN.units_of(amount_minor, request.currency, is_new=False)
        except AmountNotTaken as error:
            return Refused(gateway=GATEWAY, reason=error.reason, text=str(error)).proven()
        body = {
            "amount": {"currency": request.currency, "value": value},
            "merchantAccount": self._merchant_account,
            "reference": key,
        }
        response = self._post(f"/payments/{request.gateway_payment_id}/{what}", body, key)
        if (refusal := self._received(response)) is not None:
            return refusal
        is_same = response.body.get("amount") in (None, body["amount"])
        if not is_same or response.text("paymentPspReference") != request.gateway_payment_id:
            raise response.unforeseen(f"{what} of another payment or amount than was requested")
        kind, psp = ("capture" if isinstance(request, Capture) else "refund"), response.text("pspReference")
        return Accepted(provider_id=self._id(kind, psp), reference=psp)

    def _void(self, request: Void, key: str) -> SendAnswer:
        response = self._cancel(
            request.gateway_payment_id, payment_reference(request.payment_id, key), reference=key, key=key
        )
        if (refusal := self._received(response)) is not None:
            return refusal
        psp = response.text("pspReference")
        return Accepted(provider_id=self._id("void", psp), reference=psp)

    def _cancel(self, psp: str | None, payment: str, *, reference: str, key: str) -> Response:
        body: dict[str, object] = {"merchantAccount": self._merchant_account, "reference": reference}
        if psp is not None:
            return self._post(f"/payments/{psp}/cancels", body, key)
        return self._post("/cancels", {**body, "paymentReference": payment}, key)

    def _received(self, response: Response) -> Proven | Accepted | None:
        """Return what a modification is answered instead of ``received``; None where it is."""
        if response.status == HTTPStatus.CREATED and response.body.get("status") == "received":
            return None
        return self._refused(response) or Accepted()

    def _post(self, path: str, body: Mapping[str, object], key: str) -> Response:
        """Call once. Raises Unavailable where the same key is to be sent again later."""
        headers = {"x-api-key": self._api_key()}
        response = self._account.request("POST", self._path + path, key=key, body=body, headers=headers)
        code, status = _error_code(response), response.status
        is_transient = response.headers.get(TRANSIENT, "").lower() == "true"
        if is_transient or (status in (401, 403, 429)):
            raise Unavailable(f"{self._account.name} answered {status} {code}")
        return response

    def _refused(self, response: Response) -> Proven | None:
        """Return the refusal of an answer that is no success; None where the outcome comes by webhook.

        Raises UnforeseenAnswer for an answer that says nothing of the request.
        """
        code = _error_code(response)
        if code in (IN_USE, STORE_AWAY):
            return None
        if response.status not in (400, 404, 422) or not code:
            raise response.unforeseen(f"neither taken nor refused: {response.body.get('message')!r}")
        text = str(response.body.get("message", ""))
        return Refused(gateway=GATEWAY, reason=f"adyen_{code}", text=text).proven(Outcome.REFUSED)

    def _id(self, kind: str, psp: str) -> str:
        return provider_id(self._account.name, kind, psp)


def _error_code(response: Response) -> str:
    code = response.body.get("errorCode")
    return code if isinstance(code, str) else ""
