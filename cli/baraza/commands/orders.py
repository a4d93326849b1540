"""``baraza orders``: submit, replay, show and cancel orders through checkout."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza.commands.options import (
    COUNT_MAX,
    ORDER_SAGA,
    RATE_MAX,
    Commands,
    Home,
    Json,
    Order,
    as_argument,
    check_key,
    command,
    finite,
    order_id,
)
from baraza.repetition import done, repeatable
from baraza.storefront.inputs import Input, rereadable
from baraza.system import running
from baraza.terminal import FOUND_A_PROBLEM, Advance, UsageRefusal, notify, progress, put, put_json, stop

if TYPE_CHECKING:
    from baraza.storefront.orderfile import Submission
    from baraza.storefront.replay import Intake, Result

app = Commands(no_args_is_help=True, help="Orders, as checkout knows them.")

DATASET = "dataset"
REASONS_SHOWN_MAX = 20
CANCELLED = "CANCELLED_COMPENSATED"

OrderFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="A JSON file with one body of POST /v1/orders; - for stdin.", show_default=False
    ),
]
Key = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="The same key returns the same order again.", show_default=False),
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="FILE|dataset",
        help="JSON Lines, one order a line, - for stdin; or the word dataset: the Complete Journey's baskets.",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--orders", min=1, max=COUNT_MAX, metavar="NUMBER", help="Only the first NUMBER orders.", show_default=False
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        min=0.1,
        max=RATE_MAX,
        callback=finite,
        help="Orders a second; unlimited if not given.",
        show_default=False,
    ),
]


@app.command()
def submit(file: OrderFile, key: Key = None, home: Home = None, as_json: Json = False) -> None:
    """Submit one order. Its idempotency key is written to stderr: with it the call can be repeated safely."""
    from baraza.storefront.bodies import json_of
    from baraza.storefront.orderfile import ORDERS, submission

    check_key(key)
    content = json_of(file, ORDERS)
    order = submission(content, str(file))
    own = content.get("idempotency_key")
    if None not in (own, key) and own != key:
        raise UsageRefusal(f"{file} has the idempotency key {own!r}, --idempotency-key is {key!r}; give one of them.")
    chosen = key or order.key
    again = command("orders", "submit", as_argument(file), "--idempotency-key", chosen, home=home)
    stack = running.find(home)
    stack.require(ORDER_SAGA)
    with stack.api("checkout") as checkout:
        notify(f"Idempotency key: {chosen}")
        repeat = f"Repeat it safely, under the key {chosen}: {again}"
        with repeatable("Whether the order was accepted is unknown.", repeat) as outcome:
            accepted = checkout.call("POST", "/v1/orders", body=order.body, headers={"Idempotency-Key": chosen})
            line = _line(accepted)
            outcome.text = f"The order was accepted as {accepted['order_id']}."
            put_json(accepted) if as_json else put(line)


@app.command()
def replay(source: Source, limit: Limit = None, rate: Rate = None, home: Home = None, as_json: Json = False) -> None:
    """Submit many orders through checkout's bulk path; submitting the same file again changes nothing.

    A line without an idempotency_key has one that follows from its number in the file and its bytes.
    For the dataset, its products, stock and customers are loaded first.
    """
    with ExitStack() as inputs:
        if source == DATASET:
            stack, submissions, total = _dataset(home, limit)
        else:
            found = inputs.enter_context(rereadable(Path(source)))
            stack, submissions, total = _file(home, found, limit)
        intake = _replayed(stack, submissions, total, rate, _again(source, limit, home), as_json=as_json)
    if intake.refused:
        stop(FOUND_A_PROBLEM)


def _again(source: str, limit: int | None, home: Path | None) -> str:
    options = () if limit is None else ("--orders", str(limit))
    return command("orders", "replay", as_argument(Path(source)), *options, home=home)


def _replayed(
    stack: running.Running,
    submissions: Iterable[Submission],
    total: int,
    rate: float | None,
    again: str,
    *,
    as_json: bool,
) -> Intake:
    """Replay, and report at its end, also at an early one, how far it came."""
    from baraza.storefront.replay import Intake

    intake = Intake()
    started_at_s = time.monotonic()
    is_whole = False
    try:
        _replay(stack, submissions, total, rate, intake, as_json=as_json)
        is_whole = True
    finally:
        notify(
            f"{intake.accepted} accepted, {intake.repeated} known already, {intake.refused.total()} refused "
            f"in {time.monotonic() - started_at_s:.1f} s."
        )
        for reason, count in intake.refused.most_common(REASONS_SHOWN_MAX):
            notify(f"{count:>8}  {reason} (first: {intake.examples[reason]})")
        if not is_whole:
            notify(
                f"Interrupted after {intake.total} of {total}; of those that follow, some may be accepted. "
                f"Each keeps its key, so this repeats it safely: {again}"
            )
    return intake


def _dataset(home: Path | None, limit: int | None) -> tuple[running.Running, Iterable[Submission], int]:
    """Load the dataset's seed data, and return the stack, the orders and their number."""
    from baraza.storefront import dataset, seed

    stack = running.find(home)
    stack.require(ORDER_SAGA)
    with progress("reading baskets"):
        workload = dataset.workload(limit or dataset.ALL_BASKETS, dataset.Mix())
    seed.load_workload(stack, workload)
    return stack, workload.submissions(prefix=""), workload.orders


