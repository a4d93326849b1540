"""Checkout as a process on real PostgreSQL and Redis: its guarantees to clients."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from redis import Redis
from sqlalchemy import Connection, text

from chassis.postgres.migrations import differences
from chassis.wire.envelope import new_id
from checkout import handlers, intake, tables
from messages.saga import OrderConfirmed, OrderFailed
from stack import redis
from support.checkouts import DEADLINE_S, PRODUCTS, Api, CheckoutStack, cart, new_key, post, token, until


def test_the_migrations_make_the_tables_in_code(tx: Connection) -> None:
    assert differences(tables.metadata, tx) == []


def test_an_order_is_stored_with_its_event_in_one_transaction(storefront: httpx.Client, tx: Connection) -> None:
    answer = post(storefront, cart(lines=[("sku-1", 2), ("sku-2", 1)], points_to_burn=4))
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/v1/orders/{body['order_id']}"
    assert (body["state"], body["message"]) == ("PENDING", "order received, confirming")
    assert (body["total_minor"], body["payable_minor"]) == (304, 300)
    stored = storefront.get(answer.headers["location"]).json()
    assert stored["lines"][0] == {"sku": "sku-1", "quantity": 2, "unit_price_minor": 101}
    row = tx.execute(text("SELECT * FROM outbox WHERE aggregateid = :id"), {"id": body["order_id"]}).one()
    assert (row.aggregatetype, row.type, row.partition) == ("checkout.events", "OrderSubmitted", None)
    states = tx.execute(text("SELECT xmin FROM orders WHERE order_id = :id"), {"id": body["order_id"]}).scalar_one()
    assert tx.execute(text("SELECT xmin FROM outbox WHERE id = :id"), {"id": row.id}).scalar_one() == states


def test_the_same_key_and_body_return_the_same_response(storefront: httpx.Client, tx: Connection) -> None:
    key, body = new_key(), cart()
    first, again = post(storefront, body, key), post(storefront, body, key)
    spaced = storefront.post(
        "/v1/orders",
        content=json.dumps(dict(reversed(body.items())), indent=3),
        headers={"Idempotency-Key": key, "Content-Type": "application/json"},
    )
    for replay in (again, spaced):
        assert (replay.status_code, replay.content) == (first.status_code, first.content)
        assert replay.headers["location"] == first.headers["location"]
        assert replay.headers["idempotent-replayed"] == "true"
    count = text("SELECT count(*) FROM idempotency_keys WHERE key = :key")
    assert tx.execute(count, {"key": key}).scalar_one() == 1


def test_a_replay_comes_from_postgresql_when_the_cache_is_empty(
    storefront: httpx.Client, checkout_stack: CheckoutStack
) -> None:
    key = new_key()
    first = post(storefront, cart(), key)
    with Redis(
        port=checkout_stack.ports["redis"], username="deploy", password=redis.password(checkout_stack.home, "deploy")
    ) as cache:
        assert cache.dbsize()
        cache.flushall()
    assert post(storefront, cart(), key).content == first.content


def test_the_same_key_with_another_body_is_refused(storefront: httpx.Client, checkout_stack: CheckoutStack) -> None:
    key = new_key()
    post(storefront, cart(), key)
    other = post(storefront, cart(lines=[("sku-1", 3)]), key)
    assert (other.status_code, other.json()["type"]) == (422, "urn:baraza:problem:idempotency-mismatch")


FIRST_RELEASES = {
    "customer_id": " c1",
    "currency": "ZZZ",
    "lines": [{"sku": "cafe\u0301", "quantity": 1}],
    "payment_method": {"token": "4111-1111-1111-1111"},
    "ship_to": {"name": "\u200b", "street": "1 Elm St ", "city": " ", "postal_code": "97301", "country": "ZZ"},
}
"""An order that the first release accepted; test_fingerprints pins its fingerprint."""


def test_an_order_of_the_release_before_is_replayed_also_where_it_would_be_refused_now(
    storefront: httpx.Client, checkout_stack: CheckoutStack
) -> None:
    key, order_id, body = new_key(), new_id(), '{"order_id":"stored"}'
    fingerprint = bytes.fromhex("427846cc909a00b4804892af507e4474b5685835403242b80a48b3f2f22b907e")
    with checkout_stack.engine.begin() as tx:
        tx.execute(
            text(
                "INSERT INTO idempotency_keys (client_id, key, fingerprint, order_id, status, body, created_at)"
                " VALUES ('storefront-1', :key, :fingerprint, :order_id, 202, :body, now())"
            ),
            {"key": key, "fingerprint": fingerprint, "order_id": order_id, "body": body},
        )
    again = post(storefront, FIRST_RELEASES, key)
    assert (again.status_code, again.text, again.headers["idempotent-replayed"]) == (202, body, "true")
    bulk = storefront.post("/v1/orders/bulk", json=[FIRST_RELEASES | {"idempotency_key": key}]).json()
    assert [result["status"] for result in bulk["results"]] == [200]
    assert post(storefront, FIRST_RELEASES).status_code == 422
    assert post(storefront, FIRST_RELEASES | {"points_to_burn": 1}, key).json()["type"].endswith("mismatch")


def test_a_product_that_an_earlier_release_stored_is_sold_under_its_own_sku(
    storefront: httpx.Client, checkout_stack: CheckoutStack, tx: Connection
) -> None:
    with checkout_stack.engine.begin() as loading:
        loading.execute(text("INSERT INTO products VALUES (' old tea', 'Tea', 100, 'USD') ON CONFLICT DO NOTHING"))
    accepted = post(storefront, cart(lines=[(" old tea", 1)]))
    assert accepted.status_code == 202
    query = text("SELECT lines FROM orders WHERE order_id = :order_id")
    (lines,) = tx.execute(query, {"order_id": accepted.json()["order_id"]}).one()
    assert [line["sku"] for line in lines] == [" old tea"]
    with checkout_stack.engine.begin() as loading:
        loading.execute(text("DELETE FROM products WHERE sku = ' old tea'"))


def test_the_keys_of_different_clients_are_independent(api: Api, storefront: httpx.Client) -> None:
    key = new_key()
    with api.client("storefront-2") as other:
        assert post(storefront, cart(), key).json()["order_id"] != post(other, cart(), key).json()["order_id"]


def test_a_key_that_another_process_holds_is_in_progress_and_free_after_a_crash(
    storefront: httpx.Client, tx: Connection
) -> None:
    key = new_key()
    lock = intake.key_lock(("storefront-1", key))
    tx.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
    refused = post(storefront, cart(), key)
    assert (refused.status_code, refused.headers["retry-after"]) == (409, "1")
    tx.rollback()
    assert post(storefront, cart(), key).status_code == 202


def test_concurrent_requests_with_one_key_make_one_order(api: Api, tx: Connection) -> None:
    key = new_key()

    async def all_at_once() -> list[httpx.Response]:
        authorization = {"Authorization": f"Bearer {token('storefront-1', ['storefront'])}", "Idempotency-Key": key}
        async with httpx.AsyncClient(base_url=api.url, headers=authorization, timeout=10) as client:
            return await asyncio.gather(*(client.post("/v1/orders", json=cart()) for _ in range(30)))

    answers = asyncio.run(all_at_once())
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["order_id"] for answer in answers if answer.status_code == 202}) == 1


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"lines": []}, "#/lines"),
        ({"lines": [{"sku": "sku-1", "quantity": 0}]}, "#/lines/0/quantity"),
        ({"lines": [{"sku": "sku-1", "quantity": 1}, {"sku": "sku-2", "quantity": -3}]}, "#/lines/1/quantity"),
        ({"lines": [{"sku": "sku-1", "quantity": 89_638}]}, "#/lines/0/quantity"),
        ({"lines": [{"sku": "sku-1", "quantity": 10**30}]}, "#/lines/0/quantity"),
        ({"lines": [{"sku": "sku-1", "quantity": "2"}]}, "#/lines/0/quantity"),
        ({"lines": [{"sku": "sku-1", "quantity": 1.5}]}, "#/lines/0/quantity"),
        ({"lines": [{"sku": "unknown", "quantity": 1}]}, "#/lines/0/sku"),
        ({"lines": [{"sku": "free", "quantity": 1}]}, "#/lines/0/sku"),
        ({"lines": [{"sku": "euro", "quantity": 1}]}, "#/lines/0/sku"),
        ({"lines": [{"sku": "sku-1", "quantity": 1}] * 2}, "#/lines/1/sku"),
        ({"lines": [{"sku": f"sku-{number}", "quantity": 1} for number in range(10_000)]}, "#/lines/200"),
        ({"points_to_burn": -1}, "#/points_to_burn"),
        ({"points_to_burn": 202}, "#/points_to_burn"),
        ({"customer_id": "a\x00b"}, "#/customer_id"),
        ({"currency": "usd"}, "#/currency"),
        ({"currency": "ZZZ"}, "#/currency"),
        ({"customer_id": "\u200b"}, "#/customer_id"),
        ({"payment_method": {"token": "4111111111111111"}}, "#/payment_method/token"),
        ({"payment_method": {"token": "4111-1111-1111-1111"}}, "#/payment_method/token"),
        ({"ship_to": {"name": "\u3164", "street": "B", "city": "C", "country": "IE"}}, "#/ship_to/name"),
        ({"ship_to": {"name": "A", "street": "B", "city": "C", "country": "ZZ"}}, "#/ship_to/country"),
        ({"ship_to": {"name": "A", "street": "B", "city": "C", "country": "US"}}, "#/ship_to/postal_code"),
        ({"surprise": 1}, "#/surprise"),
        ({"ship_to": {"name": "A"}}, "#/ship_to/street"),
    ],
)
def test_an_invalid_order_is_refused_with_a_pointer_to_the_field(
    storefront: httpx.Client, changes: dict[str, Any], pointer: str
) -> None:
    refused = post(storefront, cart() | changes)
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert pointer in [error["pointer"] for error in refused.json()["errors"]]


def test_an_order_goes_to_an_address_as_its_country_has_it(storefront: httpx.Client) -> None:
    ship_to = {
        "name": "A",
        "street": "B",
        "street_2": "4/F",
        "city": "Central",
        "country": "HK",
        "phone": "+852 1234 5678",
    }
    accepted = post(storefront, cart() | {"ship_to": ship_to})
    assert accepted.status_code == 202
    order_id = accepted.json()["order_id"]
    assert storefront.get(f"/v1/orders/{order_id.lower()}").json()["order_id"] == order_id


def test_a_member_that_is_given_twice_makes_no_order(storefront: httpx.Client) -> None:
    text = json.dumps(cart(lines=[("sku-1", 1)])).replace('"quantity": 1', '"quantity": 1, "quantity": 7')
    headers = {"Content-Type": "application/json", "Idempotency-Key": new_key()}
    assert storefront.post("/v1/orders", content=text, headers=headers).status_code == 400
    line = text.replace("{", f'{{"idempotency_key": "{new_key()}", ', 1)
    ndjson = {"Content-Type": "application/x-ndjson"}
    refused = storefront.post("/v1/orders/bulk", content=line, headers=ndjson).json()
    assert [result["status"] for result in refused["results"]] == [400]
    coded = storefront.post("/v1/orders/bulk", content=gzip.compress(line.encode()), headers=ndjson)
    assert (coded.status_code, coded.headers["accept-encoding"]) == (415, "identity")


def test_two_idempotency_keys_make_no_order(storefront: httpx.Client, tx: Connection) -> None:
    keys = [new_key(), new_key()]
    headers = [("Idempotency-Key", key) for key in keys]
    refused = storefront.post("/v1/orders", json=cart(), headers=headers)
    assert refused.status_code == 400
    assert "The header Idempotency-Key is given twice" in refused.json()["detail"]
    assert tx.execute(
        text("SELECT count(*) FROM idempotency_keys WHERE key = ANY(:keys)"), {"keys": keys}
    ).scalar() == 0  # fmt: skip


def test_only_the_line_of_the_wrong_type_is_named(storefront: httpx.Client) -> None:
    refused = post(storefront, cart() | {"lines": [{"sku": "sku-1", "quantity": "2"}]}).json()
    assert [error["pointer"] for error in refused["errors"]] == ["#/lines/0/quantity"]


def test_a_refused_order_leaves_its_key_unused(storefront: httpx.Client) -> None:
    key = new_key()
    assert post(storefront, cart(lines=[("unknown", 1)]), key).status_code == 422
    assert post(storefront, cart(), key).status_code == 202


def test_every_kind_of_error_is_a_problem(api: Api, storefront: httpx.Client) -> None:
    json_type = {"Content-Type": "application/json", "Idempotency-Key": new_key()}
    answers = {
        400: storefront.post("/v1/orders", content=b"{not json", headers=json_type),
        401: httpx.post(f"{api.url}/v1/orders", json=cart(), headers={"Idempotency-Key": new_key()}),
        404: storefront.get("/v1/nothing"),
        405: storefront.delete("/v1/orders"),
        413: storefront.post("/v1/orders", content=b" " * 2_000_000, headers=json_type),
        422: storefront.post("/v1/orders", json=cart()),
    }
    for status, answer in answers.items():
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json()["status"] == status
    assert answers[401].headers["www-authenticate"] == 'Bearer realm="baraza"'
    assert answers[422].json()["errors"] == [
        {"pointer": "header:Idempotency-Key", "detail": "Missing; it is required."}
    ]


def test_a_body_without_a_length_is_limited_too(storefront: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    headers = {"Content-Type": "application/json", "Idempotency-Key": new_key()}
    assert storefront.post("/v1/orders", content=endless(), headers=headers).status_code == 413


def test_a_customer_sees_and_orders_for_itself_only(api: Api, storefront: httpx.Client) -> None:
    with api.client("customer-7", ["customer"]) as customer, api.client("customer-8", ["customer"]) as stranger:
        assert post(customer, cart("customer-8")).status_code == 403
        location = post(customer, cart("customer-7")).headers["location"]
        assert customer.get(location).status_code == 200
        assert stranger.get(location).status_code == 404
        assert stranger.post(f"{location}/cancel").status_code == 404
        assert storefront.get(location).status_code == 200
        assert customer.post("/v1/orders/bulk", json=[]).status_code == 403
        assert customer.put("/v1/catalogue", json={"products": PRODUCTS}).status_code == 403


def test_a_customer_may_type_blanks_around_its_id(api: Api) -> None:
    with api.client("customer-7", ["customer"]) as customer:
        accepted = post(customer, cart(" customer-7 "))
        assert accepted.status_code == 202
        assert customer.get(accepted.headers["location"]).json()["customer_id"] == "customer-7"


def test_two_subjects_that_look_alike_are_two_customers(api: Api) -> None:
    with api.client("customer-7", ["customer"]) as customer, api.client("customer-7 ", ["customer"]) as other:
        location = post(customer, cart("customer-7")).headers["location"]
        assert other.get(location).status_code == 404
        assert other.post(f"{location}/cancel").status_code == 404
        assert post(other, cart("customer-7")).status_code == 403
        refused = post(other, cart("customer-7 "))
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:baraza:problem:subject-not-normal")


def test_a_pending_order_can_be_cancelled_once_and_a_decided_one_cannot(api: Api, tx: Connection) -> None:
    with api.client("customer-9", ["customer"]) as customer:
        body = post(customer, cart("customer-9")).json()
        order = f"/v1/orders/{body['order_id']}"
        for _ in range(2):
            answer = customer.post(f"{order}/cancel")
            assert (answer.status_code, answer.json()["state"]) == (202, "PENDING")
            assert answer.json()["message"] == "order received, cancellation requested"
        events = text("SELECT count(*) FROM outbox WHERE aggregateid = :id AND type = 'OrderCancellationRequested'")
        assert tx.execute(events, {"id": body["order_id"]}).scalar_one() == 1
        tx.execute(text("UPDATE orders SET state = 'CONFIRMED' WHERE order_id = :id"), {"id": body["order_id"]})
        tx.commit()
        assert customer.post(f"{order}/cancel").status_code == 409
        assert customer.get(order).json()["message"] == "order confirmed"


def test_in_bulk_each_order_has_its_own_result(storefront: httpx.Client) -> None:
    single = new_key()
    earlier = post(storefront, cart(), single).json()
    keys = [new_key() for _ in range(4)]
    items: list[Any] = [
        cart() | {"idempotency_key": keys[0]},
        cart(lines=[("unknown", 1)]) | {"idempotency_key": keys[1]},
        cart() | {"idempotency_key": single},
        cart(lines=[("sku-1", 5)]) | {"idempotency_key": single},
        cart(),
        17,
        cart() | {"idempotency_key": keys[0]},
    ]
    answer = storefront.post("/v1/orders/bulk", json=items).json()
    assert [result["status"] for result in answer["results"]] == [202, 422, 200, 422, 422, 422, 200]
    assert answer["results"][2]["order"] == earlier
    assert answer["results"][6]["order"] == answer["results"][0]["order"]
    assert answer["results"][1]["problem"]["errors"][0]["pointer"] == "#/lines/0/sku"
    assert answer["results"][4]["problem"]["errors"][0]["pointer"] == "#/idempotency_key"
    assert (answer["accepted"], answer["replayed"], answer["refused"]) == (1, 2, 4)


def test_bulk_also_accepts_one_order_a_line(storefront: httpx.Client) -> None:
    lines = [json.dumps(cart() | {"idempotency_key": new_key()}) for _ in range(3)]
    body = "\n".join([*lines, "{broken", ""])
    answer = storefront.post("/v1/orders/bulk", content=body, headers={"Content-Type": "application/x-ndjson"}).json()
    assert [result["status"] for result in answer["results"]] == [202, 202, 202, 400]


def test_a_bulk_with_too_many_orders_or_another_type_is_refused_as_a_whole(storefront: httpx.Client) -> None:
    many = [cart() | {"idempotency_key": new_key()}] * 501
    assert storefront.post("/v1/orders/bulk", json=many).status_code == 422
    assert storefront.post("/v1/orders/bulk", json=[]).status_code == 422
    assert storefront.post("/v1/orders/bulk", json={}).status_code == 422
    assert storefront.post("/v1/orders/bulk", content="a").status_code == 415


def test_the_catalogue_is_read_page_by_page_and_a_load_changes_only_what_differs(api: Api) -> None:
    with api.client("operator-1", ["operator"]) as operator:
        assert operator.put("/v1/catalogue", json={"products": PRODUCTS}).json()["changed"] == 0
        twice = operator.put("/v1/catalogue", json={"products": PRODUCTS[:1] * 2})
        assert twice.json()["errors"][0]["pointer"] == "#/products/1/sku"
        skus: list[str] = []
        after: str | None = ""
        while after is not None:
            page = operator.get("/v1/catalogue", params={"after": after, "limit": 7}).json()
            skus += [product["sku"] for product in page["products"]]
            after = page["next"]
        assert sorted(skus) == skus == sorted(str(product["sku"]) for product in PRODUCTS)


def test_a_429_has_the_time_to_retry_after(checkout_stack: CheckoutStack, api: Api) -> None:
    limited = checkout_stack.start(REQUESTS_PER_S_CUSTOMER="5")
    with limited.client("customer-busy", ["customer"]) as customer:
        answers = [customer.get("/v1/catalogue") for _ in range(30)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert answers[0].status_code == 200
    assert refused
    assert refused[0].headers["retry-after"] == "1"
    assert refused[0].headers["ratelimit-policy"] == '"customer";q=5;w=1'
    with limited.client("customer-calm", ["customer"]) as another:
        assert another.get("/v1/catalogue").status_code == 200


def reads_by_redis(server: Redis, request: Callable[[], httpx.Response]) -> int:
    """Return how often Redis read from a client during the request: one for each round trip."""
    before = int(server.info("stats")["total_reads_processed"])
    assert request().status_code == 200
    return int(server.info("stats")["total_reads_processed"]) - before - 1


def test_a_bulk_request_queries_redis_in_one_round_trip(
    storefront: httpx.Client, checkout_stack: CheckoutStack
) -> None:
    """Its limit and its cached responses; what it caches after the commit is another."""
    password = redis.password(checkout_stack.home, "deploy")
    with Redis(port=checkout_stack.ports["redis"], username="deploy", password=password) as server:
        warm = [bulk_order() for _ in range(3)]
        reads_by_redis(server, lambda: storefront.post("/v1/orders/bulk", json=warm))
        orders = [bulk_order() for _ in range(3)]
        assert reads_by_redis(server, lambda: storefront.post("/v1/orders/bulk", json=orders)) == 2
        assert reads_by_redis(server, lambda: storefront.post("/v1/orders/bulk", json=orders)) == 1, "all are cached"


def test_bulk_and_other_requests_of_a_client_share_its_limit(checkout_stack: CheckoutStack, api: Api) -> None:
    """Whatever the body is: one that cannot be read counts as well, and is refused for the limit first."""
    limited = checkout_stack.start(REQUESTS_PER_S_STOREFRONT="5")
    with limited.client("storefront-busy") as busy:
        statuses = [busy.post("/v1/orders/bulk", content=b"?").status_code for _ in range(10)]
        assert statuses[0] == 415
        assert 429 in statuses
        refused = until(lambda: first_refusal(busy), "a bulk request is refused while others use up the limit")
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["ratelimit-policy"] == '"storefront";q=5;w=1'
    with limited.client("storefront-calm") as calm:
        accepted = calm.post("/v1/orders/bulk", json=[bulk_order()])
        assert accepted.json()["accepted"] == 1
        assert accepted.headers["ratelimit-policy"] == '"storefront";q=5;w=1'


def test_a_bulk_request_counts_as_the_orders_that_it_holds(checkout_stack: CheckoutStack, api: Api) -> None:
    limited = checkout_stack.start(REQUESTS_PER_S_STOREFRONT="5")
    with limited.client("storefront-bulk") as client:

        def statuses() -> list[int]:
            """Send six orders in two requests, which is too much where both are counted in one second."""
            return [client.post("/v1/orders/bulk", json=[bulk_order() for _ in range(3)]).status_code for _ in range(2)]

        until(lambda: statuses() == [200, 429], "the second three orders are refused")
        never = client.post("/v1/orders/bulk", json=[bulk_order() for _ in range(6)])
        assert never.status_code in (422, 429)
        until(
            lambda: client.post("/v1/orders/bulk", json=[bulk_order() for _ in range(6)]).status_code == 422,
            "more orders than the limit are refused for that",
        )


def test_a_huge_body_without_a_token_is_refused_before_it_is_sent(api: Api) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    head = f"PUT /v1/catalogue HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    head += "Content-Length: 4100000\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as connection:
        connection.sendall(head.encode() + b'{"products":[')
        assert connection.recv(65_536).startswith(b"HTTP/1.1 401 ")


def first_refusal(client: httpx.Client) -> httpx.Response | None:
    """Use up the limit with requests of another kind, and return the bulk request's refusal if it came in time."""
    while client.get("/v1/catalogue").status_code != 429:
        pass
    response = client.post("/v1/orders/bulk", json=[bulk_order()])
    return response if response.status_code == 429 else None


