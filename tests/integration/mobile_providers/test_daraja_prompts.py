"""Prompts at the simulated Daraja, seen from outside: answers, callbacks and queries, each in the shape of Daraja's."""

from __future__ import annotations

import re

import httpx
import pytest

from support.mobile_providers import PHONE, SHORT_CODE, Daraja, items
from support.waiting import until


def checkout(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["CheckoutRequestID"]
    return found


def test_a_prompt_that_is_paid_has_one_receipt_at_the_callback_the_confirmation_and_the_statement(
    provider: Daraja,
) -> None:
    """As safaricom/mpesa-php-sdk#5 has it: no reference in the callback, and a Balance without a value."""
    assert provider.register().json()["ResponseCode"] == "0"
    answer = provider.prompt(50)
    assert set(answer.json()) == {
        "MerchantRequestID", "CheckoutRequestID", "ResponseCode", "ResponseDescription", "CustomerMessage",
    }  # fmt: skip
    assert checkout(answer).startswith("ws_CO_")
    (callback,) = provider.heard.awaits("/stk")
    said = callback.json["Body"]["stkCallback"]
    assert (said["ResultCode"], said["CheckoutRequestID"]) == (0, checkout(answer))
    assert "AccountReference" not in callback.body.decode()
    found = items(callback.json)
    assert (found["Amount"], found["PhoneNumber"], found["Balance"]) == (50, int(PHONE), None)
    assert re.fullmatch(r"[A-Z0-9]{10}", found["MpesaReceiptNumber"])
    (confirmed,) = provider.heard.awaits("/confirmed")
    assert confirmed.json["TransID"] == found["MpesaReceiptNumber"]
    assert (confirmed.json["BillRefNumber"], confirmed.json["TransAmount"]) == ("C12345678901", "50.00")
    (row,) = provider.rows()
    assert (row["Receipt No."], row["Paid In"], row["Balance"]) == (found["MpesaReceiptNumber"], "50.00", "50.00")
    assert provider.balance() == 5_000
    asked = provider.ask_prompt(checkout(answer)).json()
    assert (asked["ResultCode"], asked["ResponseCode"]) == ("0", "0")
    assert "MpesaReceiptNumber" not in asked


@pytest.mark.parametrize(
    ("phone", "code"),
    [
        ({"answer": "wrong_pin"}, 2001),
        ({"answer": "cancel"}, 1032),
        ({"answer": "no_answer", "after_s": 0.1}, 1037),
        ({"answer": "expire", "after_s": 0.1}, 1019),
        ({"answer": "locked"}, 8006),
        ({"wallet_minor": 100}, 1),
    ],
    ids=lambda value: str(value),
)
def test_a_phone_that_does_not_pay_has_its_code_and_no_metadata(
    provider: Daraja, phone: dict[str, object], code: int
) -> None:
    provider.phone(**phone)
    asked = checkout(provider.prompt(50))
    (callback,) = provider.heard.awaits("/stk")
    said = callback.json["Body"]["stkCallback"]
    assert (said["ResultCode"], "CallbackMetadata" in said) == (code, False)
    assert provider.ask_prompt(asked).json()["ResultCode"] == str(code)
    assert provider.balance() == 0


@pytest.mark.parametrize("answer", ["cancel", "no_answer", "expire"])
def test_a_payer_may_pay_after_the_prompt_has_ended(provider: Daraja, answer: str) -> None:
    provider.phone(answer=answer, after_s=0.1, paid_after_s=0.3)
    provider.prompt(50)
    first, second = provider.heard.awaits("/stk", 2)
    assert first.json["Body"]["stkCallback"]["ResultCode"] != 0
    assert items(second.json)["Amount"] == 50
    assert provider.balance() == 5_000


def test_a_prompt_that_is_open_is_being_processed_and_locks_its_phone(provider: Daraja) -> None:
    provider.phone(answer="no_answer")
    asked = checkout(provider.prompt(50))
    answer = provider.ask_prompt(asked)
    assert (answer.status_code, answer.json()["errorCode"]) == (500, "500.001.1001")
    assert answer.json()["errorMessage"] == "The transaction is being processed"
    other = provider.prompt(70)
    assert (other.status_code, other.json()["errorCode"]) == (500, "500.001.1001")
    assert "lock subscriber" in other.json()["errorMessage"]
    provider.pass_time(61)
    assert provider.heard.awaits("/stk")[0].json["Body"]["stkCallback"]["ResultCode"] == 1037


def test_the_same_amount_to_the_same_customer_within_two_minutes_is_code_17(provider: Daraja) -> None:
    provider.prompt(50)
    provider.heard.awaits("/stk")
    provider.prompt(50)
    assert provider.heard.awaits("/stk", 2)[1].json["Body"]["stkCallback"]["ResultCode"] == 17
    provider.pass_time(121)
    provider.prompt(50)
    assert provider.heard.awaits("/stk", 3)[2].json["Body"]["stkCallback"]["ResultCode"] == 0
    assert provider.balance() == 10_000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("PhoneNumber", "0712345678"), ("PhoneNumber", "+254712345678"), ("PhoneNumber", "254 712345678"),
        ("PhoneNumber", 254_012_345_678), ("PhoneNumber", "712345678"), ("Amount", 1.5), ("Amount", "50.00"),
        ("Amount", 0), ("Amount", 250_001), ("AccountReference", "C123456789012"), ("CallBackURL", "not a URL"),
        ("TransactionDesc", "fourteen chars"), ("Timestamp", "20200101000000"), ("TransactionType", "Pay"),
    ],
)  # fmt: skip
def test_an_invalid_field_is_refused_by_its_name(provider: Daraja, field: str, value: object) -> None:
    more = {field: value, **({"PartyA": value} if field == "PhoneNumber" else {})}
    answer = provider.prompt(**{"shillings": 50, **({"shillings": value} if field == "Amount" else more)})  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "400.002.02")
    assert field in answer.json()["errorMessage"]


