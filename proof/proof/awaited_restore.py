"""What a restore of a service's database does to its awaited step, and what its own published messages give back."""

from __future__ import annotations

from dataclasses import replace

from chassis.saga import awaited
from chassis.saga.attempts import AttemptState
from chassis.saga.awaited import AwaitedEffect
from chassis.saga.effects import Effect, EffectState
from proof.awaited_provider import AT
from proof.awaited_rules import AwaitedState
from proof.states import SAGA, Fence
from saga_tracker.model.facts import Awaited, Compensated, Fenced, Rejected, StepState, Succeeded


def with_effect(state: AwaitedState, index: int, effect: Effect | None) -> AwaitedState:
    """Return the state with the awaited step's effect, which stands in its row and in its awaited effect."""
    after = tuple(effect if number == index else each for number, each in enumerate(state.effects))
    row = state.payment.awaited
    is_row = row is not None and effect is not None
    payment = replace(state.payment, awaited=replace(row, effect=effect)) if is_row else state.payment  # type: ignore[type-var]
    return replace(state, effects=after, payment=payment)


def restored(state: AwaitedState, step: str, index: int, *, service: str, cancels: bool) -> AwaitedState:
    """Restore the service's database to before the trigger, and reconcile it with what Kafka has.

    Its own messages show what it did. A fence that was sent to it may have made it cancel before it replied.
    """
    lost = replace(state.payment, awaited=None, unpublished=False, unsent=False)
    empty = with_effect(replace(state, payment=lost, restores=state.restores + 1), index, None)
    attempts = {each.attempt: AT for each in state.sent if isinstance(each, Awaited) and not each.undo}
    reported = {dict(each.states).get(step) for each in state.sent if isinstance(each, Fenced)} - {None}
    end = _published_end(state, step, reported)
    if not attempts:
        if end is None:
            return empty
        return with_effect(empty, index, _effect(step, end, closing=bool(reported)))
    closing = bool(reported) or any(isinstance(each, Fence) and each.service == service for each in state.sent)
    change = awaited.restored(SAGA, step, attempts, calls_end_at=lost.now, closing=closing, cancels=cancels)
    row = change.after if end is None else _settled(change.after, end)
    payment = replace(lost, awaited=row, sends=lost.sends + 1)
    return with_effect(replace(empty, payment=payment), index, row.effect)


def _effect(step: str, end: EffectState, *, closing: bool) -> Effect:
    return Effect(saga_id=SAGA, step=step, state=end, attempt=1, closing=closing)


def _settled(row: AwaitedEffect, end: EffectState) -> AwaitedEffect:
    is_done = end in (EffectState.DONE, EffectState.UNDONE)
    last = replace(row.current, state=AttemptState.SUCCEEDED if is_done else AttemptState.FAILED)
    return AwaitedEffect(effect=replace(row.effect, state=end), attempts=(*row.attempts[:-1], last))


def _published_end(state: AwaitedState, step: str, reported: set[StepState | None]) -> EffectState | None:
    """Return the settled state that the service's own messages show; None where none does."""
    if Succeeded(step=step) in state.sent or StepState.DONE in reported:
        return EffectState.UNDONE if Compensated(step=step) in state.sent else EffectState.DONE
    is_rejected = any(isinstance(each, Rejected) and each.step == step for each in state.sent)
    if is_rejected or StepState.REJECTED in reported:
        return EffectState.REJECTED
    return EffectState.FENCED if StepState.FENCED in reported else None