def bulk_order() -> dict[str, Any]:
    return cart() | {"idempotency_key": new_key()}


def test_without_redis_orders_are_accepted_replayed_and_limited(checkout_stack: CheckoutStack, api: Api) -> None:
    alone = checkout_stack.start(
        REDIS_URL=f"redis://127.0.0.1:{checkout_stack.ports['nowhere']}/0",
        REQUESTS_PER_S_CUSTOMER="5",
        REQUESTS_PER_S_STOREFRONT="5",
    )
    with alone.client() as client:
        key = new_key()
        first = post(client, cart(), key)
        assert first.status_code == 202
        assert post(client, cart(), key).content == first.content
    with alone.client("customer-busy", ["customer"]) as customer:
        assert 429 in [customer.get("/v1/catalogue").status_code for _ in range(30)]
    with alone.client("storefront-busy") as busy:
        statuses = [busy.post("/v1/orders/bulk", json=[bulk_order()]).status_code for _ in range(30)]
        assert (statuses[0], 429 in statuses) == (200, True)
    assert alone.log.read_text().count("Circuit opened.") == 2


def test_without_its_database_checkout_logs_it_once_and_answers_503_until_it_is_back(
    checkout_stack: CheckoutStack, tx: Connection
) -> None:
    alone = checkout_stack.start()
    with alone.client() as client:
        location = post(client, cart(), key := new_key()).headers["location"]
        tx.execute(text("ALTER ROLE checkout NOLOGIN"))
        tx.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'checkout'"))
        tx.commit()
        try:
            answers = [post(client, cart()), post(client, cart()), client.get(location)]
        finally:
            tx.execute(text("ALTER ROLE checkout LOGIN"))
            tx.commit()
        assert [(answer.status_code, "retry-after" in answer.headers) for answer in answers] == [(503, True)] * 3
        until(lambda: post(client, cart(), key).status_code == 202, "orders are taken again")
    until(lambda: alone.log.read_text().count("Circuit closed."), "the outage's end is logged")
    assert alone.log.read_text().count("Circuit opened.") == 1