@pytest.mark.parametrize("msisdn", [254_712_345_678, "254712345678", 254_112_345_678])
def test_twelve_digits_are_taken_as_a_number_and_as_text(provider: Daraja, msisdn: object) -> None:
    """The reports of SmoDav/mpesa#49 and its like: no other form is taken, see the fields that are refused."""
    assert provider.prompt(PhoneNumber=msisdn, PartyA=msisdn).status_code == 200


def test_a_timestamp_in_utc_and_another_passkey_are_refused(provider: Daraja) -> None:
    secured = provider.secured()
    hours = int(secured["Timestamp"][8:10])
    early = f"{secured['Timestamp'][:8]}{(hours - 3) % 24:02d}{secured['Timestamp'][10:]}"
    assert provider.prompt(Timestamp=early).status_code == 400
    answer = provider.prompt(Password="d3Jvbmc=")
    assert (answer.json()["errorCode"], answer.json()["errorMessage"]) == ("500.001.1001", "Wrong credentials")
    other = provider.prompt(BusinessShortCode="600999")
    assert other.json()["errorMessage"] == "Merchant does not exist"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("code_text", b'"ResultCode": "0"'),
        ("amount_text", b'"Value": "50.00"'),
        ("amount_decimal", b'"Value": 50.00'),
        ("masked", b"2547*****678"),
    ],
)
def test_a_callback_has_the_forms_that_were_seen(provider: Daraja, fault: str, expected: bytes) -> None:
    provider.prompt(50, fault)
    assert expected in provider.heard.awaits("/stk")[0].body


def test_a_callback_may_lack_its_metadata_or_its_phone_or_its_order(provider: Daraja) -> None:
    provider.prompt(50, "no_metadata")
    assert "CallbackMetadata" not in provider.heard.awaits("/stk")[0].json["Body"]["stkCallback"]
    provider.prompt(51, "no_phone, reordered")
    found = provider.heard.awaits("/stk", 2)[1].json["Body"]["stkCallback"]["CallbackMetadata"]["Item"]
    assert [each["Name"] for each in found] == ["TransactionDate", "Balance", "MpesaReceiptNumber", "Amount"]


@pytest.mark.parametrize(("code", "body"), [("empty", b""), ("array", b"[]"), ("html", b"<html>"), ("other", b"{")])
def test_a_callback_may_be_garbled(provider: Daraja, code: str, body: bytes) -> None:
    provider.prompt(50, f"garbled; code={code}")
    came = provider.heard.awaits("/stk")[0]
    assert came.body.startswith(body)
    assert b"stkCallback" not in came.body


def test_a_callback_is_lost_late_or_copied(provider: Daraja) -> None:
    lost = checkout(provider.prompt(50, "lost"))
    until(lambda: provider.ask_prompt(lost).status_code == 200, "the prompt has ended")
    assert [each["state"] for each in provider.callbacks(lost)] == ["lost"]
    provider.prompt(51, "late; delay_s=7200")
    until(lambda: provider.balance() == 10_100, "the money has arrived")
    assert provider.heard.at("/stk") == []
    provider.pass_time(7201)
    assert items(provider.heard.awaits("/stk")[0].json)["Amount"] == 51
    provider.prompt(52, "copies; count=5")
    copies = provider.heard.awaits("/stk", 6)[1:]
    assert len({each.body for each in copies}) == 1
    assert provider.door("POST", f"admin/callbacks/resend?about={lost}") == {"resent": 1}
    assert items(provider.heard.awaits("/stk", 7)[-1].json)["Amount"] == 50


