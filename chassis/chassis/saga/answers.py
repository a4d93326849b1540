"""What a provider answers about an attempt whose outcome comes later. Pure; an adapter returns these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from chassis.saga.attempts import Outcome
from chassis.saga.effect_states import EffectState
from chassis.values import text


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """It has the attempt, and its outcome comes later.

    ``provider_id`` is the provider's own id of it; ``reference`` is for people, who find its saga by it from then on.
    ``is_ready``: it is queried at once, when its id is committed. A provider that has a request in two parts gets the
    second one so, under the id that the first has made.
    """

    provider_id: str | None = None
    reference: str | None = None
    is_ready: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """It proves an outcome. ``reference`` is for people, ``detail`` what else it says, in a form of the adapter's.

    A second success with another ``detail`` is a contradiction. ``note`` is what may differ, and is in an answer alone.
    """

    outcome: Outcome
    provider_id: str | None = None
    reference: str | None = None
    detail: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """It does not know the attempt now. A request may still be under way."""


SendAnswer: TypeAlias = Accepted | Proven
QueryAnswer: TypeAlias = Accepted | Proven | NotFound


def is_storable(answer: QueryAnswer) -> bool:
    """Return whether PostgreSQL can hold all texts of an answer."""
    match answer:
        case Accepted():
            return all(text.is_storable(each or "") for each in (answer.provider_id, answer.reference))
        case Proven():
            texts = (answer.provider_id, answer.reference, answer.detail, answer.note)
            return all(text.is_storable(each or "") for each in texts)
        case _:
            return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How an awaited step ended: DONE or REJECTED by an attempt, and what proved it."""

    state: EffectState
    attempt: int
    proof: Proven

    @property
    def is_done(self) -> bool:
        """Whether the step is done."""
        return self.state is EffectState.DONE
