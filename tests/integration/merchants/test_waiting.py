"""``Prefer: wait``: a request that is answered with the outcome, and holds nothing of the service meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import httpx

from messages.contract import Message
from support.checkouts import until
from support.merchants import (
    MerchantStack,
    Shopkeeper,
    authorized_events,
    captured_events,
    failed_event,
    new_key,
    pay,
    payment_body,
)

Events: TypeAlias = Callable[[MerchantStack, dict[str, Any]], Sequence[Message]]


def stored(client: httpx.Client, reference: str) -> dict[str, Any]:
    """Return the payment with this reference as soon as it is stored."""

    def look() -> object:
        return client.get("/v1/payments", params={"reference": reference}).json()["payments"]

    (found,) = until(look, "the payment is stored")
    return dict(found)


def test_a_request_that_waits_is_answered_with_the_outcome(
    shop: Shopkeeper, client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    outcomes: dict[str, tuple[Events, str]] = {
        "now": (captured_events, "CAPTURED"),
        "later": (authorized_events, "AUTHORIZED"),
        "fails": (lambda *about: [failed_event(*about)], "FAILED"),
    }
    for reference, (events, status) in outcomes.items():
        with ThreadPoolExecutor(1) as pool, shop.client() as other:
            body = payment_body(reference=reference, capture="later" if reference == "later" else "now")
            waiting = pool.submit(pay, other, body, None, Prefer="wait=10")
            made = stored(client, reference)
            assert not waiting.done()
            began_s = time.monotonic()
            merchant_stack.react(*events(merchant_stack, made))
            answer = waiting.result(10)
            assert time.monotonic() - began_s < 5
        assert (answer.status_code, answer.json()["status"]) == (200, status)
        assert answer.headers["preference-applied"] == "wait=10"


def test_after_its_time_a_request_is_answered_with_what_is_known(client: httpx.Client) -> None:
    began_s = time.monotonic()
    answer = pay(client, Prefer="respond-async, wait=1")
    assert (answer.status_code, answer.json()["status"]) == (202, "PENDING")
    assert 1 <= time.monotonic() - began_s < 5


def test_a_replay_waits_as_well(client: httpx.Client, merchant_stack: MerchantStack) -> None:
    key = new_key()
    made = pay(client, key=key).json()
    merchant_stack.react(*captured_events(merchant_stack, made))
    answer = pay(client, key=key, Prefer="wait=10")
    assert (answer.status_code, answer.json()["status"]) == (200, "CAPTURED")
    assert answer.headers["idempotent-replayed"] == "true"


def test_many_requests_that_wait_keep_no_other_one_waiting(shop: Shopkeeper, client: httpx.Client) -> None:
    """Sixty wait, far more than there are connections and threads; a read in between takes its usual time."""
    with (
        httpx.Client(
            base_url=shop.api.url,
            headers={"Authorization": f"Bearer {shop.keys[False]}"},
            timeout=60,
            limits=httpx.Limits(max_connections=80),
        ) as many,
        ThreadPoolExecutor(60) as pool,
    ):
        waiting = [pool.submit(pay, many, payment_body(reference="many"), None, Prefer="wait=8") for _ in range(60)]

        def count() -> bool:
            return len(client.get("/v1/payments?reference=many&limit=100").json()["payments"]) == 60

        until(count, "all are stored")
        waiting_now = sum(not each.done() for each in waiting)
        began_s = time.monotonic()
        assert pay(client).status_code == 202
        took_s = time.monotonic() - began_s
        assert waiting_now > 30
        assert took_s < 5
        assert {each.result().status_code for each in waiting} == {202}


def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(shop: Shopkeeper, client: httpx.Client) -> None:
    key, body = new_key(), payment_body(reference="leaves")
    left = threading.Event()

    def leave() -> None:
        with shop.client() as other:
            try:
                other.post(
                    "/v1/payments", json=body, headers={"Idempotency-Key": key, "Prefer": "wait=10"}, timeout=1.0
                )
            except httpx.ReadTimeout:
                left.set()

    leave()
    assert left.is_set()
    again = pay(client, body, key)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
