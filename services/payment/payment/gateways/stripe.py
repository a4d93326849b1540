"""Stripe's PaymentIntents behind the port.

An intent is created unconfirmed, its id is committed, and then it is confirmed. One that was never confirmed charges
no card, an intent authorizes at most once, and a cancelled one never: so ``GET`` answers and a cancel is a true fence.
``payment_intent_unexpected_state`` is no refusal: the intent itself says what is true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from chassis.http.downstream import Unavailable
from chassis.saga.answers import Accepted, NotFound, Proven, QueryAnswer, SendAnswer
from chassis.saga.attempts import Outcome
from payment.gateways.amounts import STRIPE, AmountNotTaken
from payment.gateways.client import Account
from payment.gateways.port import (
    Authorize,
    Capture,
    Refund,
    Refused,
    Requested,
    Void,
    gateway_id,
)
from payment.gateways.stripe_api import AGAIN, StripeApi, is_replayed
from payment.gateways.stripe_bodies import (
    GATEWAY,
    Intent,
    authorized,
    capture_of,
    intent_of,
    refund_answer,
    void_of,
)

UNEXPECTED_STATE: Final = "payment_intent_unexpected_state"
FRESH_MAX = 10_000


class StripeGateway:
    """The ``Gateway`` of one account at Stripe. ``api_key`` is read anew for each call."""

    def __init__(self, account: Account, *, api_key: Callable[[], str]) -> None:
        self._api = StripeApi(account, api_key=api_key)
        self._fresh: set[str] = set()

    def send(self, request: Requested, key: str) -> SendAnswer:
        """Send an attempt."""
        match request:
            case Authorize():
                return self._create(request, key)
            case Capture():
                return self._capture(request, key)
            case Void():
                return self._void(request, key)
            case Refund():
                return self._refund(request, key)

    def query(self, request: Requested, key: str, provider_id: str | None) -> QueryAnswer:
        """Return what became of an attempt; an intent that is not confirmed yet is confirmed."""
        match request:
            case Authorize():
                return self._authorization(request, key, gateway_id(provider_id))
            case Capture():
                return capture_of(self._api.intent(request.gateway_payment_id), self._api.name) or NotFound()
            case Void():
                return void_of(self._known(request), self._api.name) or NotFound()
            case Refund():
                return self._find_refund(request, key, gateway_id(provider_id))

    def cancel(self, request: Requested, key: str, provider_id: str | None) -> Accepted | Proven:
        """Cancel an intent. Where its id is not known it is created again under its key, which charges no card."""
        assert isinstance(request, Authorize), "only an authorization is cancelled before its outcome is known"
        found = gateway_id(provider_id)
        if found is None:
            created = self._create(request, key)
            if isinstance(created, Proven):
                return Proven(outcome=Outcome.VOIDED, detail=created.detail)
            found = gateway_id(created.provider_id)
        self._fresh.discard(str(found))
        intent = self._api.cancelled(str(found), f"{key}:cancel", reason="abandoned")
        if intent.status == "canceled":
            return Proven(
                outcome=Outcome.VOIDED, provider_id=self._api.id_of("payment", intent.id), reference=intent.id
            )
        if intent.status == "processing":
            raise Unavailable(f"{self._api.name} cannot cancel an intent that it is processing")
        return Proven(outcome=Outcome.CANCEL_REFUSED)

    def _create(self, request: Authorize, key: str) -> SendAnswer:
        try:
            units = STRIPE.units_of(request.amount_minor, request.currency)
        except AmountNotTaken as flaw:
            return _refused(flaw)
        try:
            response = self._api.post("/v1/payment_intents", _created(request, units, key), key)
        except Unavailable as failure:
            if not is_replayed(failure.headers):
                raise
            text = "Stripe has stored an error for this request, and made no payment that could be confirmed."
            return Refused(gateway=GATEWAY, reason="gateway_error", text=text).proven(Outcome.FAILED)
        if (error := self._api.error(response)) is not None:
            return error.refusal.proven()
        intent = intent_of(response)
        if (mismatch := intent.mismatch(units, request)) is not None:
            return Proven(
                outcome=Outcome.MISMATCHED, provider_id=self._api.id_of("payment", intent.id), detail=mismatch
            )
        if len(self._fresh) < FRESH_MAX and not is_replayed(response.headers):
            self._fresh.add(intent.id)
        return Accepted(provider_id=self._api.id_of("payment", intent.id), reference=intent.id, is_ready=True)

    def _authorization(self, request: Authorize, key: str, found: str | None) -> QueryAnswer:
        if found is None:
            return NotFound()
        if found in self._fresh:
            self._fresh.discard(found)
            return self._confirm(request, found, key)
        intent = self._api.intent(found)
        return self._confirm(request, found, key) if intent.status == "requires_confirmation" else self._said(intent)

    def _confirm(self, request: Authorize, found: str, key: str) -> QueryAnswer:
        form = [("error_on_requires_action", "true"), ("expand[]", "latest_charge")]
        try:
            response = self._api.post(f"/v1/payment_intents/{found}/confirm", form, f"{key}:confirm")
        except Unavailable as failure:
            if not is_replayed(failure.headers):
                raise
            return self._without_confirmation(found, key)
        error = self._api.error(response)
        if error is None and not is_replayed(response.headers):
            return self._said(intent_of(response))
        if error is not None and error.type == "card_error":
            return error.refusal.proven(provider_id=self._api.id_of("payment", found))
        intent = self._api.intent(found)
        if intent.status == "requires_confirmation" and error is not None:
            return error.refusal.proven(provider_id=self._api.id_of("payment", found))
        return self._said(intent)

    def _without_confirmation(self, found: str, key: str) -> QueryAnswer:
        """Cancel an intent whose confirmation is answered with a stored 500 for ever; one that took effect counts."""
        intent = self._api.intent(found)
        if intent.status == "requires_confirmation":
            intent = self._api.cancelled(found, f"{key}:cancel", reason="abandoned")
            if intent.status == "canceled":
                text = "Stripe has stored an error for the confirmation; its intent is cancelled."
                refused = Refused(gateway=GATEWAY, reason="gateway_error", text=text)
                return refused.proven(Outcome.FAILED, provider_id=self._api.id_of("payment", found))
        return self._said(intent)

    def _said(self, intent: Intent) -> QueryAnswer:
        """Return what an intent's state says of its authorization. What needs the shopper is cancelled and refused."""
        answer = authorized(intent, self._api.name)
        if answer is not None:
            return answer
        if intent.status == "requires_action":
            intent = self._api.cancelled(intent.id, None, reason="abandoned")
            if intent.status == "canceled":
                text = "The payment needs the shopper, whom a server cannot ask."
                return Refused(gateway=GATEWAY, reason="authentication_required", text=text).proven()
            return authorized(intent, self._api.name) or Accepted(provider_id=self._api.id_of("payment", intent.id))
        return Accepted(provider_id=self._api.id_of("payment", intent.id), reference=intent.id)

    def _capture(self, request: Capture, key: str) -> SendAnswer:
        try:
            units = STRIPE.units_of(request.amount_minor, request.currency, is_new=False)
        except AmountNotTaken as flaw:
            return _refused(flaw)
        form = [("amount_to_capture", str(units)), ("metadata[capture_key]", key)]
        return self._changed(f"/v1/payment_intents/{request.gateway_payment_id}/capture", form, key, capture_of)

    def _void(self, request: Void, key: str) -> SendAnswer:
        known = self._known(request)
        if (done := void_of(known, self._api.name)) is not None:
            return done
        form = [("cancellation_reason", "requested_by_customer")]
        return self._changed(f"/v1/payment_intents/{known.id}/cancel", form, key, void_of)

    def _changed(
        self,
        path: str,
        form: list[tuple[str, str]],
        key: str,
        read: Callable[[Intent, str], Proven | None],
    ) -> SendAnswer:
        """Change an intent, and return what its state says then, whatever the answer was.

        A stored 500 says nothing. The state of the intent lets each change happen once, so another key may try it.
        """
        try:
            response = self._api.post(path, form, key)
        except Unavailable as failure:
            if not is_replayed(failure.headers):
                raise
            response = self._api.post(path, form, key + AGAIN)
        error = self._api.error(response)
        if error is not None and error.type == "card_error":
            return error.refusal.proven()
        found = path.split("/")[3]
        is_present = error is None and not is_replayed(response.headers)
        intent = intent_of(response) if is_present else self._api.intent(found)
        answer = read(intent, self._api.name)
        if answer is not None:
            return answer
        if error is not None and error.code != UNEXPECTED_STATE:
            return error.refusal.proven()
        raise Unavailable(f"{self._api.name} has an intent that is {intent.status} after it was changed")

    def _refund(self, request: Refund, key: str) -> SendAnswer:
        try:
            units = STRIPE.units_of(request.amount_minor, request.currency, is_new=False)
        except AmountNotTaken as flaw:
            return _refused(flaw)
        form = [
            ("payment_intent", request.gateway_payment_id),
            ("amount", str(units)),
            ("metadata[payment_id]", str(request.payment_id)),
            ("metadata[refund_id]", str(request.refund_id)),
            ("metadata[key]", key),
        ]
        response = self._api.post("/v1/refunds", form, key)
        if (error := self._api.error(response)) is not None:
            return error.refusal.proven()
        if is_replayed(response.headers):
            return self._refund_now(request, str(response.body.get("id")))
        return refund_answer(response, response.body, request, self._api.name)

    def _find_refund(self, request: Refund, key: str, found: str | None) -> QueryAnswer:
        """Return a refund by its id; without one, among those of its payment by our key. A list proves no absence."""
        if found is not None:
            return self._refund_now(request, found)
        path = f"/v1/refunds?payment_intent={request.gateway_payment_id}&limit=100"
        listed = self._api.get(path)
        rows = listed.body.get("data")
        for each in rows if isinstance(rows, list) else ():
            metadata = each.get("metadata") if isinstance(each, Mapping) else None
            if isinstance(metadata, Mapping) and metadata.get("key") == key:
                return refund_answer(listed, each, request, self._api.name)
        return NotFound()

    def _refund_now(self, request: Refund, found: str) -> Accepted | Proven:
        response = self._api.get(f"/v1/refunds/{found}")
        if (error := self._api.error(response)) is not None:
            raise response.unforeseen(f"refund {found}: {error.refusal.reason}")
        return refund_answer(response, response.body, request, self._api.name)

    def _known(self, request: Void) -> Intent:
        if request.gateway_payment_id is None:
            raise LookupError(f"Payment {request.payment_id} has no intent at Stripe; nothing can be charged for it.")
        return self._api.intent(request.gateway_payment_id)


def _refused(flaw: AmountNotTaken) -> Proven:
    return Refused(gateway=GATEWAY, reason=flaw.reason, text=str(flaw)).proven()


def _created(request: Authorize, units: int, key: str) -> list[tuple[str, str]]:
    """Return the form that creates an intent without confirming it."""
    return [
        ("amount", str(units)),
        ("currency", request.currency.lower()),
        ("capture_method", "manual"),
        ("confirm", "false"),
        ("payment_method", request.token),
        ("payment_method_types[]", "card"),
        ("metadata[payment_id]", str(request.payment_id)),
        ("metadata[key]", key),
    ]
