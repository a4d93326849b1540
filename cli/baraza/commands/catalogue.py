"""``baraza catalogue load`` and ``baraza customers load``: products with their stock, customers with their points."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from baraza.commands.options import Home, Json
from baraza.storefront import seed, tabular
from baraza.storefront.inputs import rereadable
from baraza.system import running
from baraza.terminal import notify, put_json

catalogue_app = typer.Typer(no_args_is_help=True, help="Products, their prices and their stock.")
customers_app = typer.Typer(no_args_is_help=True, help="Customers and their points.")

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="A CSV file with a header line; - for stdin.", show_default=False)
]


@catalogue_app.command("load")
def load_catalogue(file: File, home: Home = None, as_json: Json = False) -> None:
    """Load products, prices and stock (CSV: sku, name, price_minor, currency, stock).

    Loading replaces: the stock on hand becomes the number in the file.
    """
    with rereadable(file) as found:
        read = partial(tabular.records, found.path, seed.CATALOGUE, key="sku", name=found.name)
        total = sum(1 for _ in read())
        seed.load_catalogue(running.find(home), read(), total)
    put_json({"products": total}) if as_json else notify(f"Loaded {total} products.")


@customers_app.command("load")
def load_customers(file: File, home: Home = None, as_json: Json = False) -> None:
    """Load customers and their points (CSV: customer_id, points).

    Loading replaces: the balance becomes the number in the file.
    """
    with rereadable(file) as found:
        read = partial(tabular.records, found.path, seed.CUSTOMERS, key="customer_id", name=found.name)
        total = sum(1 for _ in read())
        seed.load_customers(running.find(home), read(), total)
    put_json({"customers": total}) if as_json else notify(f"Loaded {total} customers.")