def test_a_killed_process_has_lost_no_order_that_it_accepted(
    checkout_stack: CheckoutStack, api: Api, tx: Connection
) -> None:
    doomed = checkout_stack.start()
    with doomed.client() as client:
        key = new_key()
        order_id = post(client, cart(), key).json()["order_id"]
    doomed.kill()
    waiting = text("SELECT type FROM outbox WHERE aggregateid = :id")
    assert tx.execute(waiting, {"id": order_id}).scalars().all() == ["OrderSubmitted"]
    with api.client() as client:
        assert post(client, cart(), key).json()["order_id"] == order_id


def ended(order_id: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "message_id": new_id(),
        "saga_id": order_id,
        "saga_type": "order",
        "saga_version": 1,
        "causation_id": new_id(),
        "occurred_at": now,
        "started_at": now,
    }


def test_an_order_takes_the_outcome_of_its_saga_once_and_for_good(storefront: httpx.Client, tx: Connection) -> None:
    confirmed, failed = (post(storefront, cart()).json()["order_id"] for _ in range(2))
    failure = OrderFailed(**ended(failed), cause="REJECTED", step="authorize_payment", reason="card_declined")
    late = OrderFailed(**ended(confirmed), cause="TIMED_OUT", step="post_ledger", reason="late")
    for _ in range(2):
        handlers.on_order_confirmed([OrderConfirmed(**ended(confirmed))], tx)
        handlers.on_order_failed([failure, late], tx)
    tx.commit()
    good, bad = (storefront.get(f"/v1/orders/{order_id}").json() for order_id in (confirmed, failed))
    assert (good["state"], good["cause"], good["message"]) == ("CONFIRMED", None, "order confirmed")
    assert (bad["state"], bad["cause"], bad["reason"]) == ("CANCELLED_COMPENSATED", "REJECTED", "card_declined")


def test_logs_hold_no_personal_data(checkout_stack: CheckoutStack, storefront: httpx.Client, api: Api) -> None:
    post(storefront, cart(ship_to={"name": "Zaphod", "street": "x", "city": "y", "postal_code": "z", "country": "US"}))
    logs = "".join(file.read_text() for file in checkout_stack.home.logs.glob("checkout-*.log"))
    for secret in ("Zaphod", "A. Person", "tok_visa", "eyJ"):
        assert secret not in logs
