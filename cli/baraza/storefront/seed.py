"""Seed data: catalogue and customers, as files describe them, and their loading into the services."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from baraza.storefront import tabular
from baraza.storefront.dataset import CURRENCY, Workload
from baraza.storefront.tabular import Column, Record
from baraza.terminal import notify, progress

if TYPE_CHECKING:
    from baraza.system.client import Api, Json
    from baraza.system.running import Running

DELIVERY = "Delivery before a replay."
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A balance that was known already, with another opening than the one to load: it stays as it is."""

    item: str
    opened: int
    free: int
    wanted: int


def load(stack: Running, seed: SeedData) -> list[Kept]:
    """Load products, stock and customers into the services. Raises Refused or Unreachable."""
    kept = load_catalogue(stack, seed.products, len(seed.products))
    return [*kept, *load_customers(stack, seed.customers, len(seed.customers))]


def load_workload(stack: Running, workload: Workload) -> SeedData:
    """Load the seed data of a workload, and report its size. Raises Refused or Unreachable."""
    seed = seed_of(workload)
    load(stack, seed)
    notify(f"Loaded {len(seed.products)} products and {len(seed.customers)} customers.")
    return seed


def load_catalogue(stack: Running, records: Iterable[Record], total: int) -> list[Kept]:
    """Open the stock in inventory, then send the products to checkout. Stock that is known stays as it is.

    Returns the stock whose opening is another one. Raises Refused or Unreachable.
    """
    kept: list[Kept] = []
    with (
        stack.api("checkout") as checkout,
        stack.api("inventory") as inventory,
        progress("catalogue", total) as advance,
    ):
        for batch in batches(records):
            products = [{name: row[name] for name in ("sku", "name", "price_minor", "currency")} for row in batch]
            stock = [{"sku": row["sku"], "units": row["stock"]} for row in batch]
            levels = inventory.call("PUT", "/v1/stock/openings", body=stock)["levels"]
            kept += _kept(levels, "sku", "on_hand", {row["sku"]: row["stock"] for row in batch})
            # Last, so that no price is live whose stock is not.
            checkout.call("PUT", "/v1/catalogue", body={"products": products})
            advance(len(batch))
    return kept


def load_customers(stack: Running, records: Iterable[Record], total: int) -> list[Kept]:
    """Open accounts in loyalty. An account that is known stays as it is.

    Returns the accounts whose opening is another one. Raises Refused or Unreachable.
    """
    kept: list[Kept] = []
    with stack.api("loyalty") as loyalty, progress("customers", total) as advance:
        for batch in batches(records):
            accounts = loyalty.call("PUT", "/v1/accounts/openings", body=batch)["accounts"]
            kept += _kept(accounts, "customer_id", "balance", {row["customer_id"]: row["points"] for row in batch})
            advance(len(batch))
    return kept


def replenish(stack: Running, seed: SeedData, key: str) -> None:
    """Let as much come in as the seed data's products and customers have less than at first, once for a key.

    Raises Refused or Unreachable.
    """
    with stack.api("inventory") as inventory, stack.api("loyalty") as loyalty:
        for number, rows in enumerate(batches(seed.products)):
            wanted = {row["sku"]: row["stock"] for row in rows}
            stock = [{"sku": sku, "units": units} for sku, units in wanted.items()]
            levels = inventory.call("PUT", "/v1/stock/openings", body=stock)["levels"]
            received = [
                {"sku": sku, "kind": "received", "units": units, "reason": DELIVERY}
                for sku, units in _missing(levels, "sku", "on_hand", wanted)
            ]
            _move(inventory, "/v1/stock/movements", received, f"{key}-{number}")
        for number, rows in enumerate(batches(seed.customers)):
            wanted = {row["customer_id"]: row["points"] for row in rows}
            accounts = loyalty.call("PUT", "/v1/accounts/openings", body=rows)["accounts"]
            granted = [
                {"customer_id": customer_id, "kind": "granted", "points": points, "reason": DELIVERY}
                for customer_id, points in _missing(accounts, "customer_id", "balance", wanted)
            ]
            _move(loyalty, "/v1/accounts/movements", granted, f"{key}-{number}")


def _kept(levels: Iterable[Json], item: str, free: str, wanted: Mapping[Any, Any]) -> Iterator[Kept]:
    for level in levels:
        if level["opened"] != wanted[level[item]]:
            yield Kept(item=level[item], opened=level["opened"], free=level[free], wanted=wanted[level[item]])


def _missing(levels: Iterable[Json], item: str, free: str, wanted: Mapping[Any, Any]) -> Iterator[tuple[str, int]]:
    for level in levels:
        if level[free] < wanted[level[item]]:
            yield level[item], wanted[level[item]] - level[free]


def _move(api: Api, path: str, movements: Sequence[Json], key: str) -> None:
    if movements:
        api.call("POST", path, body=movements, headers={"Idempotency-Key": key})


def batches(items: Iterable[Item], size: int = LOAD_ROWS) -> Iterator[Sequence[Item]]:
    """Yield the items in lists of up to ``size``."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
