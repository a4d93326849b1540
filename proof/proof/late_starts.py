"""Every short schedule of one step's time, over the real decisions: what is away or stands still at each observation.

The step's service never answers. So the step must time out, but only once its service could have had the trigger for
the whole timeout. One tick is the interval of two observations. ``judge`` may be a rule that is broken on purpose.
"""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from saga_tracker.model.consumption import (
    INTERRUPTED_AFTER,
    OBSERVE_EVERY,
    ConsumptionHistory,
    ServiceObservation,
    judge_again_at,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
SERVICE, TRIGGERS = "shipping", ("loyalty.events", 0)
TIMEOUT_TICKS = 2
TIMEOUT_S = TIMEOUT_TICKS * OBSERVE_EVERY.total_seconds()
UNOBSERVED_TICKS_MAX = INTERRUPTED_AFTER // OBSERVE_EVERY - 1
"""PostgreSQL may be away for so many ticks without an interruption; a real timeout is many times as long."""
ENDS_WITHIN_TICKS = 2 * TIMEOUT_TICKS + 2
"""With everything there: the next observation, at most a timeout until the step is judged, and its whole time."""


class Tick(enum.StrEnum):
    """What the world is like at one observation."""

    WELL = "all is well"
    AWAY = "no process of the service runs"
    STILL = "the service runs and consumes nothing"
    KAFKA = "Kafka is away"
    POSTGRESQL = "PostgreSQL is away"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """When a step is judged: since when its service had the trigger, and up to when everything is recorded."""

    had_since: datetime | None
    recorded_until: datetime
    now: datetime


Judge = Callable[[Judged], datetime | None]


def real_judge(judged: Judged) -> datetime | None:
    """Judge as the tracker does."""
    return judge_again_at(judged.had_since, timeout_s=TIMEOUT_S, recorded_until=judged.recorded_until, now=judged.now)


def judge_from_the_start(judged: Judged) -> datetime | None:
    """Judge by a deadline of the whole saga that counts from its start, as releases before this rule did."""
    over_at = START + timedelta(seconds=2 * TIMEOUT_S)
    again_at = real_judge(judged)
    return None if again_at is None or judged.now >= over_at else min(again_at, over_at)


@dataclass(slots=True, kw_only=True)
class _State:
    ticks: tuple[Tick, ...] = ()
    history: ConsumptionHistory = field(default_factory=lambda: ConsumptionHistory(kept_s=TIMEOUT_S))
    consumed_at: int | None = None
    """The tick in which the service consumed the trigger, which is at offset 0."""
    incarnation: int = 0
    recorded_until: datetime = START
    deadline_at: datetime = START + timedelta(seconds=TIMEOUT_S)
    is_over: bool = False

    def after(self, tick: Tick, judge: Judge) -> _State:
        state = copy.deepcopy(self)
        state.ticks = (*self.ticks, tick)
        now = START + len(state.ticks) * OBSERVE_EVERY
        if tick is Tick.AWAY:
            state.incarnation += 1
        if tick is Tick.WELL and state.consumed_at is None:
            state.consumed_at = len(state.ticks)
        if tick is not Tick.POSTGRESQL:
            state._observe(tick, now)
            state._judge(now, judge)
        return state

    def _observe(self, tick: Tick, now: datetime) -> None:
        committed = 0 if self.consumed_at is None else 1
        members = frozenset() if tick is Tick.AWAY else frozenset({f"process {self.incarnation}"})
        group = ServiceObservation(members=members, committed={TRIGGERS: committed})
        seen = {} if tick is Tick.KAFKA else {SERVICE: group}
        behind = 1 + (tick is Tick.STILL)  # Other messages wait as well where nothing is consumed.
        self.history.observe(seen, {TRIGGERS: behind}, at=now, elapsed_s=(now - START).total_seconds())
        if tick is not Tick.KAFKA:
            self.recorded_until = now

    def _judge(self, now: datetime, judge: Judge) -> None:
        if self.deadline_at > self.recorded_until:
            return
        had_since = self.history.had_since(SERVICE, TRIGGERS, 0)
        again_at = judge(Judged(had_since=had_since, recorded_until=self.recorded_until, now=now))
        if again_at is None:
            self.is_over = True
        else:
            self.deadline_at = again_at

    def problem(self) -> str | None:
        """Return what is wrong with this state."""
        own = self.ticks[-TIMEOUT_TICKS:]
        if self.is_over:
            if self.consumed_at is None or self.consumed_at > len(self.ticks) - TIMEOUT_TICKS:
                return "timed out before its service had the trigger for the whole timeout"
            unobserved = own.count(Tick.POSTGRESQL)
            if {Tick.AWAY, Tick.KAFKA}.intersection(own) or unobserved > UNOBSERVED_TICKS_MAX:
                return "timed out although something was away in its time"
        elif len(self.ticks) >= ENDS_WITHIN_TICKS and set(self.ticks[-ENDS_WITHIN_TICKS:]) == {Tick.WELL}:
            return "never times out, although its service had the trigger all the time"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How many states were visited and how many of them timed out; the first problem with its schedule."""

    state_count: int
    over_count: int
    problem: str | None
    ticks: tuple[Tick, ...]


def explore(ticks_max: int, judge: Judge = real_judge) -> Found:
    """Visit every schedule of up to ``ticks_max`` ticks, and stop at the first state with a problem."""
    state_count = over_count = 0
    for state in _states(_State(), ticks_max, judge):
        state_count += 1
        over_count += state.is_over
        if (problem := state.problem()) is not None:
            return Found(state_count=state_count, over_count=over_count, problem=problem, ticks=state.ticks)
    return Found(state_count=state_count, over_count=over_count, problem=None, ticks=())


def _states(state: _State, ticks_max: int, judge: Judge) -> Iterator[_State]:
    if state.is_over or len(state.ticks) == ticks_max:
        return
    for tick in Tick:
        after = state.after(tick, judge)
        yield after
        yield from _states(after, ticks_max, judge)
