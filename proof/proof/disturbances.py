"""What befalls processes between their steps: they stand still, are killed, or lose their partitions to another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from proof.schedule import Schedule
from proof.service_process import Process
from proof.tasks import ZOMBIE_S
from proof.tracker_process import TrackerProcess


@dataclass(slots=True, kw_only=True)
class Disturbances:
    """The disturbances of one schedule's processes."""

    schedule: Schedule
    services: Mapping[str, Sequence[Process]]
    trackers: Sequence[TrackerProcess]

    @property
    def processes(self) -> list[Process | TrackerProcess]:
        """Every process of every service, and those of the tracker."""
        return [*(each for processes in self.services.values() for each in processes), *self.trackers]

    def strike(self, actor: Process | TrackerProcess) -> None:
        """Disturb a process now and then; most often the one that is suspended in its transaction."""
        schedule, chance = self.schedule, self.schedule.chance
        if actor.task.is_suspended and chance.random() < 0.7:
            self._hand_over(actor)
        if schedule.strikes("rebalance with a zombie owner", 0.01):
            self._hand_over(chance.choice(self.processes))
        if schedule.strikes("a process stands still", 0.02):
            process = chance.choice(self.processes)
            process.paused_until = schedule.now + schedule.within(40)
            schedule.at(process.paused_until, lambda: None)  # so that virtual time stops there
            schedule.note(f"{process.name} stands still")
        if schedule.strikes("a process is killed", 0.015):
            chance.choice(self.processes).kill()

    def _hand_over(self, old: Process | TrackerProcess) -> None:
        """Give its partitions to another process; the old owner goes on for a while as a zombie."""
        schedule = self.schedule
        if isinstance(old, TrackerProcess):
            heir = next(each for each in self.trackers if each is not old)
            if old.offsets and not heir.offsets and not heir.task.is_suspended:
                heir.task.run(heir.begin)
                schedule.at(schedule.now + schedule.within(ZOMBIE_S), old.lose)
                schedule.note(f"{heir.name} takes over from {old.name}, which goes on as a zombie")
            return
        new = next(each for each in self.services[old.service.name] if each is not old)
        missing = sorted(old.partitions - new.partitions)
        if new.task.is_suspended:
            return
        for partition in missing:
            new.take_over(partition)
            schedule.note(f"{new.name} takes partition {partition} over from {old.name}, which goes on as a zombie")
            schedule.at(schedule.now + schedule.within(ZOMBIE_S), partial(old.lose, partition))
