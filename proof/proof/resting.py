"""Runs the processes of one schedule until all is at rest: nothing is ready, planned, or left over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from proof.deployment import Deployment
from proof.schedule import BEGINNING, Schedule
from proof.service_process import Process
from proof.tracker_process import TrackerProcess

REDRIVES_MAX = 20
"""After so many redrives at rest, a saga that is still parked counts as parked for ever."""
OPERATOR_EVERY = timedelta(minutes=10)
"""An operator acts at least this often."""
ROUNDS_MAX = 20_000
REST_WITHIN = timedelta(hours=2)
SWEEPS_EVERY = timedelta(seconds=30)
"""How often outboxes are swept in a schedule of days."""
STEPS_SHOWN_MAX = 15


class NotAtRest(Exception):
    """A schedule does not come to rest."""


@dataclass(slots=True, kw_only=True)
class Running:
    """A schedule of these participants, as far as it has run."""

    participants: Deployment
    redrives_left: int = REDRIVES_MAX
    operator_every: timedelta = OPERATOR_EVERY
    operator_at: datetime = BEGINNING + OPERATOR_EVERY
    rest_by: datetime = BEGINNING + REST_WITHIN
    sweeps_every: timedelta | None = None
    """How often what crashed processes left in outboxes is published while time goes on; None: only at rest.

    Services do it every few seconds; a schedule of days needs it, one of minutes is the harder without it.
    """
    swept_at: datetime = BEGINNING

    @property
    def schedule(self) -> Schedule:
        """Virtual time, and what is planned."""
        return self.participants.schedule

    @property
    def virtual_s(self) -> float:
        """How much virtual time has passed."""
        return (self.schedule.now - BEGINNING).total_seconds()

    def last_steps(self, saga_id: str) -> tuple[str, ...]:
        """Return the last lines of the trace about a saga."""
        lines = [line for about, line in self.schedule.trace if not saga_id or about in ("", saga_id)]
        return tuple(lines[-STEPS_SHOWN_MAX:])

    def until_rest(self) -> None:
        """Run one ready process after the other; where none is ready, advance to the next event."""
        schedule, actors = self.schedule, self.participants.disturbances.processes
        for _ in range(ROUNDS_MAX):
            ready = [each for each in actors if each.is_ready]
            if ready:
                actor = schedule.chance.choice(ready)
                actor.task.run(actor.step)
                if schedule.are_faults_on:
                    self.participants.disturbances.strike(actor)
                schedule.advance(schedule.now + schedule.within(0.1))
                continue
            next_at = self._next_at()
            if next_at is None:
                if self.is_tidy(actors) and not self._redrive_again():
                    return
                continue
            if next_at > self.rest_by:
                break
            if next_at > self.operator_at and self.redrives_left:
                # repeated retries belong to a parked saga, on which an operator acts
                has_acted = self.participants.operator.act_at_rest()
                self.redrives_left -= has_acted
                self.operator_at = (self.operator_at if has_acted else next_at) + self.operator_every
                continue
            is_free = not schedule.suspended_tasks  # a suspended one may hold a row that a sweep needs
            if is_free and self.sweeps_every and next_at > self.swept_at + self.sweeps_every:
                self.swept_at = next_at
                if not self.is_tidy(actors):
                    continue
            schedule.advance(next_at)
        raise NotAtRest(f"Not at rest after {ROUNDS_MAX} rounds, or by {self.rest_by}.")

    def is_tidy(self, actors: Sequence[Process | TrackerProcess]) -> bool:
        """Remove published rows, then let the sweeps publish what is left over; return whether nothing is left."""
        for each in actors:
            each.tidy()
        if not self.participants.database.has_leftovers():
            return True
        for each in actors:
            each.take_leftovers()
        return not any(each.unpublished or each.is_ready for each in actors)

    def _redrive_again(self) -> bool:
        if not self.participants.is_redriven or not self.redrives_left:
            return False
        self.redrives_left -= 1
        return self.participants.operator.act_at_rest()

    def _next_at(self) -> datetime | None:
        due = [when for processes in self.participants.services.values() for when in processes[0].service.next_due_at]
        found = [
            when
            for when in (*due, self.participants.next_wake_up.at, self.participants.next_wake_up.plan_at)
            if when is not None and when > self.schedule.now
        ]
        return min([*found, *([self.schedule.next_at] if self.schedule.next_at else [])], default=None)
