"""``baraza chaos``: the whole system under load while everything around it fails, and what became of every order."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baraza.commands import audit as audit_command
from baraza.commands import load as loading
from baraza.commands import stack as stack_command
from baraza.commands.options import Home, Json
from baraza.running import Running
from baraza.terminal import FOUND_A_PROBLEM, UsageRefusal, progress, put, put_json, say, stop

if TYPE_CHECKING:
    from baraza.chaos.schedule import Kind
    from baraza.chaos.target import ChaosTarget
    from baraza.chaos.verdict import Verdict

SEED_MAX = 2**31
REST_S = 420.0
"""After the last fault: a saga's own deadline, and then every attempt of its compensations."""
BASKETS_SPARE = 1_000
SPARE = 2
"""A run lasts longer than asked for, since it waits for recoveries: so much more to submit than the rate says."""
SHORT_PRODUCTS = 0.02
"""Enough that some orders find no stock, though only a part of the baskets is ever submitted."""


def chaos(
    minutes: Annotated[
        float,
        typer.Option(
            "--minutes", min=0, metavar="NUMBER", help="How long faults come; every kind comes at least once."
        ),
    ] = 10.0,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Which faults come, and when; drawn when left out.", show_default=False)
    ] = None,
    rate: Annotated[float, typer.Option("--rate", min=0.5, metavar="NUMBER", help="Orders a second.")] = 5.0,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="KIND", help="Only faults of this kind; may be repeated.", show_default=False),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Put a stack of its own under load, hurt it in every way there is, and check that nothing was lost.

    Two processes of each service and of the tracker. Exit status 1 where an order is neither ended nor parked with a
    reason, anything is lost or doubled, or the audit is red; then the stack's home is kept.
    """
    kinds = _kinds(fault or [])
    chosen = random.randrange(SEED_MAX) if seed is None else seed
    again = f"./baraza chaos --minutes {minutes:g} --seed {chosen} --rate {rate:g}"
    again += "".join(f" --fault {kind}" for kind in fault or ())
    write = say if as_json else put
    write(f"Seed {chosen}. The same again: {again}")
    verdict = _in_home(home, again, lambda folder: _run(folder, minutes, chosen, rate, kinds, write))
    if as_json:
        put_json({"seed": chosen, "minutes": minutes, "rate": rate, "command": again, **verdict.to_json()})
    if verdict.violations:
        stop(FOUND_A_PROBLEM)


def _kinds(names: list[str]) -> tuple[Kind, ...]:
    """Return the kinds of these names, of all where there are none; say so where one cannot be had here."""
    from baraza.chaos.schedule import Kind
    from baraza.chaos.versions import with_history

    if unknown := set(names) - set(Kind):
        raise UsageRefusal(f"There is no fault {', '.join(sorted(unknown))}; known: {', '.join(Kind)}.")
    if with_history():
        return tuple(Kind(name) for name in names or Kind)
    if Kind.ROLLBACK in names:
        raise UsageRefusal("A rollback needs the repository's history, which is not here; leave --fault rollback out.")
    say("Left out: rollback, which needs the repository's history.")
    return tuple(Kind(name) for name in names or Kind if name != Kind.ROLLBACK)


def _in_home(home: Path | None, again: str, run: Callable[[Path], Verdict]) -> Verdict:
    """Run in ``home``, or in a new folder that goes when all was well."""
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
            say(f"Everything is kept in {folder}; ./baraza up --home {folder} starts it again. The same run: {again}")


def _run(
    folder: Path, minutes: float, seed: int, rate: float, kinds: tuple[Kind, ...], write: Callable[[str], None]
) -> Verdict:
    from baraza.chaos.engine import suffer
    from baraza.chaos.verdict import judge
    from baraza.dataset import Mix
    from baraza.dataset import work as prepare

    with progress("reading baskets"):
        work = prepare(BASKETS_SPARE + int(rate * minutes * 60 * SPARE), Mix(seed=seed, short_products=SHORT_PRODUCTS))
    with opened(folder) as field:
        loading.put_dataset(field.running, work)
        load, suffered = suffer(field, work, minutes=minutes, seed=seed, rate=rate, kinds=kinds, tell=write)
        audit_command.wait_until_quiet(field.running, REST_S)
        field.close_letters()
        report = audit_command.run(field.running, REST_S)
        verdict = judge(field, load, suffered, report)
        audit_command.show(report, write)
        show(verdict, write)
    return verdict


@contextmanager
def opened(folder: Path) -> Iterator[ChaosTarget]:
    """Yield a stack in ``folder`` with two processes of everything of ours, and take it down afterwards."""
    from stack.running import up
    from stack.settings import from_environment

    from baraza.chaos.letters import Letters
    from baraza.chaos.network import Network
    from baraza.chaos.target import ChaosTarget, replicas

    settings = from_environment(home=folder, proxied=True, replicas=replicas())
    with stack_command.watching() as watch:
        stack = up(settings, watch)
        try:
            with Network(stack.toxiproxy_url) as network:
                yield ChaosTarget(running=Running(stack=stack), network=network, letters=Letters(stack.kafka()))
        finally:
            stack.down(watch)


def show(verdict: Verdict, write: Callable[[str], None] = put) -> None:
    """Write the figures of a run for a person."""
    states = ", ".join(f"{count} {state}" for state, count in sorted(verdict.states.items())) or "none"
    write(f"{verdict.accepted} orders accepted ({states}), {verdict.cancellations} cancelled by their customers")
    write(f"{'fault':<16}{'times':>6}{'recovered in, median':>22}{'longest':>9}")
    for kind, recovery in verdict.recoveries().items():
        median, longest = (_seconds(value) for value in (recovery.median_s, recovery.longest_s))
        write(f"{kind:<16}{recovery.faults:>6}{median:>22}{longest:>9}")
    write(f"{verdict.lost} lost, {verdict.doubled} doubled, {verdict.poisons} poisons, parked by {verdict.parked_by}")
    for violation in verdict.violations:
        write(f"VIOLATION  {violation}")
    write(f"{len(verdict.violations)} violations")


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
