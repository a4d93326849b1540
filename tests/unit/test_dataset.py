"""Orders from the Complete Journey data: real baskets with the data's own flaws, the same for the same seed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from baraza.storefront import dataset
from baraza.storefront.dataset import Basket, BasketLine, Mix, Survey
from checkout.domain import QUANTITY_MAX

FIRST = 300


@pytest.fixture(scope="module")
def first() -> list[Basket]:
    """The data's first baskets."""
    return list(dataset.baskets_of(dataset.file_of("transactions"), FIRST))


@pytest.fixture(scope="module")
def surveyed(first: Sequence[Basket]) -> Survey:
    """The survey of those baskets."""
    return dataset.survey(first)


def basket(*lines: BasketLine, household_id: int = 7) -> Basket:
    """Return a basket with these lines."""
    return Basket(basket_id=1, household_id=household_id, bought_at=datetime(2017, 1, 1, tzinfo=UTC), lines=lines)


def line(product_id: int, quantity: int, value_minor: int) -> BasketLine:
    """Return one line."""
    return BasketLine(product_id=product_id, quantity=quantity, value_minor=value_minor)


def test_baskets_come_in_time_order_with_all_their_lines(first: Sequence[Basket]) -> None:
    assert len(first) == FIRST
    assert [each.bought_at for each in first] == sorted(each.bought_at for each in first)
    assert len({each.basket_id for each in first}) == FIRST
    assert first[0].bought_at == datetime(2017, 1, 1, 11, 53, 26, tzinfo=UTC)
    assert first[0].lines == (line(1095275, 1, 50),)


def test_a_price_is_the_average_over_the_lines_that_have_one() -> None:
    surveyed = dataset.survey([basket(line(1, 2, 300), line(1, 1, 180), line(1, 0, 0), line(1, 20_000, 5_000))])

    assert surveyed.price_minor(1) == 160


def test_a_product_that_was_never_sold_at_a_price_costs_nothing() -> None:
    assert dataset.survey([basket(line(1, 1, 0))]).price_minor(1) == 0


def test_bad_lines_stay_in_the_bodies(first: Sequence[Basket], surveyed: Survey) -> None:
    bodies = list(dataset.bodies(first, surveyed, Mix()))

    quantities = [each["quantity"] for body in bodies for each in body["lines"]]
    assert quantities == [each.quantity for one in first for each in one.lines]
    assert 0 in quantities
    assert max(quantities) > QUANTITY_MAX


def test_the_same_seed_gives_the_same_orders_and_another_seed_others(first: Sequence[Basket], surveyed: Survey) -> None:
    once, again, otherwise = (list(dataset.bodies(first, surveyed, Mix(seed=seed))) for seed in (1, 1, 2))

    assert once == again
    assert once != otherwise


def test_some_orders_fail_by_design(first: Sequence[Basket], surveyed: Survey) -> None:
    mix = Mix(declined_cards=0.2, bad_addresses=0.2, burning=0.5, overdrawn=0.5)
    bodies = list(dataset.bodies(first, surveyed, mix))

    owned = dict(dataset.points(surveyed))
    assert any(body["payment_method"]["token"] in dataset.DECLINING_TOKENS for body in bodies)
    assert any(body["ship_to"]["postal_code"] == dataset.UNDELIVERABLE for body in bodies)
    assert any(body["points_to_burn"] > owned[body["customer_id"]] for body in bodies)


def test_stock_covers_the_demand_but_for_short_products(surveyed: Survey) -> None:
    plenty = {each.sku: each.stock for each in dataset.products(surveyed, {}, Mix(short_products=0.0))}
    short = {each.sku: each.stock for each in dataset.products(surveyed, {}, Mix(short_products=1.0))}

    assert plenty == {dataset.sku_of(product_id): demand for product_id, demand in surveyed.demand.items()}
    assert all(short[sku] == (stock // 2 if stock > 1 else stock) for sku, stock in plenty.items())


def test_points_never_pay_a_whole_order(first: Sequence[Basket], surveyed: Survey) -> None:
    for one, body in zip(first, dataset.bodies(first, surveyed, Mix(burning=1.0, overdrawn=0.5)), strict=True):
        total = sum(surveyed.price_minor(each.product_id) * each.quantity for each in one.lines if each.is_priced)
        assert body["points_to_burn"] == 0 or body["points_to_burn"] < total


def test_every_product_has_a_name(surveyed: Survey) -> None:
    names = dataset.product_names(dataset.file_of("products"))

    assert all(1 <= len(each.name) <= 200 for each in dataset.products(surveyed, names, Mix()))


def test_what_is_written_can_be_loaded(first: Sequence[Basket], surveyed: Survey) -> None:
    catalogue, customers, orders = io.StringIO(), io.StringIO(), io.StringIO()

    assert dataset.write_catalogue(dataset.products(surveyed, {}, Mix()), catalogue) == len(surveyed.demand)
    assert dataset.write_customers(dataset.points(surveyed), customers) == len(surveyed.spent_minor)
    assert dataset.write_orders(dataset.bodies(first, surveyed, Mix()), orders) == FIRST

    assert next(csv.reader(io.StringIO(catalogue.getvalue()))) == ["sku", "name", "price_minor", "currency", "stock"]
    assert next(csv.reader(io.StringIO(customers.getvalue()))) == ["customer_id", "points"]
    assert json.loads(orders.getvalue().splitlines()[0])["idempotency_key"] == f"basket-{first[0].basket_id}"
