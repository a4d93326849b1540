"""``baraza demo``: the whole system at work on real orders, from nothing, in one command."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baraza import running
from baraza.commands import audit as audit_command
from baraza.commands import load, sagas
from baraza.commands import stack as stack_command
from baraza.commands.options import Home, Json
from baraza.terminal import FOUND_A_PROBLEM, Refusal, is_interactive, progress, put, put_json, say, stop

if TYPE_CHECKING:
    from rich.table import Table

    from baraza.demo import Glance, Outcome

LINE_EVERY_S = 5.0
"""Between lines of progress where nobody watches a terminal."""
REASONS_SHOWN_MAX = 12
TELLING = ("timed_out", "exhausted", "book_shipment", "capture_payment", "burn_loyalty_points", "reserve_inventory")
"""Which compensated order to tell of: the first of these that there is; it shows the most."""
AUDIT_WAIT_S = 60.0


def demo(
    orders: Annotated[
        int,
        typer.Option(
            "--orders", min=1, metavar="NUMBER", help="Baskets to replay, from the first; 155000 is the whole year."
        ),
    ] = 2_000,
    seed: Annotated[int, typer.Option("--seed", help="Which cards, addresses and products fail.")] = 1,
    in_flight: Annotated[
        int, typer.Option("--in-flight", min=1, metavar="NUMBER", help="Orders that may be open at a time.")
    ] = 200,
    rate: Annotated[
        float | None,
        typer.Option("--rate", min=0.1, metavar="NUMBER", help="Orders a second, at most.", show_default=False),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up afterwards.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Replay a retailer's baskets through the whole stack, failures included, and audit the result.

    Starts a stack if none is up, and takes down what it started. Faults that were set at the simulators are replaced.
    Exit status 1 unless every order is CONFIRMED or CANCELLED_COMPENSATED and the audit is green.
    """
    from baraza import demo as engine
    from baraza.dataset import Mix
    from baraza.dataset import work as prepare

    write = say if as_json else put
    with progress("reading baskets"):
        work = prepare(orders, Mix(seed=seed))
    with _stack(home, keep=keep) as stack:
        load.put_dataset(stack, work)
        say(f"Replaying {work.orders} orders.")
        with engine.faults(stack), _shown() as show:
            outcome = engine.run(stack, work, in_flight=in_flight, rate=rate, show=show)
        report = audit_command.run(stack, AUDIT_WAIT_S)
        _write_outcome(outcome, write)
        _write_timelines(stack, outcome, write)
        audit_command.show(report, write)
        summary = outcome.summary(report)
    if as_json:
        put_json(summary)
    if outcome.stuck:
        raise Refusal(outcome.stuck)
    if outcome.tally.parked:
        raise Refusal(
            f"{outcome.tally.parked} orders are parked: {', '.join(outcome.unfinished)}. See their timelines."
        )
    if not report.is_green:
        stop(FOUND_A_PROBLEM)


@contextmanager
def _stack(home: Path | None, *, keep: bool) -> Iterator[running.Running]:
    """Yield a stack that is up; one that was not up before is taken down afterwards, unless it is to be kept.

    A stack elsewhere is taken as it is.
    """
    there = running.elsewhere()
    if there is not None:
        yield there
        return
    was_up = running.is_up(home)
    started_at_s = time.monotonic()
    stack = stack_command.start(home)
    if not was_up:
        say(f"Stack up in {time.monotonic() - started_at_s:.0f} s.")
    try:
        yield running.Running(stack=stack)
    finally:
        if not was_up and not keep:
            with stack_command.watching() as watch:
                stack.down(watch)
            say("Stack taken down; its data stays. Keep it up with --keep.")


@contextmanager
def _shown() -> Iterator[Callable[[Glance], None]]:
    """Yield what shows how far the run is: a table that changes on a terminal, a line now and then elsewhere."""
    if is_interactive():
        from rich.live import Live

        from baraza.terminal import console

        with Live(console=console(to_stderr=True), transient=True, refresh_per_second=4) as live:
            yield lambda glance: live.update(_table(glance))
        return
    said_at_s = time.monotonic()

    def show(glance: Glance) -> None:
        nonlocal said_at_s
        if time.monotonic() - said_at_s >= LINE_EVERY_S:
            said_at_s = time.monotonic()
            say(
                f"{glance.elapsed_s:6.1f} s  {glance.submitted} of {glance.orders} submitted, "
                f"{glance.refused} refused, {glance.tally.open} open, {glance.tally.confirmed} confirmed, "
                f"{glance.tally.cancelled_total} cancelled"
            )

    yield show


def _table(glance: Glance) -> Table:
    from rich.box import SIMPLE
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table(box=SIMPLE, show_header=False, pad_edge=False)
    table.add_column(justify="right")
    table.add_column()
    done = glance.refused + glance.tally.ended
    table.add_row(f"{done} of {glance.orders}", ProgressBar(total=glance.orders, completed=done, width=40))
    table.add_row(f"{glance.elapsed_s:.1f} s", f"{glance.tally.ended / max(glance.elapsed_s, 0.1):.0f} orders a second")
    table.add_row(str(glance.tally.open), "open")
    table.add_row(str(glance.tally.confirmed), "confirmed")
    for reason, count in list(glance.tally.cancelled.items())[:REASONS_SHOWN_MAX]:
        table.add_row(str(count), f"cancelled · {reason}")
    if glance.tally.parked:
        table.add_row(str(glance.tally.parked), "parked")
    table.add_row(str(glance.refused), "refused at intake")
    return table


def _write_outcome(outcome: Outcome, write: Callable[[str], None]) -> None:
    from baraza.demo import percentile

    speed = f"{outcome.orders_per_s:.0f} a second while they were submitted"
    write(f"{outcome.intake.total:>8}  orders in {outcome.took_s:.1f} s, {speed}")
    write(f"{outcome.tally.confirmed:>8}  confirmed")
    write(f"{outcome.tally.cancelled_total:>8}  cancelled and compensated")
    for reason, count in list(outcome.tally.cancelled.items())[:REASONS_SHOWN_MAX]:
        write(f"{count:>14}  {reason}")
    write(f"{outcome.intake.refused.total():>8}  refused at intake")
    for reason, count in outcome.intake.refused.most_common(REASONS_SHOWN_MAX):
        write(f"{count:>14}  {reason}")
    if outcome.tally.parked:
        write(f"{outcome.tally.parked:>8}  parked")
    write(f"{outcome.late_successes:>8}  late successes, compensated")
    p50, p99 = (percentile(outcome.latencies_ms, share) for share in (0.50, 0.99))
    if p50 is not None:
        write(f"{p50:>8.0f}  ms from submission to decision (median), {p99:.0f} ms for 99 of 100")


def _write_timelines(stack: running.Running, outcome: Outcome, write: Callable[[str], None]) -> None:
    for order_id in told(outcome.examples, outcome.late_example):
        write("")
        sagas.write_timeline(stack, order_id, write)
    write("")


def told(examples: Mapping[str, str], late: str | None) -> list[str]:
    """Return which orders to tell of: a confirmed one, and a compensated one, with a late success if there was one."""
    cancelled = {what: order_id for what, order_id in examples.items() if what != "confirmed"}
    telling = next((what for mark in TELLING for what in cancelled if mark in what), next(iter(cancelled), None))
    chosen = [examples.get("confirmed"), late or (cancelled.get(telling) if telling else None)]
    return [order_id for order_id in chosen if order_id]
