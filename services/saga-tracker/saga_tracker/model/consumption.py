"""Since when each service could have had a message, judged on one clock: the tracker's own. Pure: it reads no clock.

A step's time begins when its service could have had the trigger, and a saga's time is the sum of its steps' times. The
tracker observes the services every two seconds. A service's time begins anew with an observation

1. that is the first one, or the first after an interruption: of the tracker, of its clock, of PostgreSQL, of Kafka;
2. in which no process of the service runs, or only processes that were not there before;
3. in which messages wait in a partition, and none was consumed there since the last observation (there alone).

Nothing of this is stored. A tracker that has observed less gives a step more time, never less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

TopicPartition: TypeAlias = tuple[str, int]

OBSERVE_EVERY = timedelta(seconds=2)
"""A service commits its offsets four times as often, so one that consumes has moved between two observations."""
INTERRUPTED_AFTER = timedelta(seconds=6)
"""Two observations are missing. What the services could do meanwhile is unknown: they may share what failed us."""
CLOCK_STEP_MAX = timedelta(seconds=1)
"""The most by which the clock may differ from the time that passed; beyond that it was set, or the machine slept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceObservation:
    """The members of a service's consumer group, and the offsets that it has committed, as Kafka reports them."""

    members: frozenset[str]
    committed: Mapping[TopicPartition, int]


@dataclass(slots=True, kw_only=True)
class _Move:
    """A committed offset, and the observation that showed it first."""

    at: datetime
    committed: int


@dataclass(slots=True, kw_only=True)
class _Service:
    """What was observed of one service since its last interruption.

    ``members`` maps each member to the first observation of it, ``moving`` each partition's number to the moment since
    which it has not stood still. ``behind`` is where messages waited at the last observation.
    """

    members: dict[str, datetime] = field(default_factory=dict)
    moves: dict[TopicPartition, list[_Move]] = field(default_factory=dict)
    moving: dict[int, datetime] = field(default_factory=dict)
    behind: frozenset[TopicPartition] = frozenset()

    def add(
        self, seen: ServiceObservation, recorded: Mapping[TopicPartition, int], at: datetime, kept: timedelta
    ) -> None:
        """Add an observation. ``recorded`` is the offset up to which Kafka is known to have messages."""
        self.members = {member: self.members.get(member, at) for member in seen.members}
        self.moving = {number: self.moving.get(number, at) for _, number in seen.committed}
        before, self.moves = self.moves, {}
        for topic_partition, committed in seen.committed.items():
            moves = before.get(topic_partition, [])
            last = moves[-1].committed if moves else None
            if last is None or committed < last or (committed == last and topic_partition in self.behind):
                self.moving[topic_partition[1]] = at
            if last is not None and committed < last:
                moves = []
            if last != committed:
                moves = [*moves, _Move(at=at, committed=committed)]
            while len(moves) > 1 and moves[1].at < at - kept:
                del moves[0]
            self.moves[topic_partition] = moves
        self.behind = frozenset(each for each, committed in seen.committed.items() if committed < recorded.get(each, 0))


class ConsumptionHistory:
    """What was observed of every service. ``kept_s`` is the longest time that anybody has to look back."""

    def __init__(self, *, kept_s: float) -> None:
        self._kept = timedelta(seconds=kept_s)
        self._services: dict[str, _Service] = {}
        self._observed: tuple[datetime, timedelta] | None = None

    def observe(
        self,
        seen: Mapping[str, ServiceObservation],
        recorded: Mapping[TopicPartition, int],
        *,
        at: datetime,
        elapsed_s: float,
    ) -> None:
        """Add one observation of all services. A service that is missing from it could not be observed.

        ``recorded`` has the offsets up to which the tracker has recorded each partition. ``elapsed_s`` is from a clock
        that is never set, with any origin.
        """
        elapsed = timedelta(seconds=elapsed_s)
        if self._observed is None or _is_interrupted(at - self._observed[0], elapsed - self._observed[1]):
            self._services = {}
        self._observed = at, elapsed
        running = {service: each for service, each in seen.items() if each.members}
        self._services = {service: self._services.get(service, _Service()) for service in running}
        for service, each in running.items():
            self._services[service].add(each, recorded, at, self._kept)

    def available_since(self, service: str, partition: int) -> datetime | None:
        """Return since when a service could consume from a partition; None while it cannot."""
        found = self._services.get(service)
        if found is None or partition not in found.moving:
            return None
        return max(found.moving[partition], min(found.members.values()))

    def had_since(self, service: str, topic_partition: TopicPartition, offset: int) -> datetime | None:
        """Return since when a service could have handled the message at an offset; None while it could not have it."""
        available_since = self.available_since(service, topic_partition[1])
        if available_since is None:
            return None
        moves = self._services[service].moves.get(topic_partition, [])
        consumed_at = next((move.at for move in moves if move.committed > offset), None)
        return None if consumed_at is None else max(available_since, consumed_at)


def _is_interrupted(passed: timedelta, elapsed: timedelta) -> bool:
    return elapsed > INTERRUPTED_AFTER or abs(passed - elapsed) > CLOCK_STEP_MAX


def judge_again_at(
    had_since: datetime | None, *, timeout_s: float, recorded_until: datetime, now: datetime
) -> datetime | None:
    """Return when to judge a step again whose deadline has passed; None when its time is over.

    ``had_since`` is since when its service could have had the trigger, ``recorded_until`` up to when every answer is
    recorded.
    """
    if had_since is None:
        return now + timedelta(seconds=timeout_s)
    over_at = had_since + timedelta(seconds=timeout_s)
    return None if over_at <= recorded_until else over_at
