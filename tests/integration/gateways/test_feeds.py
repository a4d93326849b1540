"""The reports of both simulated gateways with what a test plants in them: the books stay true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from hashlib import sha256

import httpx
import pytest

from support.merchant_gateways import Gateway, gateway
from support.waiting import until

NAMES = {
    "stripe": {"reference": "payment_metadata[payment_id]", "type": "reporting_category", "captured": "charge",
               "amount": "customer_facing_amount", "currency": "customer_facing_currency", "fee": "fee"},
    "adyen": {"reference": "Merchant Reference", "type": "Type", "captured": "Settled",
              "amount": "Gross Credit (GC)", "currency": "Gross Currency", "fee": "Commission (NC)"},
}  # fmt: skip
REFERENCES = tuple(str(10**17 + number) for number in range(6))


@pytest.fixture(params=["stripe", "adyen"])
def settled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with six captured payments in its open batch."""
    with gateway(request.param, tmp_path_factory.mktemp("feeds")) as made:
        for reference in REFERENCES:
            _capture(made, request.param, reference)
        until(lambda: len(made.admin("GET", "lines")["lines"]), "six lines", holds=lambda n: n == 6, within_s=30)
        yield made


def _capture(at: Gateway, name: str, reference: str) -> None:
    if name == "stripe":
        form = {
            "amount": "1000", "currency": "usd", "confirm": "true", "payment_method": "pm_card_visa",
            "metadata[payment_id]": reference,
        }  # fmt: skip
        answer = httpx.post(f"{at.url}/v1/payment_intents", data=form, headers=at.sent_headers())
        assert answer.json()["status"] == "succeeded"
        return
    body = {
        "amount": {"currency": "EUR", "value": 1_000}, "merchantAccount": "BarazaLive", "reference": reference,
        "paymentMethod": {"type": "scheme"}, "returnUrl": "https://localhost/",
    }  # fmt: skip
    answer = httpx.post(f"{at.url}/payments", json=body, headers=at.sent_headers())
    assert answer.json()["resultCode"] == "Authorised"


def plant(at: Gateway, kind: str, **more: object) -> list[str]:
    planted = at.admin("POST", "divergences", {"account": at.live, "kind": kind, **more})["planted"]
    return [each["reference"] for each in planted]


def test_what_is_planted_shows_in_the_report_and_nothing_else_does(settled: Gateway) -> None:
    names = NAMES[settled.process.name]
    (dropped,), (amount,), (currency,), (twice,), (unknown,) = (
        plant(settled, kind) for kind in ("drop", "amount", "currency", "duplicate", "unknown")
    )
    assert len({dropped, amount, currency, twice}) == 4
    assert unknown not in REFERENCES
    settled.close_batch()
    ((_, rows),) = settled.feeds().items()
    captures = [row for row in rows if row[names["type"]] == names["captured"]]
    assert Counter(row[names["reference"]] for row in captures) == {
        **{reference: 1 for reference in (*REFERENCES, unknown) if reference != dropped},
        twice: 2,
    }
    by = {row[names["reference"]]: row for row in captures}
    usual = "USD" if settled.process.name == "stripe" else "EUR"
    assert by[currency][names["currency"]].upper() != usual
    assert [row[names["amount"]] for reference, row in by.items() if reference == amount] == ["11.00"]
    others = {reference: row for reference, row in by.items() if reference not in (amount, currency)}
    assert {row[names["amount"]] for row in others.values()} == {"10.00"}
    assert {row[names["currency"]].upper() for row in others.values()} == {usual}
    lines = settled.admin("GET", "lines")["lines"]
    assert sorted(line["reference"] for line in lines if line["reference"]) == sorted(REFERENCES)
    kinds = Counter(each["kind"] for each in settled.admin("GET", "divergences")["planted"])
    assert kinds == Counter(["drop", "amount", "currency", "duplicate", "unknown"])


def test_a_report_is_delivered_again_with_the_same_bytes_or_changed(settled: Gateway) -> None:
    names = NAMES[settled.process.name]
    settled.close_batch()
    ((name, before),) = settled.feeds().items()
    plant(settled, "again")
    twice = settled.feeds()
    assert twice == {name: before, name.replace(".csv", "-again.csv"): before}
    (changed,) = plant(settled, "changed", about=REFERENCES[0])
    after = settled.feeds()[name]
    differing = [old[names["reference"]] for old, new in zip(before, after, strict=True) if old != new]
    assert differing == [changed] == [REFERENCES[0]]


def test_a_report_is_listed_with_its_digest_to_its_own_account_only(settled: Gateway) -> None:
    settled.close_batch()
    listed = httpx.get(f"{settled.url}/feeds", headers=settled.sent_headers()).json()["feeds"]
    for each in listed:
        body = httpx.get(f"{settled.url}/feeds/{each['name']}", headers=settled.sent_headers()).content
        assert sha256(body).hexdigest() == each["sha256"]
    assert settled.feeds(settled.key(settled.test)) == {}
    assert httpx.get(f"{settled.url}/feeds").status_code == 401


def test_lines_after_a_close_are_in_the_next_batch_and_an_empty_one_has_no_report(settled: Gateway) -> None:
    settled.close_batch()
    settled.close_batch()
    assert len(settled.feeds()) == 1
    _capture(settled, settled.process.name, "7")
    until(lambda: settled.admin("GET", "lines")["lines"][-1]["reference"], "its line", holds=lambda r: r == "7")
    settled.close_batch()
    assert len(settled.feeds()) == 2


def test_no_more_is_planted_than_there_are_payments_and_what_cannot_be_is_said(settled: Gateway) -> None:
    assert len(set(plant(settled, "drop", count=6))) == 6
    for body, status in (
        ({"account": settled.live, "kind": "drop"}, 409),
        ({"account": "nobody", "kind": "drop"}, 404),
        ({"account": settled.live, "kind": "vanish"}, 400),
    ):
        assert httpx.post(f"{settled.url}/admin/divergences", json=body).status_code == status
    settled.close_batch()
    ((_, rows),) = settled.feeds().items()
    assert len(rows) == 2, "costs and the payout"
