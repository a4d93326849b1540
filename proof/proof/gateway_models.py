"""The steps of merchants' payments at each gateway, with the real adapters and policies, small enough to be visited."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from chassis.saga.answers import Proven
from chassis.saga.attempts import AwaitedPolicy
from chassis.saga.evidence import Claim
from chassis.saga.steps import AwaitedStep
from payment.gateways import adyen_webhooks, stripe_webhooks
from payment.gateways.adyen import AdyenGateway
from payment.gateways.port import Authorize, Capture, Gateway, Refund, Requested, Void
from payment.gateways.registry import Gateways
from payment.gateways.stripe import StripeGateway
from payment.merchants import domain
from payment.merchants.callbacks import about_payment
from payment.merchants.domain import Act, AuthorizeGateway, CaptureOrVoid, MerchantPaymentState, RefundGateway
from payment.merchants.steps import AUTHORIZE_GATEWAY, CAPTURE_OR_VOID, REFUND_GATEWAY, steps
from proof.adyen_model import MERCHANT_ACCOUNT, AdyenBooks, AdyenPayment
from proof.gateway_books import AMOUNT_MINOR, CURRENCY, PAYMENT_ID
from proof.gateway_calls import ACCOUNT
from proof.gateway_states import SAGA, GatewayModel
from proof.stripe_model import Intent, StripeBooks

SENDS_MAX, ATTEMPTS_MAX = 2, 2
POLICIES: Mapping[str, AwaitedPolicy] = {
    each.name: replace(each.policy, sends_max=SENDS_MAX, attempts_max=min(each.policy.attempts_max, ATTEMPTS_MAX))
    for each in steps(Gateways({}))
    if isinstance(each, AwaitedStep)
}
"""The policies of the service, with fewer sends and attempts."""

AUTHORIZING = AuthorizeGateway(
    saga_id=SAGA,
    step=AUTHORIZE_GATEWAY,
    payment_id=PAYMENT_ID,
    merchant_id="shop",
    is_live=False,
    account=ACCOUNT,
    currency=CURRENCY,
    amount_minor=AMOUNT_MINOR,
    reference="order-1",
    token="pm_card_visa",
    payer="payer",
    capture="NOW",
)
CAPTURING = CaptureOrVoid(
    saga_id=SAGA,
    step=CAPTURE_OR_VOID,
    payment_id=PAYMENT_ID,
    act=Act.CAPTURE,
    currency=CURRENCY,
    amount_minor=AMOUNT_MINOR,
)
REFUNDING = RefundGateway(
    saga_id=SAGA,
    step=REFUND_GATEWAY,
    refund_id=1,
    payment_id=PAYMENT_ID,
    currency=CURRENCY,
    amount_minor=AMOUNT_MINOR,
)
AUTHORIZE = Authorize(
    account=ACCOUNT,
    payment_id=PAYMENT_ID,
    amount_minor=AMOUNT_MINOR,
    currency=CURRENCY,
    token="pm_card_visa",
    payer="payer",
)


def made_stripe(account: Any, fresh: str | None, kind: type[StripeGateway] = StripeGateway) -> Gateway:
    """Return the adapter of an account at Stripe, which has made this intent itself."""
    gateway = kind(account, api_key=lambda: "sk")
    if fresh is not None:
        gateway._fresh.add(fresh)
    return gateway


def made_adyen(account: Any, _fresh: str | None, kind: type[AdyenGateway] = AdyenGateway) -> Gateway:
    """Return the adapter of an account at Adyen."""
    return kind(account, merchant_account=MERCHANT_ACCOUNT, api_key=lambda: "key")


def read_stripe(body: bytes, _is_requested: bool) -> Claim | None:
    """Return what a webhook of Stripe says of an attempt."""
    return stripe_webhooks.read(body, ACCOUNT).claim


def read_adyen(body: bytes, is_requested: bool) -> Claim | None:
    """Return what a webhook of Adyen says of an attempt. ``is_requested``: the authorization is not settled."""
    item = adyen_webhooks.items(body)[0]
    notice = adyen_webhooks.read(item, ACCOUNT, MERCHANT_ACCOUNT)
    named = adyen_webhooks.payment_of(item)
    if notice.claim is None or notice.claim.key is not None or named is None:
        return notice.claim
    payment = domain.requested(AUTHORIZING)
    state = MerchantPaymentState.REQUESTED if is_requested else MerchantPaymentState.AUTHORIZED
    return about_payment(notice, notice.claim, replace(payment, state=state), named[1]).claim


def _judged_authorization(proof: Proven) -> Proven:
    return domain.judge_authorization(AUTHORIZING, proof)


def _judged_capture(proof: Proven) -> Proven:
    return domain.judge_capture(CAPTURING, proof)


def _judged_refund(proof: Proven) -> Proven:
    return domain.judge_refund(REFUNDING, proof)


def at_stripe(step: str, request: Requested, books: StripeBooks, judge: Callable[[Proven], Proven]) -> GatewayModel:
    """Return the model of a step at Stripe."""
    return GatewayModel(
        gateway=made_stripe, read=read_stripe, books=books, step=step, request=request,
        policy=POLICIES[step], judge=judge, can_fail=step == AUTHORIZE_GATEWAY,
    )  # fmt: skip


def at_adyen(step: str, request: Requested, books: AdyenBooks, judge: Callable[[Proven], Proven]) -> GatewayModel:
    """Return the model of a step at Adyen."""
    return GatewayModel(
        gateway=made_adyen, read=read_adyen, books=books, step=step, request=request,
        policy=POLICIES[step], judge=judge, can_fail=step == AUTHORIZE_GATEWAY,
    )  # fmt: skip


def _requested(kind: type[Capture] | type[Void], found: str) -> Capture | Void:
    return kind(
        account=ACCOUNT,
        payment_id=PAYMENT_ID,
        gateway_payment_id=found,
        amount_minor=AMOUNT_MINOR,
        currency=CURRENCY,
    )


def _refund(found: str) -> Refund:
    return Refund(
        account=ACCOUNT,
        payment_id=PAYMENT_ID,
        refund_id=1,
        gateway_payment_id=found,
        amount_minor=AMOUNT_MINOR,
        currency=CURRENCY,
    )


HELD = StripeBooks(intents=(Intent("before", "requires_capture"),))
CAPTURED = StripeBooks(intents=(Intent("before", "succeeded"),))
AUTHORISED = AdyenBooks(payments=(AdyenPayment("authorised"),))

MODELS: Mapping[str, Callable[[], GatewayModel]] = {
    "stripe: authorization": lambda: at_stripe(
        AUTHORIZE_GATEWAY, AUTHORIZE, StripeBooks(errors_left=0), _judged_authorization
    ),
    "stripe: authorization, a 500 is stored": lambda: at_stripe(
        AUTHORIZE_GATEWAY, AUTHORIZE, StripeBooks(), _judged_authorization
    ),
    "stripe: capture": lambda: at_stripe(
        CAPTURE_OR_VOID, _requested(Capture, "pi_0"), replace(HELD, expires=True), _judged_capture
    ),
    "stripe: void": lambda: at_stripe(CAPTURE_OR_VOID, _requested(Void, "pi_0"), HELD, _judged_capture),
    "stripe: refund": lambda: at_stripe(REFUND_GATEWAY, _refund("pi_0"), CAPTURED, _judged_refund),
    "adyen: authorization": lambda: at_adyen(AUTHORIZE_GATEWAY, AUTHORIZE, AdyenBooks(), _judged_authorization),
    "adyen: authorization, webhooks name the payment": lambda: at_adyen(
        AUTHORIZE_GATEWAY, AUTHORIZE, AdyenBooks(names_payment=True), _judged_authorization
    ),
    "adyen: authorization, an older attempt": lambda: replace(
        at_adyen(AUTHORIZE_GATEWAY, AUTHORIZE, AdyenBooks().refused_before(), _judged_authorization), attempt=2
    ),
    "adyen: capture": lambda: at_adyen(
        CAPTURE_OR_VOID, _requested(Capture, "PSP0"), replace(AUTHORISED, fails_later=True), _judged_capture
    ),
    "adyen: void": lambda: at_adyen(CAPTURE_OR_VOID, _requested(Void, "PSP0"), AUTHORISED, _judged_capture),
    "adyen: refund": lambda: at_adyen(
        REFUND_GATEWAY, _refund("PSP0"), AdyenBooks(payments=(AdyenPayment("captured"),)), _judged_refund
    ),
}