def test_the_answer_comes_after_the_callback(provider: Daraja) -> None:
    asked = checkout(provider.prompt(50, "ack_last; delay_s=0"))
    assert [each.json["Body"]["stkCallback"]["CheckoutRequestID"] for each in provider.heard.at("/stk")] == [asked]


def test_an_answer_is_lost_and_the_prompt_pops_up_all_the_same(provider: Daraja) -> None:
    with pytest.raises(httpx.HTTPError):
        provider.prompt(50, "answer_lost")
    assert items(provider.heard.awaits("/stk")[0].json)["Amount"] == 50
    page = provider.prompt(51, "html")
    assert (page.status_code, page.text[:6]) == (503, "<html>")
    provider.heard.awaits("/stk", 2)
    empty = provider.prompt(52, "empty")
    assert (empty.status_code, empty.content) == (200, b"")
    nothing = provider.prompt(53, "html; effect=false")
    assert nothing.status_code == 503
    provider.heard.awaits("/stk", 3)
    assert sorted(items(each.json)["Amount"] for each in provider.heard.at("/stk")) == [50, 51, 52]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("error", 500, "500.002.1001"), ("rate_limited", 500, "500.003.02"), ("quota", 500, "500.003.03"),
        ("token_invalid", 404, "404.001.03"), ("locked", 500, "500.001.1001"), ("refused", 400, "400.002.02"),
        ("empty_code; effect=false", 500, ""), ("rate_limited; status=503", 503, "500.003.02"),
    ],
)  # fmt: skip
def test_a_refusal_has_its_code_and_no_effect(provider: Daraja, fault: str, status: int, code: str) -> None:
    answer = provider.prompt(50, fault)
    assert (answer.status_code, answer.json()["errorCode"]) == (status, code)
    assert set(answer.json()) == {"requestId", "errorCode", "errorMessage"}
    exported = provider.door("GET", "admin/records?kind=prompt")
    assert exported["records"] == []


def test_a_query_says_for_twenty_minutes_that_the_prompt_is_being_processed(provider: Daraja) -> None:
    asked = checkout(provider.prompt(50))
    provider.heard.awaits("/stk")
    provider.fault("stk_query", "processing", lasts_s=1200)
    assert provider.ask_prompt(asked).json()["errorCode"] == "500.001.1001"
    provider.pass_time(900)
    assert provider.ask_prompt(asked).json()["errorCode"] == "500.001.1001"
    provider.pass_time(301)
    assert provider.ask_prompt(asked).json()["ResultCode"] == "0"


def test_a_phone_as_text_ends_in_1037_where_only_numbers_are_taken(provider: Daraja) -> None:
    provider.fault("stk_push", "numbers_only")
    provider.prompt(50, PhoneNumber=PHONE, PartyA=PHONE)
    assert provider.heard.awaits("/stk")[0].json["Body"]["stkCallback"]["ResultCode"] == 1037
    provider.prompt(51)
    assert provider.heard.awaits("/stk", 2)[1].json["Body"]["stkCallback"]["ResultCode"] == 0
    assert provider.door("GET", "admin/summary")["records"]["payment"] == {"completed": 1}
    assert SHORT_CODE in provider.books()["entries"][-1]["account"]


def test_another_receiver_or_another_path_is_refused_in_its_own_way(provider: Daraja) -> None:
    provider.prompt(50, PartyB="600999")
    assert provider.heard.awaits("/stk")[0].json["Body"]["stkCallback"]["ResultCode"] == 2028
    old = provider.post("/mpesa/b2c/v1/paymentrequest", {})
    assert (old.status_code, old.json()["errorCode"]) == (404, "404.001.01")
    wrong = provider.post("/mpesa/b2c/v3/paymentrequest", None, method="GET")
    assert (wrong.status_code, wrong.json()["errorCode"]) == (405, "405.001")


def test_an_answer_is_slow_or_never_comes(provider: Daraja) -> None:
    assert checkout(provider.prompt(50, "slow; delay_s=0.3"))
    provider.heard.awaits("/stk")
    with pytest.raises(httpx.HTTPError):
        provider.prompt(51, "hang; delay_s=0.1; effect=false")
    assert provider.door("GET", "admin/summary")["records"]["prompt"] == {"paid": 1}
