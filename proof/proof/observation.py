"""How a process of the tracker observes the services' consumer groups, at the product's intervals of virtual time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from proof.schedule import BEGINNING, Schedule
from saga_tracker.model.consumption import OBSERVE_EVERY, ConsumptionHistory, ServiceObservation
from saga_tracker.store.consumed_offsets import TopicPartition

Groups = Callable[[Collection[TopicPartition]], Mapping[str, ServiceObservation]]
"""Returns the services' consumer groups, with their offsets in the partitions given, as Kafka does."""


@dataclass(slots=True, kw_only=True)
class Observation:
    """The observations of one process, and the ``history`` that it has of them.

    ``offsets`` returns up to where the process has recorded its partitions; None while it observes nothing.
    ``is_needed`` returns whether a deadline is set. Without one the product observes too, and nothing follows from it.
    """

    schedule: Schedule
    groups: Groups
    kept_s: float
    offsets: Callable[[], Mapping[TopicPartition, int] | None]
    is_needed: Callable[[], bool]
    history: ConsumptionHistory = field(init=False)
    _next_at: datetime = BEGINNING
    _is_planned: bool = False

    def __post_init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Begin anew, as a process that starts does."""
        self.history = ConsumptionHistory(kept_s=self.kept_s)
        self._next_at = BEGINNING

    def continue_while_needed(self) -> None:
        """Observe from now on, until no deadline is set any more."""
        if not self._is_planned and self.is_needed():
            self._again()

    def observe_if_due(self) -> None:
        """Observe now if the last observation is as old as an interval, as a tick of the product begins."""
        schedule, offsets = self.schedule, self.offsets()
        if offsets and schedule.now >= self._next_at:
            elapsed_s = (schedule.now - BEGINNING).total_seconds()
            self.history.observe(self.groups(offsets), offsets, at=schedule.now, elapsed_s=elapsed_s)
            self._next_at = schedule.now + OBSERVE_EVERY

    def _again(self) -> None:
        self.observe_if_due()
        self._is_planned = self.is_needed()
        if self._is_planned:
            self.schedule.at(self.schedule.now + OBSERVE_EVERY, self._again)
