"""What one service publishes about a payment is what the next one reads: whole sagas, without Kafka and the tracker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chassis.testing.service import types
from messages.contract import Message
from messages.merchant import (
    CaptureRequested,
    MerchantRegistered,
    PaymentSubmitted,
    RefundRequested,
    VoidRequested,
)
from stack import Stack
from support.builders import a
from support.gateway_stub import GatewayStub, serving
from support.paying import NUMBERS, STRIPE, stripe
from support.payment_chain import Chain, chain
from support.stripe_books import DECLINING, StripeBooks

MERCHANT = {"merchant_id": "shop", "is_live": False}


@pytest.fixture(scope="module")
def services(infrastructure: Stack) -> Iterator[Chain]:
    stub = GatewayStub(answer=StripeBooks().answer)
    with serving(stub), chain(infrastructure, {STRIPE: stripe(stub.url)}) as found:
        registered = a(MerchantRegistered, saga_type="merchant_onboarding", merchant_id="shop", currencies=("EUR",))
        assert types(found.run(registered)) == ["MerchantRegistered", "MerchantAccountsOpened"]
        yield found


def submitted(**given: Any) -> PaymentSubmitted:
    fields = {
        "payment_id": next(NUMBERS), "currency": "EUR", "amount_minor": 5_000, "fee_minor": 155, "capture": "NOW",
        "gateway_account": STRIPE, "payment_method": "pm_card_visa", "payer": f"payer-{next(NUMBERS)}", **MERCHANT,
    }  # fmt: skip
    return a(PaymentSubmitted, saga_type="payment", **{**fields, **given})


def follow_up(event_type: type[Message], of: PaymentSubmitted, saga: str, **given: Any) -> Any:
    fields = {
        name: getattr(of, name)
        for name in ("payment_id", "merchant_id", "is_live", "currency", "reference", "gateway_account", "fee_minor")
    }
    known = {"amount_minor": of.amount_minor, "payment_saga_id": of.saga_id, **fields, **given}
    return a(event_type, saga_type=saga, **known)


def without_awaited(found: list[Message]) -> list[str]:
    return [name for name in types(found) if name != "StepAwaited"]


def test_a_payment_runs_from_its_request_to_its_notification(services: Chain) -> None:
    assert without_awaited(services.run(submitted())) == [
        "PaymentSubmitted", "PaymentValidated", "BalanceReserved", "GatewayAuthorized", "GatewayCaptured",
        "PaymentCommitted", "PaymentNotified",
    ]  # fmt: skip


def test_a_declined_payment_stops_at_the_gateway(services: Chain) -> None:
    assert without_awaited(services.run(submitted(payment_method=DECLINING)))[-1] == "GatewayDeclined"


def test_a_payment_is_authorized_and_a_part_is_captured_later(services: Chain) -> None:
    payment = submitted(capture="LATER")
    assert without_awaited(services.run(payment))[-1] == "PaymentNotified"
    capture = follow_up(CaptureRequested, payment, "capture_later", capture_minor=2_000)
    assert without_awaited(services.run(capture)) == [
        "CaptureRequested", "LateCaptured", "CaptureCommitted", "CaptureNotified",
    ]  # fmt: skip


def test_an_authorized_payment_is_voided(services: Chain) -> None:
    payment = submitted(capture="LATER")
    services.run(payment)
    void = follow_up(VoidRequested, payment, "void_payment")
    assert without_awaited(services.run(void)) == ["VoidRequested", "GatewayVoided", "VoidCommitted", "VoidNotified"]


def test_two_refunds_give_back_what_was_captured_and_a_third_is_refused(services: Chain) -> None:
    payment = submitted()
    services.run(payment)
    for amount_minor in (3_000, 2_000):
        refund = follow_up(RefundRequested, payment, "refund", refund_id=next(NUMBERS), refund_minor=amount_minor)
        assert without_awaited(services.run(refund)) == [
            "RefundRequested", "RefundReserved", "GatewayRefunded", "RefundCommitted", "RefundNotified",
        ]  # fmt: skip
    third = follow_up(RefundRequested, payment, "refund", refund_id=next(NUMBERS), refund_minor=1)
    assert without_awaited(services.run(third)) == ["RefundRequested", "RefundRejected"]
