"""The charts of accounts: every posting balances, and every path names the account that it was made of."""

from __future__ import annotations

from collections import Counter

import pytest

from ledger.model.charts import CHARTS, SACCO, SHOP, Chart, UnknownAccount, account_of

POSTINGS = [(chart, name) for chart in CHARTS.values() for name in chart.postings]
OWNERS = {code: "m1" for chart in CHARTS.values() for code, account in chart.accounts.items() if account.is_owned}
GIVEN = {("shop", "captured"): {"captured": 900, "points": 100, "net": 840, "tax": 160}}
"""Amounts that must fit together; in every other posting any amounts do."""


def owners_of(chart: Chart) -> dict[str, str]:
    return {code: owner for code, owner in OWNERS.items() if code in chart.accounts and chart.accounts[code].is_owned}


@pytest.mark.parametrize(("chart", "name"), POSTINGS, ids=lambda it: it if isinstance(it, str) else it.name)
def test_every_posting_balances_whatever_its_amounts(chart: Chart, name: str) -> None:
    posting = chart.postings[name]
    names = [each for side in (*posting.debits, *posting.credits) for each in side.amounts]
    amounts = GIVEN.get((chart.name, name)) or {each: 10**place for place, each in enumerate(dict.fromkeys(names))}
    entries = chart.entries(name, amounts, "KES", owners_of(chart))
    assert sum(entry.amount_minor for entry in entries) == 0
    assert len(entries) == len(posting.debits) + len(posting.credits)


def test_a_side_that_was_not_given_has_no_entry_and_one_of_zero_has() -> None:
    entries = SHOP.entries("captured", {"captured": 0, "net": 0}, "USD")
    assert [entry.account for entry in entries] == ["shop:gateway_receivable:USD", "shop:sales:USD"]


@pytest.mark.parametrize("held", ["payout", "loan_payout", "dividend_payout"])
def test_a_payout_that_is_paid_leaves_nothing_in_transit_and_no_fee_held(held: str) -> None:
    amounts = {"amount": 5_000, "fee": 50, "excise": 8, "charge": 9}
    sums: Counter[str] = Counter()
    for name in (held, "payout_paid"):
        for entry in SACCO.entries(name, amounts, "KES", owners_of(SACCO)):
            sums[entry.account] += entry.amount_minor
    assert sums["sacco:payout_in_transit:m1:KES"] == sums["sacco:fees_held:KES"] == 0
    assert sums["sacco:utility:m1:KES"] == -5_000


@pytest.mark.parametrize("chart", CHARTS.values(), ids=lambda chart: chart.name)
def test_every_path_names_its_account(chart: Chart) -> None:
    for code, account in chart.accounts.items():
        owner = "m1" if account.is_owned else None
        assert account_of(chart.path(code, "KES", owner)) == (chart, code, owner, "KES")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "shop",
        "shop:sales",
        "shop:none:USD",
        "none:sales:USD",
        "sacco:fosa:KES",
        "shop:sales:m1:USD",
        "sacco:fosa::KES",
    ],
)
def test_a_path_of_no_account_names_none(path: str) -> None:
    assert account_of(path) is None


def test_what_a_chart_does_not_have_is_named_with_what_it_has() -> None:
    with pytest.raises(UnknownAccount, match="no posting 'sold'; known: captured, settled"):
        SHOP.entries("sold", {}, "USD")
    with pytest.raises(UnknownAccount, match="no account 'fosa'"):
        SHOP.path("fosa", "USD")
    with pytest.raises(UnknownAccount, match="needs an owner"):
        SACCO.path("fosa", "KES")


def test_only_an_account_that_has_no_member_is_opened_on_use() -> None:
    opened = {code for code, account in SACCO.accounts.items() if account.is_owned and account.is_opened_on_use}
    passing = {"payout_in_transit", "loans_in_transit", "returns_in_transit", "dividends_declared"}
    assert opened == passing | {"utility", "working", "charges_payable"}


def test_an_account_with_a_limit_has_one_lane() -> None:
    for chart in CHARTS.values():
        for account in chart.accounts.values():
            assert account.lanes == 1 or account.floor_minor is None
