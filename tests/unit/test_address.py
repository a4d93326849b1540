"""Addresses as they are in their countries."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from checkout.domain import Cart, PricedCart, Product, price
from checkout.intake import fingerprint

CART: TypeAdapter[Cart] = TypeAdapter(Cart)
TEA = {"tea": Product(sku="tea", name="Tea", price_minor=100, currency="USD")}


def order(**ship_to: str) -> dict[str, object]:
    return {
        "customer_id": "c1",
        "currency": "USD",
        "lines": [{"sku": "tea", "quantity": 1}],
        "payment_method": {"token": "tok_ok"},
        "ship_to": {"name": "Ann", "street": "1 Elm St"} | ship_to,
    }


def missing(**ship_to: str) -> list[tuple[str | int, ...]]:
    result = price(CART.validate_python(order(**ship_to)), TEA)
    return [] if isinstance(result, PricedCart) else [refusal.path for refusal in result]


@pytest.mark.parametrize(
    "ship_to",
    [
        {"country": "HK", "city": "Central", "region": "Hong Kong Island"},
        {"country": "HK", "city": "Kowloon"},
        {"country": "AE", "region": "Dubai"},
        {"country": "AE", "city": "Dubai"},
        {"country": "IE", "city": "Dublin"},
        {"country": "SG", "postal_code": "018956"},
        {"country": "US", "city": "Salem", "region": "OR", "postal_code": "97301", "street_2": "Apt 4"},
        {"country": "US", "city": "Salem", "postal_code": "97301", "phone": "+1 (503) 555-0100 x12"},
        {"country": "US", "city": "Salem", "postal_code": "97301"},
        {"country": "GB", "city": "London", "postal_code": "SW1A 1AA"},
        {"country": "XK", "city": "Pristina", "postal_code": "10000"},
    ],
)  # fmt: skip
def test_an_address_needs_what_its_country_needs(ship_to: dict[str, str]) -> None:
    assert missing(**ship_to) == []


@pytest.mark.parametrize(
    ("ship_to", "expected"),
    [
        ({"country": "US", "city": "Salem"}, [("ship_to", "postal_code")]),
        ({"country": "DE", "postal_code": "10115"}, [("ship_to", "city")]),
        ({"country": "IE"}, [("ship_to", "city")]),
        ({"country": "AE"}, [("ship_to", "region")]),
        ({"country": "GB"}, [("ship_to", "city"), ("ship_to", "postal_code")]),
    ],
)
def test_a_part_that_the_country_needs_is_named(ship_to: dict[str, str], expected: list[tuple[str, str]]) -> None:
    assert missing(**ship_to) == expected


def test_a_body_without_the_newer_fields_keeps_its_fingerprint() -> None:
    """A client repeats its request to the next version, which must know it again."""
    body = order(city="Salem", postal_code="97301", country="US")
    known = "f83b8e22b2d83695c1d530804815dc24471b96be482d0330062759a415e13ede"
    assert fingerprint(CART.validate_python(body)).hex() == known
    more = order(city="Salem", postal_code="97301", country="US", region="OR")
    assert fingerprint(CART.validate_python(body)) != fingerprint(CART.validate_python(more))
