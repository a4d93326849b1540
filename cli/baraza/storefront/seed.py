"""Seed data: catalogue and customers, as files describe them, and their loading into the services."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from baraza.storefront import tabular
from baraza.storefront.dataset import CURRENCY, Workload
from baraza.storefront.tabular import Column, Record
from baraza.terminal import notify, progress

if TYPE_CHECKING:
    from baraza.system.running import Running

LOAD_ROWS = 1_000
"""Rows a request; a request of this size takes some 50 ms."""

PRICE_MINOR_MAX = 10_000_000_000
STOCK_MAX = 1_000_000_000
POINTS_MAX = 1_000_000_000_000
"""The services' own limits: a line above one is refused by its number, before any line is loaded."""

CATALOGUE = (
    Column(name="sku", parse=tabular.key(64), expects="a text of 1 to 64 characters on one line"),
    Column(name="name", parse=tabular.name(200), expects="a text of 1 to 200 characters on one line"),
    Column(
        name="price_minor",
        parse=tabular.whole_number(PRICE_MINOR_MAX),
        expects=f"a whole number of minor units up to {PRICE_MINOR_MAX}, such as 1299",
    ),
    Column(name="currency", parse=tabular.currency, expects="three capital letters, such as USD"),
    Column(
        name="stock",
        parse=tabular.whole_number(STOCK_MAX),
        expects=f"a whole number of pieces, zero to {STOCK_MAX}",
    ),
)
CUSTOMERS = (
    Column(name="customer_id", parse=tabular.key(128), expects="a text of 1 to 128 characters on one line"),
    Column(
        name="points",
        parse=tabular.whole_number(POINTS_MAX),
        expects=f"a whole number of points, zero to {POINTS_MAX}",
    ),
)

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedData:
    """Products with their stock, and customers with their points."""

    products: Sequence[Record]
    customers: Sequence[Record]


def seed_of(workload: Workload) -> SeedData:
    """Return the products, the stock and the customers of the retailer's baskets."""
    products: list[Record] = [
        {
            "sku": product.sku,
            "name": product.name,
            "price_minor": product.price_minor,
            "currency": CURRENCY,
            "stock": product.stock,
        }
        for product in workload.products
    ]
    customers: list[Record] = [
        {"customer_id": customer_id, "points": points} for customer_id, points in workload.customers
    ]
    return SeedData(products=products, customers=customers)


def load(stack: Running, seed: SeedData) -> None:
    """Load products, stock and customers into the services. Raises Refused or Unreachable."""
    load_catalogue(stack, seed.products, len(seed.products))
    load_customers(stack, seed.customers, len(seed.customers))


def load_workload(stack: Running, workload: Workload) -> None:
    """Load the seed data of a workload, and report its size. Raises Refused or Unreachable."""
    seed = seed_of(workload)
    load(stack, seed)
    notify(f"Loaded {len(seed.products)} products and {len(seed.customers)} customers.")


def load_catalogue(stack: Running, records: Iterable[Record], total: int) -> None:
    """Send stock to inventory, then the products to checkout. Raises Refused or Unreachable."""
    with (
        stack.api("checkout") as checkout,
        stack.api("inventory") as inventory,
        progress("catalogue", total) as advance,
    ):
        for batch in batches(records):
            products = [{name: row[name] for name in ("sku", "name", "price_minor", "currency")} for row in batch]
            stock = [{"sku": row["sku"], "on_hand": row["stock"]} for row in batch]
            inventory.call("PUT", "/v1/stock", body=stock)
            # Last, so that no price is live whose stock is not.
            checkout.call("PUT", "/v1/catalogue", body={"products": products})
            advance(len(batch))


def load_customers(stack: Running, records: Iterable[Record], total: int) -> None:
    """Send accounts to loyalty. Raises Refused or Unreachable."""
    with stack.api("loyalty") as loyalty, progress("customers", total) as advance:
        for batch in batches(records):
            loyalty.call("PUT", "/v1/accounts", body=batch)
            advance(len(batch))


def batches(items: Iterable[Item], size: int = LOAD_ROWS) -> Iterator[Sequence[Item]]:
    """Yield the items in lists of up to ``size``."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
