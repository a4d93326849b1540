"""Gateways' webhooks over HTTP: odd or unsigned bodies are refused, and none is ever a 500; staff read what came."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from chassis.http import problem
from chassis.process import callbacks
from chassis.process.service import Dependencies
from chassis.testing.service import types
from chassis.wire.envelope import new_id
from messages.payment import GatewayAuthorized
from payment import api
from support.adyen_books import AdyenBooks
from support.gateway_stub import GatewayStub, serving
from support.issuer import token, verifying
from support.paying import ADYEN, STRIPE, Paying, adyen, item, notification, stripe_event, stripe_signature

pytestmark = pytest.mark.anyio


@pytest.fixture
def at_stripe(engine: Engine) -> Paying:
    return Paying(engine=engine, gateways={})


@pytest.fixture
def at_adyen(engine: Engine) -> Iterator[tuple[Paying, AdyenBooks]]:
    books = AdyenBooks()
    with serving(GatewayStub(books.answer)) as stub:
        paying = Paying(engine=engine, gateways={ADYEN: adyen(stub.url)}, account=ADYEN)
        books.prefix = paying.saga_id[-6:]
        yield paying, books


async def post(paying: Paying, content: bytes, **headers: str) -> int:
    app = FastAPI()
    problem.install(app)
    app.include_router(
        callbacks.router(
            paying.webhooks, paying.engine, callbacks.stored_at_once(), clock=lambda: paying.now, new_id=new_id
        )
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://payment") as client:
        answer = await client.post(f"/v1/callbacks/{paying.account}", content=content, headers=headers)
    return answer.status_code


async def signed(paying: Paying, body: bytes) -> int:
    return await post(paying, body, **{"stripe-signature": stripe_signature(body, paying.now)})


def kept(engine: Engine, body: bytes) -> list[Any]:
    with engine.connect() as tx:
        evidence = tx.execute(text("SELECT id FROM evidence WHERE body = :body"), {"body": body}).all()
        notices = tx.execute(text("SELECT id FROM gateway_notices WHERE body = :body"), {"body": body}).all()
    return [*evidence, *notices]


ODD = [
    b"",
    b"{}",
    b"null",
    b"[]",
    b"\xff\xfe",
    b'{"a":1,"a":2}',
    b"[" * 100_000,
    b'{"id":"\\ud800"}',
    b'"' + b"x" * 9_000,
]


@pytest.mark.parametrize("body", ODD)
async def test_an_odd_body_is_refused_at_both_gateways_and_never_a_500(
    at_stripe: Paying, at_adyen: tuple[Paying, AdyenBooks], body: bytes
) -> None:
    assert await post(at_stripe, body) == 401
    assert await signed(at_stripe, body) in (204, 400)
    assert await post(at_adyen[0], body) == 401


@pytest.mark.parametrize(
    "notice",
    [
        {"live": "false"},
        {"notificationItems": []},
        {"notificationItems": {}},
        {"notificationItems": [None]},
        {"notificationItems": [{"NotificationRequestItem": []}]},
        {"notificationItems": [{"NotificationRequestItem": {"additionalData": 5}}]},
        {"notificationItems": [{"NotificationRequestItem": {"additionalData": {"hmacSignature": "é"}}}]},
        {"notificationItems": [{"NotificationRequestItem": {"amount": [], "eventCode": {}}}] * 51},
    ],
)
async def test_a_notification_that_is_not_signed_is_401(at_adyen: tuple[Paying, AdyenBooks], notice: Any) -> None:
    assert await post(at_adyen[0], json.dumps(notice).encode()) == 401


async def test_one_item_that_is_not_signed_refuses_the_whole_body(at_adyen: tuple[Paying, AdyenBooks]) -> None:
    paying, _ = at_adyen
    forged = {**item("CAPTURE", "forged"), "success": "false"}
    assert await post(paying, notification(item("AUTHORISATION", "fine"), forged)) == 401


@pytest.mark.parametrize(
    "shown",
    [{}, {"object": "payment_intent"}, {"id": 5, "object": "payment_intent", "status": [], "currency": "eur"},
     {"id": "pi_odd", "object": "payment_intent", "status": "requires_capture", "currency": "eur", "amount": -1}],
)  # fmt: skip
async def test_a_signed_event_of_another_form_is_kept_for_a_person(at_stripe: Paying, shown: dict[str, Any]) -> None:
    body = stripe_event("payment_intent.succeeded", shown)
    assert await signed(at_stripe, body) == 204
    assert len(kept(at_stripe.engine, body)) == 1
    assert at_stripe.match() == [], "it never stops the matching of others"


async def test_a_webhook_is_stored_before_it_is_answered_and_a_repeat_is_stored_once(
    at_adyen: tuple[Paying, AdyenBooks],
) -> None:
    paying, books = at_adyen
    paying.authorize()
    pending = paying.calls[0]
    pending.step.call.send(pending.request, pending.key)
    body = notification(item("AUTHORISATION", next(iter(books.payments)), merchantReference=str(paying.payment_id)))
    assert [await post(paying, body), await post(paying, body)] == [204, 204]
    assert len(kept(paying.engine, body)) == 1
    (authorized,) = paying.decide()
    assert isinstance(authorized, GatewayAuthorized)


async def test_a_mode_of_another_merchant_account_is_kept_and_settles_nothing(
    at_adyen: tuple[Paying, AdyenBooks],
) -> None:
    paying, _ = at_adyen
    paying.authorize()
    own = {"merchantReference": str(paying.payment_id), "merchantAccountCode": "OtherECOM"}
    body = notification(item("AUTHORISATION", "P1", **own))
    assert await post(paying, body) == 204
    assert (types(paying.decide()), len(kept(paying.engine, body))) == ([], 1)


async def test_staff_read_a_payment_and_the_reports_that_a_person_decides_about(at_stripe: Paying) -> None:
    with serving(GatewayStub(lambda _got: pytest.fail("nothing is called"))):
        at_stripe.amount_minor = 100
        at_stripe.authorize()
        at_stripe.lose()
    dispute = {
        "id": f"dp_{at_stripe.payment_id}", "payment_intent": "pi_none", "amount": 900, "currency": "eur",
        "reason": "fraudulent", "status": "needs_response",
    }  # fmt: skip
    at_stripe.take(stripe_event("charge.dispute.created", dispute))
    unused: Any = None
    with verifying() as verifier:
        dependencies = Dependencies(settings=unused, engine=at_stripe.engine, codec=unused, verifier=verifier)
        transport = httpx.ASGITransport(api.application(dependencies))
        async with httpx.AsyncClient(transport=transport, base_url="http://payment") as client:
            reading = {"Authorization": f"Bearer {token('support-1', 'support')}"}
            found = await client.get(f"/v1/merchant-payments/{at_stripe.payment_id}", headers=reading)
            absent = await client.get("/v1/merchant-payments/9223372036854775807", headers=reading)
            strange = await client.get("/v1/merchant-payments/9223372036854775808", headers=reading)
            waiting = await client.get("/v1/gateway-notices", headers=reading)
            without_token = await client.get(f"/v1/merchant-payments/{at_stripe.payment_id}")
            unmatched = await client.get("/v1/evidence", headers=reading)
    assert (found.json()["state"], found.json()["payment_id"]) == ("REQUESTED", str(at_stripe.payment_id))
    assert (absent.status_code, strange.status_code, without_token.status_code) == (404, 404, 401)
    assert dispute["id"] in [each["gateway_reference"] for each in waiting.json()["notices"]]
    assert unmatched.status_code == 200


async def test_a_person_closes_what_is_strange_once_and_says_why(at_stripe: Paying) -> None:
    with at_stripe.engine.begin() as tx:
        tx.execute(
            text(
                "INSERT INTO gateway_notices (id, account, dedupe, event, received_at, fate, headers, tries) "
                "VALUES ('N1', :account, 'N1', 'CAPTURE', now(), 'STRANGE', '[]', 0)"
            ),
            {"account": STRIPE},
        )
    unused: Any = None
    with verifying() as verifier:
        dependencies = Dependencies(settings=unused, engine=at_stripe.engine, codec=unused, verifier=verifier)
        transport = httpx.ASGITransport(api.application(dependencies))
        async with httpx.AsyncClient(transport=transport, base_url="http://payment") as client:
            answers = [
                await client.post(
                    "/v1/gateway-notices/N1/closing",
                    json={"reason": "booked again"},
                    headers={"Authorization": f"Bearer {token('staff-1', role)}"},
                )
                for role in ("support", "operator", "operator")
            ]
            reading = {"Authorization": f"Bearer {token('support-1', 'support')}"}
            closed = await client.get("/v1/gateway-notices?fate=CLOSED", headers=reading)
    assert [each.status_code for each in answers] == [403, 204, 409]
    (notice,) = [each for each in closed.json()["notices"] if each["id"] == "N1"]
    assert (notice["closed_by"], notice["closed_reason"]) == ("staff-1", "booked again")


def test_the_account_of_a_webhook_is_its_provider(at_stripe: Paying, at_adyen: tuple[Paying, AdyenBooks]) -> None:
    assert (at_stripe.webhooks.provider, at_adyen[0].webhooks.provider) == (STRIPE, ADYEN)
