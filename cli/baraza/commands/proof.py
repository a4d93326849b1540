"""``baraza explore`` and ``baraza simulate``: proof that the protocol keeps its promises, without a stack."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza.commands.options import Json
from baraza.terminal import FOUND_A_PROBLEM, UsageRefusal, progress, put, put_json, say, stop

if TYPE_CHECKING:
    from proof.running import Figures

VIOLATIONS_TOLD_MAX = 5

Control = Annotated[
    str | None,
    typer.Option("--control", metavar="NAME", help="Take one of the protocol's rules out; then it must fail."),
]


def simulate(
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many schedules.")] = 1000,
    first: Annotated[int, typer.Option("--first", min=0, metavar="SEED", help="The seed of the first.")] = 0,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Run this one alone.", show_default=False)] = None,
    trace: Annotated[bool, typer.Option("--trace", help="With --seed: print everything that happens.")] = False,
    control: Control = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="How many at once; one for each core unless given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run every service's handlers and the tracker on seeded schedules full of faults, over real PostgreSQL.

    Time, the broker, the gateway and the courier are simulated; a seed says everything that happens. Exit status 1,
    and the command that replays it, where a schedule breaks a promise.
    """
    from proof.controls import SIMULATED
    from proof.running import run

    _check(control, SIMULATED)
    if trace and seed is None:
        raise UsageRefusal("--trace tells of one schedule; name it with --seed.")
    if seed is not None:
        figures = _replay(seed, control, trace)
    else:
        with progress("simulate: schedules", seeds) as advance:
            figures = run(range(first, first + seeds), control_name=control, processes=processes, advance=advance)
    put_json(figures.to_json()) if as_json else _show(figures)
    if figures.violations:
        stop(FOUND_A_PROBLEM)


def _replay(seed: int, control: str | None, trace: bool) -> Figures:
    from proof.running import replay

    figures, lines = replay(seed, control_name=control)
    if trace:
        for line in lines:
            say(line)
    return figures


def _show(figures: Figures) -> None:
    put(f"{figures.schedules} schedules with {sum(figures.sagas.values())} sagas, {figures.per_s:.1f} a second")
    for what, counts in (("sagas", figures.sagas), ("faults", figures.faults)):
        put(f"{what}: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()))
    for violation in figures.violations[:VIOLATIONS_TOLD_MAX]:
        put(f"✗ {violation['invariant']}: saga {violation['saga_id'] or '-'}, seed {violation['seed']}")
        put(f"    {violation['says']}")
        for line in violation["steps"]:
            put(f"    {line}")
        control = f" --control {figures.control}" if figures.control else ""
        put(f"    Replay it with: ./baraza simulate --seed {violation['seed']} --trace{control}")
    put(f"{len(figures.violations)} violations")


def explore(
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, max=4, help="Only sagas of so many steps.", show_default=False)
    ] = None,
    large: Annotated[
        bool, typer.Option("--large", help="Those that take minutes and up to some gigabytes instead.")
    ] = False,
    control: Control = None,
    as_json: Json = False,
) -> None:
    """Visit every state that a saga of one to four steps can reach, over the real decisions.

    Every interleaving of deliveries, duplicates, timeouts, cancellations, crashes and retries that ran out. Exit
    status 1, and the shortest way there, where a promise is broken or no end can be reached any more.
    """
    from proof.controls import CONTROLS
    from proof.exploration import explore as visit
    from proof.models import BOUNDS, LARGE, MODELS

    _check(control, CONTROLS)
    broken = dict(CONTROLS[control].explored) if control else {}
    found: list[dict[str, Any]] = []
    models = LARGE if large else MODELS
    for count in (steps,) if steps else models:
        for name, model in models.get(count, {}).items():
            began_s = time.monotonic()
            visited = visit(replace(model(), **broken))
            found.append(
                {"steps": count, "saga": name, "took_s": round(time.monotonic() - began_s, 1), **visited.to_json()}
            )
            if not as_json:
                _tell(found[-1])
    broken_count = sum(1 for each in found if each["violation"])
    if as_json:
        put_json({"control": control, "bounds": BOUNDS, "explored": found})
    else:
        put(f"{sum(each['worlds'] for each in found)} states, {broken_count} violations. {BOUNDS}")
    if broken_count:
        stop(FOUND_A_PROBLEM)


def _tell(explored: dict[str, Any]) -> None:
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
        raise UsageRefusal(f"No control is called {control!r}; there are {', '.join(known)}.")
