"""Sagas with a step whose outcome comes later: chains of the order saga's own steps, with one of them awaited."""

from __future__ import annotations

from dataclasses import replace

from proof.models import AUTHORIZE, BOOK, BURN, POST, RESERVE, chain
from saga_tracker.model.saga import AwaitedDefinition, Exhausted, SagaDefinition, StepDefinition, StepKind

COMMIT = replace(POST, name="commit_payout", compensation=None)
"""A step behind the one without a return."""


def without_return(step: StepDefinition) -> StepDefinition:
    """Return the step as an awaited pivot that nothing undoes at its provider: a payout."""
    return replace(
        step,
        kind=StepKind.PIVOT,
        compensation=None,
        undone_by=None,
        exhausted=Exhausted.PARK,
        awaited=AwaitedDefinition(),
    )


def undoable(step: StepDefinition, *, evidence_timeout_s: float | None = None) -> StepDefinition:
    """Return the step as an awaited one that its compensation undoes at its provider: a card, or a parcel."""
    awaited = AwaitedDefinition(evidence_timeout_s=evidence_timeout_s)
    return replace(step, exhausted=Exhausted.PARK, awaited=awaited)


PAYOUT = without_return(BOOK)
PAYOUT_1 = chain(PAYOUT)
PAYOUT_FIRST_2 = chain(PAYOUT, COMMIT)
PAYOUT_2 = chain(RESERVE, PAYOUT)
PAYOUT_3 = chain(RESERVE, PAYOUT, COMMIT)
PAYOUT_4 = chain(RESERVE, BURN, PAYOUT, COMMIT)
CARD_2 = chain(undoable(AUTHORIZE), RESERVE)
CARD_1 = chain(undoable(AUTHORIZE))
CARD_3 = chain(RESERVE, undoable(AUTHORIZE), BURN)
CARD_TIMED_3 = chain(RESERVE, undoable(AUTHORIZE, evidence_timeout_s=3_600), BURN)


def awaited_index(definition: SagaDefinition) -> int:
    """Return the index of the one awaited step."""
    return next(index for index, step in enumerate(definition.steps) if step.awaited is not None)