def _file(home: Path | None, found: Input, limit: int | None) -> tuple[running.Running, Iterable[Submission], int]:
    """Check the whole file, and return the stack, the orders and their number."""
    from baraza.storefront import orderfile

    total = sum(1 for _ in islice(orderfile.read(found.path, found.name), limit))
    if not total:
        raise UsageRefusal(f"{found.name} has no order; expected one JSON object a line.")
    stack = running.find(home)
    stack.require(ORDER_SAGA)
    return stack, islice(orderfile.read(found.path, found.name), limit), total


def _replay(
    stack: running.Running,
    submissions: Iterable[Submission],
    total: int,
    rate: float | None,
    intake: Intake,
    *,
    as_json: bool,
) -> None:
    from baraza.storefront.replay import Replay, Unlimited

    def on_batch(advance: Advance, sent: Sequence[Submission], results: Sequence[Result]) -> None:
        advance(len(sent))
        if as_json:
            for order, result in zip(sent, results, strict=True):
                put_json({**result, "idempotency_key": order.key})

    with stack.api("checkout") as checkout, progress("orders", total) as advance:
        Replay(
            checkout=checkout, window=Unlimited(), rate=rate, intake=intake, on_batch=partial(on_batch, advance)
        ).run(submissions)


@app.command()
def show(order: Order, home: Home = None, as_json: Json = False) -> None:
    """Show an order as checkout knows it."""
    name = order_id(order)
    with running.find(home).api("checkout") as checkout:
        found = checkout.get(f"/v1/orders/{name}")
    put_json(found) if as_json else put("\n".join(_description(found)))


@app.command()
def cancel(order: Order, home: Home = None, as_json: Json = False) -> None:
    """Request the cancellation of an order, as its customer would."""
    name = order_id(order)
    with running.find(home).api("checkout") as checkout:
        found = checkout.call("POST", f"/v1/orders/{name}/cancel")
    see = command("orders", "show", name, home=home)
    with done(f"The cancellation of {name} was requested all the same. See what became of it: {see}"):
        put_json(found) if as_json else put(_line(found))


def _line(order: dict[str, Any]) -> str:
    return f"{order['order_id']}  {order['state']}  {order['message']}"


def _description(order: dict[str, Any]) -> Iterator[str]:
    from chassis.values.money import shown

    yield _line(order)
    if order.get("reason"):
        yield f"reason      {order['cause']}: {order['reason']}"
    yield f"customer    {order['customer_id']}"
    yield f"submitted   {order['submitted_at']}"
    if order.get("decided_at"):
        yield f"decided     {order['decided_at']}"
    yield _amounts(order)
    for line in order["lines"]:
        yield f"{line['quantity']:>10} × {line['sku']}  {shown(line['unit_price_minor'], order['currency'])}"


def _amounts(order: dict[str, Any]) -> str:
    """Return what the card pays. A cancelled order has only what it would have paid: the card is not charged."""
    from chassis.values.money import shown

    payable, total = (shown(order[name], order["currency"]) for name in ("payable_minor", "total_minor"))
    points = f", {order['points_to_burn']} by points" if order["points_to_burn"] else ""
    if order["state"] == CANCELLED:
        return f"payable     nothing; the order was for {total}{points}"
    return f"payable     {payable} of {total}{points}"
