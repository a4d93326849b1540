"""Judges that are not ours: the shape of every request that we send, and the signatures of webhooks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
import pytest
import stripe as stripe_package
from Adyen.util import (  # type: ignore[import-untyped] — Adyen ships no types
    generate_notification_sig,
    is_valid_hmac_notification,
)
from sqlalchemy import Engine

from chassis.http.signatures import BadSignature
from payment.gateways import adyen_webhooks, stripe_webhooks
from stack import ports
from stack.environment import cache_folder
from support import judges
from support.adyen_books import AdyenBooks
from support.gateway_stub import GatewayStub, Got, serving
from support.paying import ADYEN, HEX_KEY, SECRET, STRIPE, Paying, adyen, item, notification, stripe, stripe_event
from support.stripe_books import StripeBooks

CACHE = cache_folder(os.environ)
MODELS = {
    "payments": "PaymentRequest",
    "captures": "PaymentCaptureRequest",
    "refunds": "PaymentRefundRequest",
    "cancels": "PaymentCancelRequest",
}


@pytest.fixture(scope="module")
def stripe_mock() -> Iterator[str]:
    with judges.stripe_mock(CACHE, ports.choose(("stripe-mock",), {}, {})["stripe-mock"]) as url:
        yield url


def every_request_to_stripe(engine: Engine) -> list[Got]:
    """Return one request of each kind that we send to Stripe."""
    books = StripeBooks()
    with serving(GatewayStub(books.answer)) as stub:
        paying = Paying(engine=engine, gateways={STRIPE: stripe(stub.url)})
        paying.capture_after(paying.authorized())
        books.fails_after = ["refunds"]
        refund, again = paying.of_saga(), paying.of_saga()
        refund.run(refund.refund(1_000, paying.saga_id))
        refund.run(refund.wait(10))
        books.refund_status = "pending"
        again.run(again.refund(1_000, paying.saga_id))
        again.run(again.wait(5))
        fenced = Paying(engine=engine, gateways=paying.gateways)
        fenced.authorize()
        fenced.call()
        fenced.acknowledge()
        fenced.lose()
        fenced.fence()
        fenced.run()
    return stub.got


def test_stripe_mock_takes_every_request_that_we_send_to_stripe(engine: Engine, stripe_mock: str) -> None:
    kinds = set()
    for got in every_request_to_stripe(engine):
        headers = {"Authorization": "Bearer sk_test_123", "Content-Type": got.headers.get("content-type", "")}
        answer = httpx.request(got.method, stripe_mock + got.path, content=got.content, headers=headers)
        assert answer.status_code == 200, (got.line, got.content, answer.text)
        kinds.add((got.method, urlsplit(got.path).path.split("/")[-1 if got.path.count("/") > 3 else 2]))
    assert {("POST", "confirm"), ("POST", "capture"), ("POST", "cancel"), ("POST", "refunds")} <= kinds


def test_stripe_mock_refuses_what_is_no_request_of_stripes(stripe_mock: str) -> None:
    headers = {"Authorization": "Bearer sk_test_123"}
    wrong = httpx.post(
        f"{stripe_mock}/v1/payment_intents", data={"amount": "1", "currency": "eur", "a": "b"}, headers=headers
    )
    assert wrong.status_code == 400


def every_request_to_adyen(engine: Engine) -> list[Got]:
    """Return one request of each kind that we send to Adyen."""
    books = AdyenBooks()
    with serving(GatewayStub(books.answer)) as stub:
        paying = Paying(engine=engine, gateways={ADYEN: adyen(stub.url)}, account=ADYEN)
        books.prefix = paying.saga_id[-6:]
        paying.capture_after(paying.authorized())
        refund, void = paying.of_saga(), paying.of_saga()
        refund.run(refund.refund(1_000, paying.saga_id))
        void.run(void.void(paying.saga_id))
        fenced = Paying(engine=engine, gateways=paying.gateways, account=ADYEN)
        fenced.authorize()
        fenced.lose()
        fenced.acknowledge()
        fenced.fence()
        fenced.run(fenced.wait(10))
    return stub.got


def test_adyens_own_models_take_every_request_that_we_send_to_adyen(engine: Engine) -> None:
    requests = []
    for got in every_request_to_adyen(engine):
        what = got.line.split("/")
        is_by_reference = what[-1] == "cancels" and len(what) == 3
        requests.append(("StandalonePaymentCancelRequest" if is_by_reference else MODELS[what[-1]], got.body))
    assert {model for model, _ in requests} == {*MODELS.values(), "StandalonePaymentCancelRequest"}
    flaws = judges.adyens_flaws(CACHE, requests)
    assert [each for each in zip(requests, flaws, strict=True) if each[1]] == []


def test_adyens_own_models_find_what_is_wrong() -> None:
    amount = {"currency": "EUR", "value": 5}
    bodies: list[tuple[str, object]] = [
        ("PaymentCaptureRequest", {"merchantAccount": "M", "amount": {"currency": "EUR", "value": "5"}}),
        ("PaymentCaptureRequest", {"merchantAccount": "M"}),
        ("PaymentCaptureRequest", {"merchantAccount": "M", "amount": amount, "captureDelay": 1}),
        ("PaymentRequest", {"shopperInteraction": "Sometimes"}),
    ]
    flaws = judges.adyens_flaws(CACHE, bodies)
    assert flaws[0] == ["PaymentCaptureRequest.amount.value is no number"]
    assert flaws[1] == ["PaymentCaptureRequest.amount is missing"]
    assert flaws[2] == ["PaymentCaptureRequest.captureDelay is unknown to PaymentCaptureRequest"]
    assert any("Sometimes" in each for each in flaws[3])


def test_what_stripes_own_package_signs_is_what_we_take() -> None:
    body, now = stripe_event("charge.expired", {"note": "é"}), int(time.time())
    made = stripe_package.WebhookSignature._compute_signature(f"{now}.{body.decode()}", SECRET)
    at = datetime.fromtimestamp(now, UTC)
    stripe_webhooks.check([SECRET], f"t={now},v1={made},v0=other", body, at)
    stripe_webhooks.check(["whsec_new", SECRET], f"t={now},v1={made}", body, at)
    with pytest.raises(BadSignature):
        stripe_webhooks.check(["whsec_new"], f"t={now},v1={made}", body, at)
    assert stripe_package.WebhookSignature.verify_header(body.decode(), f"t={now},v1={made}", SECRET)


def test_what_adyens_own_package_signs_is_what_we_take() -> None:
    signed = item("AUTHORISATION", "883:1\\", merchantReference="1:2", reason="a:b")
    assert is_valid_hmac_notification({**signed}, HEX_KEY)
    theirs = {name: value for name, value in signed.items() if name != "additionalData"}
    made = generate_notification_sig({**theirs, "additionalData": {}}, HEX_KEY)
    text = made.decode() if isinstance(made, bytes) else made
    found = adyen_webhooks.items(notification({**theirs, "additionalData": {"hmacSignature": text}}))
    adyen_webhooks.check(["00" * 32, HEX_KEY], found)
    with pytest.raises(BadSignature):
        adyen_webhooks.check(["00" * 32], found)
