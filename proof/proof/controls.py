"""Negative controls: the protocol with one of its rules taken out. A proof that does not fail on them proves nothing.

Each stands for a mistake that systems of this kind make. They replace a function of ours for as long as they are on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

from messaging.effects import Effect, EffectState
from saga_tracker import recording
from saga_tracker.facts import Fact, Fenced, Progress, StepState, Succeeded, merge
from saga_tracker.progress import Decision, decide
from saga_tracker.saga import SagaDefinition

from messaging import effects

Decide: TypeAlias = Callable[[SagaDefinition, Progress], Decision]


def without_the_fence(definition: SagaDefinition, known: Progress) -> Decision:
    """Compensate at once, without asking the services what ran."""
    return decide(definition, replace(known, fenced_services=frozenset(definition.services)))


def compensating_by_step_index(definition: SagaDefinition, known: Progress) -> Decision:
    """Compensate only the steps whose own success was seen, as a list of completed steps would."""
    unseen = {step.name for step in definition.steps} - known.ran
    return decide(definition, replace(known, compensated=known.compensated | unseen))


def late_success_forgotten(known: Progress, fact: Fact) -> Fact | None:
    """Forget a success that comes after the saga was stopped, as if it were an error; None forgets the whole fact."""
    if known.cancelled is None and not known.timed_out and not known.exhausted:
        return fact
    if isinstance(fact, Succeeded):
        return None
    if isinstance(fact, Fenced):
        kept = tuple((step, state) for step, state in fact.states if state is not StepState.DONE or step in known.ran)
        return replace(fact, states=kept)
    return fact


def losing_late_successes(known: Progress, fact: Fact) -> Progress:
    """Merge without what :func:`late_success_forgotten` forgets."""
    kept = late_success_forgotten(known, fact)
    return known if kept is None else merge(known, kept)


def running_what_is_fenced(effect: Effect | None) -> effects.OnTrigger:
    """Run a trigger that comes after the fence."""
    if effect is not None and effect.state is EffectState.FENCED:
        return effects.OnTrigger.RUN
    return _on_trigger(effect)


_on_trigger = effects.on_trigger

CONTROLS: Mapping[str, tuple[tuple[Any, str, Any], ...]] = {
    "without the fence": ((recording, "decide", without_the_fence),),
    "compensation by step index": ((recording, "decide", compensating_by_step_index),),
    "without late success": ((recording, "merge", losing_late_successes),),
    "a fence that services do not keep": ((effects, "on_trigger", running_what_is_fenced),),
}
"""What each control puts in the place of what, by (module, name)."""


@contextmanager
def control(name: str | None) -> Iterator[None]:
    """Switch a control on; None switches nothing."""
    replaced = CONTROLS[name] if name else ()
    before = [(module, attribute, getattr(module, attribute)) for module, attribute, _ in replaced]
    for module, attribute, broken in replaced:
        setattr(module, attribute, broken)
    try:
        yield
    finally:
        for module, attribute, original in before:
            setattr(module, attribute, original)
