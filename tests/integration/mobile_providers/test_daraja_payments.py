"""Payments that a customer starts at the simulated Daraja: confirmation, validation, pull, and reversal."""

from __future__ import annotations

import re
from hashlib import sha256

import pytest

from support.mobile_providers import PHONE, SHORT_CODE, Daraja, parameters
from support.waiting import until


def test_a_payment_is_confirmed_with_what_the_payer_typed_and_a_hash_of_the_number(provider: Daraja) -> None:
    provider.register()
    paid = provider.pays(50, " dep-00123 ")
    said = provider.heard.awaits("/confirmed")[0].json
    assert set(said) == {
        "TransactionType", "TransID", "TransTime", "TransAmount", "BusinessShortCode", "BillRefNumber",
        "InvoiceNumber", "OrgAccountBalance", "ThirdPartyTransID", "MSISDN", "FirstName", "MiddleName", "LastName",
    }  # fmt: skip
    assert (said["TransID"], said["BillRefNumber"]) == (paid["receipt"], " dep-00123 ")
    assert (said["TransAmount"], said["OrgAccountBalance"]) == ("50.00", "50.00")
    assert said["MSISDN"] == sha256(PHONE.encode()).hexdigest()
    assert re.fullmatch(r"\d{14}", said["TransTime"])
    assert provider.heard.at("/validate") == []


def test_the_second_version_masks_the_number(provider: Daraja) -> None:
    provider.register(version="v2")
    provider.pays(50)
    assert provider.heard.awaits("/confirmed")[0].json["MSISDN"] == "2547*****678"


def test_urls_are_registered_once_until_the_portal_deletes_them(provider: Daraja) -> None:
    assert set(provider.register().json()) == {"OriginatorCoversationID", "ResponseCode", "ResponseDescription"}
    again = provider.register()
    assert (again.status_code, again.json()["errorCode"]) == (500, "500.003.1001")
    provider.door("DELETE", f"admin/urls/{SHORT_CODE}")
    assert provider.register().status_code == 200


@pytest.mark.parametrize("word", ["mpesa", "M-PESA", "safaricom", "exec", "sql", "query"])
def test_urls_have_none_of_the_forbidden_words(provider: Daraja, word: str) -> None:
    body = {
        "ShortCode": SHORT_CODE, "ResponseType": "Completed", "ConfirmationURL": f"{provider.heard.url}/{word}/c2b",
        "ValidationURL": f"{provider.heard.url}/validate",
    }  # fmt: skip
    assert provider.post("/mpesa/c2b/v1/registerurl", body).status_code == 400
    assert provider.register("completed").status_code == 400


def test_money_is_taken_when_no_url_is_registered_or_no_listener_answers(provider: Daraja) -> None:
    provider.pays(50)
    provider.register()
    provider.heard.answer = lambda _path: (500, b"")
    provider.pays(60)
    provider.heard.awaits("/confirmed")
    assert provider.balance() == 11_000
    states = until(lambda: [each["state"] for each in provider.callbacks()], "it is sent",
                   holds=lambda found: found == ["undelivered"])  # fmt: skip
    assert states == ["undelivered"]


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ((200, b'{"ResultCode": "0", "ResultDesc": "Accepted", "ThirdPartyTransID": "T1"}'), "completed"),
        ((200, b'{"ResultCode": 0}'), "completed"),
        ((200, b'{"ResultCode": "C2B00012", "ResultDesc": "Rejected"}'), "cancelled"),
        ((200, b'{"ResultCode": "C2B00016"}'), "cancelled"),
    ],
)
def test_a_listener_that_is_enabled_accepts_or_refuses(provider: Daraja, answer: tuple[int, bytes], state: str) -> None:
    provider.register()
    provider.door("POST", f"admin/validation/{SHORT_CODE}")
    provider.heard.answer = lambda path: answer if path == "/validate" else (200, b"")
    paid = provider.pays(50)
    assert paid["state"] == "pending"
    assert provider.heard.awaits("/validate")[0].json["OrgAccountBalance"] == ""
    found = until(lambda: provider.door("GET", "admin/summary")["records"]["payment"], "it has ended",
                  holds=lambda counts: "pending" not in counts)  # fmt: skip
    assert found == {state: 1}
    if state == "completed":
        confirmed = provider.heard.awaits("/confirmed")[0].json
        assert (confirmed["TransID"], confirmed["ThirdPartyTransID"] in ("T1", "")) == (paid["receipt"], True)
    assert provider.balance() == (5_000 if state == "completed" else 0)


@pytest.mark.parametrize(("response_type", "state"), [("Completed", "completed"), ("Cancelled", "cancelled")])
def test_without_an_answer_the_registration_decides(provider: Daraja, response_type: str, state: str) -> None:
    provider.register(response_type)
    provider.door("POST", f"admin/validation/{SHORT_CODE}")
    provider.heard.answer = lambda path: (500, b"") if path == "/validate" else (200, b"")
    provider.pays(50)
    found = until(lambda: provider.door("GET", "admin/summary")["records"]["payment"], "it has ended",
                  holds=lambda counts: "pending" not in counts)  # fmt: skip
    assert found == {state: 1}


