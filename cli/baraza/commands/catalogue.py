"""``baraza catalogue`` and ``baraza customers``: products with their stock, customers with their points."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza.commands.options import Commands, Home, Json, check_key, check_reason
from baraza.repetition import repeatable
from baraza.storefront import seed, tabular
from baraza.storefront.inputs import rereadable
from baraza.system import running
from baraza.terminal import Refusal, UsageRefusal, notify, put, put_json

if TYPE_CHECKING:
    from baraza.storefront.seed import Kept

catalogue_app = Commands(no_args_is_help=True, help="Products, their prices and their stock.")
customers_app = Commands(no_args_is_help=True, help="Customers and their points.")

KEPT_SHOWN_MAX = 5

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="A CSV file with a header line; - for stdin.", show_default=False)
]
Sku = Annotated[str, typer.Argument(metavar="SKU", help="The product.", show_default=False)]
Customer = Annotated[str, typer.Argument(metavar="CUSTOMER", help="The customer's id.", show_default=False)]
Units = Annotated[
    int,
    typer.Option(
        "--units", max=seed.STOCK_MAX, min=-seed.STOCK_MAX, help="How many; -3 takes out.", show_default=False
    ),
]
Points = Annotated[
    int,
    typer.Option(
        "--points", max=seed.POINTS_MAX, min=-seed.POINTS_MAX, help="How many; -3 withdraws.", show_default=False
    ),
]
Expected = Annotated[
    int,
    typer.Option(
        "--expected",
        min=0,
        max=seed.STOCK_MAX,
        help="on_hand as `catalogue stock` showed it when the count began.",
        show_default=False,
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Kept with the movement.", show_default=False)]
Key = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="The same key moves once, however often it is sent.", show_default=False),
]


@catalogue_app.command("load")
def load_catalogue(file: File, home: Home = None, as_json: Json = False) -> None:
    """Load products, prices and stock (CSV: sku, name, price_minor, currency, stock).

    Prices are replaced. The stock is what a new product opens with; loading a file again changes no stock.
    """
    with rereadable(file) as found:
        read = partial(tabular.records, found.path, seed.CATALOGUE, key="sku", name=found.name)
        total = _counted(read(), found.name)
        kept = seed.load_catalogue(running.find(home), read(), total)
    put_json({"products": total, "stock_kept": len(kept)}) if as_json else notify(f"Loaded {total} products.")
    _check(kept, "products", "on hand", "catalogue receive, count or correct")


@customers_app.command("load")
def load_customers(file: File, home: Home = None, as_json: Json = False) -> None:
    """Load customers and their points (CSV: customer_id, points).

    The points are what a new account opens with; loading a file again changes no account.
    """
    with rereadable(file) as found:
        read = partial(tabular.records, found.path, seed.CUSTOMERS, key="customer_id", name=found.name)
        total = _counted(read(), found.name)
        kept = seed.load_customers(running.find(home), read(), total)
    put_json({"customers": total, "points_kept": len(kept)}) if as_json else notify(f"Loaded {total} customers.")
    _check(kept, "customers", "left", "customers grant or correct")


def _counted(records: Iterator[object], name: str) -> int:
    """Return the number of records. Raises UsageRefusal where there is none: what should have written them failed."""
    if total := sum(1 for _ in records):
        return total
    raise UsageRefusal(f"{name} has no line below its header, so there is nothing to load.")


def _check(kept: Sequence[Kept], noun: str, left: str, commands: str) -> None:
    """Raise Refusal where the file states another opening than the one that is known."""
    if kept:
        shown = "; ".join(
            f"{each.item}: opened with {each.opened}, the file has {each.wanted}, {each.free} are {left}"
            for each in kept[:KEPT_SHOWN_MAX]
        )
        more = f"; {len(kept) - KEPT_SHOWN_MAX} more" if len(kept) > KEPT_SHOWN_MAX else ""
        raise Refusal(
            f"{len(kept)} {noun} were known and keep what they have ({shown}{more}). "
            f"Enter what changed with ./baraza {commands}."
        )


@catalogue_app.command("stock")
def show_stock(sku: Sku, home: Home = None, as_json: Json = False) -> None:
    """Show a product's stock: opened with, received in all, on hand."""
    path = f"/v1/stock/{_segment(sku)}"
    with running.find(home).api("inventory") as inventory:
        level = inventory.get(path)
        put_json(level) if as_json else put(_stock(level))


