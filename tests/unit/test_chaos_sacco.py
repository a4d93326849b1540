"""The money of a SACCO's members in a chaos run: what is requested, its faults, and the comparison of the books."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baraza.chaos import callbacks, mobile_money, sacco
from baraza.chaos.sacco import MEMBERS, Deposit, Request, Sacco, members_of
from baraza.chaos.sacco_books import UTILITY, Books
from baraza.storefront.sacco.people import SHORT_CODE
from baraza.system.client import Api, Refused, Unreachable
from baraza.system.providers import MOBILE_MONEY_FAULTS
from baraza.terminal import Refusal
from simulators.mobile.faults import Kind
from support.mobile_providers import daraja

PEOPLE = members_of(1_700_000_000)


class Door:
    """An API with these failures first; then it accepts, each key once."""

    def __init__(self, *failures: Refused | Unreachable) -> None:
        self.failures = list(failures)
        self.sent: list[tuple[str, str]] = []

    def call(self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        key = (headers or {}).get("Idempotency-Key", "")
        self.sent.append((path, key))
        if self.failures:
            raise self.failures.pop(0)
        return {"id": f"saga of {key}", "receipt": f"R{len(self.sent)}", "state": "completed"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sacco, "RETRY_S", 0.0)


def load(members: Door, provider: Door | None = None) -> Sacco:
    return Sacco(members, provider or Door(), PEOPLE, rate=1.0, seed=1)


def requested(found: Sacco, path: str) -> Request:
    while True:
        found.act()
        for call in found.planned:
            if isinstance(call, Request) and call.path == path:
                return call


def test_members_pay_in_take_out_and_are_prompted_and_some_requests_are_sent_twice_under_one_key() -> None:
    found = load(Door())
    for _ in range(400):
        found.act()
    planned = found.planned
    assert any(isinstance(call, Deposit) for call in planned)
    keys = Counter((call.path, call.key) for call in planned if isinstance(call, Request))
    assert {path for path, _ in keys} == {"/v1/withdrawals", "/v1/collections"}
    assert set(keys.values()) == {1, 2}
    assert len({each["phone"] for each in PEOPLE}) == len({each["member_id"] for each in PEOPLE}) == MEMBERS


def test_a_request_without_an_answer_is_repeated_under_its_key() -> None:
    busy = Refused(409, {"type": "urn:baraza:problem:idempotency-in-progress"}, "under way")
    members = Door(Unreachable("no answer"), busy)
    found = load(members)
    call = requested(found, "/v1/withdrawals")
    for _ in range(3):
        found.make(call)
    assert members.sent == [("/v1/withdrawals", call.key)] * 3
    assert found.accepted == {call.key: ("withdrawal", f"saga of {call.key}")}


def test_two_withdrawals_of_one_key_are_a_violation() -> None:
    found = load(Door())
    call = requested(found, "/v1/withdrawals")
    found.accepted[call.key] = ("withdrawal", "another one")
    found.make(call)
    assert found.violations == [f"the key {call.key} has two withdrawals, another one and saga of {call.key}"]


def test_the_phone_is_told_how_to_answer_before_its_prompt() -> None:
    provider = Door()
    found = load(Door(), provider)
    call = requested(found, "/v1/collections")
    found.make(call)
    assert provider.sent == [(f"/phones/{call.phone}", "")]
    assert found.counts() == {"collection": 1, "payment": 0}


def test_a_payment_at_a_phone_is_never_repeated() -> None:
    provider = Door(Unreachable("no answer"), Refused(409, {}, "too little"))
    found = load(Door(), provider)
    deposit = Deposit(phone="254712345678", reference="SAVM1", amount=500)
    for _ in range(3):
        found.make(deposit)
    assert found.planned == []
    assert found.paid_in == {"R3": 50_000}
    assert found.refused == {"a phone without an answer": 1, "the payer's wallet": 1}


def test_what_the_door_may_refuse_is_counted_and_another_refusal_is_a_defect() -> None:
    members = Door(Refused(409, {"type": "urn:baraza:problem:request-open"}, "one is open"))
    found = load(members)
    call = requested(found, "/v1/withdrawals")
    found.make(call)
    assert found.refused == {"request-open": 1}
    members.failures = [Refused(422, {"type": "urn:baraza:problem:not-whole"}, "cents")]
    with pytest.raises(Refused, match="cents"):
        found.make(call)


def test_a_request_that_is_never_answered_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sacco, "RETRY_FOR_S", -1.0)
    found = load(Door(Unreachable("no answer")))
    with pytest.raises(Refusal, match="members did not take /v1/withdrawals"):
        found.make(requested(found, "/v1/withdrawals"))


def test_the_provider_takes_these_faults_and_the_one_of_the_pull_stays(tmp_path: Path) -> None:
    drawn = [mobile_money.results_lost_of(random.Random(seed)) for seed in range(20)]
    assert {len(rules) for rules in drawn} == {5, 15}
    with daraja(tmp_path) as provider, Api("daraja", provider.process.url, None) as api:
        for fault in MOBILE_MONEY_FAULTS["daraja"]:
            callbacks.keep(api, fault)
        callbacks.keep(api, mobile_money.NO_PULL)
        callbacks.keep(api, mobile_money.NO_PULL)
        with callbacks.injected(api, max(drawn, key=len)):
            assert len(api.get("/admin/faults")["faults"]) == len(MOBILE_MONEY_FAULTS["daraja"]) + 1 + 15
        kept = [(each["operation"], each["kind"]) for each in api.get("/admin/faults")["faults"]]
        assert kept[-1] == ("pull", Kind.ERROR)
        assert len(kept) == len(MOBILE_MONEY_FAULTS["daraja"]) + 1


def entry(receipt: str, kind: str, amount_minor: int, **details: str) -> dict[str, Any]:
    return {
        "receipt": receipt, "kind": kind, "account": UTILITY, "amount_minor": amount_minor, "details": details,
    }  # fmt: skip


BOOKS = Books(
    entries=[
        entry("IN1", "pay_in", 50_000),
        {**entry("IN1", "pay_in", -50_000), "account": "wallet:254712345678"},
        entry("OUT1", "pay_out", -20_000, originator="B1"),
        entry("FLOAT", "float", 900_000),
        {**entry("OUT1", "charge", -500), "account": f"{SHORT_CODE}:charges"},
    ],
    recorded=[("IN1", 50_000)],
    taken={"IN1": "receipt-1"},
    own_ids={"B1": "saga-1"},
    payouts=[("saga-1", "PAID", 20_000), ("saga-2", "RELEASED", 30_000)],
    open_sagas=set(),
)


def test_books_that_agree_differ_in_nothing() -> None:
    assert list(BOOKS.differences()) == []


@pytest.mark.parametrize(
    ("damaged", "found"),
    [
        (replace(BOOKS, recorded=[]), "the receipt IN1 of 50000 is in the provider's books and is not recorded"),
        (replace(BOOKS, recorded=[("IN1", 50_000)] * 2), "the receipt IN1 is recorded 2 times"),
        (replace(BOOKS, recorded=[("IN1", 50_001)]), "the receipt IN1 of 50000 is recorded as 50001"),
        (
            replace(BOOKS, recorded=[("IN1", 50_000), ("IN2", 7)]),
            "the receipt IN2 is recorded, and the provider has no such payment",
        ),
        (
            replace(BOOKS, entries=[*BOOKS.entries, entry("OUT2", "pay_out", -20_000, originator="B1")]),
            "the payout saga-1 was paid 2 times",
        ),
        (
            replace(BOOKS, entries=[*BOOKS.entries, entry("OUT2", "pay_out", -20_000, originator="B9")]),
            "the payout OUT2 has the id B9, which is none of ours",
        ),
        (
            replace(BOOKS, payouts=[("saga-1", "RELEASED", 20_000)]),
            "the payout saga-1 of 20000 was paid, and the ledger has it as RELEASED",
        ),
        (replace(BOOKS, payouts=[]), "the payout saga-1 of 20000 was paid, and the ledger has it as nothing"),
        (
            replace(BOOKS, payouts=[("saga-1", "PAID", 20_001)]),
            "the payout saga-1 of 20000 was paid, and the ledger has 20001",
        ),
        (
            replace(BOOKS, payouts=[*BOOKS.payouts, ("saga-3", "PAID", 7)]),
            "the ledger has the payout saga-3 of 7 as PAID, and the provider never paid it",
        ),
        (
            replace(BOOKS, payouts=[*BOOKS.payouts, ("saga-3", "HELD", 7)]),
            "the payout saga-3 of 7 is held, and its saga has ended",
        ),
    ],
)
def test_each_damage_is_named(damaged: Books, found: str) -> None:
    assert list(damaged.differences()) == [found]


def test_what_a_saga_still_does_or_is_parked_with_is_no_difference() -> None:
    under_way = replace(
        BOOKS, recorded=[], payouts=[("saga-1", "HELD", 20_000)], open_sagas={"receipt-1", "saga-1"}
    )  # fmt: skip
    assert list(under_way.differences()) == []
