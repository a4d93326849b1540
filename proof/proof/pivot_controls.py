"""Negative controls of steps without a return, awaited or forward only: something stops the saga behind them."""

from __future__ import annotations

from proof.models import with_return
from saga_tracker.model.decision import Decision
from saga_tracker.model.facts import Progress
from saga_tracker.model.progress import decide
from saga_tracker.model.saga import SagaDefinition


def cancellation_beats_the_pivot(definition: SagaDefinition, known: Progress) -> Decision:
    """Compensate a cancelled saga whose step without a return ran."""
    return decide(with_return(definition) if known.cancelled is not None else definition, known)


def deadline_behind_the_pivot(definition: SagaDefinition, known: Progress) -> Decision:
    """Compensate a saga that is late behind its step without a return."""
    is_late = definition.no_return is not None and any(
        step.name in known.timed_out for step in definition.steps[definition.no_return + 1 :]
    )
    return decide(with_return(definition) if is_late else definition, known)
