"""A state of the model of an awaited step, and the rules that a negative control may replace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chassis.saga import awaited, effects
from chassis.saga.attempts import AwaitedPolicy, Evidence, Outcome
from chassis.saga.awaited import AwaitedEffect, Change
from chassis.saga.effects import Effect, OnFence
from proof.awaited_provider import OUTCOMES, CancelState, Provider
from proof.states import ModelState
from saga_tracker.model.facts import Fact
from saga_tracker.model.operating import admitted

UNUSED = Provider()


@dataclass(frozen=True, slots=True)
class AwaitedState(ModelState):
    """One state of everything, with the awaited step's provider, its undo, and whether a database was restored."""

    payment: Provider = UNUSED
    undo: Provider = UNUSED
    restores: int = 0
    ladder_ended: bool = False


def _number_as_key(number: int, restores: int) -> int:
    """Return the key of an attempt: derived from its number, whatever was restored."""
    return number - 1


@dataclass(slots=True, kw_only=True)
class Rules:
    """The real decisions, each of which a negative control may replace."""

    on_accepted: Callable[[AwaitedEffect, int], Change] = awaited.on_accepted
    on_due: Callable[..., Change] = awaited.on_due
    on_not_found: Callable[[AwaitedEffect, AwaitedPolicy, int], Change] = awaited.on_not_found
    on_missing: Callable[..., Change] = awaited.on_missing
    on_evidence: Callable[[AwaitedEffect, AwaitedPolicy, Evidence], Change] = awaited.on_evidence
    on_fence: Callable[[Effect | None], OnFence] = effects.on_fence
    key_of: Callable[[int, int], int] = _number_as_key
    admitted: Callable[..., Fact | None] = admitted
    fences_all: bool = False
    answers_once: bool = False
    calls_before_publishing: bool = False
    redrives_anew: bool = False
    contradictions_hidden: bool = False


def evidence(provider: Provider, rules: Rules, policy: AwaitedPolicy, restores: int) -> Iterator[tuple[str, Change]]:
    """Yield every piece of evidence that the provider has now, with the decision about it."""
    row = provider.awaited
    assert row is not None, "it was begun"
    for attempt in row.attempts:
        number = attempt.number
        key = rules.key_of(number, restores)
        record = provider.records[key]
        if record is not None:
            yield f"{number} is acknowledged", rules.on_accepted(row, number)
        if record in OUTCOMES:
            found = Evidence(attempt=number, outcome=OUTCOMES[record])
            yield f"evidence: {number} {record.value}", rules.on_evidence(row, policy, found)
        if provider.cancels[key] is CancelState.REFUSED:
            refused = Evidence(attempt=number, outcome=Outcome.CANCEL_REFUSED)
            yield f"the cancel of {number} is refused", rules.on_evidence(row, policy, refused)
        if record is None:
            yield f"a query does not find {number}", rules.on_not_found(row, policy, number)
        if provider.statements[key]:
            missing = rules.on_missing(row, policy, number, provider.statement(key))
            yield f"the statement is matched with {number}", missing
