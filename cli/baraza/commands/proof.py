"""``baraza explore`` and ``baraza simulate``: check the protocol's properties, without a stack."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza.commands.options import COUNT_MAX, SEED_MAX, Json
from baraza.terminal import FOUND_A_PROBLEM, UsageRefusal, notify, progress, put, put_json, stop

if TYPE_CHECKING:
    from proof.running import Figures

VIOLATIONS_SHOWN_MAX = 5
PROCESSES_MAX = 256

Control = Annotated[
    str | None,
    typer.Option("--control", metavar="NAME", help="Negative control: leave out this rule; the run must then fail."),
]
Seeds = Annotated[int, typer.Option("--seeds", min=1, max=COUNT_MAX, help="Number of schedules.")]
First = Annotated[
    int, typer.Option("--first", min=0, max=SEED_MAX, metavar="SEED", help="The seed of the first schedule.")
]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, max=SEED_MAX, help="Run only this seed.", show_default=False)
]
Trace = Annotated[bool, typer.Option("--trace", help="With --seed: print every event.")]
Processes = Annotated[
    int | None,
    typer.Option("--processes", min=1, max=PROCESSES_MAX, help="Parallel processes; one for each core if not given."),
]
Steps = Annotated[
    int | None, typer.Option("--steps", min=1, max=4, help="Only sagas of this many steps.", show_default=False)
]
Large = Annotated[
    bool, typer.Option("--large", help="The larger models instead; takes minutes and gigabytes of memory.")
]


Payments = Annotated[
    bool, typer.Option("--payments", help="Schedules of merchants' payments instead of orders and returns.")
]
Sacco = Annotated[
    bool, typer.Option("--sacco", help="Schedules of a SACCO's receipts and withdrawals instead of orders and returns.")
]


def simulate(
    seeds: Seeds = 1000,
    first: First = 0,
    seed: Seed = None,
    trace: Trace = False,
    control: Control = None,
    processes: Processes = None,
    payments: Payments = False,
    sacco: Sacco = False,
    as_json: Json = False,
) -> None:
    """Run every service's handlers and the tracker on seeded schedules full of faults, over real PostgreSQL.

    Time, the broker, the gateways, the courier and Daraja are simulated; the seed determines everything.
    Exit status 1, and the command that replays it, if a schedule breaks an invariant.
    """
    from proof.controls import SIMULATED, SIMULATED_OF_SACCO
    from proof.payment_controls import OF_PAYMENTS as SIMULATED_OF_PAYMENTS
    from proof.running import OF_ORDERS, OF_PAYMENTS, OF_SACCO, run

    if payments and sacco:
        raise UsageRefusal("--payments and --sacco are two kinds of schedules; give one of them.")
    kind = OF_PAYMENTS if payments else OF_SACCO if sacco else OF_ORDERS
    known = {OF_PAYMENTS: tuple(SIMULATED_OF_PAYMENTS), OF_SACCO: SIMULATED_OF_SACCO, OF_ORDERS: SIMULATED}
    _check(control, known[kind])
    if trace and seed is None:
        raise UsageRefusal("--trace prints one schedule; choose it with --seed.")
    if seed is not None:
        figures = _replay(seed, control, trace, kind)
    else:
        with progress("simulate: schedules", seeds) as advance:
            chosen = range(first, first + seeds)
            figures = run(chosen, kind=kind, control_name=control, processes=processes, advance=advance)
    put_json(figures.to_json()) if as_json else _show(figures, option="" if kind == OF_ORDERS else f" --{kind}")
    if figures.violations:
        stop(FOUND_A_PROBLEM)


def _replay(seed: int, control: str | None, trace: bool, kind: str) -> Figures:
    from proof.running import replay

    figures, lines = replay(seed, control_name=control, kind=kind)
    if trace:
        for line in lines:
            notify(line)
    return figures


def _show(figures: Figures, *, option: str) -> None:
    put(f"{figures.schedules} schedules with {sum(figures.sagas.values())} sagas, {figures.per_s:.1f} a second")
    for what, counts in (("sagas", figures.sagas), ("faults", figures.faults)):
        put(f"{what}: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()))
    for violation in figures.violations[:VIOLATIONS_SHOWN_MAX]:
        put(f"✗ {violation['invariant']}: saga {violation['saga_id'] or '-'}, seed {violation['seed']}")
        put(f"    {violation['says']}")
        for line in violation["steps"]:
            put(f"    {line}")
        more = option + (f" --control {figures.control}" if figures.control else "")
        put(f"    Replay it with: ./baraza simulate --seed {violation['seed']} --trace{more}")
    put(f"{len(figures.violations)} violations")


def explore(steps: Steps = None, large: Large = False, control: Control = None, as_json: Json = False) -> None:
    """Visit every reachable state of sagas of one to four steps, over the real decisions.

    Covers every interleaving of deliveries, duplicates, timeouts, cancellations, crashes and exhausted retries.
    Exit status 1, and the shortest trace, if an invariant is broken or an end is no longer reachable.
    """
    from proof.controls import CONTROLS, EXPLORED
    from proof.models import BOUNDS

    _check(control, EXPLORED)
    known = _models(large=large)
    if steps is not None and not known.get(steps):
        counts = ", ".join(str(count) for count, models in known.items() if models)
        raise UsageRefusal(f"No {'large ' if large else ''}model has --steps {steps}; choose one of {counts}.")
    rules_left_out = dict(CONTROLS[control].explored) if control else {}
    found = []
    for explored in _explored(steps, rules_left_out, large=large):
        found.append(explored)
        if not as_json:
            _show_explored(explored)
    violations = sum(1 for each in found if each["violation"])
    if as_json:
        put_json({"control": control, "bounds": BOUNDS, "explored": found})
    else:
        put(f"{sum(each['worlds'] for each in found)} states, {violations} violations. {BOUNDS}")
    if violations:
        stop(FOUND_A_PROBLEM)


def _explored(steps: int | None, rules_left_out: dict[str, Any], *, large: bool) -> Iterator[dict[str, Any]]:
    """Explore each model, and yield its figures."""
    from proof.exploration import explore as visit

    models = _models(large=large)
    for count in (steps,) if steps else models:
        for name, model in models.get(count, {}).items():
            began_s = time.monotonic()
            visited = visit(replace(model(), **rules_left_out))
            yield {"steps": count, "saga": name, "took_s": round(time.monotonic() - began_s, 1), **visited.to_json()}


def _models(*, large: bool) -> dict[int, Any]:
    """Return the models by their number of steps."""
    from proof.models import LARGE, MODELS

    return dict(LARGE if large else MODELS)


def _show_explored(explored: dict[str, Any]) -> None:
    put(
        f"{'✗' if explored['violation'] else '✓'} {explored['steps']} steps, {explored['saga']}: "
        f"{explored['worlds']} states, {explored['moves']} transitions, {explored['ends']} ended or parked, "
        f"{explored['took_s']} s"
    )
    if explored["violation"]:
        put(f"    {explored['violation']}, by these transitions:")
        for line in explored["trace"]:
            put(f"    {line}")


def _check(control: str | None, known: Collection[str]) -> None:
    if control is not None and control not in known:
        raise UsageRefusal(f"There is no control {control!r}; known: {', '.join(known)}.")
