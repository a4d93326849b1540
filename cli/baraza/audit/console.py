"""The audit on the terminal: what it waits for, its progress, and the verdict for a person."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

from baraza.audit import report
from baraza.audit.report import Finding, Report
from baraza.audit.sources import sources_of
from baraza.system.running import Running
from baraza.terminal import notify, progress, put

NOTIFY_EVERY_S = 5.0
FIRST_NOTICE_S = 1.0
"""A shorter wait is not reported."""


def run(stack: Running, wait_s: float) -> Report:
    """Audit a stack, and report what it waits for. Raises Unreadable."""
    with progress("audit: rows read") as advance:
        return report.run(sources_of(stack), timeout_s=wait_s, on_wait=_waiting(), advance=advance)


def wait_until_quiet(stack: Running, wait_s: float) -> None:
    """Wait until nothing moves or ``wait_s`` has passed, and report what it waits for. Raises Unreadable."""
    report.wait_until_quiet(sources_of(stack), wait_s, _waiting())


def _waiting() -> Callable[[Mapping[str, int]], None]:
    notified_at_s = time.monotonic() - NOTIFY_EVERY_S + FIRST_NOTICE_S

    def on_wait(moving: Mapping[str, int]) -> None:
        nonlocal notified_at_s
        if time.monotonic() - notified_at_s >= NOTIFY_EVERY_S:
            notified_at_s = time.monotonic()
            notify(f"Waiting for {_phrase(moving)}…")

    return on_wait


def _phrase(moving: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in moving.items())


def show(verdict: Report, write: Callable[[str], None] = put) -> None:
    """Write the verdict for a person."""
    is_coloured = sys.stdout.isatty() and write is put
    for finding in verdict.findings:
        write(
            f"{_mark(finding, is_coloured)} {finding.invariant.name:<24} {finding.checked:>9}  {finding.invariant.rule}"
        )
        for offender, problem in finding.offenders:
            write(f"    {offender}  {problem}")
        if finding.total > len(finding.offenders):
            write(f"    … and {finding.total - len(finding.offenders)} more")
        for settled, how in finding.settled:
            write(f"    {settled}  {how}")
    if verdict.moving:
        write(f"Judged while these still moved: {_phrase(verdict.moving)}.")
    broken = sum(1 for finding in verdict.findings if finding.total)
    colour = "green" if verdict.is_green else f"RED: {broken} of {len(verdict.findings)} invariants are broken"
    sagas = ", ".join(f"{count} {state}" for state, count in verdict.states.items()) or "no sagas"
    write(f"Audit {colour} ({sagas}).")


def _mark(finding: Finding, is_coloured: bool) -> str:
    mark, code = ("✓", "32") if finding.total == 0 else ("✗", "31")
    return f"\x1b[{code}m{mark}\x1b[0m" if is_coloured else mark
