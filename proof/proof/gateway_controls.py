"""Negative controls of the gateways: a step without one of its rules. An exploration must fail on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from chassis.http.downstream import Response, Unavailable
from chassis.saga.answers import Accepted, Proven, QueryAnswer, SendAnswer
from chassis.saga.attempt_rows import FoundAttempt
from chassis.saga.attempts import Outcome, attempt_key
from chassis.saga.evidence import Claim
from payment.gateways import adyen_webhooks
from payment.gateways.adyen import AdyenGateway
from payment.gateways.client import Account
from payment.gateways.port import Refused, Requested
from payment.gateways.stripe import StripeGateway
from payment.gateways.stripe_api import AGAIN, StripeApi
from payment.merchants.steps import AUTHORIZE_GATEWAY
from proof.awaited_controls import credit_on_acknowledgement, new_key_on_timeout, succeeding_under_a_cancel
from proof.gateway_models import MODELS, made_adyen, made_stripe, read_adyen
from proof.gateway_states import SAGA, GatewayModel, GatewayRules

AUTHORIZING_KEY = attempt_key(SAGA, AUTHORIZE_GATEWAY, 1)
NO = Refused(gateway="any", reason="no")


class ConfirmingApi(StripeApi):
    """Creates and confirms in one request."""

    def post(self, path: str, form: list[tuple[str, str]], key: str | None) -> Response:
        return super().post(path, [(name, "true" if name == "confirm" else value) for name, value in form], key)


class ConfirmsAtOnce(StripeGateway):
    """Creates and confirms in one request, before its id is committed."""

    def __init__(self, account: Account, *, api_key: Callable[[], str]) -> None:
        super().__init__(account, api_key=api_key)
        self._api = ConfirmingApi(account, api_key=api_key)


class DeclinesOnError(StripeGateway):
    """Takes a stored 500 for a decline."""

    def _without_confirmation(self, found: str, key: str) -> QueryAnswer:
        return NO.proven()


class AttemptsAgain(StripeGateway):
    """Begins another attempt after a stored 500, and does not cancel the intent of the one before."""

    def _without_confirmation(self, found: str, key: str) -> QueryAnswer:
        return NO.proven(Outcome.FAILED)


class RefusesUnexpectedStates(StripeGateway):
    """Takes an intent of another state than is expected for a refusal."""

    def _changed(self, path: str, form: list[tuple[str, str]], key: str, read: Any) -> SendAnswer:
        try:
            response = self._api.post(path, form, key)
        except Unavailable:
            response = self._api.post(path, form, key + AGAIN)
        return NO.proven() if self._api.error(response) is not None else super()._changed(path, form, key, read)


class CancelsAlways(StripeGateway):
    """Takes every answer to a cancel for its success."""

    def cancel(self, request: Requested, key: str, provider_id: str | None) -> Accepted | Proven:
        super().cancel(request, key, provider_id)
        return Proven(outcome=Outcome.VOIDED)


class BelievesReceived(AdyenGateway):
    """Takes ``received`` for the outcome of a cancel."""

    def cancel(self, request: Requested, key: str, provider_id: str | None) -> Accepted | Proven:
        super().cancel(request, key, provider_id)
        return NO.proven(Outcome.VOIDED)


class RefusesKeysInUse(AdyenGateway):
    """Takes the answer that a key is in use for a refusal."""

    def _refused(self, response: Response) -> Proven | None:
        return NO.proven() if response.status == 422 else super()._refused(response)


def reading_nothing(_body: bytes, _is_requested: bool) -> Claim | None:
    """Get no webhook in time. It is no rule: without it the webhooks would tell before it happens."""
    return None


def reading_capture_failed(body: bytes, is_requested: bool) -> Claim | None:
    """Take a capture that failed later for evidence about its attempt."""
    item = adyen_webhooks.items(body)[0]
    if item["eventCode"] == "CAPTURE_FAILED":
        return Claim(outcome=Outcome.REFUSED, key=item["merchantReference"])
    return read_adyen(body, is_requested)


def matched_by_the_payment(claim: Claim | None, found: Sequence[FoundAttempt]) -> FoundAttempt | None:
    """Match a webhook by the payment alone, whichever attempt it names."""
    about = [each for each in found if claim is not None and each.key.startswith(AUTHORIZING_KEY)]
    return max(about, key=lambda each: each.number, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayControl:
    """A rule that is left out of a model, and what the exploration then finds."""

    model: str
    found_as: str
    gateway: Callable[..., Any] | None = None
    read: Callable[[bytes, bool], Claim | None] | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    days: bool = False

    def broken(self) -> GatewayModel:
        """Return the model without the rule."""
        model = MODELS[self.model]()
        model.gateway = self.gateway or model.gateway
        model.read = self.read or model.read
        model.rules = replace(GatewayRules(), **self.rules)
        model.policy = replace(model.policy, **self.policy)
        model.days = self.days
        return model


def _stripe(kind: type[StripeGateway]) -> Callable[..., Any]:
    return partial(made_stripe, kind=kind)


def _adyen(kind: type[AdyenGateway]) -> Callable[..., Any]:
    return partial(made_adyen, kind=kind)


AT_STRIPE, AT_STRIPE_500 = "stripe: authorization", "stripe: authorization, a 500 is stored"
AT_ADYEN = "adyen: authorization"
GATEWAY_CONTROLS: Mapping[str, GatewayControl] = {
    "confirms-at-once": GatewayControl(
        model=AT_STRIPE, gateway=_stripe(ConfirmsAtOnce), days=True, found_as="FENCED, and charged|charged twice"
    ),
    "stored-500-is-a-decline": GatewayControl(
        model=AT_STRIPE_500, gateway=_stripe(DeclinesOnError), found_as="REJECTED, and charged"
    ),
    "new-attempt-beside-the-one-before": GatewayControl(
        model=AT_STRIPE_500,
        gateway=_stripe(AttemptsAgain),
        read=reading_nothing,
        found_as="FENCED, and charged|charged twice",
    ),
    "unexpected-state-is-a-refusal": GatewayControl(
        model="stripe: capture", gateway=_stripe(RefusesUnexpectedStates), found_as="REJECTED, and charged"
    ),
    "cancel-refused-is-cancelled": GatewayControl(
        model=AT_STRIPE, gateway=_stripe(CancelsAlways), found_as="FENCED, and charged"
    ),
    "intent-ready-is-authorized": GatewayControl(
        model=AT_STRIPE, rules={"on_accepted": credit_on_acknowledgement}, found_as="DONE, and not charged"
    ),
    "success-settles-under-a-cancel": GatewayControl(
        model=AT_STRIPE, rules={"on_evidence": succeeding_under_a_cancel}, found_as="DONE, and not charged"
    ),
    "void-is-not-final": GatewayControl(
        model=AT_STRIPE, policy={"void_is_final": False}, found_as="though the gateway contradicts nothing"
    ),
    "stripe-keys-for-ever": GatewayControl(
        model="stripe: refund", policy={"sends_within": None}, days=True, found_as="charged twice"
    ),
    "not-found-is-absent": GatewayControl(
        model="stripe: refund", policy={"not_found_is_proof": True}, found_as="REJECTED, and charged"
    ),
    "refund-received-is-done": GatewayControl(
        model="adyen: refund", rules={"on_accepted": credit_on_acknowledgement}, found_as="DONE, and not charged"
    ),
    "capture-received-is-done": GatewayControl(
        model="adyen: capture", rules={"on_accepted": credit_on_acknowledgement}, found_as="DONE, and not charged"
    ),
    "cancel-received-is-done": GatewayControl(
        model=AT_ADYEN, gateway=_adyen(BelievesReceived), found_as="FENCED, and charged"
    ),
    "key-in-use-is-a-refusal": GatewayControl(
        model=AT_ADYEN, gateway=_adyen(RefusesKeysInUse), found_as="REJECTED, and charged"
    ),
    "new-key-on-timeout": GatewayControl(
        model=AT_ADYEN, rules={"on_due": new_key_on_timeout}, policy={"attempts_max": 2}, found_as="charged twice"
    ),
    "capture-failed-is-evidence": GatewayControl(
        model="adyen: capture", read=reading_capture_failed, found_as="REJECTED, and charged"
    ),
    "older-attempt-refuses": GatewayControl(
        model="adyen: authorization, an older attempt",
        rules={"attempt_of": matched_by_the_payment},
        found_as="REJECTED, and charged",
    ),
}
"""By name."""