@catalogue_app.command("receive")
def receive(sku: Sku, units: Units, reason: Reason, key: Key = None, home: Home = None, as_json: Json = False) -> None:
    """Record that units of a product came in."""
    _move_stock({"sku": sku, "kind": "received", "units": units, "reason": reason}, key, home, as_json=as_json)


@catalogue_app.command("count")
def count(
    sku: Sku,
    units: Units,
    expected: Expected,
    reason: Reason,
    key: Key = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Record a count: the difference to what was expected when it began, whatever was sold meanwhile."""
    counted = {"sku": sku, "kind": "counted", "units": units, "expected": expected, "reason": reason}
    _move_stock(counted, key, home, as_json=as_json)


@catalogue_app.command("correct")
def correct_stock(
    sku: Sku, units: Units, reason: Reason, key: Key = None, home: Home = None, as_json: Json = False
) -> None:
    """Correct a product's stock by a difference."""
    _move_stock({"sku": sku, "kind": "corrected", "units": units, "reason": reason}, key, home, as_json=as_json)


@customers_app.command("grant")
def grant(
    customer: Customer, points: Points, reason: Reason, key: Key = None, home: Home = None, as_json: Json = False
) -> None:
    """Grant a customer points."""
    _move_points(
        {"customer_id": customer, "kind": "granted", "points": points, "reason": reason}, key, home, as_json=as_json
    )


@customers_app.command("correct")
def correct_points(
    customer: Customer, points: Points, reason: Reason, key: Key = None, home: Home = None, as_json: Json = False
) -> None:
    """Correct a customer's points by a difference."""
    _move_points(
        {"customer_id": customer, "kind": "corrected", "points": points, "reason": reason}, key, home, as_json=as_json
    )


def _move_stock(movement: Mapping[str, Any], key: str | None, home: Path | None, *, as_json: bool) -> None:
    with _moved("inventory", "/v1/stock/movements", "levels", movement, key, home) as level:
        put_json(level) if as_json else put(_stock(level))


def _move_points(movement: Mapping[str, Any], key: str | None, home: Path | None, *, as_json: bool) -> None:
    with _moved("loyalty", "/v1/accounts/movements", "accounts", movement, key, home) as account:
        put_json(account) if as_json else put(
            f"{account['customer_id']}: {account['balance']} points left of {account['granted']} granted"
        )


@contextmanager
def _moved(
    service: str, path: str, balances: str, movement: Mapping[str, Any], key: str | None, home: Path | None
) -> Iterator[Mapping[str, Any]]:
    """Send one movement, under a key that is written to stderr, and yield the new balance for the block to write.

    With the key the call can be repeated safely, which an error in the block states too.
    """
    from chassis.wire.envelope import new_id

    check_reason(str(movement["reason"]))
    check_key(key)
    chosen = key or new_id()
    option = f"--idempotency-key {shlex.quote(chosen)}"
    with running.find(home).api(service) as api:
        notify(f"Repeat it safely with {option}")
        again = f"Repeat the command safely with {option}"
        with repeatable("Whether the movement was recorded is unknown.", again) as outcome:
            balance = api.call("POST", path, body=[movement], headers={"Idempotency-Key": chosen})[balances][0]
            outcome.text = "The movement was recorded."
            yield balance


def _segment(sku: str) -> str:
    """Return a SKU as it stands in a path. Raises UsageRefusal where it can be none."""
    from urllib.parse import quote

    from chassis.http.fields import SKU_LENGTH_MAX
    from chassis.values.text import identifier

    try:
        found = identifier(sku, length_max=SKU_LENGTH_MAX)
    except ValueError as error:
        raise UsageRefusal(f"The SKU {sku!a}: {error}.") from error
    if not found.strip("."):
        raise UsageRefusal(f"The SKU {found!r} cannot stand in a path; query it with SQL, or give it another one.")
    return quote(found, safe="")


def _stock(level: Mapping[str, Any]) -> str:
    return f"{level['sku']}: {level['on_hand']} on hand of {level['received']} received"
