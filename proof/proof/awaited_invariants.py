"""What must hold of an awaited step in every state of its model."""

from __future__ import annotations

from chassis.saga.attempts import AttemptState
from chassis.saga.effects import OPEN, EffectState
from proof.awaited_provider import Record
from proof.awaited_rules import AwaitedState, Rules
from saga_tracker.model.contradictions import Contradicted
from saga_tracker.model.decision import SagaState


def sends_while_closing(before: AwaitedState, state: AwaitedState) -> bool:
    """Return whether a step that is being fenced sends something."""
    row = before.payment.awaited
    is_closing = row is not None and row.effect.closing and before.restores == state.restores
    return is_closing and state.payment.sends > before.payment.sends


def wrong_payments(state: AwaitedState, ends: list[SagaState], *, index: int, contradicts: bool) -> str | None:
    """Audit the provider's own records. ``contradicts``: the provider may pay what it reported as failed."""
    paid, undone = state.payment.count(Record.SUCCEEDED), state.undo.count(Record.SUCCEEDED)
    if paid > 1 and not contradicts:
        return "paid twice"
    if undone > 1:
        return "refunded twice"
    if ends == [SagaState.CONFIRMED] and not paid:
        return "confirmed, not paid"
    if contradicts or paid <= undone:
        return None
    if ends == [SagaState.CANCELLED_COMPENSATED]:
        return "cancelled, and paid"
    holds = [each for each in state.effects[:index] if each is not None]
    return "hold released, and paid" if any(each.state is EffectState.UNDONE for each in holds) else None


def wrong_effects(state: AwaitedState, ends: list[SagaState], index: int) -> str | None:
    """Compare how the saga ended with the effects of its steps; ``index`` is that of the awaited one."""
    others = {each and each.state for number, each in enumerate(state.effects) if number != index}
    effect = state.effects[index]
    if ends == [SagaState.CONFIRMED] and (others - {EffectState.DONE} or effect is None):
        return "confirmed, but not every step is done"
    is_live = effect is not None and effect.state in {*OPEN, EffectState.PAUSED, EffectState.DONE}
    if ends == [SagaState.CANCELLED_COMPENSATED] and (EffectState.DONE in others or is_live):
        return "cancelled, but a step is done or may still run"
    return None


def owes_a_contradiction(state: AwaitedState, rules: Rules) -> bool:
    """Return whether an attempt was paid, is not taken for paid, and that was not published."""
    row = state.payment.awaited
    if row is None:
        return False
    published = {each.attempt for each in state.sent if isinstance(each, Contradicted)}
    return any(
        state.payment.records[rules.key_of(attempt.number, state.restores)] is Record.SUCCEEDED
        and attempt.state is not AttemptState.SUCCEEDED
        and attempt.number not in published
        for attempt in row.attempts
    )
