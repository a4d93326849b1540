"""The orders of a benchmark as texts for checkout's bulk path, and the seed data that they need."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import cycle
from typing import NamedTuple

from baraza.storefront.dataset import CURRENCY, UNDELIVERABLE, Workload
from baraza.storefront.seed import SeedData
from baraza.storefront.tabular import Record
from chassis.wire.envelope import new_id

SKUS = 500
CUSTOMERS = 10_000
STOCK = 1_000_000_000
"""More than any run sells, so that no order fails for lack of stock."""
PRICE_MINOR = 1_299
POINTS = 1_000_000_000
POINTS_TO_BURN = 10


class Order(NamedTuple):
    """One order or payment: its idempotency key, and the text of its body. A payment has a merchant besides."""

    key: str
    body: str
    merchant_id: str = ""

    @property
    def keyed(self) -> str:
        """The order as an item of the bulk path."""
        return f'{{"idempotency_key":"{self.key}",{self.body[1:]}'


def uniform_seed() -> SeedData:
    """Return SKUS products and CUSTOMERS customers."""
    return SeedData(
        products=tuple(_product(f"bench-{number}", PRICE_MINOR) for number in range(SKUS)),
        customers=tuple({"customer_id": f"bench-{number}", "points": POINTS} for number in range(CUSTOMERS)),
    )


def _product(sku: str, price_minor: int) -> Record:
    return {"sku": sku, "name": sku, "price_minor": price_minor, "currency": CURRENCY, "stock": STOCK}


def uniform_orders(*, rejected: float = 0.0, seed: int = 1) -> Iterator[Order]:
    """Yield orders of one line, products and customers uniformly distributed, each with a key of its own.

    The share ``rejected`` has an address that the courier refuses.
    """
    chance = random.Random(seed)
    run = new_id()
    number = 0
    while True:
        number += 1
        postal_code = UNDELIVERABLE if chance.random() < rejected else "45202"
        yield Order(
            f"{run}-{number}",
            f'{{"customer_id":"bench-{chance.randrange(CUSTOMERS)}",'
            f'"currency":"{CURRENCY}","lines":[{{"sku":"bench-{chance.randrange(SKUS)}","quantity":1}}],'
            f'"points_to_burn":{POINTS_TO_BURN},"payment_method":{{"token":"tok_bench"}},'
            f'"ship_to":{{"name":"A. Person","street":"1 Main Street","city":"Cincinnati",'
            f'"postal_code":"{postal_code}","country":"US"}}}}',
        )


def real_seed(workload: Workload) -> SeedData:
    """Return the products and customers of the retailer's baskets, with stock and points for any number of rounds."""
    return SeedData(
        products=tuple({**_product(each.sku, each.price_minor), "name": each.name} for each in workload.products),
        customers=tuple({"customer_id": customer_id, "points": POINTS} for customer_id, _ in workload.customers),
    )


def real_orders(workload: Workload) -> Iterator[Order]:
    """Yield the retailer's baskets in their order, round after round, each time with a new key.

    Baskets with lines that checkout refuses (no quantity, no price) are left out, because the saga is measured.
    """
    known = {product.sku: product.price_minor for product in workload.products}
    bodies = [
        json.dumps(each.body, separators=(",", ":"))
        for each in workload.submissions("")
        if all(0 < line["quantity"] <= 1_000 and known.get(line["sku"]) for line in each.body["lines"])
    ]
    run = new_id()
    for number, body in enumerate(cycle(bodies)):
        yield Order(f"{run}-{number}", body)
