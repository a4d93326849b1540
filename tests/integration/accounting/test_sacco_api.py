"""What staff and members read of a SACCO over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient

from chassis.process.service import Dependencies
from ledger import api
from support.issuer import token, verifying
from support.ledger_steps import handle
from support.ledgers import LedgerUnderTest
from support.sacco_bookings import SaccoUnderTest, nairobi


class Reader:
    """The ledger's API, as its callers see it."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def get(self, path: str, *roles: str, subject: str = "ann", status: int = 200, **query: Any) -> Any:
        headers = {"Authorization": f"Bearer {token(subject, *(roles or ('teller',)))}"}
        answer = self._client.get(path, params=query, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
def read(ledger: LedgerUnderTest) -> Iterator[Reader]:
    with verifying() as verifier:
        unused = cast(Any, None)
        made = Dependencies(settings=unused, engine=ledger.engine, codec=unused, verifier=verifier)
        yield Reader(TestClient(api.application(made)))


@pytest.fixture
def sacco(ledger: LedgerUnderTest) -> SaccoUnderTest:
    return SaccoUnderTest(ledger=ledger).register()


def test_staff_read_a_receipt_with_the_policy_and_the_inputs_of_its_allocation(
    read: Reader, sacco: SaccoUnderTest
) -> None:
    receipt = sacco.receipt(1_000)
    receipt.allocate()
    found = read.get(f"/v1/receipts/daraja/{sacco.short_code}/{receipt.receipt.lower()}", "support")
    assert (found["amount"], found["state"], found["policy"], found["policy_version"]) == (
        "1000", "ALLOCATED", "default", 3,
    )  # fmt: skip
    assert found["inputs"]["targets"][0]["kind"] == "SAVINGS"
    read.get(f"/v1/receipts/daraja/{sacco.short_code}/NONE", status=404)


def test_receipts_that_are_not_allocated_are_listed_the_oldest_first_page_by_page(
    read: Reader, sacco: SaccoUnderTest
) -> None:
    receipts = [sacco.receipt(100, completed_at=nairobi(day)).record() for day in (5, 3, 4)]
    first = read.get("/v1/receipts", "treasury", short_code=sacco.short_code, limit=2)
    assert [each["receipt"] for each in first["receipts"]] == [receipts[1].receipt, receipts[2].receipt]
    rest = read.get("/v1/receipts", short_code=sacco.short_code, limit=2, cursor=first["next_cursor"])
    assert ([each["receipt"] for each in rest["receipts"]], rest["next_cursor"]) == ([receipts[0].receipt], None)
    assert read.get("/v1/receipts", short_code=sacco.short_code, state="RETURNED")["receipts"] == []


def test_payouts_in_transit_are_listed_one_by_one_with_whose_they_are(read: Reader, sacco: SaccoUnderTest) -> None:
    payout = sacco.fund(1_000).withdrawal(600)
    payout.hold()
    sacco.withdrawal(100).pay()
    (held,) = read.get("/v1/payouts", short_code=sacco.short_code)["payouts"]
    assert (held["saga_id"], held["member_id"], held["amount"], held["state"]) == (
        payout.saga_id, sacco.member_id, "600", "HELD",
    )  # fmt: skip
    assert len(read.get("/v1/payouts", short_code=sacco.short_code, state="PAID")["payouts"]) == 1


def test_a_loan_is_read_with_what_is_owed_at_a_value_date(read: Reader, sacco: SaccoUnderTest) -> None:
    loan = sacco.loan(1_000_000).disburse(nairobi(1))
    loan.pay(60_000, nairobi(11))
    found = read.get(f"/v1/loans/{loan.loan_id}", "finance", at=nairobi(21).isoformat())
    assert (found["state"], found["principal"], found["disbursed"]) == ("ACTIVE", "1000000", "1000000")
    assert found["owed"] == {"penalties": "0", "fees": "0", "interest": "9500", "principal": "950000"}
    assert [each["split"]["interest"] for each in found["payments"]] == ["10000"]
    read.get("/v1/loans/LN404404404404", status=404)


def test_a_members_accounts_are_read_with_balances_and_loans(read: Reader, sacco: SaccoUnderTest) -> None:
    loan = sacco.fund(700).fund(30, "shares").loan(1_000_000).disburse(nairobi(1))
    found = read.get(f"/v1/members/{sacco.member_id}/accounts")
    balances = {each["code"]: each["balance"] for each in found["accounts"]}
    assert balances == {
        "fosa": "700", "deposits": "0", "shares": "30", "dividends_payable": "0", "member_receivable": "0",
    }  # fmt: skip
    assert [each["loan_id"] for each in found["loans"]] == [loan.loan_id]


def test_a_statement_has_the_balance_after_each_line_the_newest_first(read: Reader, sacco: SaccoUnderTest) -> None:
    receipt = sacco.receipt(1_000, completed_at=nairobi(3))
    receipt.allocate()
    payout = sacco.withdrawal(400, fee_minor=10, excise_minor=2)
    payout.hold()
    handle(sacco.ledger, payout.release())
    url = f"/v1/members/{sacco.member_id}/statement"
    page = read.get(url, limit=2)
    assert [(each["amount"], each["balance"]) for each in page["lines"]] == [("412", "1000"), ("-412", "588")]
    rest = read.get(url, cursor=page["next_cursor"])
    assert [(each["amount"], each["balance"], each["saga_id"]) for each in rest["lines"]] == [
        ("1000", "1000", receipt.saga_id)
    ]
    assert rest["lines"][0]["effective_at"] == nairobi(3).isoformat().replace("+00:00", "Z")
    assert read.get(url, account="shares")["lines"] == []


@pytest.mark.parametrize("path", ["accounts", "statement"])
def test_a_member_reads_the_own_accounts_and_finds_nothing_of_another(
    read: Reader, sacco: SaccoUnderTest, path: str
) -> None:
    other = SaccoUnderTest(ledger=sacco.ledger).register()
    read.get(f"/v1/members/{sacco.member_id}/{path}", "member", subject=sacco.member_id)
    theirs = read.get(f"/v1/members/{other.member_id}/{path}", "member", subject=sacco.member_id, status=404)
    unknown = read.get(f"/v1/members/NOBODY404/{path}", "member", subject=sacco.member_id, status=404)
    assert theirs["detail"].replace(other.member_id, "") == unknown["detail"].replace("NOBODY404", "")


def test_a_member_reads_the_own_loan_only(read: Reader, sacco: SaccoUnderTest) -> None:
    loan = sacco.loan(1_000).disburse(nairobi(1))
    read.get(f"/v1/loans/{loan.loan_id}", "member", subject=sacco.member_id)
    read.get(f"/v1/loans/{loan.loan_id}", "member", subject="OTHER1", status=404)


@pytest.mark.parametrize("path", ["/v1/receipts?short_code=1", "/v1/payouts?short_code=1", "/v1/receipts/a/b/c"])
@pytest.mark.parametrize("role", ["member", "merchant", "customer"])
def test_what_is_for_staff_is_for_nobody_else(read: Reader, path: str, role: str) -> None:
    read.get(path, role, status=403)


@pytest.mark.parametrize("cursor", ["1", "x_y", "9_", "99999999999999999999_1"])
def test_a_cursor_of_no_page_is_refused(read: Reader, sacco: SaccoUnderTest, cursor: str) -> None:
    read.get("/v1/receipts", short_code="1", cursor=cursor, status=422)
    read.get(f"/v1/members/{sacco.member_id}/statement", cursor=cursor, status=422)
