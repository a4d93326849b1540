"""``baraza orders``: submit, replay, show and cancel orders through checkout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from baraza import running
from baraza.commands import load
from baraza.commands.options import Home, Json
from baraza.terminal import FOUND_A_PROBLEM, UsageRefusal, progress, put, put_json, say, stop

app = typer.Typer(no_args_is_help=True, help="Orders, as checkout takes them in and knows them.")

DATASET = "dataset"
REFUSALS_SHOWN_MAX = 20
Order = Annotated[str, typer.Argument(metavar="ORDER", help="The order's id.", show_default=False)]


@app.command()
def submit(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A JSON file with one body of POST /v1/orders; - for stdin.", show_default=False
        ),
    ],
    key: Annotated[
        str | None,
        typer.Option("--idempotency-key", help="The same key again returns the same order.", show_default=False),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Submit one order."""
    from baraza.orderfile import KEY_EXPECTED, is_key, submission

    if key is not None and not is_key(key):
        raise UsageRefusal(f"--idempotency-key {key!r}; expected {KEY_EXPECTED}.")
    order = submission(_json_of(file), str(file))
    with running.find(home).api("checkout") as checkout:
        headers = {"Idempotency-Key": key or order.key}
        answer = checkout.call("POST", "/v1/orders", body=order.body, headers=headers)
    put_json(answer) if as_json else put(f"{answer['order_id']}  {answer['state']}  {answer['message']}")


@app.command()
def replay(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|dataset",
            help="JSON Lines, one order a line, or the word dataset: the Complete Journey's baskets.",
            show_default=False,
        ),
    ],
    limit: Annotated[
        int | None, typer.Option("--orders", min=1, help="Only the first so many.", show_default=False)
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", min=0.1, help="Orders a second; without it, as fast as they are taken.", show_default=False
        ),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Submit many orders through checkout's bulk path; submitting the same file again changes nothing.

    The dataset's products, stock and customers are loaded first.
    """
    from itertools import islice

    from baraza import dataset, orderfile
    from baraza.replay import Boundless, Intake, Outcome
    from baraza.replay import replay as replay_orders

    if source == DATASET:
        stack = running.find(home)
        with progress("reading baskets"):
            work = dataset.work(limit or dataset.EVERYTHING, dataset.Mix())
        load.put_dataset(stack, work)
        submissions, total = work.submissions(prefix=""), work.orders
    else:
        total = sum(1 for _ in islice(orderfile.read(Path(source)), limit))
        submissions = islice(orderfile.read(Path(source)), limit)
        stack = running.find(home)
    intake = Intake()
    started_at = time.monotonic()
    with stack.api("checkout") as checkout, progress("orders", total) as advance:

        def on_batch(sent: Sequence[orderfile.Submission], results: Sequence[Outcome]) -> None:
            advance(len(sent))
            if as_json:
                for order, result in zip(sent, results, strict=True):
                    put_json({**result, "idempotency_key": order.key})

        replay_orders(submissions, checkout, window=Boundless(), rate=rate, intake=intake, on_batch=on_batch)
    took_s = time.monotonic() - started_at
    say(
        f"{intake.accepted} accepted, {intake.repeated} known already, {intake.refused.total()} refused "
        f"in {took_s:.1f} s."
    )
    for reason, count in intake.refused.most_common(REFUSALS_SHOWN_MAX):
        say(f"{count:>8}  {reason}")
    if intake.refused:
        stop(FOUND_A_PROBLEM)


@app.command()
def show(order: Order, home: Home = None, as_json: Json = False) -> None:
    """Show an order as checkout knows it."""
    name = order_id(order)
    with running.find(home).api("checkout") as checkout:
        answer = checkout.get(f"/v1/orders/{name}")
    put_json(answer) if as_json else _show(answer)


@app.command()
def cancel(order: Order, home: Home = None, as_json: Json = False) -> None:
    """Ask for the cancellation of an order, as its customer would."""
    name = order_id(order)
    with running.find(home).api("checkout") as checkout:
        answer = checkout.call("POST", f"/v1/orders/{name}/cancel")
    put_json(answer) if as_json else put(f"{answer['order_id']}  {answer['state']}  {answer['message']}")


def order_id(text: str) -> str:
    """Return the id as an address can carry it. Raises UsageRefusal where it is none."""
    name = text.strip()
    if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum() or len(name) > 64:
        raise UsageRefusal(f"{text!r} is not an order's id, which looks like 01JCZ3K8T0ABCDEFGHJKMNPQRS.")
    return name


def _json_of(file: Path) -> Any:
    from baraza.tabular import unreadable

    try:
        return json.loads(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(file, error) from error
    except (ValueError, RecursionError) as error:
        raise UsageRefusal(f"{file} is not JSON: {error}; expected one body of POST /v1/orders.") from error


def _show(order: dict[str, Any]) -> None:
    put("\n".join(_description(order)))


def _description(order: dict[str, Any]) -> Iterator[str]:
    yield f"{order['order_id']}  {order['state']}  {order['message']}"
    if order.get("reason"):
        yield f"why         {order['cause']}: {order['reason']}"
    yield f"customer    {order['customer_id']}"
    yield f"submitted   {order['submitted_at']}"
    if order.get("decided_at"):
        yield f"decided     {order['decided_at']}"
    points = f", {order['points_to_burn']} by points" if order["points_to_burn"] else ""
    payable, total = (money(order[name], order["currency"]) for name in ("payable_minor", "total_minor"))
    yield f"to pay      {payable} of {total}{points}"
    for line in order["lines"]:
        yield f"{line['quantity']:>10} × {line['sku']}  {money(line['unit_price_minor'], order['currency'])}"


def money(amount_minor: int, currency: str) -> str:
    """Return an amount as people read it, in a currency of hundred minor units."""
    return f"{currency} {amount_minor / 100:,.2f}"
