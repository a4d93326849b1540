"""What a person sees of a demo run: its progress, its result, and the timelines of a few orders."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from baraza import timeline
from baraza.demo.result import DemoProgress, DemoResult
from baraza.demo.returns import Returned, ReturnOutcome
from baraza.percentiles import percentile
from baraza.system.running import TRACKER_API, Running
from baraza.terminal import console, is_interactive, notify

if TYPE_CHECKING:
    from rich.table import Table

LINE_EVERY_S = 5.0
"""Between lines of progress where stderr is not a terminal."""
REASONS_SHOWN_MAX = 12
INSTRUCTIVE = ("timed_out", "exhausted", "book_shipment", "capture_payment", "burn_loyalty_points", "reserve_inventory")
"""Which compensated order to show: one whose outcome contains the first of these words; it shows the most."""


@contextmanager
def progress_shown() -> Iterator[Callable[[DemoProgress], None]]:
    """Yield a function that shows the progress: a changing table on a terminal, else a line now and then."""
    if is_interactive():
        from rich.live import Live

        with Live(console=console(to_stderr=True), transient=True, refresh_per_second=4) as live:
            yield lambda progress: live.update(_table(progress))
        return
    shown_at_s = time.monotonic()

    def show(progress: DemoProgress) -> None:
        nonlocal shown_at_s
        if time.monotonic() - shown_at_s >= LINE_EVERY_S:
            shown_at_s = time.monotonic()
            notify(
                f"{progress.elapsed_s:6.1f} s  {progress.submitted} of {progress.orders} submitted, "
                f"{progress.refused} refused, {progress.tally.open} open, {progress.tally.confirmed} confirmed, "
                f"{progress.tally.cancelled_total} cancelled"
            )

    yield show


def _table(progress: DemoProgress) -> Table:
    from rich.box import SIMPLE
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    tally = progress.tally
    table = Table(box=SIMPLE, show_header=False, pad_edge=False)
    table.add_column(justify="right")
    table.add_column()
    done = progress.refused + tally.settled
    table.add_row(f"{done} of {progress.orders}", ProgressBar(total=progress.orders, completed=done, width=40))
    table.add_row(f"{progress.elapsed_s:.1f} s", f"{tally.settled / max(progress.elapsed_s, 0.1):.0f} orders a second")
    table.add_row(str(tally.open), "open")
    table.add_row(str(tally.confirmed), "confirmed")
    for reason, count in list(tally.cancelled.items())[:REASONS_SHOWN_MAX]:
        table.add_row(str(count), f"cancelled · {reason}")
    if tally.parked:
        table.add_row(str(tally.parked), "parked")
    table.add_row(str(progress.refused), "refused at intake")
    return table


def write_result(stack: Running, result: DemoResult, returned: Returned, write: Callable[[str], None]) -> None:
    """Write the figures, and the timelines of some orders and of a return. Raises Refused or Unreachable."""
    _write_figures(result, write)
    _write_returns(returned, write)
    shown = instructive_return(returned)
    with stack.api(TRACKER_API) as tracker:
        for saga_id in (*instructive(result.examples, result.late_example), *([shown.return_id] if shown else [])):
            write("")
            timeline.write(tracker.get(f"/v1/sagas/{saga_id}/timeline"), write)
    write("")


def _write_figures(result: DemoResult, write: Callable[[str], None]) -> None:
    speed = f"{result.orders_per_s:.0f} a second while they were submitted"
    write(f"{result.intake.total:>8}  orders in {result.took_s:.1f} s, {speed}")
    write(f"{result.tally.confirmed:>8}  confirmed")
    write(f"{result.tally.cancelled_total:>8}  cancelled and compensated")
    for reason, count in list(result.tally.cancelled.items())[:REASONS_SHOWN_MAX]:
        write(f"{count:>14}  {reason}")
    write(f"{result.intake.refused.total():>8}  refused at intake")
    for reason, count in result.intake.refused.most_common(REASONS_SHOWN_MAX):
        write(f"{count:>14}  {reason}")
    if result.tally.parked:
        write(f"{result.tally.parked:>8}  parked")
    write(f"{result.late_successes:>8}  late successes, compensated")
    p50, p99 = (percentile(result.latencies_ms, share) for share in (0.50, 0.99))
    if p50 is not None:
        write(f"{p50:>8.0f}  ms from submission to outcome (median), {p99:.0f} ms for 99 of 100")


def _write_returns(returned: Returned, write: Callable[[str], None]) -> None:
    write(f"{len(returned.outcomes):>8}  returns of confirmed orders")
    for summary, count in returned.by_summary().most_common():
        write(f"{count:>14}  {summary}")


def instructive_return(returned: Returned) -> ReturnOutcome | None:
    """Return which return to show: a completed one, if there is one."""
    return next(iter([*returned.completed, *returned.outcomes]), None)


def instructive(examples: Mapping[str, str], late: str | None) -> list[str]:
    """Return which orders to show: a confirmed one, and a compensated one, a late success if there was one."""
    cancelled = {outcome: order_id for outcome, order_id in examples.items() if outcome != "confirmed"}
    chosen = next((each for word in INSTRUCTIVE for each in cancelled if word in each), next(iter(cancelled), None))
    found = [examples.get("confirmed"), late or (cancelled.get(chosen) if chosen else None)]
    return [order_id for order_id in found if order_id]
