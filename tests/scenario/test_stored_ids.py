"""Ids that an earlier release stored as they were sent, before identifiers had one normal form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import LiteralString

import psycopg
import pytest

from chassis.wire.envelope import new_id
from support.shop import Shop

SKU = " cafe\u0301 "
NORMAL_SKU = "caf\u00e9"


def write(shop: Shop, service: str, statement: LiteralString, *values: object) -> None:
    with closing(psycopg.connect(shop.stack.database_url(service, "owner"))) as connection:
        connection.execute(statement, values)
        connection.commit()


@pytest.fixture
def stored(open_shop: Shop) -> Iterator[Shop]:
    """The shop with a product whose sku is stored with blanks, and not composed."""
    write(open_shop, "checkout", "INSERT INTO products VALUES (%s, 'Coffee', 100, 'USD')", SKU)
    write(open_shop, "inventory", "INSERT INTO stock (sku, received, on_hand) VALUES (%s, 100, 100)", SKU)
    yield open_shop
    write(open_shop, "checkout", "DELETE FROM products WHERE sku = ANY(%s)", [SKU, NORMAL_SKU])


def test_a_product_is_sold_and_found_under_the_sku_that_was_stored(stored: Shop, shop: Shop) -> None:
    order = stored.place(sku=SKU)
    assert stored.outcome(order.order_id)["saga"]["state"] == "CONFIRMED"
    found = stored.call("inventory", "GET", f"/v1/stock/{SKU}")
    assert (found["sku"], found["received"] - found["on_hand"]) == (SKU, 4)

    # Loaded again, it has its normal form, and the old row is not in the way.
    product = {"sku": SKU, "name": "Coffee", "price_minor": 200, "currency": "USD"}
    stored.call("checkout", "PUT", "/v1/catalogue", {"products": [product]})
    stored.call("inventory", "PUT", "/v1/stock", [{"sku": SKU, "on_hand": 50}])
    again = stored.place(sku=SKU)
    assert stored.outcome(again.order_id)["saga"]["state"] == "CONFIRMED"
    assert stored.call("inventory", "GET", f"/v1/stock/{NORMAL_SKU}")["on_hand"] == 46
    (paid,) = stored.rows("checkout", "SELECT total_minor FROM orders WHERE order_id = %s", again.order_id)
    assert paid == (800,)


def test_an_account_is_found_under_the_id_that_was_stored_and_is_nobody_elses(shop: Shop) -> None:
    customer = f"customer-{new_id()}"
    stored = f" {customer}"
    write(shop, "loyalty", "INSERT INTO accounts (customer_id, granted, balance) VALUES (%s, 7, 7)", stored)
    assert shop.call("loyalty", "GET", f"/v1/accounts/{stored}")["balance"] == 7

    shop.call("loyalty", "PUT", "/v1/accounts", [{"customer_id": f"{stored} ", "points": 9}])
    assert shop.call("loyalty", "GET", f"/v1/accounts/{customer}")["balance"] == 9
    assert shop.call("loyalty", "GET", f"/v1/accounts/{stored}")["balance"] == 7

    url = f"{shop.stack.endpoints.url('loyalty')}/v1/accounts"
    statuses = {}
    for subject in (customer, stored):
        token = shop.customers_token(subject, "customer")
        for account in (customer, stored):
            answer = shop.http.get(f"{url}/{account}", headers={"Authorization": f"Bearer {token}"})
            statuses[subject, account] = answer.json().get("balance", answer.status_code)
    assert statuses == {
        (customer, customer): 9,
        (customer, stored): 9,
        (stored, customer): 403,
        (stored, stored): 7,
    }
