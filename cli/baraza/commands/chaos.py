"""``baraza chaos``: the whole system under load and faults, and the verdict on every order, return and payment."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baraza.commands.options import RATE_MAX, SECONDS_MAX, SEED_MAX, Home, Json, finite
from baraza.terminal import FOUND_A_PROBLEM, UsageRefusal, notify, put, put_json, stop

if TYPE_CHECKING:
    from baraza.chaos.schedule import Kind
    from baraza.chaos.verdict import Verdict

CHOSEN_SEED_MAX = 2**31
OUTAGE_S_MAX = 600.0
"""More than three times as long as an order may take while every service is there."""
OUTAGE_SHARE = 1 / 3
OUTAGE_S_MIN = 10.0

Minutes = Annotated[
    float,
    typer.Option(
        "--minutes",
        min=0,
        max=SECONDS_MAX / 60,
        callback=finite,
        metavar="NUMBER",
        help="How long to inject faults; each kind at least once.",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", min=0, max=SEED_MAX, help="Seed of the fault schedule; random if not given.", show_default=False
    ),
]
Rate = Annotated[
    float,
    typer.Option("--rate", min=0, max=RATE_MAX, callback=finite, metavar="NUMBER", help="Orders a second, 0 for none."),
]
PaymentsRate = Annotated[
    float | None,
    typer.Option(
        "--payments-rate",
        min=0,
        max=RATE_MAX,
        callback=finite,
        metavar="NUMBER",
        help="Payments of merchants a second, 0 for none; 2 if not given, where the stack has their services.",
        show_default=False,
    ),
]
SaccoRate = Annotated[
    float | None,
    typer.Option(
        "--sacco-rate",
        min=0,
        max=RATE_MAX,
        callback=finite,
        metavar="NUMBER",
        help="What members of a SACCO do a second, 0 for nothing; 2 if not given, where the stack has their services.",
        show_default=False,
    ),
]
Outage = Annotated[
    float | None,
    typer.Option(
        "--outage",
        min=1,
        max=SECONDS_MAX,
        callback=finite,
        metavar="SECONDS",
        help=f"How long an outage lasts; a third of --minutes if not given, {OUTAGE_S_MAX:.0f} at most.",
        show_default=False,
    ),
]
Fault = Annotated[
    list[str] | None,
    typer.Option("--fault", metavar="KIND", help="Only faults of this kind; repeatable.", show_default=False),
]


def chaos(
    minutes: Minutes = 10.0,
    seed: Seed = None,
    rate: Rate = 5.0,
    payments_rate: PaymentsRate = None,
    sacco_rate: SaccoRate = None,
    outage: Outage = None,
    fault: Fault = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Put a separate stack under orders, returns, payments and members' money, inject faults, and check the outcome.

    The stack has two processes of each service and of the tracker. What has a rate of 0 is not started.
    Exit status 1 if an order, a return or a payment has neither ended nor is parked with a reason nor is queried for,
    if anything is lost or doubled, if the providers' own books diverge from the ledger,
    or if the audit is red; the stack's home is then kept.
    """
    from baraza.chaos.session import Plan, run

    kinds = _kinds(fault or [], rate, payments_rate, sacco_rate)
    chosen = random.randrange(CHOSEN_SEED_MAX) if seed is None else seed
    outage_s = max(OUTAGE_S_MIN, min(OUTAGE_S_MAX, minutes * 60 * OUTAGE_SHARE)) if outage is None else outage
    again = f"./baraza chaos --minutes {minutes:g} --seed {chosen} --rate {rate:g} --outage {outage_s:g}"
    again += "" if payments_rate is None else f" --payments-rate {payments_rate:g}"
    again += "" if sacco_rate is None else f" --sacco-rate {sacco_rate:g}"
    again += "".join(f" --fault {kind}" for kind in fault or ())
    write = notify if as_json else put
    write(f"Seed {chosen}. Repeat this run with: {again}")
    plan = Plan(
        minutes=minutes, seed=chosen, rate=rate, kinds=kinds, outage_s=outage_s, payments_rate=payments_rate,
        sacco_rate=sacco_rate,
    )  # fmt: skip
    verdict = _in_home(home, again, lambda folder: run(folder, plan, write))
    if as_json:
        put_json({"seed": chosen, "minutes": minutes, "rate": rate, "command": again, **verdict.to_json()})
    if verdict.violations:
        stop(FOUND_A_PROBLEM)


def _kinds(names: list[str], rate: float, payments_rate: float | None, sacco_rate: float | None) -> tuple[Kind, ...]:
    """Return the kinds of these names, or all. Raises UsageRefusal for one that is unknown or not available here."""
    from baraza.chaos.schedule import OF_ORDERS, OF_PAYMENTS, OF_SACCO, Kind
    from baraza.chaos.versions import with_history

    if unknown := set(names) - set(Kind):
        raise UsageRefusal(f"There is no fault {', '.join(sorted(unknown))}; known: {', '.join(Kind)}.")
    if rate == payments_rate == sacco_rate == 0:
        raise UsageRefusal("Nothing would be requested; leave one of --rate, --payments-rate and --sacco-rate above 0.")
    if rate == 0 and (unmet := set(names) & set(OF_ORDERS)):
        raise UsageRefusal(f"Only orders meet {', '.join(sorted(unmet))}; leave --rate 0 out.")
    if payments_rate == 0 and (unmet := set(names) & set(OF_PAYMENTS)):
        raise UsageRefusal(f"Only payments meet {', '.join(sorted(unmet))}; leave --payments-rate 0 out.")
    if sacco_rate == 0 and (unmet := set(names) & set(OF_SACCO)):
        raise UsageRefusal(f"Only members' money meets {', '.join(sorted(unmet))}; leave --sacco-rate 0 out.")
    if with_history():
        return tuple(Kind(name) for name in names or Kind)
    if Kind.ROLLBACK in names:
        raise UsageRefusal("A rollback needs the repository's history, which is not here; leave --fault rollback out.")
    notify("Left out: rollback, which needs the repository's history.")
    return tuple(Kind(name) for name in names or Kind if name != Kind.ROLLBACK)


def _in_home(home: Path | None, again: str, run: Callable[[Path], Verdict]) -> Verdict:
    """Run in ``home``, or in a new folder that is deleted when there is no violation."""
    folder = home or Path(tempfile.mkdtemp(prefix="baraza-chaos-"))
    passed = False
    try:
        verdict = run(folder)
        passed = not verdict.violations
        return verdict
    finally:
        if passed and home is None:
            shutil.rmtree(folder)
        elif not passed:
            notify(
                f"The stack is kept in {folder}; ./baraza up --home {folder} starts it again. Repeat the run: {again}"
            )
