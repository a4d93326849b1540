"""``baraza audit``: whether everything that must be true is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from baraza import running
from baraza.commands.options import Home, Json
from baraza.terminal import FOUND_A_PROBLEM, progress, put, put_json, say, stop

if TYPE_CHECKING:
    from baraza.audit.report import Report

SAY_EVERY_S = 5.0


def audit(
    home: Home = None,
    wait: Annotated[
        float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long what moves may take to come to rest.")
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Check from outside that nothing was lost: money, stock, points, shipments, messages.

    Reads every service's database with a login that can write nothing, and the gateway's and the courier's own
    records. Exit status 1 and the offending ids when anything is off.
    """
    report = run(running.find(home), wait)
    put_json(report.to_json()) if as_json else show(report)
    if not report.is_green:
        stop(FOUND_A_PROBLEM)


def run(stack: running.Running, wait_s: float) -> Report:
    """Audit a stack, telling what is waited for. Raises Unreadable."""
    from baraza.audit import report

    with progress("audit: rows read") as advance:
        return report.run(stack.sources(), timeout_s=wait_s, on_wait=_telling(), advance=advance)


def wait_until_quiet(stack: running.Running, wait_s: float) -> None:
    """Wait until nothing moves, or the time is over, telling what is waited for. Raises Unreadable."""
    from baraza.audit import report

    report.wait_until_quiet(stack.sources(), wait_s, _telling())


def _telling() -> Callable[[dict[str, int]], None]:
    said_at = time.monotonic() - SAY_EVERY_S + 1.0

    def on_wait(moving: dict[str, int]) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= SAY_EVERY_S:
            said_at = time.monotonic()
            say(f"Waiting for {describe(moving)}…")

    return on_wait


def describe(moving: dict[str, int]) -> str:
    """Return what moves as a phrase."""
    return ", ".join(f"{count} {what}" for what, count in moving.items())


def show(report: Report, write: Callable[[str], None] = put) -> None:
    """Write the verdict for a person."""
    colours = sys.stdout.isatty() and write is put
    for finding in report.findings:
        mark = "✓" if finding.total == 0 else "✗"
        if colours:
            mark = f"\x1b[{'32' if finding.total == 0 else '31'}m{mark}\x1b[0m"
        write(f"{mark} {finding.invariant.name:<24} {finding.checked:>9}  {finding.invariant.says}")
        for offender, problem in finding.offenders:
            write(f"    {offender}  {problem}")
        if finding.total > len(finding.offenders):
            write(f"    … and {finding.total - len(finding.offenders)} more")
    if report.moving:
        write(f"Judged while these still moved: {describe(report.moving)}.")
    broken = sum(1 for finding in report.findings if finding.total)
    verdict = "green" if report.is_green else f"RED: {broken} of {len(report.findings)} invariants are broken"
    sagas = ", ".join(f"{count} {state}" for state, count in report.states.items()) or "no sagas"
    write(f"Audit {verdict} ({sagas}).")
