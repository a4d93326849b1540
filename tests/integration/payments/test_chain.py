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
from support.merchant_system import DECLINED
from support.paying import NUMBERS
from support.payment_chain import Chain, chain_at_simulators

MERCHANT = {"merchant_id": "shop", "is_live": False}


ACCOUNTS = ("stripe-test", "adyen-test")
"""The account that takes the payments of a test."""


@pytest.fixture(scope="module")
def services(infrastructure: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with chain_at_simulators(infrastructure, tmp_path_factory.mktemp("gateways")) as found:
        registered = a(MerchantRegistered, saga_type="merchant_onboarding", merchant_id="shop", currencies=("EUR",))
        assert types(found.run(registered)) == ["MerchantRegistered", "MerchantAccountsOpened"]
        yield found


def submitted(**given: Any) -> PaymentSubmitted:
    fields = {
        "payment_id": next(NUMBERS), "currency": "EUR", "amount_minor": 5_000, "fee_minor": 155, "capture": "NOW",
        "gateway_account": ACCOUNTS[0], "payment_method": "pm_card_visa", "payer": f"payer-{next(NUMBERS)}", **MERCHANT,
    }  # fmt: skip
    return a(PaymentSubmitted, saga_type="payment", **{**fields, **given})


def follow_up(event_type: type[Message], of: PaymentSubmitted, saga: str, **given: Any) -> Any:
    fields = {
        name: getattr(of, name)
        for name in ("payment_id", "merchant_id", "is_live", "currency", "reference", "gateway_account", "fee_minor")
    }
    known = {"amount_minor": of.amount_minor, "payment_saga_id": of.saga_id, **fields, **given}
    return a(event_type, saga_type=saga, **known)


BESIDE_THE_SAGA = ("StepAwaited", "MerchantEvent")


def of_steps(found: list[Message]) -> list[str]:
    return [name for name in types(found) if name not in BESIDE_THE_SAGA]


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_payment_runs_from_its_request_to_its_notification(services: Chain, account: str) -> None:
    assert of_steps(services.run(submitted(gateway_account=account), "PaymentNotified")) == [
        "PaymentSubmitted", "PaymentValidated", "BalanceReserved", "GatewayAuthorized", "GatewayCaptured",
        "PaymentCommitted", "PaymentNotified",
    ]  # fmt: skip


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_declined_payment_stops_at_the_gateway(services: Chain, account: str) -> None:
    assert (
        of_steps(services.run(submitted(gateway_account=account, payment_method=DECLINED), "GatewayDeclined"))[-1]
        == "GatewayDeclined"
    )


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_payment_is_authorized_and_a_part_is_captured_later(services: Chain, account: str) -> None:
    payment = submitted(gateway_account=account, capture="LATER")
    assert of_steps(services.run(payment, "PaymentNotified"))[-1] == "PaymentNotified"
    capture = follow_up(CaptureRequested, payment, "capture_later", capture_minor=2_000)
    assert of_steps(services.run(capture, "CaptureNotified")) == [
        "CaptureRequested", "LateCaptured", "CaptureCommitted", "CaptureNotified",
    ]  # fmt: skip


@pytest.mark.parametrize("account", ACCOUNTS)
def test_an_authorized_payment_is_voided(services: Chain, account: str) -> None:
    payment = submitted(gateway_account=account, capture="LATER")
    services.run(payment, "PaymentNotified")
    void = follow_up(VoidRequested, payment, "void_payment")
    assert of_steps(services.run(void, "VoidNotified")) == [
        "VoidRequested",
        "GatewayVoided",
        "VoidCommitted",
        "VoidNotified",
    ]


@pytest.mark.parametrize("account", ACCOUNTS)
def test_two_refunds_give_back_what_was_captured_and_a_third_is_refused(services: Chain, account: str) -> None:
    payment = submitted(gateway_account=account)
    services.run(payment, "PaymentNotified")
    for amount_minor in (3_000, 2_000):
        refund = follow_up(RefundRequested, payment, "refund", refund_id=next(NUMBERS), refund_minor=amount_minor)
        assert of_steps(services.run(refund, "RefundNotified")) == [
            "RefundRequested", "RefundReserved", "GatewayRefunded", "RefundCommitted", "RefundNotified",
        ]  # fmt: skip
    third = follow_up(RefundRequested, payment, "refund", refund_id=next(NUMBERS), refund_minor=1)
    assert of_steps(services.run(third, "RefundRejected")) == ["RefundRequested", "RefundRejected"]
