"""Runs the audit: waits until nothing moves, reads every source, and judges each invariant."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from baraza.audit import scratch, sources
from baraza.audit.invariant import Invariant
from baraza.audit.invariants import INVARIANTS
from baraza.audit.sources import Sources
from saga_tracker.definitions import DEFINITIONS

OFFENDERS_MAX = 20
"""Offenders named for each invariant; the report has the number of all as well."""
QUIET_WAIT_S = 60.0
"""Longer than a call's deadline and the retries after it."""
POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The finding of one invariant. ``offenders`` are the first of ``total``, each an id and its problem.

    ``settled`` are the first of those that staff have put right, each an id with who did and how.
    """

    invariant: Invariant
    checked: int
    total: int
    offenders: tuple[tuple[str, str], ...]
    settled: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that --json prints."""
        return {
            "invariant": self.invariant.name,
            "says": self.invariant.rule,
            "holds": self.total == 0,
            "checked": self.checked,
            "offending": self.total,
            "offenders": [{"id": offender, "problem": problem} for offender, problem in self.offenders],
            "settled": [{"id": settled, "how": how} for settled, how in self.settled],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The verdict. ``moving`` counts what still moved when the audit judged."""

    findings: tuple[Finding, ...]
    moving: dict[str, int]
    states: dict[str, int]

    @property
    def is_green(self) -> bool:
        """Return whether every invariant holds."""
        return not any(finding.total for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that --json prints."""
        return {
            "audit": "green" if self.is_green else "red",
            "sagas": self.states,
            "moving": self.moving,
            "invariants": [finding.to_json() for finding in self.findings],
        }


def wait_until_quiet(origin: Sources, timeout_s: float, on_wait: Callable[[dict[str, int]], None]) -> dict[str, int]:
    """Wait until nothing moves and return what still does, which is nothing unless the timeout has passed."""
    services = sources.services_of(DEFINITIONS)
    deadline = time.monotonic() + timeout_s
    while (moving := sources.under_way(origin, services)) and time.monotonic() < deadline:
        on_wait(moving)
        time.sleep(POLL_S)
    return moving


def run(
    origin: Sources,
    *,
    timeout_s: float = QUIET_WAIT_S,
    on_wait: Callable[[dict[str, int]], None] = lambda _moving: None,
    advance: Callable[[int], None] = lambda _rows: None,
) -> Report:
    """Audit everything once nothing moves, or after ``timeout_s``. Raises Unreadable."""
    moving = wait_until_quiet(origin, timeout_s, on_wait)
    with scratch.filled(origin, DEFINITIONS, advance) as read:
        states = dict(read.execute("SELECT state, count(*) FROM sagas GROUP BY state ORDER BY state").fetchall())
        findings = judge(read, INVARIANTS)
    return Report(findings=findings, moving=moving, states=states)


def judge(read: sqlite3.Connection, invariants: Sequence[Invariant]) -> tuple[Finding, ...]:
    """Return the finding of each invariant in the scratch database."""
    return tuple(_finding(read, invariant) for invariant in invariants)


def _finding(read: sqlite3.Connection, invariant: Invariant) -> Finding:
    (checked,) = read.execute(invariant.checked).fetchone()
    cursor = read.execute(invariant.offenders)
    first = cursor.fetchmany(OFFENDERS_MAX)
    more = sum(1 for _ in cursor)
    settled = read.execute(invariant.settled).fetchmany(OFFENDERS_MAX) if invariant.settled else ()
    return Finding(
        invariant=invariant, checked=checked, total=len(first) + more, offenders=tuple(first), settled=tuple(settled)
    )
