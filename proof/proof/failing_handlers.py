"""Local steps that fail as a defect would make them: now and then, or all of them for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from chassis.saga.steps import Handler, Step, name
from messages.contract import Message
from proof.schedule import BEGINNING, Schedule

BROKEN_S = 60.0
"""The longest time for which a handler is broken: longer than all its attempts."""


class Poison(Exception):
    """An unforeseen failure of a handler."""


@dataclass(slots=True)
class FailingHandlers:
    """The handlers of one schedule, whose local steps and compensations may fail."""

    schedule: Schedule
    _broken_until: dict[str, datetime] = field(default_factory=dict)

    def wrap(self, handler: Handler) -> Handler:
        """Return a handler that fails now and then if it is a local step; any other one is returned as it is."""
        if not isinstance(handler, Step):
            return handler
        compensation = handler.compensation
        if compensation is not None:
            compensation = replace(compensation, load=self._failing(name(compensation), compensation.load))
        return replace(handler, load=self._failing(handler.name, handler.load), compensation=compensation)

    def _failing(self, what: str, load: Callable[[Any, Connection], Any]) -> Callable[[Any, Connection], Any]:
        def load_or_fail(messages: Sequence[Message], tx: Connection) -> Any:
            if self._is_broken(what) or self.schedule.strikes("a handler fails", 0.03):
                raise Poison("an unforeseen failure")
            return load(messages, tx)

        return load_or_fail

    def _is_broken(self, what: str) -> bool:
        schedule = self.schedule
        if schedule.strikes("a handler is broken for a while", 0.02):
            self._broken_until[what] = schedule.now + schedule.within(BROKEN_S)
        return schedule.are_faults_on and schedule.now < self._broken_until.get(what, BEGINNING)
