"""Captures, cancellations and refunds over HTTP: never more than there is, however many come at once."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from messages.merchant import VoidRequested
from messages.saga import CaptureFailed, RefundFailed, VoidFailed
from support.merchants import (
    MerchantStack,
    Shopkeeper,
    authorized_events,
    capture_committed,
    captured_events,
    failed_event,
    new_key,
    operate,
    operation_failed,
    pay,
    payment_body,
    refund_committed,
    reversal,
    statuses,
    void_committed,
)


def read(client: httpx.Client, payment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/payments/{payment['id']}").json()
    return found


def test_events_in_any_order_and_twice_lead_to_the_same_status(
    client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for _ in range(5):
        made = pay(client).json()
        events = captured_events(merchant_stack, made)
        for event in chance.sample(events * 2, len(events) * 2):
            merchant_stack.react(event)
        found = read(client, made)
        assert (found["status"], found["captured_minor"]) == ("CAPTURED", 10_000), f"seed {seed}"
        assert found["captured_at"] is not None


def test_a_failed_payment_says_why(client: httpx.Client, merchant_stack: MerchantStack) -> None:
    made = pay(client).json()
    merchant_stack.react(failed_event(merchant_stack, made))
    found = read(client, made)
    assert found["status"] == "FAILED"
    assert found["failure"] == {"cause": "REJECTED", "step": "authorize_gateway", "reason": "card_declined"}


def test_a_part_is_captured_once_and_its_fee_is_of_the_part(
    shop: Shopkeeper, client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    payment = shop.authorized(10_000)
    assert payment["status"] == "AUTHORIZED"
    made = operate(client, payment["id"], "capture", amount_minor=4_000)
    assert made.status_code == 202, made.text
    capture = made.json()
    assert (capture["kind"], capture["state"], capture["amount_minor"]) == ("CAPTURE", "PENDING", 4_000)
    assert merchant_stack.published(merchant_stack.saga_of(capture["id"])) == ["CaptureRequested"]
    again = operate(client, payment["id"], "capture", amount_minor=1_000)
    assert (again.status_code, again.json()["type"]) == (409, "urn:baraza:problem:payment-state")
    merchant_stack.react(capture_committed(merchant_stack, payment, capture))
    found = read(client, payment)
    assert (found["status"], found["captured_minor"], found["refundable_minor"]) == ("CAPTURED", 4_000, 4_000)
    assert (payment["fee_minor"], found["fee_minor"]) == (320, 146)


def test_more_than_is_authorized_is_not_captured(shop: Shopkeeper, client: httpx.Client) -> None:
    payment = shop.authorized(10_000)
    refused = operate(client, payment["id"], "capture", amount_minor=10_001)
    assert (refused.status_code, refused.json()["left_minor"]) == (422, 10_000)


def test_a_capture_that_failed_gives_the_authorization_back(
    shop: Shopkeeper, client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    payment = shop.authorized()
    capture = operate(client, payment["id"], "capture").json()
    merchant_stack.react(operation_failed(merchant_stack, capture["id"], CaptureFailed))
    assert read(client, payment)["operations"][0]["failure_reason"] == "refused"
    assert operate(client, payment["id"], "capture").status_code == 202


def test_an_authorization_is_voided_and_then_final(
    shop: Shopkeeper, client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    payment = shop.authorized()
    first = operate(client, payment["id"], "cancel", reason="no stock")
    assert first.status_code == 202, first.text
    (void,) = first.json()["operations"]
    assert merchant_stack.published(merchant_stack.saga_of(void["id"])) == ["VoidRequested"]
    merchant_stack.react(operation_failed(merchant_stack, void["id"], VoidFailed))
    (_, again) = operate(client, payment["id"], "cancel").json()["operations"]
    merchant_stack.react(void_committed(merchant_stack, payment, again["id"]))
    assert read(client, payment)["status"] == "VOIDED"
    assert statuses([operate(client, payment["id"], each) for each in ("capture", "cancel", "refunds")]) == [409] * 3


def test_a_payment_under_way_is_cancelled_by_its_saga_and_once(
    client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    made = pay(client).json()
    key = new_key()
    answers = [operate(client, made["id"], "cancel", each) for each in (key, key, new_key())]
    assert statuses(answers) == [202, 202, 202]
    assert answers[1].headers["idempotent-replayed"] == "true"
    published = merchant_stack.published(merchant_stack.saga_of(made["id"]))
    assert published == ["PaymentSubmitted", "PaymentCancellationRequested"]
    assert answers[0].json()["cancellation_requested_at"] is not None
    merchant_stack.react(failed_event(merchant_stack, made, "CANCELLED"))
    assert read(client, made)["status"] == "CANCELED"


def test_a_cancellation_that_comes_too_late_leaves_the_payment_captured(
    client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    made = pay(client).json()
    assert operate(client, made["id"], "cancel").status_code == 202
    merchant_stack.react(*captured_events(merchant_stack, made))
    assert read(client, made)["status"] == "CAPTURED"
    assert operate(client, made["id"], "cancel").status_code == 409


def test_a_cancellation_that_comes_too_late_voids_the_authorization_once(
    client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    made = pay(client, payment_body(capture="later")).json()
    events = authorized_events(merchant_stack, made)
    merchant_stack.react(events[0])
    assert operate(client, made["id"], "cancel", reason="changed my mind").status_code == 202
    for again in (events[1:], events[1:], events[2:]):
        merchant_stack.react(*again)
    (void,) = read(client, made)["operations"]
    assert (void["kind"], void["state"]) == ("VOID", "PENDING")
    assert merchant_stack.published(merchant_stack.saga_of(void["id"])) == [VoidRequested.FULL_NAME]
    assert operate(client, made["id"], "capture").status_code == 409
    merchant_stack.react(operation_failed(merchant_stack, void["id"], VoidFailed))
    merchant_stack.react(*events)
    (void,) = read(client, made)["operations"]
    assert void["state"] == "FAILED"
    (_, again) = operate(client, made["id"], "cancel").json()["operations"]
    merchant_stack.react(void_committed(merchant_stack, made, again["id"]))
    assert read(client, made)["status"] == "VOIDED"


def test_the_facts_that_make_a_cancellation_late_may_come_in_any_order(
    client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    made = pay(client, payment_body(capture="later")).json()
    assert operate(client, made["id"], "cancel").status_code == 202
    for event in reversed(authorized_events(merchant_stack, made)):
        merchant_stack.react(event)
    (void,) = read(client, made)["operations"]
    assert merchant_stack.published(merchant_stack.saga_of(void["id"])) == [VoidRequested.FULL_NAME]


def test_of_two_refunds_of_60_on_100_at_once_one_is_taken(shop: Shopkeeper, client: httpx.Client) -> None:
    payment = shop.captured(100)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: operate(client, payment["id"], "refunds", amount_minor=60), range(2)))
    assert statuses(answers) == [202, 422]
    (refused,) = [each.json() for each in answers if each.status_code == 422]
    assert (refused["type"], refused["left_minor"]) == ("urn:baraza:problem:more-than-left", 40)
    found = client.get(f"/v1/payments/{payment['id']}/refunds").json()
    assert ([each["amount_minor"] for each in found["refunds"]], found["refundable_minor"]) == ([60], 40)


def test_many_refunds_at_once_are_never_more_than_was_captured(
    shop: Shopkeeper, client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    payment = shop.captured(1_000)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: operate(client, payment["id"], "refunds", amount_minor=70), range(32)))
    taken = [each.json() for each in answers if each.status_code == 202]
    assert len(taken) == 14
    assert {each.status_code for each in answers} == {202, 422}
    merchant_stack.react(*(refund_committed(merchant_stack, payment, each) for each in taken))
    found = read(client, payment)
    assert (found["status"], found["refunded_minor"], found["refundable_minor"]) == ("PARTLY_REFUNDED", 980, 20)
    rest = operate(client, payment["id"], "refunds").json()
    assert rest["amount_minor"] == 20
    merchant_stack.react(refund_committed(merchant_stack, payment, rest))
    assert read(client, payment)["status"] == "REFUNDED"
    nothing = operate(client, payment["id"], "refunds")
    assert (nothing.status_code, nothing.json()["left_minor"]) == (409, 0)


def test_a_refund_that_failed_gives_its_amount_back(
    shop: Shopkeeper, client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    payment = shop.captured(100)
    refund = operate(client, payment["id"], "refunds", amount_minor=100).json()
    assert read(client, payment)["refundable_minor"] == 0
    merchant_stack.react(operation_failed(merchant_stack, refund["id"], RefundFailed))
    assert read(client, payment)["refundable_minor"] == 100


def test_a_refund_that_fails_days_later_is_no_refund(
    shop: Shopkeeper, client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    payment = shop.captured(100)
    refund = operate(client, payment["id"], "refunds", amount_minor=100).json()
    merchant_stack.react(refund_committed(merchant_stack, payment, refund))
    assert read(client, payment)["status"] == "REFUNDED"
    merchant_stack.react(reversal(payment, "REFUND_FAILED", 100, refund["id"]))
    found = read(client, payment)
    assert (found["status"], found["operations"][0]["state"]) == ("CAPTURED", "REVERSED")


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        (["DISPUTED"], "DISPUTED"),
        (["DISPUTE_WON", "DISPUTED"], "CAPTURED"),
        (["DISPUTED", "DISPUTE_LOST"], "DISPUTE_LOST"),
        (["CAPTURE_FAILED"], "CAPTURE_FAILED"),
    ],
)
def test_what_a_gateway_takes_back_is_seen(
    shop: Shopkeeper, client: httpx.Client, merchant_stack: MerchantStack, kinds: list[str], status: str
) -> None:
    payment = shop.captured(100)
    for kind in kinds:
        merchant_stack.react(reversal(payment, kind, 100))
    found = read(client, payment)
    assert found["status"] == status
    assert found["refundable_minor"] == (100 if status == "CAPTURED" else 0)


def test_an_authorization_that_expired_is_not_captured(
    shop: Shopkeeper, client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    payment = shop.authorized()
    merchant_stack.react(reversal(payment, "AUTHORIZATION_EXPIRED", 0))
    assert read(client, payment)["status"] == "EXPIRED"
    assert operate(client, payment["id"], "capture").status_code == 409


def test_an_operation_is_done_once_for_its_key(
    shop: Shopkeeper, client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    payment, other = shop.captured(100), shop.captured(100)
    key = new_key()
    first = operate(client, payment["id"], "refunds", key, amount_minor=30).json()
    merchant_stack.react(refund_committed(merchant_stack, payment, first))
    again = operate(client, payment["id"], "refunds", key, amount_minor=30)
    assert (again.json()["id"], again.json()["state"]) == (first["id"], "SUCCEEDED"), "it is shown as it stands now"
    assert again.headers["idempotent-replayed"] == "true"
    assert operate(client, payment["id"], "refunds", key, amount_minor=31).status_code == 422
    assert operate(client, other["id"], "refunds", key, amount_minor=30).status_code == 422
    without = client.post(f"/v1/payments/{payment['id']}/refunds", json={})
    assert without.status_code == 400


@pytest.mark.parametrize("amount_minor", [0, -1, 2**53, 1.5])
def test_an_amount_that_is_none_is_refused(shop: Shopkeeper, client: httpx.Client, amount_minor: float) -> None:
    payment = shop.captured(100)
    assert operate(client, payment["id"], "refunds", amount_minor=amount_minor).status_code == 422


def test_before_its_outcome_a_payment_is_not_captured_or_refunded(
    client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    made = pay(client, payment_body(capture="later")).json()
    merchant_stack.react(authorized_events(merchant_stack, made)[0])
    assert read(client, made)["status"] == "AUTHORIZED"
    assert statuses([operate(client, made["id"], each) for each in ("capture", "refunds")]) == [409, 409]
