"""The seeded schedule: virtual time, chance, the active faults, and a count of each kind."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ulid import ULID

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Schedule:
    """The only source of chance, so that a seed determines everything."""

    seed: int
    now: datetime = BEGINNING
    faults: Counter[str] = field(default_factory=Counter)
    are_faults_on: bool = True
    chance: random.Random = field(init=False)
    rates: dict[str, float] = field(default_factory=dict)
    is_traced: bool = False
    trace: list[tuple[str, str]] = field(default_factory=list)
    suspended_tasks: set[object] = field(default_factory=set)
    _events: list[tuple[datetime, int, Callable[[], object]]] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def strikes(self, fault: str, rate: float) -> bool:
        """Return whether a fault strikes now, and count it. In each seed some kinds are frequent and others absent."""
        if not self.are_faults_on:
            return False
        if fault not in self.rates:
            self.rates[fault] = self.chance.choice((0.0, 0.5, 1.0, 3.0))
        if self.chance.random() >= rate * self.rates[fault]:
            return False
        self.faults[fault] += 1
        return True

    def begin_faults(self, seconds_max: float) -> None:
        """Let faults happen again, for a random time up to this one."""
        self.are_faults_on = True
        self.at(self.now + timedelta(seconds=self.chance.uniform(1, seconds_max)), self.end_faults)

    def end_faults(self) -> None:
        """Let no fault happen any more."""
        self.are_faults_on = False
        self.note("all faults end")

    def note(self, line: str, saga_id: str = "") -> None:
        """Add a line about a saga to the trace of a replay."""
        if self.is_traced:
            self.trace.append((saga_id, f"{(self.now - BEGINNING).total_seconds():9.3f}  {line}"))

    def new_id(self) -> str:
        """Return an id that the seed determines."""
        return str(ULID.from_bytes(self.chance.randbytes(16)))

    def within(self, seconds: float) -> timedelta:
        """Return a random duration up to this one."""
        return timedelta(seconds=self.chance.random() * seconds)

    def at(self, when: datetime, event: Callable[[], object]) -> None:
        """Plan an event for a time."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, event))

    def advance(self, until: datetime) -> None:
        """Advance virtual time, and run every event that is due by then."""
        while self._events and self._events[0][0] <= until:
            when, _, event = heapq.heappop(self._events)
            self.now = max(self.now, when)
            event()
        self.now = max(self.now, until)

    @property
    def next_at(self) -> datetime | None:
        """The time of the next event, None where none is planned."""
        return self._events[0][0] if self._events else None
