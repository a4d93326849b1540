"""The simulated MoMo from outside: the caller's reference is the key, 404 proves, and a callback comes once."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest

from support.mobile_providers import PHONE, Momo
from support.waiting import until

PAY, TRANSFER, REFUND = "/collection/v1_0/requesttopay", "/disbursement/v1_0/transfer", "/disbursement/v1_0/refund"


def reference() -> str:
    return str(uuid4())


def ended(other: Momo, path: str, asked: str) -> dict[str, object]:
    found: dict[str, object] = until(
        lambda: other.status(path, asked).json(), "it has ended", holds=lambda shown: shown["status"] != "PENDING"
    )
    return found


def test_a_collection_is_taken_with_202_and_paid_with_one_callback(other: Momo) -> None:
    asked = reference()
    answer = other.collect(asked)
    assert (answer.status_code, answer.content) == (202, b"")
    (came,) = other.heard.awaits("/momo")
    assert (came.method, came.json["status"], came.json["externalId"]) == ("PUT", "SUCCESSFUL", "C12345678901")
    assert came.json["payer"] == {"partyIdType": "MSISDN", "partyId": PHONE}
    shown = ended(other, PAY, asked)
    assert shown == came.json
    (row,) = other.rows()
    assert (row["Receipt No."], row["Paid In"]) == (shown["financialTransactionId"], "50.00")


def test_a_repeat_of_a_reference_is_a_409_and_one_payment(other: Momo) -> None:
    other.has_float(2_000)
    asked = reference()
    assert other.transfer(asked).status_code == 202
    again = other.transfer(asked, amount="700")
    assert (again.status_code, again.json()["code"]) == (409, "RESOURCE_ALREADY_EXIST")
    assert ended(other, TRANSFER, asked)["amount"] == "500"
    assert (other.balance(), other.balance("charges")) == (150_000, -500)


def test_what_was_never_taken_is_a_404(other: Momo) -> None:
    asked = reference()
    assert other.transfer(asked, fault="error").status_code == 500
    missing = other.status(TRANSFER, asked)
    assert (missing.status_code, missing.json()["code"]) == (404, "RESOURCE_NOT_FOUND")
    assert other.transfer(asked).status_code == 202
    assert other.status(TRANSFER, asked).status_code == 200


@pytest.mark.parametrize("fault", ["answer_lost", "html", "empty", "error_after"])
def test_a_transfer_whose_answer_is_lost_is_paid_and_found(other: Momo, fault: str) -> None:
    other.has_float(1_000)
    asked = reference()
    try:
        assert other.transfer(asked, fault=fault).status_code != 202
    except httpx.HTTPError:
        assert fault == "answer_lost"
    assert ended(other, TRANSFER, asked)["status"] == "SUCCESSFUL"
    assert other.transfer(asked).status_code == 409


@pytest.mark.parametrize(
    ("phone", "reason"),
    [
        ({"answer": "cancel"}, "APPROVAL_REJECTED"), ({"answer": "expire", "after_s": 0.1}, "EXPIRED"),
        ({"wallet_minor": 100}, "NOT_ENOUGH_FUNDS"), ({"is_registered": False}, "PAYER_NOT_FOUND"),
    ],
)  # fmt: skip
def test_a_payer_that_does_not_pay_has_a_reason(other: Momo, phone: dict[str, object], reason: str) -> None:
    other.phone(**phone)
    asked = reference()
    other.collect(asked, fault="reason_object")
    assert other.heard.awaits("/momo")[0].json["reason"]["code"] == reason
    shown = ended(other, PAY, asked)
    assert (shown["status"], shown["reason"], "financialTransactionId" in shown) == ("FAILED", reason, False)
    assert other.balance() == 0


def test_a_prompt_that_waits_is_pending_until_it_expires(other: Momo) -> None:
    other.phone(answer="no_answer")
    asked = reference()
    other.collect(asked)
    assert other.status(PAY, asked).json()["status"] == "PENDING"
    other.pass_time(61)
    assert ended(other, PAY, asked)["reason"] == "EXPIRED"


def test_a_short_float_and_an_unknown_payee_fail(other: Momo) -> None:
    asked, unknown = reference(), reference()
    other.transfer(asked)
    assert ended(other, TRANSFER, asked)["reason"] == "NOT_ENOUGH_FUNDS"
    other.phone(is_registered=False)
    other.transfer(unknown)
    assert ended(other, TRANSFER, unknown)["reason"] == "PAYEE_NOT_FOUND"
    assert other.call("/disbursement/v1_0/account/balance").json() == {"availableBalance": "0.00", "currency": "KES"}


def test_a_callback_is_lost_or_never_taken_and_does_not_come_again(other: Momo) -> None:
    other.has_float(2_000)
    lost, refused = reference(), reference()
    other.transfer(lost, fault="lost")
    assert ended(other, TRANSFER, lost)["status"] == "SUCCESSFUL"
    other.heard.answer = lambda _path: (503, b"")
    other.transfer(refused)
    other.heard.awaits("/momo")
    other.pass_time(86_400)
    states = until(lambda: [each["state"] for each in other.callbacks()], "both have ended",
                   holds=lambda found: found == ["lost", "undelivered"])  # fmt: skip
    assert (states, len(other.heard.at("/momo"))) == (["lost", "undelivered"], 1)


def test_a_transfer_may_succeed_after_it_has_failed(other: Momo) -> None:
    other.has_float(1_000)
    asked = reference()
    other.transfer(asked, fault="result; code=INTERNAL_PROCESSING_ERROR; paid_after_s=60")
    assert ended(other, TRANSFER, asked)["reason"] == "INTERNAL_PROCESSING_ERROR"
    other.pass_time(61)
    until(lambda: other.status(TRANSFER, asked).json()["status"], "it is paid", holds=lambda s: s == "SUCCESSFUL")
    assert (other.balance(), len(other.heard.at("/momo"))) == (50_000, 1)


def test_a_collection_is_refunded_once(other: Momo) -> None:
    asked, first, second = reference(), reference(), reference()
    other.collect(asked)
    ended(other, PAY, asked)
    assert other.refund(first, asked).status_code == 202
    assert ended(other, REFUND, first)["status"] == "SUCCESSFUL"
    other.refund(second, asked)
    assert ended(other, REFUND, second)["reason"] == "NOT_ALLOWED"
    newest, oldest = other.rows()
    assert (newest["Withdrawn"], newest["Linked Transaction ID"]) == ("-50.00", oldest["Receipt No."])
    assert other.balance() == 0


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"amount": 500}, 400), ({"amount": "5.001"}, 400), ({"amount": "0"}, 400), ({"currency": "EUR"}, 500),
        ({"payee": {"partyIdType": "MSISDN", "partyId": "0712345678"}}, 400), ({"payee": PHONE}, 400),
    ],
)  # fmt: skip
def test_an_invalid_request_is_rejected(other: Momo, more: dict[str, object], status: int) -> None:
    asked = reference()
    assert other.transfer(asked, **more).status_code == status  # type: ignore[arg-type]
    assert other.status(TRANSFER, asked).status_code == 404


def test_a_reference_is_a_uuid_of_version_4(other: Momo) -> None:
    assert other.transfer("W1").status_code == 400
    assert other.transfer("00000000-0000-1000-8000-000000000000").status_code == 400
    assert other.transfer("").status_code == 400


def test_a_token_is_for_one_product_and_the_next_does_not_end_it(other: Momo) -> None:
    token = other.new_token("collection")
    other.new_token("collection")
    assert other.call("/collection/v1_0/account/balance", token=token).status_code == 200
    refused = other.call("/disbursement/v1_0/account/balance", token=token)
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_token")
    other.pass_time(3_601)
    assert other.call("/collection/v1_0/account/balance", token=token).status_code == 401
    wrong = httpx.post(f"{other.url}/collection/token/", auth=("key", "wrong"))
    assert (wrong.status_code, wrong.json()["code"]) == (401, "LOGIN_FAILED")
