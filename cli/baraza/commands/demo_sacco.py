"""``baraza demo sacco``: a SACCO's day over mobile money with a provider that fails, then its dividends."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza.commands.options import COUNT_MAX, SEED_MAX, Home, Json, finite
from baraza.terminal import FOUND_A_PROBLEM, notify, progress, put, put_json, stop

if TYPE_CHECKING:
    from baraza.demo.sacco.closing import Closed
    from baraza.demo.sacco.plan import Plan
    from baraza.demo.sacco.result import DemoOfSacco
    from baraza.storefront.sacco.people import People
    from baraza.system.running import Running

SAGAS = (
    "member_onboarding", "collection", "receipt", "suspense_allocation", "withdrawal", "loan_disbursement",
    "dividend_payout", "loan_repayment", "return_receipt", "dividend_run", "dividend_chunk", "dividend_wave",
    "end_of_day", "manual_posting",
)  # fmt: skip
AUDIT_WAIT_S = 60.0
MEMBERS_MAX = 50_000
LINES_MAX = 100_000
DAY_MAX_S = 86_400.0
BESIDE = 4
"""Members take out beside the dividends for this part of a day."""

Members = Annotated[int, typer.Option("--members", min=20, max=MEMBERS_MAX, metavar="NUMBER", help="Who act.")]
Acts = Annotated[
    int, typer.Option("--acts", min=20, max=COUNT_MAX, metavar="NUMBER", help="What they do in the day, all together.")
]
Lines = Annotated[
    int, typer.Option("--lines", min=2, max=LINES_MAX, metavar="NUMBER", help="Lines of the dividend run, at least.")
]
DayLength = Annotated[
    float,
    typer.Option("--day", min=1.0, max=DAY_MAX_S, callback=finite, metavar="SECONDS", help="How long the day takes."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=SEED_MAX, help="Seed of members, acts and faults.")]
Keep = Annotated[bool, typer.Option("--keep", help="Leave the stack up afterwards.")]


def sacco(
    members: Members = 2_000,
    acts: Acts = 3_000,
    lines: Lines = 10_000,
    day: DayLength = 240.0,
    seed: Seed = 1,
    keep: Keep = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let members pay in, take out and repay for a day, close it against the statement, and pay dividends.

    The provider's callbacks are late, doubled and lost, prompts are paid after they were cancelled, a payout that timed
    out in its queue is paid, and the float runs out at noon. Members and what they do are synthetic.
    Exit status 1 unless the day is closed, every row of the statement is matched and the audit is green.
    """
    from baraza.audit import console
    from baraza.commands.demo import running_stack
    from baraza.demo.sacco import plan as plans
    from baraza.demo.sacco import result as results

    write = notify if as_json else put
    planned = plans.plan(members=members, acts=acts, lines=lines, seed=seed, run=int(datetime.now(UTC).timestamp()))
    with running_stack(home, keep=keep) as stack:
        for saga in SAGAS:
            stack.require(saga)
        result = _run(stack, planned, members, day)
        results.write(result, write)
        console.show(result.report, write)
    if as_json:
        put_json(result.summary())
    if not result.is_good:
        stop(FOUND_A_PROBLEM)


def _run(stack: Running, plan: Plan, members: int, length_s: float) -> DemoOfSacco:
    from baraza.audit import console
    from baraza.demo.sacco import day as days
    from baraza.demo.sacco.result import DemoOfSacco
    from baraza.storefront.sacco import dividends, registering, treasury
    from baraza.storefront.sacco.people import people
    from baraza.system import providers

    began_at, began_s, run = datetime.now(UTC), time.monotonic(), plan.ids[0][:-5]
    day, dividend_run = days.Day(), f"{run}-DIV"
    with people(stack) as staff:
        treasury.bring_float(staff, treasury.FLOAT_MINOR)
        with progress("members registered", len(plan.members)) as advance:
            registering.register(staff, plan.members, advance)
        treasury.await_float(staff)
        with treasury.treasury(staff) as watched, providers.faults(stack, providers.MOBILE_MONEY_FAULTS):
            notify(f"Paying out {len(plan.loans)} loans.")
            loans = days.pay_out_loans(staff, plan)
            with progress("of the day's acts", len(plan.acts)) as advance:
                days.live(staff, day, plan.acts, run, length_s, advance)
            dividends.begin(staff, dividend_run)
            with progress("withdrawals while dividends are paid", len(plan.beside)) as advance:
                days.live(staff, day, plan.beside, run, length_s / BESIDE, advance)
            days.settle(staff, day, notify)
            paid_out = dividends.finish(staff, dividend_run)
        in_doubt, closed = _close(staff, began_at)
        unallocated = list(days.receipts(staff, "SUSPENSE"))
    return DemoOfSacco(
        members=members,
        loans=loans,
        day=day,
        lanes_paused=watched.paused,
        dividends=paid_out,
        in_doubt=in_doubt,
        unallocated=unallocated,
        closed=closed,
        report=console.run(stack, AUDIT_WAIT_S),
        took_s=time.monotonic() - began_s,
    )


def _close(staff: People, began_at: datetime) -> tuple[Sequence[Mapping[str, Any]], list[Closed]]:
    """Import the statements, book what treasury moved, and close each day. Return what is in doubt, and the days."""
    from baraza.demo.sacco import closing
    from baraza.storefront.sacco import statements

    notify("Importing the statements.")
    for each in statements.days_since(began_at, datetime.now(UTC)):
        statements.import_statements(staff, each)
        closing.book_float(staff, each)
    in_doubt = closing.wait_for_doubt(staff)
    return in_doubt, [closing.close(staff, each) for each in statements.days_since(began_at, datetime.now(UTC))]
