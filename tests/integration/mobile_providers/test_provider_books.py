"""The providers' books and statements: they balance, they equal one another, and a provider that dies keeps them."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from support.mobile_providers import DAY_S, PHONE, SHORT_CODE, Daraja, Momo, daraja
from support.waiting import until

ACCOUNTS = ("utility", "working", "charges")


def money(text: str) -> int:
    return int(Decimal(text.replace(",", "") or "0") * 100)


def proves_itself(rows: list[dict[str, str]]) -> bool:
    """Return whether each row's balance is that of the next older one and its amount; rows are the newest first."""
    return all(
        money(newer["Balance"]) == money(older["Balance"]) + money(newer["Paid In"]) + money(newer["Withdrawn"])
        for newer, older in pairwise(rows)
    )


def a_day(provider: Daraja) -> None:
    """Let much happen, drawn by a seed: payments, payouts, reversals, a transfer."""
    drawn = random.Random(20)
    provider.has_float(50_000)
    receipts = [provider.pays(drawn.randrange(1, 9_000), f"{n:05}", f"2547000000{n:02}")["receipt"] for n in range(20)]
    for number in range(20):
        provider.payout(f"B{number:03}", drawn.randrange(10, 9_000), PartyB=f"2547000000{number:02}")
    provider.heard.awaits("/b2c", 20)
    for each in provider.books()["entries"]:
        if each["receipt"] in receipts[:3] and each["account"] == f"{SHORT_CODE}:utility":
            provider.reverse(each["receipt"], each["amount_minor"] // 100)
    provider.heard.awaits("/reversal", 3)


def test_books_balance_and_equal_the_statement_to_the_cent(provider: Daraja) -> None:
    a_day(provider)
    books = provider.books()
    for account in ACCOUNTS:
        rows = provider.rows(account)
        entries = [each for each in books["entries"] if each["account"] == f"{SHORT_CODE}:{account}"]
        found = [(row["Receipt No."], money(row["Paid In"]) + money(row["Withdrawn"])) for row in reversed(rows)]
        assert found == [(each["receipt"], each["amount_minor"]) for each in entries]
        assert proves_itself(rows)
        if rows:
            assert money(rows[0]["Balance"]) == books["balances"][f"{SHORT_CODE}:{account}"]
    paid = Counter(row["Receipt No."] for row in provider.rows() if row["Reason Type"].startswith("Business Payment"))
    charged = Counter(row["Receipt No."] for row in provider.rows("charges"))
    assert set(charged) <= set(paid)
    assert max(Counter(row["Receipt No."] for row in provider.rows()).values()) == 1


def test_a_statement_ends_at_midnight_in_nairobi_and_the_next_begins_with_its_balance(provider: Daraja) -> None:
    provider.pays(50)
    today = provider.now()
    midnight = (today + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    provider.pass_time((midnight - today).total_seconds() + 1)
    provider.pays(60)
    (first,) = provider.rows(day=f"{today:%Y-%m-%d}")
    (second,) = provider.rows(day=f"{midnight:%Y-%m-%d}")
    assert (first["Balance"], second["Balance"], second["Completion Time"][11:16]) == ("50.00", "110.00", "00:00")
    assert "Opening Balance:,50.00" in provider.statement()


def test_an_export_has_a_preamble_and_varies_in_its_columns_and_their_order(provider: Daraja) -> None:
    provider.has_float(1_000)
    provider.pays(50)
    text = provider.statement()
    assert text.startswith("Account Holder:,BARAZA SACCO\nShort Code:,600100\n")
    assert "Receipt No.,Completion Time,Initiation Time" in text
    older = provider.rows(fault="no_preamble, older")
    assert list(older[0])[:4] == ["Receipt", "Date", "Details", "Status"]
    shuffled = provider.rows(fault="no_preamble, shuffled")
    assert list(shuffled[0]) == sorted(shuffled[0])
    plain = provider.rows(fault="no_preamble, plain, oldest_first")
    assert [row["Paid In"] for row in plain] == ["1000.00", "50.00"]


def test_a_gap_shows_in_the_running_balance_and_a_duplicate_export_repeats_rows(provider: Daraja) -> None:
    for amount in (50, 60, 70):
        provider.pays(amount)
    assert proves_itself(provider.rows())
    assert not proves_itself(provider.rows(fault="no_preamble, gap"))
    doubled = Counter(row["Receipt No."] for row in provider.rows(fault="no_preamble, double"))
    assert set(doubled.values()) == {2}
    provider.fault("statement", "gap", match="utility", lasts_s=60)
    assert len(provider.rows()) == 2
    provider.pass_time(61)
    assert len(provider.rows()) == 3


@pytest.mark.parametrize(
    ("kind", "rows", "delta"), [("row_lost", 1, -6_000), ("row_doubled", 3, 6_000), ("amount_changed", 2, 1),
                                ("row_invented", 3, 10_000)],
)  # fmt: skip
def test_damage_is_named_and_only_the_books_show_it(provider: Daraja, kind: str, rows: int, delta: int) -> None:
    provider.pays(50)
    receipt = provider.pays(60)["receipt"]
    before = provider.books()
    body = {"kind": kind, "short_code": SHORT_CODE, "receipt": receipt}
    planted = provider.door("POST", "admin/damage", body)
    assert (planted["delta_minor"], planted["kind"]) == (delta, kind)
    assert (planted["receipt"] == receipt) == (kind != "row_invented")
    found = provider.rows()
    assert (len(found), proves_itself(found)) == (rows, True)
    assert money(found[0]["Balance"]) == provider.balance() + delta
    assert provider.books() == before
    provider.pass_time(DAY_S)
    provider.pays(70)
    assert money(provider.rows()[0]["Balance"]) == provider.balance() + delta
    assert provider.door("GET", "admin/damage")["damage"] == [planted]
    provider.door("DELETE", "admin/damage")
    assert money(provider.rows()[0]["Balance"]) == provider.balance()


def test_a_charge_that_is_changed_is_damage_of_the_charges_account(provider: Daraja) -> None:
    provider.has_float(1_000)
    provider.payout("B001", 500)
    provider.heard.awaits("/b2c")
    provider.door("POST", "admin/damage", {"kind": "amount_changed", "short_code": SHORT_CODE, "account": "charges"})
    assert provider.rows("charges")[0]["Withdrawn"] == "-5.01"


def test_a_tariff_is_valid_from_its_day_on(provider: Daraja) -> None:
    provider.has_float(10_000)
    tomorrow = provider.now() + timedelta(days=1)
    bands = [{"up_to": 100, "charge": 1}, {"charge": 7}]
    provider.door("POST", "admin/tariffs", {"kind": "pay_out", "from_day": f"{tomorrow:%Y-%m-%d}", "bands": bands})
    for number, shillings in enumerate((100, 101, 1_501, 250)):
        if number == 3:
            provider.pass_time(DAY_S)
        provider.payout(f"B00{number}", shillings)
        provider.heard.awaits("/b2c", number + 1)
    charges = [each["amount_minor"] for each in provider.books()["entries"] if each["account"].endswith(":charges")]
    assert charges == [-500, -900, -700]


def test_each_short_code_has_its_rate_and_what_is_more_is_spike_arrest(tmp_path: Path) -> None:
    with daraja(tmp_path, calls_per_s=2) as limited:
        limited.new_token()
        answers = [limited.register_pull() for _ in range(12)]
        codes = Counter(each.json().get("errorCode", "taken") for each in answers)
        assert codes["500.003.02"] >= 1
        assert codes["taken"] >= 2
        assert set(codes) == {"500.003.02", "taken"}


def test_a_provider_that_is_killed_keeps_all_and_goes_on(tmp_path: Path) -> None:
    with daraja(tmp_path) as provider:
        provider.register()
        provider.has_float(1_000)
        certificate = httpx.get(f"{provider.url}/certificate").text
        provider.phone(answer="no_answer", paid_after_s=1)
        provider.prompt(50)
        provider.payout("B001", fault="late_result; delay_s=600")
        provider.fault("b2c", "result", match="B002", code="26")
        provider.pass_time(120)
        provider.heard.awaits("/stk", 2)
        books, sent = provider.books(), len(provider.heard.got)
        provider.process.kill()
        provider.process.start()
        assert provider.books() == books
        assert httpx.get(f"{provider.url}/certificate").text == certificate
        assert provider.register().json()["errorCode"] == "500.003.1001"
        assert len(provider.heard.got) == sent
        assert "Duplicate" in provider.payout("B001").json()["errorMessage"]
        provider.pass_time(600)
        assert provider.heard.awaits("/b2c")[0].json["Result"]["OriginatorConversationID"] == "B001"
        provider.payout("B002")
        assert provider.heard.awaits("/b2c", 2)[1].json["Result"]["ResultCode"] == 26


def test_many_callers_at_once_are_all_answered_and_the_books_balance(other: Momo) -> None:
    other.has_float(100_000)
    token = other.new_token()
    asked = [str(uuid4()) for _ in range(60)]
    for each in asked:
        body = {"amount": "10", "currency": "KES", "externalId": each[:8], "payerMessage": "", "payeeNote": "",
                "payee": {"partyIdType": "MSISDN", "partyId": PHONE}}  # fmt: skip
        assert other.call("/disbursement/v1_0/transfer", each, body, token=token).status_code == 202
    until(lambda: len(other.heard.at("/momo")), "all are called back", holds=lambda count: count == 60)
    assert other.balance() == 100_000_00 - 60 * 1_000
    assert len({each.json["externalId"] for each in other.heard.at("/momo")}) == 60