def test_a_confirmation_is_lost_copied_or_garbled(provider: Daraja) -> None:
    provider.register()
    provider.pays(50, fault="copies; count=2")
    provider.pays(51, fault="lost")
    provider.pays(52, fault="garbled; code=array")
    got = provider.heard.awaits("/confirmed", 3)
    assert sorted(each.body[:2] for each in got) == [b"[]", b'{"', b'{"']
    assert provider.balance() == 15_300


def test_a_pull_has_the_payments_of_48_hours_in_pages(provider: Daraja) -> None:
    assert provider.pull(fault="")["errorCode"] == "400.002.02"
    provider.register_pull()
    assert provider.pull()["ResponseCode"] == "1001"
    first = provider.pays(50, "00123")
    found = provider.pull()
    assert found["ResponseCode"] == "1000"
    ((row,),) = found["Response"]
    assert (row["transactionId"], row["amount"], row["billreference"]) == (first["receipt"], "50.00", "00123")
    assert row["msisdn"] == PHONE
    assert row["trxDate"][:13] == provider.now().strftime("%Y-%m-%dT%H")
    assert row["trxDate"].endswith("Z")
    for _ in range(100):
        provider.pays(10)
    assert len(provider.pull()["Response"][0]) == 100
    assert len(provider.pull(offset=100)["Response"][0]) == 1
    assert provider.pull(offset=101)["ResponseCode"] == "1001"
    assert provider.pull(fault="flat")["Response"][0]["transactionId"] == first["receipt"]
    hashed = provider.pull(fault="flat, hashed")["Response"][0]["msisdn"]
    assert hashed == sha256(PHONE.encode()).hexdigest()
    provider.pass_time(48 * 3600 + 1)
    assert provider.pull(hours=100)["ResponseCode"] == "1001"
    assert len(provider.rows(day=f"{provider.now().date().fromordinal(provider.now().toordinal() - 2)}")) == 101


def test_a_pull_is_a_get_too_and_its_times_may_be_utc(provider: Daraja) -> None:
    provider.register_pull()
    provider.pays(50)
    now = provider.now()
    body = {"ShortCode": SHORT_CODE, "StartDate": f"{now:%Y-%m-%d} 00:00:00", "EndDate": f"{now:%Y-%m-%d} 23:59:59",
            "OffSetValue": "0"}  # fmt: skip
    provider.fault("pull", "utc_times")
    ((row,),) = provider.post("/pulltransactions/v1/query", body, method="GET").json()["Response"]
    assert int(row["trxDate"][11:13]) == (now.hour - 3) % 24


def test_a_receipt_is_reversed_once(provider: Daraja) -> None:
    before = provider.wallet()
    receipt = provider.pays(50)["receipt"]
    assert provider.reverse(receipt, 50).json()["ResponseCode"] == "0"
    said = provider.heard.awaits("/reversal")[0].json
    assert (said["Result"]["ResultCode"], parameters(said)["OriginalTransactionID"]) == (0, receipt)
    assert (provider.balance(), provider.wallet()) == (0, before)
    newest, first = provider.rows()
    assert (newest["Withdrawn"], newest["Linked Transaction ID"]) == ("-50.00", receipt)
    assert (first["Receipt No."], first["Paid In"]) == (receipt, "50.00")
    provider.reverse(receipt, 50)
    assert provider.heard.awaits("/reversal", 2)[1].json["Result"]["ResultCode"] == "R000001"
    provider.reverse("XXXXXXXXXX", 50)
    assert provider.heard.awaits("/reversal", 3)[2].json["Result"]["ResultCode"] == "R000002"


def test_a_reversal_needs_money_and_is_not_for_payouts(provider: Daraja) -> None:
    receipt = provider.pays(500)["receipt"]
    provider.payout("B001", 300)
    paid = provider.heard.awaits("/b2c")[0].json["Result"]["TransactionID"]
    provider.reverse(receipt, 500)
    assert provider.heard.awaits("/reversal")[0].json["Result"]["ResultCode"] == 1
    provider.reverse(paid, 300)
    assert provider.heard.awaits("/reversal", 2)[1].json["Result"]["ResultCode"] == "R000002"


def test_a_reversal_whose_answer_and_result_are_lost_is_found_by_its_status(provider: Daraja) -> None:
    receipt = provider.pays(50)["receipt"]
    asked = provider.reverse(receipt, 50, "lost").json()
    until(lambda: provider.balance(), "it is reversed", holds=lambda balance: balance == 0)
    provider.ask_status(OriginalConversationID=asked["OriginatorConversationID"])
    assert parameters(provider.heard.awaits("/status")[0].json)["TransactionStatus"] == "Completed"


def test_a_payer_with_too_little_pays_nothing(provider: Daraja) -> None:
    provider.phone(wallet_minor=1_000)
    answer = provider.post("/pay", {"msisdn": PHONE, "short_code": SHORT_CODE, "amount": 50})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_little")
    assert provider.balance() == 0
