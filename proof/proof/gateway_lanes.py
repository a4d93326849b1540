"""A state of the model of a step at a gateway: the step, its undo, what undoes stray successes, and the gateway."""

from __future__ import annotations

from dataclasses import dataclass, replace

from chassis.saga.awaited import AwaitedEffect
from chassis.saga.effects import EffectState
from proof.gateway_books import Books
from proof.gateway_calls import Call, GatewayRequest

UNDO, STRAY = 1, 2
"""The lanes: 0 is the step, then its undo, then what undoes its attempts 1, 2, … that belong to no step."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Something that is requested of the gateway, with the gateway's own ids of its attempts and its calls."""

    row: AwaitedEffect
    ids: tuple[str | None, ...] = (None,)
    calls: frozenset[Call] = frozenset()

    @property
    def state(self) -> EffectState:
        """The state of its effect."""
        return self.row.effect.state


@dataclass(frozen=True, slots=True)
class GatewayState:
    """One state of everything. ``has_failed``: the saga is fenced, and compensates what is done."""

    lanes: tuple[Lane | None, ...]
    books: Books
    under_way: tuple[GatewayRequest, ...] = ()
    has_failed: bool = False
    is_late: bool = False
    contradicted: str | None = None

    def with_lane(self, index: int, lane: Lane) -> GatewayState:
        """Return the state with this lane."""
        return replace(self, lanes=(*self.lanes[:index], lane, *self.lanes[index + 1 :]))
