"""The simulated Adyen, called by Adyen's own package over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import Adyen  # type: ignore[import-untyped]
import httpx
import pytest
from Adyen.util import is_valid_hmac_notification  # type: ignore[import-untyped]

from support.merchant_gateways import DAY_S, HEX_KEYS, Gateway, gateway

RESULTS = {
    "APPROVED": ("Authorised", None),
    "DECLINED": ("Refused", "2"),
    "ERROR": ("Error", "4"),
    "BLOCK_CARD": ("Refused", "5"),
    "CARD_EXPIRED": ("Refused", "6"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": ("Refused", "12"),
}


@pytest.fixture
def adyen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway("adyen", tmp_path_factory.mktemp("adyen")) as made:
        yield made


@pytest.fixture
def reference() -> str:
    return str(uuid4().int % 10**18)


def checkout(at: Gateway, key: str | None = None) -> Any:
    """Return Adyen's own client, whose addresses lead to the simulator."""

    class Client(Adyen.AdyenClient):  # type: ignore[misc]
        def _determine_api_url(self, _platform: str, endpoint: str) -> str:
            return f"{at.url}/v72{endpoint.partition('.com')[2].partition('/v')[2].lstrip('0123456789')}"

    made = Adyen.Adyen(xapikey=key or at.key(at.live), platform="test")
    made.client = Client(xapikey=key or at.key(at.live), platform="test", http_force="requests")
    made.checkout.client = made.client
    for service in (made.checkout.payments_api, made.checkout.modifications_api):
        service.client = made.client
    return made.checkout


def payment(reference: str, *, value: int = 1_000, token: str = "APPROVED", currency: str = "EUR") -> dict[str, Any]:
    return {
        "amount": {"currency": currency, "value": value}, "merchantAccount": "BarazaLive", "reference": reference,
        "paymentMethod": {"type": "scheme", "storedPaymentMethodId": token}, "returnUrl": "https://localhost/",
        "additionalData": {"manualCapture": "true"}, "shopperReference": "payer-1",
    }  # fmt: skip


def modification(reference: str, value: int | None = None, currency: str = "EUR") -> dict[str, Any]:
    amount = {} if value is None else {"amount": {"currency": currency, "value": value}}
    return {"merchantAccount": "BarazaLive", "reference": reference, **amount}


def paid(at: Gateway, reference: str, **more: Any) -> str:
    answer = checkout(at).payments_api.payments(payment(reference, **more))
    assert answer.message["resultCode"] == "Authorised"
    return str(answer.message["pspReference"])


def captured(at: Gateway, reference: str, value: int = 1_000) -> str:
    psp = paid(at, reference, value=max(value, 1_000))
    checkout(at).modifications_api.capture_authorised_payment(modification("c1", value), psp)
    at.awaits_adyen("CAPTURE", "c1")
    return psp


def test_adyens_own_package_pays_captures_and_refunds_and_only_webhooks_tell_what_came_out(
    adyen: Gateway, reference: str
) -> None:
    answer = checkout(adyen).payments_api.payments(payment(reference), idempotency_key="k1")
    assert answer.status_code == 200
    psp = answer.message["pspReference"]
    assert answer.message["amount"] == {"currency": "EUR", "value": 1_000}
    assert answer.message["merchantReference"] == reference
    taken = checkout(adyen).modifications_api.capture_authorised_payment(modification("capture:1", 1_000), psp)
    assert (taken.status_code, taken.message["status"], taken.message["paymentPspReference"]) == (201, "received", psp)
    (told,) = adyen.awaits_adyen("CAPTURE")
    assert told["pspReference"] == taken.message["pspReference"] != psp
    assert (told["originalReference"], told["merchantReference"], told["success"]) == (psp, "capture:1", "true")
    back = checkout(adyen).modifications_api.refund_captured_payment(modification("refund:1", 400), psp)
    assert (back.status_code, back.message["status"]) == (201, "received")
    (refunded,) = adyen.awaits_adyen("REFUND")
    assert (refunded["amount"], refunded["success"]) == ({"currency": "EUR", "value": 400}, "true")
    (authorised,) = adyen.awaits_adyen("AUTHORISATION", reference)
    assert (authorised["pspReference"], authorised["success"]) == (psp, "true")


