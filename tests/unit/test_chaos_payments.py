"""The payments of a chaos run: which are requested, under which key they are repeated, and what follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from baraza.chaos import payments
from baraza.chaos.payments import Look, Payments, Post, Registered, Request, named
from baraza.storefront.payments import GATEWAYS, Then
from baraza.system.client import Refused, Unreachable
from baraza.terminal import Refusal

MERCHANTS = named("run")
REGISTERED = Registered(currencies=MERCHANTS, keys={each: f"key of {each}" for each in MERCHANTS})


class MerchantApi:
    """Merchant's API with these failures first; then it accepts, each key once, and every payment has this status."""

    def __init__(self, *failures: Refused | Unreachable, status: str = "PENDING") -> None:
        self.failures = list(failures)
        self.status = status
        self.sent: list[tuple[str, str, str]] = []

    def call(self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        key = (headers or {}).get("Idempotency-Key", "")
        self.sent.append((method, path, key))
        if self.failures:
            raise self.failures.pop(0)
        return {"id": f"payment of {key}", "status": self.status}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RETRY_S", "LOOK_S"):
        monkeypatch.setattr(payments, name, 0.0)
    monkeypatch.setattr(payments, "CANCELLED_SHARE", 0.0)


def load(api: MerchantApi, *, seed: int = 1) -> Payments:
    return Payments(api, REGISTERED, rate=1.0, seed=seed)


def post(found: Payments, then: Then) -> Post:
    planned = next(each for each in iter(found.next_payment, None) if each.then is then)
    return Post(planned=planned, key=f"key-{planned.number}")


def test_both_gateways_have_payments_and_every_kind_of_act_comes() -> None:
    found = load(MerchantApi())
    planned = [found.next_payment() for _ in range(400)]
    assert {GATEWAYS[each.currency] for each in planned} == {"stripe", "adyen"}
    assert set(Counter(each.then for each in planned)) == set(Then)
    assert len({each.number for each in planned}) == 400


def test_some_payments_are_posted_twice_under_one_key() -> None:
    found = load(MerchantApi())
    for _ in range(100):
        found.post()
    keys = Counter(call.key for call in found.planned if isinstance(call, Post))
    assert len(keys) == 100
    assert set(keys.values()) == {1, 2}


def test_a_payment_without_an_answer_is_repeated_under_its_key() -> None:
    busy = Refused(409, {"type": "urn:baraza:problem:idempotency-in-progress"}, "under way")
    api = MerchantApi(Unreachable("no answer"), busy)
    found = load(api)
    found.make(post(found, Then.NOTHING))
    while found.planned:
        assert len(found.planned) == 1
        call = found.planned[0]
        found._calls._due.clear()
        found.make(call)
    assert len({key for _, _, key in api.sent}) == 1
    assert len(api.sent) == 3
    assert len(found.accepted) == 1


def test_two_payments_of_one_key_are_a_violation() -> None:
    api = MerchantApi()
    found = load(api)
    sent = post(found, Then.NOTHING)
    found.accepted[sent.key] = "another one"
    found.make(sent)
    (violation,) = found.violations
    assert violation == f"the key {sent.key} has two payments, another one and payment of {sent.key}"


@pytest.mark.parametrize(
    ("then", "status", "routes"),
    [
        (Then.CAPTURE, "AUTHORIZED", ["capture"]),
        (Then.CAPTURE_PART, "AUTHORIZED", ["capture"]),
        (Then.VOID, "AUTHORIZED", ["cancel"]),
        (Then.REFUND, "CAPTURED", ["refunds"]),
        (Then.REFUND_PARTS, "CAPTURED", ["refunds", "refunds"]),
        (Then.REFUND_TWICE, "CAPTURED", ["refunds", "refunds"]),
        (Then.REFUND, "FAILED", []),
    ],
)
def test_what_a_merchant_has_planned_is_requested_once_the_status_allows_it(
    then: Then, status: str, routes: list[str]
) -> None:
    api = MerchantApi()
    found = load(api)
    found.make(post(found, then))
    (look,) = found.planned
    assert isinstance(look, Look)
    found._calls._due.clear()
    found.make(look)
    assert found.planned == [look], "it is pending, so its merchant looks again"
    found._calls._due.clear()
    api.status = status
    found.make(look)
    requests = [call for call in found.planned if isinstance(call, Request)]
    assert [each.act.route for each in requests] == routes
    assert len({each.act.key for each in requests}) == len(routes)


def test_what_is_not_possible_any_more_is_counted_and_another_refusal_is_a_defect() -> None:
    more = Refused(422, {"type": "urn:baraza:problem:more-than-left"}, "more than is left")
    api = MerchantApi(status="CAPTURED")
    found = load(api)
    found.make(post(found, Then.REFUND_TWICE))
    found.make(found.planned[0])
    first, second = [call for call in found.planned if isinstance(call, Request)]
    assert first.act.body == second.act.body
    found.make(first)
    api.failures = [more]
    found.make(second)
    assert (found.requested, found.refused) == (Counter({"refund in part": 1}), Counter({"refunds": 1}))
    api.failures = [Refused(422, {"type": "urn:baraza:problem:payment-refused"}, "no such currency")]
    with pytest.raises(Refused, match="no such currency"):
        found.make(post(found, Then.NOTHING))


def test_a_payment_that_is_never_answered_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payments, "RETRY_FOR_S", -1.0)
    found = load(MerchantApi(Unreachable("no answer")))
    with pytest.raises(Refusal, match="merchant did not take /v1/payments"):
        found.make(post(found, Then.NOTHING))
