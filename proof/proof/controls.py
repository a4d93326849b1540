"""Negative controls: the protocol without one of its rules. A proof that does not fail on them proves nothing.

Each stands for a mistake that systems of this kind make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from sqlalchemy import Connection

from chassis.saga import effects, late_calls, routing
from chassis.saga.effects import Effect, EffectState
from chassis.saga.late_calls import LateCalls
from chassis.saga.steps import AnyExternalStep
from chassis.saga.unit_of_work import CallResult, PendingCall
from proof import calls
from proof.payment_controls import OF_PAYMENTS
from proof.pivot_controls import cancellation_beats_the_pivot, deadline_behind_the_pivot
from proof.return_controls import OF_RETURNS
from proof.sacco_controls import OF_SACCO
from saga_tracker.ingest import tracked_saga
from saga_tracker.ingest.deadlines import Deadlines
from saga_tracker.ingest.decisions import OwnDecision, entry_of
from saga_tracker.ingest.tracked_saga import TrackedSaga
from saga_tracker.ingest.unit_of_work import UnitOfWork
from saga_tracker.model.consumption import ConsumptionHistory
from saga_tracker.model.decision import Cause, Decision
from saga_tracker.model.facts import Fact, Fenced, Progress, StepState, Succeeded, merge
from saga_tracker.model.progress import decide
from saga_tracker.model.saga import SagaDefinition

Decide: TypeAlias = Callable[[SagaDefinition, Progress], Decision]


def without_the_fence(definition: SagaDefinition, known: Progress) -> Decision:
    """Compensate at once, without a fence that shows what ran."""
    return decide(definition, replace(known, fenced_services=frozenset(definition.services)))


def compensating_by_step_index(definition: SagaDefinition, known: Progress) -> Decision:
    """Compensate only the steps whose own success arrived, as a list of completed steps would."""
    unseen = {step.name for step in definition.steps} - known.ran
    return decide(definition, replace(known, compensated=known.compensated | unseen))


def losing_late_successes(known: Progress, fact: Fact) -> Progress:
    """Ignore a success that arrives after the saga was stopped, as if it were an error."""
    if known.cancelled is None and not known.timed_out and not known.exhausted:
        return merge(known, fact)
    if isinstance(fact, Succeeded):
        return known
    if isinstance(fact, Fenced):
        kept = tuple((step, state) for step, state in fact.states if state is not StepState.DONE or step in known.ran)
        fact = replace(fact, states=kept)
    return merge(known, fact)


def running_what_is_fenced(effect: Effect | None) -> effects.OnTrigger:
    """Run a trigger that arrives after the fence."""
    if effect is not None and effect.state is EffectState.FENCED:
        return effects.OnTrigger.RUN
    return _on_trigger(effect)


def completing_despite_a_cancellation(definition: SagaDefinition, known: Progress) -> Decision:
    """Let completion win over a cancellation that arrives while the last event is under way."""
    decision = decide(definition, known)
    if decision.failure is not None and decision.failure.cause is Cause.CANCELLED and not known.fenced_services:
        return decide(definition, replace(known, cancelled=None))
    return decision


def redriving_what_is_fenced(effect: Effect | None) -> effects.OnRedrive:
    """Run a redriven step again although its saga has been fenced."""
    if effect is not None and effect.state is EffectState.FENCED:
        return effects.OnRedrive.RESUME
    return effects.on_redrive(effect)


def accepting(*_anything: object) -> None:
    """Let every message pass one of the rules of routing."""


def sending_after_the_deadline(_call: PendingCall, began_at: datetime) -> datetime:
    """Let a call go on however long the lookup of its provider's name took."""
    return began_at + timedelta(hours=1)


def ignoring_late_calls(_late_calls: LateCalls, _step: AnyExternalStep, _group: Sequence[CallResult]) -> None:
    """Discard the result of a call that comes back after its effect was fenced."""


def deciding_in_the_database_alone(
    unit_of_work: UnitOfWork, saga: TrackedSaga, message: OwnDecision, *, is_awaited: bool
) -> None:
    """Act on a deadline, a cancellation or an operator's act without publishing it."""
    if (entry := entry_of(message, saga.row.partition)) is not None:
        unit_of_work.entries.append(entry)