@pytest.mark.parametrize("token", RESULTS)
def test_a_refusal_is_a_200_whose_result_code_the_holder_or_the_stored_method_chooses(
    adyen: Gateway, reference: str, token: str
) -> None:
    code, reason = RESULTS[token]
    by_holder = payment(reference)
    by_holder["paymentMethod"] = {"type": "scheme", "holderName": token}
    for body in (payment(reference, token=token), by_holder):
        answer = checkout(adyen).payments_api.payments(body)
        assert answer.status_code == 200
        assert (answer.message["resultCode"], answer.message.get("refusalReasonCode")) == (code, reason)
    by_code = payment(reference, token="x")
    by_code["additionalData"]["RequestedTestAcquirerResponseCode"] = "6"
    assert checkout(adyen).payments_api.payments(by_code).message["refusalReasonCode"] == "6"


def test_a_pending_payment_is_told_by_webhook_alone(adyen: Gateway, reference: str) -> None:
    pending = checkout(adyen).payments_api.payments(payment(reference, token="PENDING"))
    refused = checkout(adyen).payments_api.payments(payment(f"{reference}1", token="PENDING_DECLINED"))
    assert {pending.message["resultCode"], refused.message["resultCode"]} == {"Received"}
    assert adyen.awaits_adyen("AUTHORISATION", reference)[0]["success"] == "true"
    assert adyen.awaits_adyen("AUTHORISATION", f"{reference}1")[0]["success"] == "false"


def test_captures_above_the_authorization_and_refunds_above_the_capture_are_received_and_refused_by_webhook(
    adyen: Gateway, reference: str
) -> None:
    psp = paid(adyen, reference)
    over = checkout(adyen).modifications_api.capture_authorised_payment(modification("over", 1_001), psp)
    assert over.message["status"] == "received"
    assert adyen.awaits_adyen("CAPTURE", "over")[0]["success"] == "false"
    checkout(adyen).modifications_api.capture_authorised_payment(modification("part", 600), psp)
    assert adyen.awaits_adyen("CAPTURE", "part")[0]["success"] == "true"
    for name in ("one", "two"):
        checkout(adyen).modifications_api.refund_captured_payment(modification(name, 400), psp)
    outcomes = [adyen.awaits_adyen("REFUND", name)[0]["success"] for name in ("one", "two")]
    assert outcomes == ["true", "false"]
    checkout(adyen).modifications_api.cancel_authorised_payment_by_psp_reference(modification("late"), psp)
    assert adyen.awaits_adyen("CANCELLATION", "late")[0]["success"] == "false"


def test_a_cancel_by_our_own_reference_is_a_technical_cancel(adyen: Gateway, reference: str) -> None:
    adyen.fault("pay", "answer_lost", match=reference, times=1)
    with pytest.raises(Exception, match=r"(?i)connection|remote"):
        checkout(adyen).payments_api.payments(payment(reference))
    body = {**modification("fence"), "paymentReference": reference}
    answer = checkout(adyen).modifications_api.cancel_authorised_payment(body)
    assert (answer.status_code, answer.message["status"]) == (201, "received")
    (told,) = adyen.awaits_adyen("TECHNICAL_CANCEL")
    assert (told["success"], told["merchantReference"]) == ("true", "fence")
    absent = {**modification("absent"), "paymentReference": f"{reference}9"}
    checkout(adyen).modifications_api.cancel_authorised_payment(absent)
    assert adyen.awaits_adyen("TECHNICAL_CANCEL", "absent")[0]["success"] == "false"


def test_a_reversal_cancels_or_refunds_the_whole(adyen: Gateway, reference: str) -> None:
    held, done = paid(adyen, f"{reference}1"), captured(adyen, reference)
    for name, psp in (("r1", held), ("r2", done)):
        checkout(adyen).modifications_api.refund_or_cancel_payment(modification(name), psp)
        assert adyen.awaits_adyen("CANCEL_OR_REFUND", name)[0]["success"] == "true"
    checkout(adyen).modifications_api.refund_captured_payment(modification("more", 1), done)
    assert adyen.awaits_adyen("REFUND", "more")[0]["success"] == "false"


