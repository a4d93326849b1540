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

from checkout import intake
from checkout.catalogue import repeated
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
    check,
    message_of,
    price,
    price_checked,
)
from checkout.fields import ShipTo
from checkout.main import Programme
from checkout.points import PointsRate

CATALOGUE = {
    f"sku-{number}": Product(sku=f"sku-{number}", name="A thing", price_minor=price_minor, currency=currency)
    for number, (price_minor, currency) in enumerate([(100, "USD"), (250, "USD"), (999, "USD"), (0, "USD"), (5, "EUR")])
}


def cart(*lines: tuple[str, int], points: int = 0, token: str = "tok_visa", currency: str = "USD") -> Cart:
    return Cart(
        customer_id="customer-1",
        currency=currency,
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


DINARS = {"oil": Product(sku="oil", name="Oil", price_minor=100_000, currency="KWD")}
RATES = {"USD": PointsRate(points=1, minor=1), "KWD": PointsRate(points=100, minor=3)}


@pytest.mark.parametrize("rates", [None, {"USD": RATES["USD"]}, {}])
def test_points_pay_nothing_in_a_currency_without_a_rate(rates: Mapping[str, PointsRate] | None) -> None:
    """99,999 points are no 99.999 dinars."""
    order = cart(("oil", 1), points=99_999, currency="KWD")
    result = price(order, DINARS) if rates is None else price(order, DINARS, rates)

    assert isinstance(result, tuple)
    assert [refusal.path for refusal in result] == [("points_to_burn",)]
    assert "no rate for KWD" in result[0].detail


def test_an_order_without_points_needs_no_rate() -> None:
    priced = price(cart(("oil", 1), currency="KWD"), DINARS)

    assert isinstance(priced, PricedCart)
    assert (priced.payable_minor, priced.rate) == (100_000, None)


def test_points_pay_at_the_rate_of_the_currency_which_is_kept() -> None:
    priced = price(cart(("oil", 1), points=200, currency="KWD"), DINARS, RATES)

    assert isinstance(priced, PricedCart)
    assert (priced.payable_minor, priced.rate) == (100_000 - 6, RATES["KWD"])


def test_points_that_pay_no_whole_minor_units_are_refused() -> None:
    result = price(cart(("oil", 1), points=250, currency="KWD"), DINARS, RATES)

    assert isinstance(result, tuple)
    assert (result[0].path, "100 of them" in result[0].detail) == (("points_to_burn",), True)


@pytest.mark.parametrize("points", [3_333_300, 3_333_400])
def test_points_at_a_rate_pay_all_but_something(points: int) -> None:
    result = price(cart(("oil", 1), points=points, currency="KWD"), DINARS, RATES)

    assert isinstance(result, PricedCart) is (points == 3_333_300)


def test_rates_are_read_from_the_setting() -> None:
    assert Programme(points_rates="USD=1:1, KWD=100:3").rates == RATES
    assert Programme(points_rates="").rates == {}


@pytest.mark.parametrize(
    "text",
    ["USD", "USD=1", "usd=1:1", "ZZZ=1:1", "USD=0:1", "USD=1:0", "USD=1:1;EUR=1:1", "USD=-1:1", "USD=1:1,USD=100:1"],
)
def test_a_rate_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="BARAZA_POINTS_RATES has"):
        _ = Programme(points_rates=text).rates


