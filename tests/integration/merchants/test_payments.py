"""Merchant as a process on real PostgreSQL and Redis: what it promises about payments."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from chassis.postgres.migrations import differences
from merchant import tables
from merchant.snowflake import decompose
from support.checkouts import Api, until
from support.merchants import (
    MerchantStack,
    Shopkeeper,
    captured_events,
    new_key,
    pay,
    payment_body,
    registered,
    statuses,
)


def test_the_migrations_make_the_tables_in_code(merchant_stack: MerchantStack) -> None:
    with merchant_stack.engine.connect() as tx:
        assert differences(tables.metadata, tx) == []


def test_a_payment_is_stored_with_its_event_in_one_transaction(
    client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    answer = pay(client, payment_body(amount_minor=10_050, metadata={"table": "7"}))
    assert answer.status_code == 202, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/v1/payments/{made['id']}"
    assert (made["status"], made["amount_minor"], made["capture"]) == ("PENDING", 10_050, "NOW")
    assert made["fee_minor"] == 291 + 30  # 291.45 is rounded to 291
    assert (made["metadata"], made["is_live"]) == ({"table": "7"}, False)
    assert client.get(answer.headers["location"]).json() == made
    saga_id = merchant_stack.saga_of(made["id"])
    with merchant_stack.engine.connect() as tx:
        row = tx.execute(text("SELECT xmin, type FROM outbox WHERE aggregateid = :id"), {"id": saga_id}).one()
        own = tx.execute(text("SELECT xmin FROM payments WHERE payment_id = :id"), {"id": int(made["id"])}).one()
    assert (row.type, row.xmin) == ("PaymentSubmitted", own.xmin)


def test_an_id_is_a_snowflake_of_now(client: httpx.Client) -> None:
    made = pay(client).json()
    assert abs(datetime.now(UTC) - decompose(int(made["id"])).at) < timedelta(minutes=1)
    assert isinstance(made["id"], str)


def test_a_replay_answers_the_payment_as_it_stands_now(client: httpx.Client, merchant_stack: MerchantStack) -> None:
    key, body = new_key(), payment_body()
    first = pay(client, body, key)
    assert "idempotent-replayed" not in first.headers
    again = pay(client, body, key)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    merchant_stack.react(*captured_events(merchant_stack, first.json()))
    later = pay(client, body, key)
    assert (later.status_code, later.json()["status"]) == (200, "CAPTURED")
    assert later.json()["id"] == first.json()["id"]


def test_the_meaning_of_a_body_counts_and_not_its_bytes(client: httpx.Client) -> None:
    key, body = new_key(), payment_body(metadata={"a": "1", "b": "2"})
    first = pay(client, body, key)
    other: dict[str, Any] = dict(reversed({**body, "capture": "now", "metadata": {"b": "2", "a": "1"}}.items()))
    again = client.post(
        "/v1/payments",
        content=json.dumps(other, indent=3),
        headers={"Idempotency-Key": key, "Content-Type": "application/json"},
    )
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]


def test_another_body_under_the_same_key_is_refused(client: httpx.Client) -> None:
    key = new_key()
    assert pay(client, payment_body(), key).status_code == 202
    refused = pay(client, payment_body(amount_minor=10_001), key)
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:baraza:problem:idempotency-mismatch")


def test_without_a_key_nothing_is_done(client: httpx.Client) -> None:
    answer = client.post("/v1/payments", json=payment_body())
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:baraza:problem:idempotency-key-missing")


def test_a_key_that_another_transaction_holds_is_answered_409(
    shop: Shopkeeper, client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    from merchant.fingerprints import key_digest
    from merchant.intake import ROUTE, lock_of

    key = new_key()
    lock = lock_of(key_digest(shop.merchant_id, ROUTE, key, is_live=False))
    with merchant_stack.engine.begin() as tx:
        tx.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
        answer = pay(client, payment_body(), key)
        assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
    assert pay(client, payment_body(), key).status_code == 202


def test_one_key_is_another_one_in_the_other_mode_and_of_another_merchant(
    shop: Shopkeeper, client: httpx.Client, merchant_stack: MerchantStack, api: Api
) -> None:
    key = new_key()
    other = registered(merchant_stack, api)
    with shop.client(is_live=True) as live, other.client() as others:
        made = [pay(each, payment_body(), key) for each in (client, live, others)]
    assert statuses(made) == [202, 202, 202]
    assert len({each.json()["id"] for each in made}) == 3


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"amount_minor": 0}, "#/amount_minor"),
        ({"amount_minor": -1}, "#/amount_minor"),
        ({"amount_minor": 2**53}, "#/amount_minor"),
        ({"amount_minor": 10.5}, "#/amount_minor"),
        ({"amount_minor": "10"}, "#/amount_minor"),
        ({"amount_minor": True}, "#/amount_minor"),
        ({"amount_minor": 100_000_000}, "#/amount_minor"),
        ({"currency": "XXX"}, "#/currency"),
        ({"currency": "EUR"}, "#/currency"),
        ({"capture": "sometime"}, "#/capture"),
        ({"payment_method": {"type": "card", "token": "4242424242424242"}}, "#/payment_method/token"),
        ({"payment_method": {"type": "card", "token": "tok_4242-4242-4242-4242"}}, "#/payment_method/token"),
        ({"payment_method": {"type": "card", "number": "4242424242424242"}}, "#/payment_method/token"),
        ({"payment_method": {"type": "card", "token": "t", "holder_name": "4242 4242 4242 4242"}},
         "#/payment_method/holder_name"),
        ({"reference": "card 4242424242424242"}, "#/reference"),
        ({"metadata": {"card": "4242424242424242"}}, "#/metadata/card"),
        ({"metadata": {str(number): "" for number in range(21)}}, "#/metadata/20"),
        ({"metadata": {"a": 1}}, "#/metadata/a"),
        ({"surprise": 1}, "#/surprise"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(client: httpx.Client, changes: dict[str, Any], pointer: str) -> None:
    answer = pay(client, payment_body(**changes))
    assert answer.status_code == 422
    assert pointer in {error["pointer"] for error in answer.json()["errors"]}, answer.json()
    assert "4242" not in answer.text


def test_large_amounts_go_where_a_gateway_takes_them(client: httpx.Client) -> None:
    answer = pay(client, payment_body(amount_minor=2**31 + 1, currency="KES"))
    assert (answer.status_code, answer.json()["amount_minor"]) == (202, 2**31 + 1)


def test_a_currency_without_a_route_is_refused_with_that_reason(shop: Shopkeeper) -> None:
    with shop.client(is_live=True) as live:
        answer = pay(live, payment_body(currency="KES"))
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:baraza:problem:no-route")
    assert "No gateway takes payments of this merchant in KES in live mode" in answer.json()["detail"]


def test_a_merchants_limit_is_kept_at_the_door(merchant_stack: MerchantStack, api: Api) -> None:
    shop = registered(merchant_stack, api, amount_max_minor={"USD": 500})
    with shop.client() as client:
        assert statuses([pay(client, payment_body(amount_minor=amount)) for amount in (500, 501)]) == [202, 422]


def test_the_payer_is_a_keyed_hash_that_is_the_same_for_one_token_of_one_merchant(
    shop: Shopkeeper, client: httpx.Client, merchant_stack: MerchantStack, api: Api
) -> None:
    from messages.merchant import PaymentSubmitted
    from support.executed import CODEC

    other = registered(merchant_stack, api)
    with other.client() as others:
        made = [pay(client).json(), pay(client).json(), pay(others).json()]
    payers = []
    with merchant_stack.engine.connect() as tx:
        for each in made:
            query = text("SELECT payload FROM outbox WHERE aggregateid = :id")
            payload = bytes(tx.execute(query, {"id": merchant_stack.saga_of(each["id"])}).scalar_one())
            event = CODEC.decode(payload)
            assert isinstance(event, PaymentSubmitted)
            assert (event.payment_id, event.gateway_account) == (int(each["id"]), "stripe-test")
            payers.append(event.payer)
    assert payers[0] == payers[1] != payers[2]
    assert "pm_card_visa" not in payers[0]


def test_many_requests_with_few_keys_at_once_in_two_processes_are_one_payment_a_key(
    shop: Shopkeeper, merchant_stack: MerchantStack, api: Api
) -> None:
    keys = [new_key() for _ in range(100)]
    second = merchant_stack.start()
    with shop.client() as one, shop.client(api=second) as two, ThreadPoolExecutor(32) as pool:
        requests = [(client, key) for _ in range(5) for key in keys for client in (one, two)]

        def post(request: tuple[httpx.Client, str]) -> tuple[str, httpx.Response]:
            answer = pay(request[0], payment_body(reference="at once"), request[1])
            return request[1], answer

        answers = list(pool.map(post, requests))
    assert {answer.status_code for _, answer in answers} <= {202, 409}
    by_key: dict[str, set[str]] = {}
    for key, answer in answers:
        if answer.status_code == 202:
            by_key.setdefault(key, set()).add(answer.json()["id"])
    assert all(len(ids) == 1 for ids in by_key.values())
    with merchant_stack.engine.connect() as tx:
        query = text("SELECT count(*), count(DISTINCT saga_id) FROM payments WHERE reference = 'at once'")
        assert tuple(tx.execute(query).one()) == (100, 100)
        events = text("""
            SELECT count(*) FROM outbox JOIN payments ON saga_id = aggregateid
            WHERE reference = 'at once' AND type = 'PaymentSubmitted'
        """)
        assert tx.execute(events).scalar_one() == 100
    second.kill()


def test_a_client_that_retries_after_a_crash_between_commit_and_answer_gets_the_payment_that_was_stored(
    shop: Shopkeeper, client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    key, body = new_key(), payment_body(reference="crash")
    dying = merchant_stack.start()
    with shop.client(api=dying) as other, ThreadPoolExecutor(1) as pool:
        unanswered = pool.submit(pay, other, body, key, Prefer="wait=10")
        until(lambda: client.get("/v1/payments?reference=crash").json()["payments"], "the payment is committed")
        assert not unanswered.done()
        dying.kill()
        with pytest.raises(httpx.TransportError):
            unanswered.result(10)
    again = pay(client, body, key)
    assert again.headers["idempotent-replayed"] == "true"
    (stored,) = client.get("/v1/payments?reference=crash").json()["payments"]
    assert again.json()["id"] == stored["id"]
    assert merchant_stack.published(merchant_stack.saga_of(stored["id"])) == ["PaymentSubmitted"]


def test_while_accepted_payments_wait_for_too_long_no_more_are_taken(
    client: httpx.Client, merchant_stack: MerchantStack
) -> None:
    made = pay(client).json()
    row = {"id": merchant_stack.saga_of(made["id"])}
    aged = text("UPDATE outbox SET created_at = created_at - CAST(:by AS interval) WHERE aggregateid = :id")
    with merchant_stack.engine.begin() as tx:
        tx.execute(aged, {**row, "by": timedelta(hours=1)})
    refused = until(lambda: next(filter(lambda each: each.status_code == 503, [pay(client)]), None), "it is refused")
    assert refused.json()["type"] == "urn:baraza:problem:overloaded"
    assert refused.headers["retry-after"]
    with merchant_stack.engine.begin() as tx:
        tx.execute(aged, {**row, "by": -timedelta(hours=1)})
    until(lambda: pay(client).status_code == 202, "they are taken again")
