"""Payouts at the simulated Daraja, and what is queried about them, seen from outside."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from support.mobile_providers import PHONE, SHORT_CODE, Daraja, parameters
from support.waiting import until


def conversation(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    assert (answer.json()["ResponseCode"], answer.json()["ConversationID"][:3]) == ("0", "AG_")
    found: str = answer.json()["ConversationID"]
    return found


def result(provider: Daraja, name: str = "b2c", count: int = 1) -> Any:
    return provider.heard.awaits(f"/{name}", count)[count - 1].json


def test_a_payout_is_acknowledged_then_paid_and_charged_by_the_tariff(provider: Daraja) -> None:
    provider.has_float(1_000)
    before = provider.wallet()
    asked = conversation(provider.payout("B001", 500))
    said = result(provider)
    assert (said["Result"]["ResultCode"], said["Result"]["ResultType"]) == (0, 0)
    assert (said["Result"]["ConversationID"], said["Result"]["OriginatorConversationID"]) == (asked, "B001")
    found = parameters(said)
    assert found["TransactionReceipt"] == said["Result"]["TransactionID"]
    assert found["TransactionAmount"] == 500
    assert re.fullmatch(r"\d\d\.\d\d\.\d{4} \d\d:\d\d:\d\d", found["TransactionCompletedDateTime"])
    assert found["ReceiverPartyPublicName"].startswith(f"{PHONE} - ")
    assert found["B2CChargesPaidAccountAvailableFunds"] == -5.0
    assert (provider.balance(), provider.balance("charges"), provider.wallet()) == (50_000, -500, before + 50_000)
    paid, brought = provider.rows()
    assert (paid["Withdrawn"], paid["Balance"], brought["Paid In"]) == ("-500.00", "500.00", "1,000.00")
    (charge,) = provider.rows("charges")
    assert (charge["Receipt No."], charge["Withdrawn"]) == (found["TransactionReceipt"], "-5.00")


def test_an_id_that_comes_again_is_refused_as_a_duplicate_and_pays_nothing(provider: Daraja) -> None:
    provider.has_float(2_000)
    provider.payout("B001", 500)
    again = provider.payout("B001", 500)
    assert (again.status_code, again.json()["errorCode"]) == (500, "500.002.1001")
    assert "Duplicate" in again.json()["errorMessage"]
    internal = provider.payout("B002", 500, "error")
    assert (internal.status_code, internal.json()["errorCode"]) == (500, "500.002.1001")
    assert "Duplicate" not in internal.json()["errorMessage"]
    result(provider)
    assert provider.payout("B002", 500).status_code == 200
    result(provider, count=2)
    assert provider.balance() == 100_000


def test_an_early_refusal_leaves_the_id_free_or_counts_it_as_seen(provider: Daraja) -> None:
    assert provider.payout("B001", PartyB="0712345678").status_code == 400
    assert provider.payout("B002", fault="refused").status_code == 400
    assert provider.payout("B003", fault="refused_kept").status_code == 400
    assert [provider.payout(each).status_code for each in ("B001", "B002", "B003")] == [200, 200, 500]


@pytest.mark.parametrize("fault", ["answer_lost", "hang; delay_s=0.1", "html", "empty", "error_after", "empty_code"])
def test_a_payout_whose_answer_is_lost_is_paid_all_the_same(provider: Daraja, fault: str) -> None:
    provider.has_float(1_000)
    try:
        answer = provider.payout("B001", fault=fault)
        assert "ConversationID" not in answer.text
    except httpx.HTTPError:
        pass
    assert result(provider)["Result"]["OriginatorConversationID"] == "B001"
    assert provider.balance() == 50_000
    assert "Duplicate" in provider.payout("B001").json()["errorMessage"]


def test_a_short_float_is_code_1_and_no_row(provider: Daraja) -> None:
    provider.has_float(400)
    provider.payout("B001", 500)
    said = result(provider)["Result"]
    assert (said["ResultCode"], "ResultParameters" in said) == (1, False)
    assert (provider.balance(), provider.balance("charges")) == (40_000, 0)
    assert [row["Transaction Status"] for row in provider.rows(fault="no_preamble, all_states")] == [
        "Declined", "Completed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shillings", "phone", "code"),
    [
        (9, {}, 2), (250_001, {}, 3), (500, {"is_registered": False}, 2040), (500, {"wallet_minor": 49_999_900}, 8),
    ],
)  # fmt: skip
def test_a_limit_of_the_receiver_has_its_code(
    provider: Daraja, shillings: int, phone: dict[str, object], code: int
) -> None:
    provider.has_float(400_000)
    provider.phone(**phone)
    provider.payout("B001", shillings)
    assert result(provider)["Result"]["ResultCode"] == code
    assert provider.balance() == 40_000_000


def test_a_receiver_gets_no_more_than_half_a_million_a_day(provider: Daraja) -> None:
    provider.has_float(900_000)
    provider.phone(wallet_minor=0)
    for number in range(2):
        provider.payout(f"B00{number}", 250_000)
    result(provider, count=2)
    provider.payout("B003", 10)
    assert result(provider, count=3)["Result"]["ResultCode"] == 4


def test_a_wrong_password_is_2001_and_the_third_locks_the_initiator(provider: Daraja) -> None:
    provider.has_float(1_000)
    wrong = provider.credential("wrong")
    for number in range(3):
        provider.payout(f"B00{number}", SecurityCredential=wrong)
        assert result(provider, count=number + 1)["Result"]["ResultCode"] == 2001
    provider.payout("B003")
    assert result(provider, count=4)["Result"]["ResultCode"] == 8006
    provider.door("POST", f"admin/initiators/{SHORT_CODE}/unlock")
    provider.payout("B004")
    assert result(provider, count=5)["Result"]["ResultCode"] == 0


def test_a_queue_times_out_with_the_original_request_and_the_payout_is_paid_later(provider: Daraja) -> None:
    provider.has_float(1_000)
    provider.payout("B001", fault="queue_timeout; delay_s=100")
    body = result(provider, "b2c-timeout")
    assert (body["OriginatorConversationID"], "Result" in body) == ("B001", False)
    assert (provider.balance(), provider.heard.at("/b2c")) == (100_000, [])
    provider.pass_time(101)
    assert result(provider)["Result"]["ResultCode"] == 0
    assert provider.balance() == 50_000


def test_a_payout_may_be_paid_after_its_result_said_that_it_failed(provider: Daraja) -> None:
    provider.has_float(1_000)
    provider.payout("B001", fault="result; code=17; paid_after_s=0.1")
    assert result(provider)["Result"]["ResultCode"] == 17
    assert result(provider, count=2)["Result"]["ResultCode"] == 0
    assert provider.balance() == 50_000


@pytest.mark.parametrize("code", ["15", "26", "SFC_IC0003", "TP40153", "100000001"])
def test_any_code_can_be_the_result(provider: Daraja, code: str) -> None:
    provider.payout("B001", fault=f"result; code={code}")
    assert str(result(provider)["Result"]["ResultCode"]) == code


def test_a_result_has_the_forms_that_were_seen(provider: Daraja) -> None:
    provider.has_float(10_000)
    provider.payout("B001", fault="code_text, single_object")
    said = result(provider)["Result"]
    assert said["ResultCode"] == "0"
    assert set(said["ResultParameters"]["ResultParameter"]) == {"Key", "Value"}
    provider.payout("B002", fault="no_metadata, copies; count=3", Occassion="")
    first = provider.heard.awaits("/b2c", 4)[1].json["Result"]
    assert "ResultParameters" not in first
    assert isinstance(first["ReferenceData"]["ReferenceItem"], dict)
    assert isinstance(said["ReferenceData"]["ReferenceItem"], list)


def test_callbacks_are_dropped_for_an_hour_by_schedule(provider: Daraja) -> None:
    provider.has_float(10_000)
    provider.fault("*", "lost", lasts_s=3600)
    asked = conversation(provider.payout("B001"))
    until(lambda: provider.callbacks(asked), "the result is lost")
    assert [each["state"] for each in provider.callbacks(asked)] == ["lost"]
    provider.pass_time(3601)
    provider.payout("B002")
    assert result(provider)["Result"]["OriginatorConversationID"] == "B002"


def test_a_rate_meets_the_same_requests_each_time(provider: Daraja) -> None:
    provider.fault("b2c", "result", rate=0.5, code="26")
    provider.has_float(100_000)
    for number in range(16):
        provider.payout(f"B{number:03}", 10)
    got = provider.heard.awaits("/b2c", 16)
    failed = {each.json["Result"]["OriginatorConversationID"] for each in got if each.json["Result"]["ResultCode"]}
    assert 2 <= len(failed) <= 14
    exported = provider.door("GET", "admin/records?kind=payout")["records"]
    assert {each["reference"] for each in exported if each["state"] == "failed"} == failed


def test_the_status_of_a_payout_is_known_by_its_receipt_and_by_both_ids(provider: Daraja) -> None:
    provider.has_float(1_000)
    asked = conversation(provider.payout("B001"))
    receipt = result(provider)["Result"]["TransactionID"]
    about = ({"TransactionID": receipt}, {"OriginalConversationID": "B001"}, {"OriginalConversationID": asked})
    for number, each in enumerate(about, 1):
        acknowledged = provider.ask_status(**each).json()
        assert acknowledged["ResponseCode"] == "0"
        assert "TransactionStatus" not in json.dumps(acknowledged)
        found = parameters(result(provider, "status", number))
        assert (found["TransactionStatus"], found["ReceiptNo"], found["Amount"]) == ("Completed", receipt, 500)
        assert found["DebitPartyCharges"] == "Fee For B2C Payment|KES|5.00"
    keys = [each["Key"] for each in result(provider, "status")["Result"]["ResultParameters"]["ResultParameter"]]
    assert keys.count("DebitPartyName") == 2
    assert "Credit Party Type" in keys


def test_what_waits_in_a_queue_or_never_came_is_not_found(provider: Daraja) -> None:
    provider.has_float(1_000)
    provider.payout("B001", fault="late_result; delay_s=600")
    provider.ask_status(OriginalConversationID="B001")
    assert result(provider, "status")["Result"]["ResultCode"] == "R000002"
    provider.ask_status(OriginalConversationID="B999")
    assert result(provider, "status", 2)["Result"]["ResultCode"] == "R000002"
    provider.pass_time(601)
    result(provider)
    provider.ask_status(OriginalConversationID="B001")
    assert parameters(result(provider, "status", 3))["TransactionStatus"] == "Completed"
    provider.ask_status("not_found", OriginalConversationID="B001")
    assert result(provider, "status", 4)["Result"]["ResultCode"] == "R000002"


def test_a_payout_that_failed_is_declined_at_a_query(provider: Daraja) -> None:
    provider.payout("B001")
    result(provider)
    provider.ask_status(OriginalConversationID="B001")
    found = parameters(result(provider, "status"))
    assert found["TransactionStatus"] == "Declined"
    assert "balance is insufficient" in found["TransactionReason"]


def test_a_querys_own_result_is_lost_or_late(provider: Daraja) -> None:
    provider.has_float(1_000)
    provider.payout("B001")
    result(provider)
    lost = conversation(provider.ask_status("lost", OriginalConversationID="B001"))
    until(lambda: provider.callbacks(lost), "the answer is lost")
    provider.ask_status("late; delay_s=300", OriginalConversationID="B001")
    provider.ask_status("queue_timeout; delay_s=200", OriginalConversationID="B001")
    provider.heard.awaits("/status-timeout")
    assert provider.heard.at("/status") == []
    provider.pass_time(301)
    provider.heard.awaits("/status", 2)


def test_the_balance_is_one_text_of_all_accounts_and_its_code_is_text(provider: Daraja) -> None:
    provider.has_float(1_000)
    provider.has_float(300, "working")
    provider.payout("B001", 500)
    result(provider)
    body = provider.initiated("balance", "AccountBalance", PartyA=SHORT_CODE, IdentifierType="4")
    conversation(provider.post("/mpesa/accountbalance/v1/query", body))
    said = result(provider, "balance")
    assert said["Result"]["ResultCode"] == "0"
    accounts = dict(each.split("|", 1) for each in parameters(said)["AccountBalance"].split("&"))
    assert accounts["Utility Account"] == "KES|500.00|500.00|0.00|0.00"
    assert accounts["Working Account"] == "KES|300.00|300.00|0.00|0.00"
    assert accounts["Charges Paid Account"] == "KES|-5.00|-5.00|0.00|0.00"


def test_working_becomes_utility_and_never_the_other_way_round(provider: Daraja) -> None:
    provider.has_float(300, "working")
    shared = {"PartyA": SHORT_CODE, "PartyB": SHORT_CODE, "Amount": 200, "AccountReference": "float"}
    body = provider.initiated("b2b", "BusinessTransferFromMMFToUtility", **shared)
    conversation(provider.post("/mpesa/b2b/v1/paymentrequest", body))
    assert result(provider, "b2b")["Result"]["ResultCode"] == 0
    assert (provider.balance("working"), provider.balance()) == (10_000, 20_000)
    body = provider.initiated("b2b", "BusinessTransferFromUtilityToMMF", **shared)
    conversation(provider.post("/mpesa/b2b/v1/paymentrequest", body))
    assert result(provider, "b2b", 2)["Result"]["ResultCode"] == 21
    assert [row["Withdrawn"] for row in provider.rows("working")] == ["-200.00", ""]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/mpesa/b2c/v3/paymentrequest", 401, "401.002.01"), ("/mpesa/stkpush/v1/processrequest", 404, "404.001.03"),
        ("/mpesa/transactionstatus/v1/query", 400, "400.003.01"), ("/mpesa/reversal/v1/request", 404, "404.001.03"),
        ("/mpesa/accountbalance/v1/query", 401, "401.002.01"), ("/mpesa/c2b/v1/registerurl", 400, "400.003.01"),
    ],
)  # fmt: skip
def test_a_token_that_the_next_has_ended_is_refused_by_each_product_in_its_way(
    provider: Daraja, path: str, status: int, code: str
) -> None:
    old = provider.new_token()
    provider.new_token()
    provider.token = old
    answer = provider.post(path, {})
    assert (answer.status_code, answer.json()["errorCode"]) == (status, code)


def test_a_token_lives_an_hour(provider: Daraja) -> None:
    token = provider.new_token()
    provider.pass_time(3_500)
    provider.token = token
    assert provider.register_pull().status_code == 200
    provider.pass_time(101)
    provider.token = token
    assert provider.register_pull().json()["errorCode"] == "400.003.01"


def test_a_token_needs_the_key_and_the_grant_type(provider: Daraja) -> None:
    url = f"{provider.url}/oauth/v1/generate"
    grant = {"grant_type": "client_credentials"}
    wrong = httpx.get(url, params=grant, auth=("key", "wrong"))
    assert (wrong.status_code, wrong.json()["errorCode"]) == (400, "400.008.01")
    assert httpx.get(url, auth=("key", "secret")).json()["errorCode"] == "400.008.02"
    provider.fault("token", "error", times=1)
    assert httpx.get(url, params=grant, auth=("key", "secret")).status_code == 500
    found = httpx.get(url, params=grant, auth=("key", "secret")).json()
    assert (set(found), found["expires_in"]) == ({"access_token", "expires_in"}, "3599")
