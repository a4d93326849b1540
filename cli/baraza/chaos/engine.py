"""One run: the load goes on while one fault after another comes, until the time is over and everything is at rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from baraza.chaos.faults import inject
from baraza.chaos.load import Load
from baraza.chaos.schedule import Fault, Kind, faults
from baraza.chaos.target import ChaosTarget
from baraza.dataset import Work
from baraza.demo import faults as provider_faults

RECOVERED_ORDERS = 5
"""So many orders that were submitted after a fault are confirmed: more than one partition works from end to end."""
RECOVERY_S_MAX = 120.0
"""Longer than a killed member's session, a process's start and its first batch; what takes longer is a finding."""
LOOK_EVERY_S = 0.5

Tell = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class InjectedFault:
    """A fault that came: what it did, until when, and how long it took until new orders were confirmed again."""

    fault: Fault
    what: str
    after_s: float
    ended_at: datetime
    recovery_s: float | None = None


class Run:
    """One run over a field. However it ends, nothing is left standing still or cut off."""

    def __init__(self, field: ChaosTarget, load: Load, *, seed: int, kinds: Sequence[Kind], tell: Tell) -> None:
        self._field = field
        self._load = load
        self._seed = seed
        self._kinds = kinds
        self._tell = tell
        self._began_at_s = time.monotonic()
        self.suffered: list[InjectedFault] = []

    def go(self, minutes: float) -> None:
        """Let faults come for so long, and every kind at least once. Raises StackError, Refusal."""
        with self._load:
            try:
                for fault in self._due(minutes):
                    self._suffer(fault)
                self._recover()
                self._load.end()
                self._field.heal()
            finally:
                self._field.let_go()
        for past in self.suffered:
            past.recovery_s = self._recovery_s(past)

    def _due(self, minutes: float) -> Iterator[Fault]:
        for fault in faults(self._seed, self._kinds, self._field.processes):
            if not fault.is_early:
                self._recover()
            self._sleep(fault.wait_s)
            if fault.number > len(self._kinds) and self._elapsed_s > minutes * 60:
                return
            yield fault

    def _suffer(self, fault: Fault) -> None:
        began_at_s = self._elapsed_s
        what = inject(self._field, fault, self._sleep)
        self.suffered.append(InjectedFault(fault=fault, what=what, after_s=began_at_s, ended_at=datetime.now(UTC)))
        self._tell(f"{began_at_s:7.1f} s  {fault.kind:<14}  {what}")

    def _recover(self) -> None:
        """Wait for the recovery from the last fault, at most RECOVERY_S_MAX."""
        give_up_at_s = time.monotonic() + RECOVERY_S_MAX
        while self.suffered and self._recovery_s(self.suffered[-1]) is None and time.monotonic() < give_up_at_s:
            self._sleep(LOOK_EVERY_S)

    def _recovery_s(self, past: InjectedFault) -> float | None:
        at = self._field.confirmed_again_at(past.ended_at, RECOVERED_ORDERS)
        return None if at is None else round((at - past.ended_at).total_seconds(), 1)

    def _sleep(self, seconds: float) -> None:
        """Wait, unless the load has ended before its time."""
        end_s = time.monotonic() + seconds
        while True:
            self._load.check()
            if (left_s := end_s - time.monotonic()) <= 0:
                return
            time.sleep(min(left_s, LOOK_EVERY_S))

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_at_s


def suffer(
    field: ChaosTarget, work: Work, *, minutes: float, seed: int, rate: float, kinds: Sequence[Kind], tell: Tell
) -> tuple[Load, list[InjectedFault]]:
    """Run the load and the faults over a stack whose shelves are full; return what was submitted and what came.

    Raises StackError, Refusal.
    """
    with ExitStack() as open_apis:
        checkouts = [open_apis.enter_context(api) for api in field.running.apis("checkout")]
        load = Load(checkouts, work, rate=rate, seed=seed)
        run = Run(field, load, seed=seed, kinds=kinds, tell=tell)
        with provider_faults(field.running):
            run.go(minutes)
    return load, run.suffered
