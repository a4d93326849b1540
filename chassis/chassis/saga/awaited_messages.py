"""The messages that a service publishes about its attempts at awaited steps. Pure."""

from __future__ import annotations

from datetime import datetime

from chassis.saga.attempts import attempt_key
from chassis.saga.awaited import Act
from chassis.saga.awaited_decisions import Decided
from chassis.saga.steps import AwaitedStep, AwaitedUndo
from messages.contract import Envelope
from messages.saga import StepAwaited, StepContradicted


def awaited(
    decided: Decided, service: str, envelope: Envelope, *, since: datetime, reference: str | None = None
) -> StepAwaited:
    """Return the message that an attempt is begun; with the provider's ``reference``, that it is accepted."""
    effect = decided.effect
    return StepAwaited(
        **envelope,
        service=service,
        step=decided.owner,
        attempt=effect.attempt,
        undo=isinstance(decided.step, AwaitedUndo),
        key=attempt_key(effect.saga_id, effect.step, effect.attempt),
        since=since,
        reference=reference,
    )


def contradicted(decided: Decided, service: str, envelope: Envelope) -> StepContradicted:
    """Return the message that evidence contradicts what was recorded."""
    assert decided.proof is not None, "only evidence contradicts"
    return StepContradicted(
        **envelope,
        service=service,
        step=decided.owner,
        attempt=decided.number,
        recorded=decided.recorded,
        proven=decided.proof.outcome.value,
        source=decided.source.value,
        reference=decided.proof.reference,
        undone_by_service=_undoes_stray(decided),
    )


def _undoes_stray(decided: Decided) -> bool:
    is_stray = Act.UNDO_ATTEMPT in decided.change.acts
    return is_stray and isinstance(decided.step, AwaitedStep) and decided.step.undo_stray is not None