def test_a_key_replays_for_a_week_has_64_characters_at_most_and_is_for_one_request(
    adyen: Gateway, reference: str
) -> None:
    api, body = checkout(adyen).payments_api, payment(reference)
    first = api.payments(body, idempotency_key="k" * 64)
    adyen.pass_time(7 * DAY_S - 60)
    assert api.payments(body, idempotency_key="k" * 64).message == first.message
    adyen.pass_time(120)
    assert api.payments(body, idempotency_key="k" * 64).message["pspReference"] != first.message["pspReference"]
    for key, other in (("k" * 65, body), ("k" * 64, payment(reference, value=2))):
        with pytest.raises(Adyen.AdyenAPIUnprocessableEntity):
            api.payments(other, idempotency_key=key)


def test_a_request_under_way_is_704_and_transient(adyen: Gateway, reference: str) -> None:
    adyen.fault("pay", "hang", match=reference, times=1, delay_s=5)
    headers = {**adyen.sent_headers(), "Idempotency-Key": reference}

    def pay(_number: int) -> httpx.Response:
        return httpx.post(f"{adyen.url}/v72/payments", json=payment(reference), headers=headers, timeout=30)

    with ThreadPoolExecutor(2) as pool:
        found = {answer.status_code: answer for answer in pool.map(pay, range(2))}
    assert (found[409].json()["errorCode"], found[409].headers["transient-error"]) == ("704", "true")
    assert pay(3).json() == found[200].json()


@pytest.mark.parametrize(("kind", "count"), [("error", 1), ("error_after", 1)])
def test_a_500_is_not_kept_so_the_same_key_gets_the_outcome(
    adyen: Gateway, reference: str, kind: str, count: int
) -> None:
    adyen.fault("pay", kind, match=reference, times=1)
    with pytest.raises(Adyen.AdyenError):
        checkout(adyen).payments_api.payments(payment(reference), idempotency_key=reference)
    again = checkout(adyen).payments_api.payments(payment(reference), idempotency_key=reference)
    assert again.message["resultCode"] == "Authorised"
    assert len(adyen.admin("GET", "records?kind=payment")["records"]) == count


@pytest.mark.parametrize(
    "change",
    [{"amount": {"currency": "EUR", "value": -1}}, {"amount": {"currency": "EUR", "value": 0}},
     {"amount": {"currency": "eur", "value": 1}}, {"reference": "r" * 81}, {"metadata": {"n" * 21: "x"}}],
)  # fmt: skip
def test_a_wrong_request_is_refused(adyen: Gateway, reference: str, change: dict[str, Any]) -> None:
    with pytest.raises(Adyen.AdyenAPIUnprocessableEntity):
        checkout(adyen).payments_api.payments({**payment(reference), **change})


def test_large_amounts_are_taken_and_another_accounts_key_or_name_is_not(adyen: Gateway, reference: str) -> None:
    paid(adyen, reference, value=2**40)
    with pytest.raises(Adyen.AdyenAPIAuthenticationError):
        checkout(adyen, "wrong").payments_api.payments(payment(reference))
    with pytest.raises(Adyen.AdyenAPIInvalidPermission):
        checkout(adyen, adyen.key(adyen.test)).payments_api.payments(payment(reference))


def test_adyens_own_package_takes_the_signature_of_every_item(adyen: Gateway, reference: str) -> None:
    captured(adyen, reference)
    adyen.secrets(HEX_KEYS[1], HEX_KEYS[0])
    paid(adyen, f"{reference}1")
    adyen.awaits_adyen("AUTHORISATION", f"{reference}1")
    for webhook in adyen.hooks.got:
        key = HEX_KEYS[1] if webhook.item["merchantReference"] == f"{reference}1" else HEX_KEYS[0]
        assert is_valid_hmac_notification(webhook.json, key)
        assert webhook.path == "/v1/callbacks/adyen-live"
        assert webhook.json["live"] == "true"


def test_a_webhook_may_come_before_the_answer_late_or_twice(adyen: Gateway, reference: str) -> None:
    psp = paid(adyen, reference)
    adyen.fault("capture", "slow", match=reference, times=1, delay_s=1)
    adyen.fault("webhook", "hang", match="CAPTURE", times=1, delay_s=0.5)
    answers: list[Any] = []

    def capture() -> None:
        api = checkout(adyen).modifications_api
        answers.append(api.capture_authorised_payment(modification("early", 1_000), psp))

    thread = threading.Thread(target=capture)
    thread.start()
    adyen.awaits_adyen("CAPTURE", "early")
    assert not answers
    thread.join(10)
    first, second = adyen.awaits_adyen("CAPTURE", "early", 2)
    assert (first["pspReference"], first["eventDate"]) == (second["pspReference"], second["eventDate"])


