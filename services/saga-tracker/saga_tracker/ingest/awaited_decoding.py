"""Facts of the messages about steps whose outcome comes later. Pure.

Both messages are of no saga in particular, so they are checked against its definition.
"""

from __future__ import annotations

from dataclasses import replace

from messages.saga import StepAwaited, StepContradicted
from saga_tracker.ingest.records import Unexpected, plain
from saga_tracker.model.contradictions import Contradicted
from saga_tracker.model.facts import Awaited, Fact
from saga_tracker.model.saga import SagaDefinition, StepDefinition
from saga_tracker.store.timeline import Entry

ATTEMPTS_MAX = 32_767
"""A timeline's entry and an effect's row hold no higher number."""


def interpret_awaited(
    definition: SagaDefinition, message: StepAwaited | StepContradicted, entry: Entry
) -> tuple[Fact, Entry]:
    """Return the fact and the timeline entry. Raises Unexpected unless the step is an awaited one of its service."""
    step = next((each for each in definition.steps if each.name == message.step), None)
    kind = type(message).__name__
    if step is None or step.service != message.service:
        raise Unexpected(f"{kind} names the step {message.step!r}; that is no step of {message.service!r}.")
    if step.awaited is None:
        raise Unexpected(f"{kind} names the step {message.step!r}, whose outcome does not come later.")
    if not 1 <= message.attempt <= ATTEMPTS_MAX:
        raise Unexpected(f"{kind} has the attempt {message.attempt}; attempts count from 1.")
    entry = replace(entry, service=message.service, attempt=message.attempt)
    if isinstance(message, StepAwaited):
        return _awaited(step, message, entry)
    reason = _contradiction(message)
    since = None if message.undone_by_service else message.occurred_at
    fact = Contradicted(step=step.name, attempt=message.attempt, reason=reason, unsettled_since=since)
    return fact, replace(entry, detail=reason)


def _awaited(step: StepDefinition, message: StepAwaited, entry: Entry) -> tuple[Fact, Entry]:
    if message.undo and step.compensation is None:
        raise Unexpected(f"StepAwaited is about the undo of {step.name!r}, which has no compensation of its own.")
    what = "begun" if message.reference is None else f"accepted as {plain(message.reference)}"
    whose = "its undo was " if message.undo else ""
    fact = Awaited(step=step.name, attempt=message.attempt, undo=message.undo)
    return fact, replace(entry, detail=f"{whose}{what}; its outcome comes later")


def _contradiction(message: StepContradicted) -> str:
    reference = "" if message.reference is None else f" {plain(message.reference)}"
    undone = "; the service undoes it" if message.undone_by_service else ""
    recorded, proven = plain(message.recorded), plain(message.proven)
    return f"attempt {message.attempt} was {recorded}, and is {proven} by {plain(message.source)}{reference}{undone}"
