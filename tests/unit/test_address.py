"""Addresses as they are in their countries."""

from __future__ import annotations

import pytest
from iso3166 import countries_by_alpha2
from pydantic import TypeAdapter

from chassis.values.address import missing_parts, required_parts, warm_up
from checkout.domain import Cart, PricedCart, Product, check, price

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


@pytest.mark.parametrize("blank", ["", " "])
def test_a_part_that_a_form_sends_empty_is_not_given(blank: str) -> None:
    assert missing(country="HK", city="Kowloon", postal_code=blank, region=blank, street_2=blank, phone=blank) == []
    assert missing(country="US", city="Salem", postal_code=blank) == [("ship_to", "postal_code")]
    accepted = check(CART.validate_python(order(country="HK", city="Kowloon", postal_code=blank))).cart.ship_to
    assert accepted.postal_code is None


@pytest.mark.parametrize("name", ["name", "street", "street_2", "city", "region", "postal_code", "phone"])
def test_each_part_of_an_address_is_searched_for_a_card_number(name: str) -> None:
    address = {"country": "HK", "city": "Kowloon", "name": "Ann", "street": "1 Elm St"} | {name: "4111 1111 1111 1111"}
    assert missing(**address) == [("ship_to", name)]


def test_the_first_order_to_a_country_reads_no_file() -> None:
    warm_up()
    before = required_parts.cache_info().misses
    for country in countries_by_alpha2:
        missing_parts(country, True, True, True)
    assert required_parts.cache_info().misses == before