def counting_from_the_start(
    sweep: Deadlines,
    tx: Connection,
    due: Sequence[TrackedSaga],
    consumption: ConsumptionHistory,
    recorded_until: Mapping[int, datetime],
    now: datetime,
) -> set[str]:
    """Postpone no step beyond the deadline of its saga, which counts from checkout's time of the order."""
    postponed = _postpone(sweep, tx, due, consumption, recorded_until, now)
    for saga in due:
        waiting = saga.decision.waiting
        if waiting is not None and now >= saga.row.started_at + timedelta(seconds=saga.definition.deadline_s):
            saga.row.waiting = waiting.key
            postponed.discard(saga.row.saga_id)
    return postponed


_on_trigger = effects.on_trigger
_postpone = Deadlines.postpone


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One rule taken out: ``simulated`` replaces attributes of modules, ``explored`` fields of the exploration's model.

    A mistake that shows only in one rare order of events is left to the exploration: its ``simulated`` is empty. The
    exploration has no raw messages and no stages of a call, so those rules are left to the simulation.
    """

    simulated: tuple[tuple[Any, str, Any], ...]
    explored: Mapping[str, Any]


CONTROLS: Mapping[str, Control] = {
    "no-fence": Control(
        simulated=((tracked_saga, "decide", without_the_fence),), explored={"decide": without_the_fence}
    ),
    "step-index": Control(
        simulated=((tracked_saga, "decide", compensating_by_step_index),),
        explored={"decide": compensating_by_step_index},
    ),
    "no-late-success": Control(
        simulated=((tracked_saga, "merge", losing_late_successes),), explored={"merge": losing_late_successes}
    ),
    "fence-not-kept": Control(
        simulated=((effects, "on_trigger", running_what_is_fenced),), explored={"on_trigger": running_what_is_fenced}
    ),
    "unknown-command": Control(simulated=((routing, "check_command_is_handled", accepting),), explored={}),
    "wrong-topic": Control(simulated=((routing, "check_topic", accepting),), explored={}),
    "foreign-id": Control(simulated=((routing, "check_ids", accepting),), explored={}),
    "foreign-key": Control(simulated=((routing, "check_key", accepting),), explored={}),
    "unknown-saga": Control(simulated=((routing, "check_saga", accepting),), explored={}),
    "deadline-outlasted": Control(simulated=((calls, "sends_until", sending_after_the_deadline),), explored={}),
    "late-call-ignored": Control(simulated=((late_calls.LateCalls, "settle", ignoring_late_calls),), explored={}),
    "decision-unpublished": Control(
        simulated=((UnitOfWork, "record_decision", deciding_in_the_database_alone),), explored={}
    ),
    "delay-is-loss": Control(simulated=((Deadlines, "postpone", counting_from_the_start),), explored={}),
    "cancellation-loses": Control(simulated=(), explored={"decide": completing_despite_a_cancellation}),
    "redrive-unfenced": Control(simulated=(), explored={"on_redrive": redriving_what_is_fenced}),
    "forward-only-cancelled": Control(simulated=(), explored={"decide": cancellation_beats_the_pivot}),
    "forward-only-late": Control(
        simulated=((tracked_saga, "decide", deadline_behind_the_pivot),), explored={"decide": deadline_behind_the_pivot}
    ),
    **{name: Control(simulated=(replacement,), explored={}) for name, replacement in OF_RETURNS.items()},
    **{name: Control(simulated=replacements, explored={}) for name, replacements in OF_PAYMENTS.items()},
    **{name: Control(simulated=replacements, explored={}) for name, replacements in OF_SACCO.items()},
}


@contextmanager
def switched_on(name: str) -> Iterator[None]:
    """Replace our functions with a control's for a while."""
    before = [(module, attribute, getattr(module, attribute)) for module, attribute, _ in CONTROLS[name].simulated]
    switch_on(name)
    try:
        yield
    finally:
        for module, attribute, whole in before:
            setattr(module, attribute, whole)


def switch_on(name: str | None) -> None:
    """Replace our functions with a control's, for the rest of this process; None changes nothing."""
    for module, attribute, broken in CONTROLS[name].simulated if name else ():
        setattr(module, attribute, broken)


SIMULATED_OF_SACCO = (*OF_SACCO, "forward-only-late")
"""The controls that a simulation of a SACCO can find."""
SIMULATED = tuple(
    name
    for name, control in CONTROLS.items()
    if control.simulated and name not in OF_PAYMENTS and name not in SIMULATED_OF_SACCO
)
"""The controls that a simulation of orders can find; one of payments finds those of payments."""
EXPLORED = tuple(name for name, control in CONTROLS.items() if control.explored)
"""The controls that an exploration can find."""
FORWARD_ONLY = ("forward-only-cancelled", "forward-only-late")
"""Those of them that need a saga with a forward-only pivot."""
