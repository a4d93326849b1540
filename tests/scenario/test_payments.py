"""Merchants' payments through the whole system: a payment happens, its money is booked, its merchant is notified."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.merchant_system import DECLINED, Merchant, fee_of, listening
from support.shop import Shop
from support.waiting import until

pytestmark = pytest.mark.timeout(600)
AMOUNT = 10_000
GATEWAYS = {"USD": "stripe", "EUR": "adyen"}
"""A currency and the gateway that its payments go to."""


@pytest.fixture(scope="module")
def merchant(open_shop: Shop) -> Iterator[Merchant]:
    with listening() as endpoint:
        merchant = Merchant(shop=open_shop, endpoint=endpoint)
        merchant.register(*GATEWAYS)
        yield merchant


@pytest.mark.parametrize("currency", GATEWAYS)
def test_a_payment_is_captured_booked_and_told(shop: Shop, merchant: Merchant, currency: str) -> None:
    before = merchant.balances(currency)
    payment_id = merchant.pay(AMOUNT, currency)
    found = merchant.reaches(payment_id, "CAPTURED")
    assert (found["captured_minor"], found["fee_minor"], found["gateway"]) == (
        AMOUNT,
        fee_of(AMOUNT),
        GATEWAYS[currency],
    )
    after = until(lambda: merchant.balances(currency), "the payment is booked", holds=lambda now: now != before)
    assert after["pending"] - before["pending"] == AMOUNT - fee_of(AMOUNT)
    merchant.told(payment_id, "payment.captured")
    (saga,) = merchant.sagas(payment_id)
    assert (saga["type"], saga["state"]) == ("payment", "CONFIRMED")
    steps = {entry["type"] for entry in shop.timeline(saga["saga_id"])}
    assert steps >= {"PaymentSubmitted", "PaymentValidated", "BalanceReserved", "GatewayAuthorized", "GatewayCaptured",
                     "PaymentCommitted", "PaymentNotified", "PaymentCompleted"}  # fmt: skip


@pytest.mark.parametrize("currency", GATEWAYS)
def test_a_declined_payment_leaves_nothing_but_its_event(shop: Shop, merchant: Merchant, currency: str) -> None:
    before = merchant.balances(currency)
    payment_id = merchant.pay(AMOUNT, currency, DECLINED)
    failure = merchant.reaches(payment_id, "FAILED")["failure"]
    assert (failure["cause"], failure["step"]) == ("REJECTED", "authorize_gateway")
    merchant.told(payment_id, "payment.failed")
    assert merchant.balances(currency) == before


def test_ten_requests_with_one_key_make_one_payment(shop: Shop, merchant: Merchant) -> None:
    body = {
        "amount_minor": 700,
        "currency": "USD",
        "payment_method": {"type": "card", "token": "pm_card_visa"},
        "reference": "ten at once",
    }
    with ThreadPoolExecutor(10) as threads:
        send = [
            threads.submit(merchant.request, "merchant", "POST", "/v1/payments", body, "", "one-key-for-all-ten")
            for _ in range(10)
        ]
    answers = [each.result() for each in send]
    assert {answer.status_code for answer in answers} <= {200, 202, 409}
    ids = {answer.json()["id"] for answer in answers if answer.is_success}
    assert len(ids) == 1
    found = merchant.send("merchant", "GET", "/v1/payments?reference=ten%20at%20once")["payments"]
    assert [each["id"] for each in found] == list(ids)
    merchant.reaches(found[0]["id"], "CAPTURED")


@pytest.mark.parametrize("currency", GATEWAYS)
def test_a_part_is_captured_later_and_the_rest_is_released(shop: Shop, merchant: Merchant, currency: str) -> None:
    before = merchant.balances(currency)
    payment_id = merchant.pay(AMOUNT, currency, capture="later")
    found = merchant.reaches(payment_id, "AUTHORIZED")
    assert found["captured_minor"] == 0
    merchant.told(payment_id, "payment.authorized")
    assert merchant.balances(currency) == before
    merchant.act(payment_id, "capture", {"amount_minor": 4_000})
    captured = merchant.reaches(payment_id, "CAPTURED")
    assert captured["captured_minor"] == 4_000
    merchant.told(payment_id, "payment.authorized", "payment.captured")
    after = until(lambda: merchant.balances(currency), "the part is booked", holds=lambda now: now != before)
    assert after["pending"] - before["pending"] == 4_000 - fee_of(4_000)
    assert [each["type"] for each in merchant.sagas(payment_id)] == ["payment", "capture_later"]


@pytest.mark.parametrize("currency", GATEWAYS)
def test_an_authorized_payment_is_voided(shop: Shop, merchant: Merchant, currency: str) -> None:
    before = merchant.balances(currency)
    payment_id = merchant.pay(AMOUNT, currency, capture="later")
    merchant.reaches(payment_id, "AUTHORIZED")
    merchant.act(payment_id, "cancel", {"reason": "out of stock"})
    merchant.reaches(payment_id, "VOIDED", "CANCELED")
    merchant.told(payment_id, "payment.authorized", "payment.voided")
    assert merchant.balances(currency) == before


@pytest.mark.parametrize("currency", GATEWAYS)
def test_two_refunds_at_once_never_give_back_more_than_was_captured(
    shop: Shop, merchant: Merchant, currency: str
) -> None:
    payment_id = merchant.pay(AMOUNT, currency)
    merchant.reaches(payment_id, "CAPTURED")
    path = f"/v1/payments/{payment_id}/refunds"
    with ThreadPoolExecutor(2) as threads:
        sent = [threads.submit(merchant.request, "merchant", "POST", path, {"amount_minor": 6_000}) for _ in range(2)]
    assert sorted(each.result().status_code for each in sent) == [202, 422]
    assert merchant.reaches(payment_id, "PARTLY_REFUNDED")["refunded_minor"] == 6_000
    merchant.act(payment_id, "refunds")
    assert merchant.reaches(payment_id, "REFUNDED")["refunded_minor"] == AMOUNT
    merchant.told(payment_id, "payment.captured", "refund.succeeded", "refund.succeeded")


@pytest.mark.parametrize("currency", GATEWAYS)
def test_a_dispute_is_booked_and_told(shop: Shop, merchant: Merchant, currency: str) -> None:
    payment_id = merchant.pay(AMOUNT, currency)
    merchant.reaches(payment_id, "CAPTURED")
    merchant.told(payment_id, "payment.captured")
    wanted = {"kind": "dispute", "about": payment_id}
    url = f"{shop.stack.endpoints.url(GATEWAYS[currency])}/admin/events"
    answer = shop.http.post(url, json=wanted)
    assert answer.is_success, answer.text
    assert merchant.reaches(payment_id, "DISPUTED")["disputed_minor"] == AMOUNT
    merchant.told(payment_id, "payment.captured", "dispute.created")
    assert [each["type"] for each in merchant.sagas(payment_id)] == ["payment", "payment_reversal"]
