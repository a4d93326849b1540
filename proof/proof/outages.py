"""Outages in a schedule: Kafka, PostgreSQL or every process of one service is away for up to ten minutes.

They, and checkout's clock, come from a source of chance of their own: a seed without an outage has the schedule that it
would have anyway.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from proof.schedule import BEGINNING, Schedule

KAFKA, POSTGRESQL = "kafka", "postgresql"
OUTAGES = (0, 0, 1, 2)
"""The number of outages in a schedule; they may overlap."""
BEGINS_WITHIN_S = 15.0
LASTS_S = (5.0, 600.0)
CLOCKS_S = (0, 0, 0, -180, 180)
"""How far checkout's clock is off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """One outage: of Kafka, of PostgreSQL, or of the service with this name."""

    of: str
    began_at: datetime
    ended_at: datetime


@dataclass(slots=True, kw_only=True)
class Outages:
    """The outages of one schedule, and how far checkout's clock is off."""

    schedule: Schedule
    services: Sequence[str]
    planned: list[Outage] = field(init=False)
    checkouts_clock: timedelta = field(init=False)

    def __post_init__(self) -> None:
        chance = random.Random(f"outages {self.schedule.seed}")
        self.planned = [self._plan(chance) for _ in range(chance.choice(OUTAGES))]
        self.checkouts_clock = timedelta(seconds=chance.choice(CLOCKS_S))

    def _plan(self, chance: random.Random) -> Outage:
        of = chance.choice((KAFKA, POSTGRESQL, *self.services))
        began_at = BEGINNING + timedelta(seconds=chance.uniform(0, BEGINS_WITHIN_S))
        outage = Outage(of=of, began_at=began_at, ended_at=began_at + timedelta(seconds=chance.uniform(*LASTS_S)))
        for when, what in ((outage.began_at, "goes away"), (outage.ended_at, "is back")):
            self.schedule.at(when, partial(self.schedule.note, f"{of} {what}"))
        self.schedule.faults[f"{of if of in (KAFKA, POSTGRESQL) else 'a whole service'} away"] += 1
        return outage

    def back_at(self, of: str) -> datetime | None:
        """Return when something that is away now is back; None where it is not away."""
        ends = [each.ended_at for each in self._now(of)]
        return max(ends, default=None)

    def is_away(self, of: str) -> bool:
        """Return whether it is away now."""
        return any(self._now(of))

    def answered_until(self, of: str) -> datetime:
        """Return until when it answered: now, or the moment at which it went away."""
        return min((each.began_at for each in self._now(of)), default=self.schedule.now)

    def disturbed(self, service: str, since: datetime, until: datetime) -> Outage | None:
        """Return an outage that kept a service from its work between these times."""
        kept = (each for each in self.planned if each.of in (KAFKA, POSTGRESQL, service))
        return next((each for each in kept if each.began_at < until and since < each.ended_at), None)

    def _now(self, of: str) -> list[Outage]:
        now = self.schedule.now
        return [each for each in self.planned if each.of == of and each.began_at <= now < each.ended_at]
