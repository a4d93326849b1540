"""Stock is counted while it is sold, and files are loaded twice; the audit follows every test."""

from __future__ import annotations

import httpx
import pytest

from baraza.storefront import seed
from baraza.storefront.tabular import Record
from baraza.system.running import Running
from chassis.wire.envelope import new_id
from support.shop import Json, Shop

UNITS_AN_ORDER = 4


def ask(shop: Shop, method: str, path: str, body: Json = None, **headers: str) -> httpx.Response:
    """Ask inventory as staff."""
    authorized = {"Authorization": f"Bearer {shop.token()}", **headers}
    answer: httpx.Response = shop.http.request(
        method, f"{shop.stack.endpoints.url('inventory')}{path}", json=body, headers=authorized
    )
    return answer


@pytest.fixture
def sku(shop: Shop) -> str:
    """A product of which ten came in and eight are sold."""
    sku = f"counted-{new_id()}"
    product = {"sku": sku, "name": sku, "price_minor": 250, "currency": "USD"}
    shop.call("checkout", "PUT", "/v1/catalogue", {"products": [product]})
    shop.call("inventory", "PUT", "/v1/stock", [{"sku": sku, "on_hand": 10}])
    for order in [shop.place(sku=sku) for _ in range(8 // UNITS_AN_ORDER)]:
        assert shop.outcome(order.order_id)["saga"]["state"] == "CONFIRMED"
    return sku


def test_a_count_that_began_before_the_sales_promises_no_unit_twice(shop: Shop, sku: str) -> None:
    put = ask(shop, "PUT", "/v1/stock", [{"sku": sku, "on_hand": 10}])
    assert (put.status_code, put.json()["errors"][0]["pointer"]) == (428, "#/0/sku")

    counted = {"sku": sku, "kind": "counted", "units": 9, "expected": 10, "reason": "Stock-take."}
    key = {"Idempotency-Key": new_id()}
    for replayed in (None, "true"):
        answer = ask(shop, "POST", "/v1/stock/movements", [counted], **key)
        assert (answer.status_code, answer.headers.get("Idempotent-Replayed")) == (200, replayed), answer.text
        assert answer.json()["levels"] == [{"sku": sku, "opened": 10, "received": 9, "on_hand": 1}]


def test_a_number_is_set_under_the_version_that_was_read(shop: Shop, sku: str) -> None:
    read = ask(shop, "GET", f"/v1/stock/{sku}").headers["ETag"]
    shop.move(sku, 5, kind="received")

    assert ask(shop, "PUT", "/v1/stock", [{"sku": sku, "on_hand": 3}], **{"If-Match": read}).status_code == 412
    now = ask(shop, "GET", f"/v1/stock/{sku}").headers["ETag"]
    assert ask(shop, "PUT", "/v1/stock", [{"sku": sku, "on_hand": 3}], **{"If-Match": now}).status_code == 204
    assert shop.level(sku)["on_hand"] == 3


@pytest.mark.parametrize(
    "flawed",
    [
        {"kind": "received", "units": 0},
        {"kind": "received", "units": -1},
        {"kind": "corrected", "units": 0},
        {"kind": "counted", "units": 9},
        {"kind": "counted", "units": -1, "expected": 1},
        {"kind": "received", "units": 1, "expected": 1},
        {"kind": "opened", "units": 1},
        {"kind": "received", "units": 1, "reason": " "},
    ],
)
def test_a_movement_that_means_nothing_is_refused(shop: Shop, flawed: dict[str, Json]) -> None:
    body = [{"sku": "tea", "reason": "A test.", **flawed}]
    answer = ask(shop, "POST", "/v1/stock/movements", body, **{"Idempotency-Key": new_id()})

    assert (answer.status_code, len(answer.json()["errors"])) == (422, 1), answer.text


def test_a_movement_needs_a_key(shop: Shop) -> None:
    body = [{"sku": "tea", "kind": "received", "units": 1, "reason": "A test."}]

    assert ask(shop, "POST", "/v1/stock/movements", body).status_code == 422


def test_a_file_that_is_loaded_again_changes_nothing(shop: Shop, sku: str) -> None:
    stack, customer_id = Running(stack=shop.stack), f"customer-{new_id()}"
    products: list[Record] = [{"sku": sku, "name": sku, "price_minor": 250, "currency": "USD", "stock": 10}]
    customers: list[Record] = [{"customer_id": customer_id, "points": 7}]
    for _ in range(2):
        assert seed.load_catalogue(stack, products, 1) == []
        assert seed.load_customers(stack, customers, 1) == []

    assert shop.level(sku)["on_hand"] == 2
    assert shop.call("loyalty", "GET", f"/v1/accounts/{customer_id}")["balance"] == 7
    assert seed.load_catalogue(stack, [{**products[0], "stock": 20}], 1) == [
        seed.Kept(item=sku, opened=10, free=2, wanted=20)
    ]
    assert shop.level(sku)["on_hand"] == 2


def test_a_replay_is_supplied_once(shop: Shop, sku: str) -> None:
    wanted = seed.SeedData(
        products=[{"sku": sku, "name": sku, "price_minor": 250, "currency": "USD", "stock": 10}], customers=[]
    )
    key = new_id()
    for _ in range(2):
        seed.replenish(Running(stack=shop.stack), wanted, key)

    assert shop.level(sku) == {"sku": sku, "opened": 10, "received": 18, "on_hand": 10}


def test_points_pay_nothing_in_a_currency_without_a_rate(shop: Shop) -> None:
    product = {"sku": "dates", "name": "Dates", "price_minor": 100_000, "currency": "KWD"}
    shop.call("checkout", "PUT", "/v1/catalogue", {"products": [product]})
    order = {
        "customer_id": "c",
        "currency": "KWD",
        "lines": [{"sku": "dates", "quantity": 1}],
        "points_to_burn": 99_999,
        "payment_method": {"token": "tok_1"},
        "ship_to": {"name": "A", "street": "B", "city": "C", "postal_code": "1", "country": "US"},
    }
    headers = {"Authorization": f"Bearer {shop.token()}", "Idempotency-Key": new_id()}
    answer = shop.http.post(f"{shop.stack.endpoints.url('checkout')}/v1/orders", json=order, headers=headers)

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/points_to_burn"]
