"""``baraza catalogue load`` and ``baraza customers load``: what there is to buy, and who buys it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from baraza import running, tabular
from baraza.commands.options import Home, Json
from baraza.tabular import Column, Record
from baraza.terminal import progress, put_json, say

if TYPE_CHECKING:
    from baraza.dataset import Work

catalogue_app = typer.Typer(no_args_is_help=True, help="What there is to buy.")
customers_app = typer.Typer(no_args_is_help=True, help="Who buys it, and their points.")

LOAD_ROWS = 1_000
"""Rows a request; a request of this size takes some 50 ms."""

PRICE_MINOR_MAX = 10_000_000_000
STOCK_MAX = 1_000_000_000
POINTS_MAX = 1_000_000_000_000
"""What the services take at most: a line is refused here, by its number, before any other one is loaded."""

CATALOGUE = (
    Column(name="sku", parse=tabular.text(64), expects="a text of 1 to 64 characters"),
    Column(name="name", parse=tabular.text(200), expects="a text of 1 to 200 characters"),
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
    Column(name="customer_id", parse=tabular.text(128), expects="a text of 1 to 128 characters"),
    Column(
        name="points",
        parse=tabular.whole_number(POINTS_MAX),
        expects=f"a whole number of points, zero to {POINTS_MAX}",
    ),
)

Item = TypeVar("Item")
File = Annotated[Path, typer.Argument(metavar="FILE", help="A CSV file with a heading line.", show_default=False)]


@catalogue_app.command("load")
def load_catalogue(file: File, home: Home = None, as_json: Json = False) -> None:
    """Load products, prices and stock (CSV: sku, name, price_minor, currency, stock).

    What is loaded again is replaced: the stock becomes what the file says is on hand.
    """
    total = sum(1 for _ in tabular.records(file, CATALOGUE, key="sku"))
    put_catalogue(running.find(home), tabular.records(file, CATALOGUE, key="sku"), total)
    put_json({"products": total}) if as_json else say(f"Loaded {total} products.")


@customers_app.command("load")
def load_customers(file: File, home: Home = None, as_json: Json = False) -> None:
    """Load customers and their points (CSV: customer_id, points).

    What is loaded again is replaced: the balance becomes what the file says.
    """
    total = sum(1 for _ in tabular.records(file, CUSTOMERS, key="customer_id"))
    put_customers(running.find(home), tabular.records(file, CUSTOMERS, key="customer_id"), total)
    put_json({"customers": total}) if as_json else say(f"Loaded {total} customers.")


def put_catalogue(stack: running.Running, records: Iterator[Record], total: int) -> None:
    """Send products to checkout and their stock to inventory. Raises Refused or Unreachable."""
    with (
        stack.api("checkout") as checkout,
        stack.api("inventory") as inventory,
        progress("catalogue", total) as advance,
    ):
        for batch in batches(records):
            products = [{name: row[name] for name in ("sku", "name", "price_minor", "currency")} for row in batch]
            checkout.call("PUT", "/v1/catalogue", body={"products": products})
            stock = [{"sku": row["sku"], "on_hand": row["stock"]} for row in batch]
            inventory.call("PUT", "/v1/stock", body=stock)
            advance(len(batch))


def put_customers(stack: running.Running, records: Iterator[Record], total: int) -> None:
    """Send accounts to loyalty. Raises Refused or Unreachable."""
    with stack.api("loyalty") as loyalty, progress("customers", total) as advance:
        for batch in batches(records):
            loyalty.call("PUT", "/v1/accounts", body=batch)
            advance(len(batch))


def put_dataset(stack: running.Running, work: Work) -> None:
    """Load the products, the stock and the customers of the retailer's baskets. Raises Refused or Unreachable."""
    from baraza.dataset import CURRENCY

    products: Iterator[Record] = (
        {
            "sku": product.sku,
            "name": product.name,
            "price_minor": product.price_minor,
            "currency": CURRENCY,
            "stock": product.stock,
        }
        for product in work.products
    )
    put_catalogue(stack, products, len(work.products))
    customers: Iterator[Record] = (
        {"customer_id": customer_id, "points": points} for customer_id, points in work.customers
    )
    put_customers(stack, customers, len(work.customers))
    say(f"Loaded {len(work.products)} products and {len(work.customers)} customers.")


def batches(items: Iterator[Item], size: int = LOAD_ROWS) -> Iterator[Sequence[Item]]:
    """Yield the items in lists of up to ``size``."""
    while batch := list(islice(items, size)):
        yield batch
