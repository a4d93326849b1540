"""The returns of a chaos run: who requests them, under which key they are repeated, and what is ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from baraza.chaos import returns
from baraza.chaos.returns import NOT_RETURNABLE, Cancellation, Request, Returns
from baraza.system.client import Refused, Unreachable
from baraza.terminal import Refusal

ORDER = {"customer_id": "household-7", "lines": [{"sku": "tea", "quantity": 2}]}
ORDERS = 400


class CheckoutApi:
    """Checkout's API with these failures first; then it accepts, each key once."""

    def __init__(self, *failures: Refused | Unreachable) -> None:
        self._failures = list(failures)
        self.keys: list[str] = []
        self.paths: list[str] = []

    def call(self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        self.paths.append(f"{method} {path}")
        self.keys.append((headers or {}).get("Idempotency-Key", ""))
        if self._failures:
            raise self._failures.pop(0)
        return {"return_id": f"return of {self.keys[-1]}"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RETURN_AFTER_S", "CANCEL_AFTER_S"):
        monkeypatch.setattr(returns, name, (0.0, 0.0))
    monkeypatch.setattr(returns, "RETRY_S", 0.0)


def request() -> Request:
    return Request(order_id="order-1", body={"lines": []})


def ended(checkout: CheckoutApi, sent: Request) -> Returns:
    """Return the returns after this one was sent, and the load has ended."""
    found = Returns(checkout, seed=1)
    found.make(sent)
    found.open()
    found.end()
    found.close()
    return found


def test_a_share_of_the_orders_is_returned_and_some_returns_are_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = CheckoutApi()
    monkeypatch.setattr(returns, "CANCELLED_SHARE", 1.0)
    found = Returns(checkout, seed=1)
    for number in range(ORDERS):
        found.consider(f"order-{number}", ORDER)
    planned = found.planned
    for call in planned:
        found.make(call)
    cancelled = [call for call in found.planned if isinstance(call, Cancellation)]
    found.make(cancelled[0])

    assert ORDERS * returns.RETURNED_SHARE / 2 < len(planned) < ORDERS * returns.RETURNED_SHARE * 2
    assert len(found.accepted) == len(set(checkout.keys) - {""}) == len(planned) == len(cancelled)
    assert found.cancellations == 1
    assert checkout.paths[-1] == f"POST /v1/returns/{cancelled[0].return_id}/cancel"


def test_the_same_seed_returns_the_same_orders() -> None:
    def chosen(seed: int) -> list[str]:
        found = Returns(CheckoutApi(), seed=seed)
        for number in range(ORDERS):
            found.consider(f"order-{number}", ORDER)
        return sorted(call.order_id for call in found.planned if isinstance(call, Request))

    assert chosen(1) == chosen(1) != chosen(2)


def test_a_return_without_an_answer_is_repeated_under_its_key_also_after_the_end() -> None:
    checkout = CheckoutApi(
        Unreachable("no answer"), Refused(404, {}, "rolled back"), Refused(409, {"type": "in-progress"}, "in progress")
    )
    sent = request()
    found = ended(checkout, sent)

    assert checkout.keys == [sent.key] * 4
    assert found.accepted == {sent.key: f"return of {sent.key}"}


def test_an_order_that_is_not_confirmed_is_kept() -> None:
    found = ended(CheckoutApi(Refused(422, {"type": NOT_RETURNABLE}, "is not confirmed")), request())

    assert (found.accepted, found.refused) == ({}, 1)


def test_another_refusal_is_a_defect() -> None:
    with pytest.raises(Refused, match="two of them"):
        ended(CheckoutApi(Refused(422, {"type": "urn:baraza:problem:return-refused"}, "two of them")), request())


def test_a_return_that_is_never_answered_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returns, "RETRY_FOR_S", -1.0)
    with pytest.raises(Refusal, match="did not take a return of order-1"):
        ended(CheckoutApi(Unreachable("no answer")), request())


def test_what_was_not_sent_by_the_end_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returns, "RETURN_AFTER_S", (1_000.0, 1_000.0))
    monkeypatch.setattr(returns, "RETURNED_SHARE", 1.0)
    checkout = CheckoutApi()
    found = Returns(checkout, seed=1)
    found.consider("order-1", ORDER)
    found.open()
    found.end()
    found.close()

    assert not checkout.paths


def test_a_cancellation_that_comes_too_late_is_ignored() -> None:
    found = Returns(CheckoutApi(Refused(409, {}, "too late")), seed=1)
    found.make(Cancellation(return_id="return-1"))

    assert found.cancellations == 0
