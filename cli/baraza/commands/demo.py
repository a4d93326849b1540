"""``baraza demo``: the whole system at work on real orders, from nothing, in one command."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baraza.commands import demo_payments, demo_sacco
from baraza.commands.options import COUNT_MAX, ORDER_SAGA, RATE_MAX, SEED_MAX, Home, Json, finite
from baraza.system import running
from baraza.terminal import FOUND_A_PROBLEM, Refusal, notify, progress, put, put_json, stop

if TYPE_CHECKING:
    from baraza.audit.report import Report
    from baraza.demo.result import DemoResult
    from baraza.demo.returns import Returned
    from baraza.storefront.dataset import Workload

AUDIT_WAIT_S = 60.0
RETURNS_MAX = 1_000
"""As many confirmed orders as a run remembers."""

Orders = Annotated[
    int,
    typer.Option(
        "--orders",
        min=1,
        max=COUNT_MAX,
        metavar="NUMBER",
        help="Number of baskets to replay; 155000 is the whole year.",
    ),
]
Seed = Annotated[
    int,
    typer.Option("--seed", min=0, max=SEED_MAX, help="Seed that selects the cards, addresses and products that fail."),
]
InFlight = Annotated[
    int,
    typer.Option("--in-flight", min=1, max=COUNT_MAX, metavar="NUMBER", help="Maximum number of open orders."),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        min=0.1,
        max=RATE_MAX,
        callback=finite,
        metavar="NUMBER",
        help="Maximum orders a second; unlimited if not given.",
        show_default=False,
    ),
]
Returns = Annotated[
    int,
    typer.Option(
        "--returns", min=0, max=RETURNS_MAX, metavar="NUMBER", help="Maximum number of confirmed orders to return from."
    ),
]
Keep = Annotated[bool, typer.Option("--keep", help="Leave the stack up afterwards.")]


app = typer.Typer(invoke_without_command=True)
app.command("payments")(demo_payments.payments)
app.command("sacco")(demo_sacco.sacco)


@app.callback()
def demo(
    context: typer.Context,
    orders: Orders = 2_000,
    seed: Seed = 1,
    in_flight: InFlight = 200,
    rate: Rate = None,
    returns: Returns = 21,
    keep: Keep = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Replay a retailer's baskets through the whole stack, failures and returns included, and audit the result.

    Starts a stack if none is up, and takes down what it started.
    Replaces the faults that are set at the simulators.
    Exit status 1 unless every order and return is CONFIRMED or CANCELLED_COMPENSATED and the audit is green.
    """
    if context.invoked_subcommand is not None:
        return
    write = notify if as_json else put
    with progress("reading baskets"):
        baskets = _baskets(orders, seed)
    with running_stack(home, keep=keep) as stack:
        result, returned, report = _replay(stack, baskets, write, in_flight=in_flight, rate=rate, returns=returns)
    if as_json:
        put_json(result.summary(returned, report))
    _check(result, returned, report)


def _baskets(orders: int, seed: int) -> Workload:
    from baraza.storefront.dataset import Mix, workload

    return workload(orders, Mix(seed=seed))


def _replay(
    stack: running.Running,
    baskets: Workload,
    write: Callable[[str], None],
    *,
    in_flight: int,
    rate: float | None,
    returns: int,
) -> tuple[DemoResult, Returned, Report]:
    """Replay the baskets with failures, return from some orders, audit everything, and write what came of it."""
    from baraza.audit import console
    from baraza.demo import returns as returning
    from baraza.demo import run as engine
    from baraza.demo import view
    from baraza.system import providers

    stack.require(ORDER_SAGA)
    _deliver(stack, baskets)
    notify(f"Replaying {baskets.orders} orders.")
    with providers.faults(stack), view.progress_shown() as show:
        result = engine.run(stack, baskets, in_flight=in_flight, rate=rate, show=show)
    returned = returning.run(stack, () if result.stuck else result.confirmed_orders[:returns])
    report = console.run(stack, AUDIT_WAIT_S)
    view.write_result(stack, result, returned, write)
    console.show(report, write)
    return result, returned, report


def _deliver(stack: running.Running, baskets: Workload) -> None:
    """Load the catalogue and the customers; what earlier runs on this stack have sold is delivered anew."""
    from baraza.storefront import seed as seeding
    from chassis.wire.envelope import new_id

    seeding.replenish(stack, seeding.load_workload(stack, baskets), f"demo-{new_id()}")


def _check(result: DemoResult, returned: Returned, report: Report) -> None:
    """End with status 1 unless every order and return has ended and the audit is green."""
    if result.stuck:
        raise Refusal(result.stuck)
    if result.tally.parked:
        raise Refusal(f"{result.tally.parked} orders are parked: {', '.join(result.unfinished)}. See their timelines.")
    if returned.unfinished:
        named = ", ".join(f"{each.return_id} ({each.state})" for each in returned.unfinished)
        raise Refusal(f"{len(returned.unfinished)} returns have not ended: {named}. See their timelines.")
    if not report.is_green:
        stop(FOUND_A_PROBLEM)


@contextmanager
def running_stack(home: Path | None, *, keep: bool) -> Iterator[running.Running]:
    """Yield a stack that is up; unless ``keep``, one that this started is taken down afterwards.

    A stack elsewhere is used as it is.
    """
    from baraza.system.startup import progress_shown, start

    deployed = running.elsewhere()
    if deployed is not None:
        yield deployed
        return
    was_up = running.is_up(home)
    started_at_s = time.monotonic()
    stack = start(home)
    if not was_up:
        notify(f"Stack up in {time.monotonic() - started_at_s:.0f} s.")
    try:
        yield running.Running(stack=stack)
    finally:
        if not was_up and not keep:
            with progress_shown() as watch:
                stack.down(watch)
            notify("Stack taken down; its data is kept. Leave it up with --keep.")
        elif keep:
            notify(f"Look at it: {stack.endpoints.url(running.CONSOLE)}")
