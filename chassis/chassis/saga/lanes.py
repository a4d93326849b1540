"""Whether the next attempt of a paused step may begin: the lanes of one unit of work, each asked for once."""

from __future__ import annotations

from sqlalchemy import Connection

from chassis.saga.effects import EffectState
from chassis.saga.steps import AnyAwaited, AwaitedStep, request_of
from messages.contract import Message


class Lanes:
    """The lanes of one unit of work."""

    def __init__(self, tx: Connection) -> None:
        self._tx = tx
        self._known: dict[str, bool] = {}

    def is_open(self, step: AnyAwaited, state: EffectState, trigger: Message) -> bool:
        """Return whether the lane of what was requested is open. Only a step that is paused waits for it."""
        if state is not EffectState.PAUSED or not isinstance(step, AwaitedStep):
            return True
        if step.lane is None or step.open_lanes is None:
            return True
        lane = step.lane(request_of(step, trigger))
        if lane not in self._known:
            self._known[lane] = lane in step.open_lanes([lane], self._tx)
        return self._known[lane]
