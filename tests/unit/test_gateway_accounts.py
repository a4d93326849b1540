"""The file of gateway accounts: what it routes, and what is wrong with one that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chassis.http import gateway_accounts
from chassis.http.gateway_accounts import InvalidGatewayAccounts


def account(name: str, *, is_live: bool = True, **changes: object) -> dict[str, object]:
    known: dict[str, object] = {
        "name": name, "gateway": "stripe", "is_live": is_live, "url": "http://127.0.0.1:1", "api_key_file": "/key",
        "webhook_secret_file": "/secret", "settlement_currency": "USD",
    }  # fmt: skip
    return known | changes


def written(folder: Path, *accounts: dict[str, object], routes: list[dict[str, Any]] | None = None) -> Path:
    file = folder / "accounts.json"
    file.write_text(json.dumps({"accounts": accounts, "routes": routes or []}))
    return file


def test_the_first_route_that_fits_counts_and_modes_stay_apart(tmp_path: Path) -> None:
    routes = [
        {"merchant": "m-1", "currency": "EUR", "is_live": True, "account": "a"},
        {"is_live": True, "account": "b"},
    ]
    found = gateway_accounts.read(written(tmp_path, account("a"), account("b"), routes=routes))
    chosen = [
        found.account_for(merchant, currency, is_live=is_live)
        for merchant, currency, is_live in (("m-1", "EUR", True), ("m-1", "USD", True), ("m-1", "EUR", False))
    ]
    assert [each.name if each else None for each in chosen] == ["a", "b", None]
    assert gateway_accounts.read(None).accounts == ()


@pytest.mark.parametrize(
    ("accounts", "routes", "text"),
    [
        ([account("a"), account("a")], [], "listed twice"),
        ([account("a", gateway="adyen")], [], "only one at adyen has a merchant_account"),
        ([account("a", is_live=False)], [{"is_live": True, "account": "a"}], "live mode leads to a of test mode"),
        ([account("a")], [{"is_live": True, "account": "b"}], "known: a"),
        ([account("a", requests_per_s=0)], [], "accounts.0.requests_per_s"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused_with_the_field(
    tmp_path: Path, accounts: list[dict[str, object]], routes: list[dict[str, Any]], text: str
) -> None:
    with pytest.raises(InvalidGatewayAccounts, match=text):
        gateway_accounts.read(written(tmp_path, *accounts, routes=routes))


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidGatewayAccounts, match=r"missing\.json cannot be read"):
        gateway_accounts.read(tmp_path / "missing.json")