def test_a_card_number_is_refused_as_a_customer() -> None:
    found = refused(replace(cart(("sku-0", 1)), customer_id="4111 1111 1111 1111"))
    assert list(found) == [("customer_id",)]
    assert isinstance(price(replace(cart(("sku-0", 1)), customer_id="4711 0000 1111 2222"), CATALOGUE), PricedCart)


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
    body["ship_to"]["name"] = text
    try:
        sent = _CART.validate_python(body)
    except ValidationError:
        hidden = any(ord(each) < 32 or 127 <= ord(each) < 160 for each in text)
        assert hidden or not text or any(unicodedata.category(each) == "Cs" for each in text)
        return
    refusals = [refusal.path for refusal in check(sent).refusals]
    kinds = {unicodedata.category(each) for each in text}
    turned = any(0x202A <= ord(each) <= 0x202E or 0x2066 <= ord(each) <= 0x2069 for each in text)
    blanks = "\u115f\u1160\u2800\u3164\uffa0"
    shown = any(unicodedata.category(each)[0] in "LNPS" and each not in blanks for each in text)
    if refusals:
        assert refusals == [("ship_to", "name")]
        digits = sum(each.isdigit() for each in text)
        assert turned or not shown or digits >= 12 or kinds & {"Zl", "Zp"}
    else:
        assert shown
        assert not turned
        assert not kinds & {"Cc", "Zl", "Zp", "Cs"}


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"customer_id": "\u200b"}, ("customer_id",)),
        ({"customer_id": "c\u200d1"}, ("customer_id",)),
        ({"currency": "ZZZ"}, ("currency",)),
        ({"currency": "XXX"}, ("currency",)),
    ],
)
def test_a_text_of_the_right_shape_is_refused_by_its_rule(changed: dict[str, str], path: tuple[str, ...]) -> None:
    assert path in refused(replace(cart(("sku-0", 1)), **changed))  # type: ignore[arg-type]


def test_an_order_has_the_normal_form_of_its_texts() -> None:
    order = replace(cart((" sku-0", 1)), customer_id=" cafe\u0301 ")
    priced = price(replace(order, ship_to=replace(order.ship_to, name=" \ufa19 ")), CATALOGUE)
    assert isinstance(priced, PricedCart)
    assert priced.cart.customer_id == "caf\u00e9"
    assert [line.sku for line in priced.lines] == ["sku-0"]
    assert priced.cart.ship_to.name == "\ufa19"


@pytest.mark.parametrize("stored", [" tea", "cafe\u0301", "a\u200bb"])
def test_a_product_that_an_earlier_release_stored_can_be_ordered_by_its_own_sku(stored: str) -> None:
    products = {stored: Product(sku=stored, name="Tea", price_minor=100, currency="USD")}
    priced = price(cart((stored, 2)), products)
    assert isinstance(priced, PricedCart)
    assert [line.sku for line in priced.lines] == [stored]
    assert stored in set(check(cart((stored, 2))).skus)


def test_a_product_in_the_normal_form_comes_before_one_that_an_earlier_release_stored() -> None:
    products = {
        sku: Product(sku=sku, name="Tea", price_minor=price_minor, currency="USD")
        for sku, price_minor in ((" tea", 100), ("tea", 200))
    }
    priced = price(cart((" tea", 1)), products)
    assert isinstance(priced, PricedCart)
    assert (priced.lines[0].sku, priced.total_minor) == ("tea", 200)
    assert list(refused(cart((" tea", 1), ("tea", 1)), products)) == [("lines", 1, "sku")]


def test_texts_are_searched_before_the_transaction_that_other_orders_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = cart(("sku-0", 1), token="4111-1111-1111-1111"), cart(("sku-0", 1), token=f"tok_{'4-' * 100}")
    sent = [intake.submission("client", "key", each, None) for each in (bad, good)]

    def searched(*_: object, **__: object) -> bool:
        raise AssertionError("A text is searched in the transaction.")

    for name in ("token_holds_card_number", "text_holds_card_number", "has_enough_digits", "identifier", "are_plain"):
        monkeypatch.setattr(f"checkout.domain.{name}", searched)
    for name in ("text_holds_card_number", "human_text"):
        monkeypatch.setattr(f"checkout.fields.{name}", searched)
    refusals, priced = (price_checked(each.checked, CATALOGUE) for each in sent)
    assert isinstance(refusals, tuple)
    assert [each.path for each in refusals] == [("payment_method", "token")]
    assert isinstance(priced, PricedCart)


def test_an_unknown_sku_that_breaks_the_rule_is_refused_with_the_rule() -> None:
    assert "U+200B" in refused(cart(("te\u200ba", 1)))[("lines", 0, "sku")]


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
