"""What an order must be: the pure rules, by example and by property."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from checkout.domain import (
    LINES_MAX,
    PRICE_MINOR_MAX,
    QUANTITY_MAX,
    Cart,
    CartLine,
    OrderState,
    PaymentMethod,
    PricedCart,
    Product,
    ShipTo,
    message_of,
    price,
    repeated,
)

CATALOGUE = {
    f"sku-{number}": Product(sku=f"sku-{number}", name="A thing", price_minor=price_minor, currency=currency)
    for number, (price_minor, currency) in enumerate([(100, "USD"), (250, "USD"), (999, "USD"), (0, "USD"), (5, "EUR")])
}


def cart(*lines: tuple[str, int], points: int = 0, token: str = "tok_visa") -> Cart:
    return Cart(
        customer_id="customer-1",
        currency="USD",
        lines=tuple(CartLine(sku=sku, quantity=quantity) for sku, quantity in lines),
        points_to_burn=points,
        payment_method=PaymentMethod(token=token),
        ship_to=ShipTo(name="A", street="S", city="C", postal_code="P", country="US"),
    )


def refused(order: Cart, products: Mapping[str, Product] = CATALOGUE) -> dict[tuple[str | int, ...], str]:
    refusals = price(order, products)
    assert not isinstance(refusals, PricedCart), "the cart was accepted"
    return {refusal.path: refusal.detail for refusal in refusals}


def test_a_good_cart_is_priced_from_the_catalogue() -> None:
    priced = price(cart(("sku-0", 3), ("sku-1", 1), points=50), CATALOGUE)
    assert isinstance(priced, PricedCart)
    assert (priced.total_minor, priced.payable_minor) == (550, 500)


@pytest.mark.parametrize("quantity", [0, -1, QUANTITY_MAX + 1, 89_638])
def test_an_absurd_quantity_is_refused_with_its_line(quantity: int) -> None:
    found = refused(cart(("sku-0", 1), ("sku-1", quantity)))
    assert list(found) == [("lines", 1, "quantity")]
    assert "Line 2 (sku 'sku-1')" in found[("lines", 1, "quantity")]
    assert str(quantity) in found[("lines", 1, "quantity")]


@pytest.mark.parametrize("sku", ["nothing", "sku-3", "sku-4"], ids=["unknown", "not for sale", "another currency"])
def test_a_line_that_cannot_be_sold_is_named(sku: str) -> None:
    assert list(refused(cart(("sku-0", 1), (sku, 1)))) == [("lines", 1, "sku")]


def test_a_repeated_line_is_refused_with_the_line_that_it_repeats() -> None:
    found = refused(cart(("sku-0", 1), ("sku-1", 1), ("sku-0", 2)))
    assert "of line 1" in found[("lines", 2, "sku")]


def test_all_invalid_lines_are_named_at_once() -> None:
    found = refused(cart(("sku-0", 0), ("nothing", 2_000), ("sku-4", 1), points=-1))
    assert set(found) == {
        ("points_to_burn",),
        ("lines", 0, "quantity"),
        ("lines", 1, "quantity"),
        ("lines", 1, "sku"),
        ("lines", 2, "sku"),
    }


@pytest.mark.parametrize("points", [100, 101])
def test_points_never_pay_the_whole_order(points: int) -> None:
    assert list(refused(cart(("sku-0", 1), points=points))) == [("points_to_burn",)]


def test_a_card_number_is_refused_as_a_token() -> None:
    found = refused(cart(("sku-0", 1), token="4111111111111111"))
    assert list(found) == [("payment_method", "token")]
    assert "4111" not in found[("payment_method", "token")]


def test_a_cart_of_ten_thousand_lines_is_refused_at_the_first_excess_line() -> None:
    assert list(refused(cart(*((f"sku-{number}", 1) for number in range(10_000))))) == [("lines", LINES_MAX)]


def test_an_empty_cart_is_refused() -> None:
    assert ("lines",) in refused(cart())


lines = st.lists(st.tuples(st.sampled_from([*CATALOGUE, "nothing"]), st.integers(-5, QUANTITY_MAX + 5)), max_size=8)


@given(lines=lines, points=st.integers(-10, 3_000))
def test_an_accepted_cart_adds_up_and_a_refusal_has_a_path_into_the_cart(
    lines: list[tuple[str, int]], points: int
) -> None:
    order = cart(*lines, points=points)
    result = price(order, CATALOGUE)
    if isinstance(result, PricedCart):
        assert result.total_minor == sum(line.quantity * line.unit_price_minor for line in result.lines)
        assert result.payable_minor == result.total_minor - points > 0
        assert len({line.sku for line in result.lines}) == len(lines) > 0
        assert all(1 <= line.quantity <= QUANTITY_MAX and line.unit_price_minor > 0 for line in result.lines)
    else:
        assert result
        for refusal in result:
            part: Any = order
            for step in refusal.path:
                part = part[step] if isinstance(step, int) else getattr(part, step)


@given(index=st.integers(0, 7), lines=st.permutations([f"sku-{number}" for number in range(3)]))
def test_the_order_of_lines_does_not_change_the_price(index: int, lines: list[str]) -> None:
    quantities = {"sku-0": 1 + index, "sku-1": 2, "sku-2": 3}
    priced = price(cart(*((sku, quantities[sku]) for sku in lines)), CATALOGUE)
    assert isinstance(priced, PricedCart)
    assert priced.total_minor == 100 * (1 + index) + 2 * 250 + 3 * 999


def test_the_largest_order_is_an_exact_number_for_every_reader() -> None:
    dearest = {f"s{n}": Product(sku=f"s{n}", name="n", price_minor=PRICE_MINOR_MAX, currency="USD") for n in range(200)}
    priced = price(cart(*((sku, QUANTITY_MAX) for sku in dearest)), dearest)
    assert isinstance(priced, PricedCart)
    assert float(priced.total_minor) == priced.total_minor < 2**53


_CART: TypeAdapter[Cart] = TypeAdapter(Cart)


@given(st.text(max_size=80))
def test_text_with_control_characters_or_lone_surrogates_is_refused(text: str) -> None:
    body = _CART.dump_python(cart(("sku-0", 1)))
    body["ship_to"]["city"] = text
    hidden = any(ord(each) < 32 or 127 <= ord(each) < 160 for each in text)
    try:
        _CART.validate_python(body)
    except ValidationError:
        kinds = {unicodedata.category(each) for each in text}
        turned = any(0x202A <= ord(each) <= 0x202E or 0x2066 <= ord(each) <= 0x2069 for each in text)
        blanks = "\u115f\u1160\u2800\u3164\uffa0"
        shown = any(unicodedata.category(each)[0] in "LNPS" and each not in blanks for each in text)
        assert hidden or turned or not shown or kinds & {"Cs", "Zl", "Zp"}
    else:
        assert text
        assert not hidden


def test_the_message_states_only_what_is_certain() -> None:
    assert message_of(OrderState.PENDING, is_cancellation_requested=False) == "order received, confirming"
    assert "cancel" in message_of(OrderState.PENDING, is_cancellation_requested=True)
    assert message_of(OrderState.CONFIRMED, is_cancellation_requested=True) == "order confirmed"


def test_a_load_that_names_a_product_twice_is_refused_at_the_second() -> None:
    one, two = CATALOGUE["sku-0"], replace(CATALOGUE["sku-0"], price_minor=7)
    assert [refusal.path for refusal in repeated([one, CATALOGUE["sku-1"], two])] == [("products", 2, "sku")]
    assert repeated([one, CATALOGUE["sku-1"]]) == ()


@pytest.mark.parametrize(
    "token", ["4111111111111111", "4111-1111-1111-1111", "4111.1111.1111.1111", "tok_4111111111111111"]
)
def test_a_card_number_is_no_token(token: str) -> None:
    assert list(refused(cart(("sku-0", 1), token=token))) == [("payment_method", "token")]


@pytest.mark.parametrize("field", ["name", "street", "city"])
def test_a_card_number_in_the_address_is_refused(field: str) -> None:
    order = cart(("sku-0", 1))
    order = replace(order, ship_to=replace(order.ship_to, **{field: "A 4111 1111 1111 1111"}))
    assert list(refused(order)) == [("ship_to", field)]