def test_a_capture_fails_days_after_its_success_and_may_succeed_again(adyen: Gateway, reference: str) -> None:
    psp = captured(adyen, reference)
    adyen.happens("capture_failed", reference, after_s=3 * DAY_S, reason="Capture refused")
    adyen.pass_time(3 * DAY_S + 1)
    (failed,) = adyen.awaits_adyen("CAPTURE_FAILED")
    assert (failed["originalReference"], failed["merchantReference"]) == (psp, reference)
    adyen.happens("capture_again", psp)
    adyen.awaits_adyen("CAPTURE", reference)


def test_a_refund_fails_later_an_authorization_expires_and_a_dispute_comes_unasked(
    adyen: Gateway, reference: str
) -> None:
    adyen.fault("refund_failed", "reject", match=reference, times=1, code="Account closed")
    psp = captured(adyen, reference)
    checkout(adyen).modifications_api.refund_captured_payment(modification("r", 300), psp)
    assert adyen.awaits_adyen("REFUND_FAILED")[0]["reason"] == "Account closed"
    adyen.happens("dispute", reference)
    (opened,) = adyen.awaits_adyen("CHARGEBACK")
    assert (opened["amount"]["value"], opened["originalReference"]) == (1_000, psp)
    adyen.happens("dispute_won", reference)
    adyen.awaits_adyen("CHARGEBACK_REVERSED")
    paid(adyen, f"{reference}1")
    adyen.pass_time(28 * DAY_S + 1)
    adyen.awaits_adyen("EXPIRE", f"{reference}1")


def test_the_report_has_debits_and_credits_in_major_units_local_times_and_a_payout_without_a_reference(
    adyen: Gateway, reference: str
) -> None:
    psp = captured(adyen, reference)
    bhd = paid(adyen, f"{reference}1", value=1_230, currency="BHD")
    clp = paid(adyen, f"{reference}2", value=500_000, currency="CLP")
    for name, other, value, currency in (("b", bhd, 1_230, "BHD"), ("c", clp, 500_000, "CLP")):
        checkout(adyen).modifications_api.capture_authorised_payment(modification(name, value, currency), other)
        adyen.awaits_adyen("CAPTURE", name)
    checkout(adyen).modifications_api.refund_captured_payment(modification("r", 400), psp)
    adyen.awaits_adyen("REFUND", "r")
    adyen.close_batch()
    ((name, rows),) = adyen.feeds().items()
    assert name == "settlement_detail_report_batch_00001.csv"
    by = {(row["Type"], row["Gross Currency"]): row for row in rows}
    settled = by["Settled", "EUR"]
    assert (settled["Gross Credit (GC)"], settled["Gross Debit (GC)"], settled["Merchant Reference"]) == (
        "10.00", "", reference
    )  # fmt: skip
    assert by["Settled", "BHD"]["Gross Credit (GC)"] == "1.230"
    assert by["Settled", "CLP"]["Gross Credit (GC)"] == "5000.00"
    assert (by["Refunded", "EUR"]["Gross Debit (GC)"], by["Refunded", "EUR"]["Psp Reference"]) == ("4.00", psp)
    fees = ("Commission (NC)", "Markup (NC)", "Scheme Fees (NC)", "Interchange (NC)")
    for row in rows:
        if row["Type"] == "Settled" and row["Gross Currency"] == "EUR":
            assert Decimal(row["Net Credit (NC)"]) == Decimal("10.00") - sum(Decimal(row[fee]) for fee in fees)
    assert (by["MerchantPayout", ""]["Psp Reference"], by["MerchantPayout", ""]["Merchant Reference"]) == ("", "")
    assert sum(Decimal(row["Net Credit (NC)"] or 0) - Decimal(row["Net Debit (NC)"] or 0) for row in rows) == 0
    clock = datetime.fromtimestamp(adyen.admin("GET", "clock")["now"], ZoneInfo("Europe/Amsterdam"))
    for row in rows:
        at = datetime.fromisoformat(row["Creation Date"]).replace(tzinfo=ZoneInfo(row["TimeZone"]))
        assert abs((clock - at).total_seconds()) < 120
    adyen.awaits_adyen("REPORT_AVAILABLE", name)
