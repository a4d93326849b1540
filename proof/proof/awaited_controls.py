"""Negative controls of awaited steps: the protocol without one of its rules. An exploration must fail on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from chassis.saga import awaited, effects
from chassis.saga.attempts import AwaitedPolicy, Cancel, Evidence, Outcome, Statement
from chassis.saga.awaited import Act, AwaitedEffect, Change
from chassis.saga.effects import IN_DOUBT, Effect, EffectState, OnFence
from proof.awaited_models import CARD_1, PAYOUT_1, PAYOUT_2, PAYOUT_3, PAYOUT_FIRST_2
from proof.awaited_provider import ProviderBounds
from proof.awaited_rules import Rules
from proof.awaited_states import AwaitedModel, next_attempt
from proof.pivot_controls import cancellation_beats_the_pivot, deadline_behind_the_pivot
from proof.states import Decide
from saga_tracker.model.progress import decide
from saga_tracker.model.saga import SagaDefinition, StepDefinition

NO_RETURN = AwaitedPolicy(no_return=True, sends_max=2)
UNDOABLE = AwaitedPolicy(no_return=False, sends_max=1)
CANCELLABLE = replace(UNDOABLE, can_cancel=True)
ONE_SEND = replace(NO_RETURN, sends_max=1)
CALM = ProviderBounds(can_fail=False, can_lose=False, has_statement=False)
"""A provider that pays whatever arrives, and loses nothing."""
WITH_STATEMENT = replace(CALM, has_statement=True)
_on_due, _on_evidence = awaited.on_due, awaited.on_evidence
_on_accepted, _on_not_found, _on_fence = awaited.on_accepted, awaited.on_not_found, effects.on_fence
"""The real decisions. In the simulation a control stands in their stead."""


def is_undo(row: AwaitedEffect) -> bool:
    """Return whether it is the effect of an undo."""
    return row.effect.step.endswith(":undo")


def _settled(row: AwaitedEffect, policy: AwaitedPolicy, outcome: Outcome) -> Change:
    return _on_evidence(row, policy, Evidence(attempt=row.effect.attempt, outcome=outcome))


def timeout_releases_the_hold(
    row: AwaitedEffect, policy: AwaitedPolicy, *, now: datetime, deadline_at: datetime, lane_is_open: bool = True
) -> Change:
    """Take the end of the call for a failure."""
    change = _on_due(row, policy, now=now, deadline_at=deadline_at, lane_is_open=lane_is_open)
    became_unsure = row.effect.state is EffectState.STARTED and change.after.effect.state is EffectState.UNSURE
    return _settled(row, policy, Outcome.REFUSED) if became_unsure else change


def new_key_on_timeout(row: AwaitedEffect, policy: AwaitedPolicy, *, now: datetime, deadline_at: datetime) -> Change:
    """Begin another attempt where a call has no answer."""
    if row.effect.state is EffectState.UNSURE and len(row.attempts) < 2 and not row.effect.closing and not is_undo(row):
        return next_attempt(row, deadline_at)
    return _on_due(row, policy, now=now, deadline_at=deadline_at)


def new_undo_key_on_timeout(
    row: AwaitedEffect, policy: AwaitedPolicy, *, now: datetime, deadline_at: datetime
) -> Change:
    """Begin another attempt where an undo has no answer."""
    if is_undo(row) and row.effect.state is EffectState.UNSURE and len(row.attempts) < 2:
        return next_attempt(row, deadline_at)
    return _on_due(row, policy, now=now, deadline_at=deadline_at)


def late_success_ignored(row: AwaitedEffect, policy: AwaitedPolicy, evidence: Evidence) -> Change:
    """Take a success of a closing step for nothing: it is fenced."""
    if row.effect.closing and row.effect.state in IN_DOUBT and evidence.outcome is Outcome.SUCCEEDED:
        return Change(after=replace(row, effect=effects.settled(row.effect, EffectState.FENCED)), acts=(Act.WAKE,))
    return _on_evidence(row, policy, evidence)


def late_success_dropped(row: AwaitedEffect, policy: AwaitedPolicy, evidence: Evidence) -> Change:
    """Drop a success of a closing step."""
    if row.effect.closing and evidence.outcome is Outcome.SUCCEEDED:
        return Change(after=row)
    return _on_evidence(row, policy, evidence)


def credit_on_acknowledgement(row: AwaitedEffect, number: int) -> Change:
    """Take an acknowledgement for a success."""
    return _on_accepted(row, number) if is_undo(row) else _settled(row, NO_RETURN, Outcome.SUCCEEDED)


def undo_on_acknowledgement(row: AwaitedEffect, number: int) -> Change:
    """Take the acknowledgement of an undo for its proof."""
    return _settled(row, NO_RETURN, Outcome.SUCCEEDED) if is_undo(row) else _on_accepted(row, number)


def fencing_what_is_in_doubt(effect: Effect | None) -> OnFence:
    """Reply FENCED for a step that is in doubt."""
    return OnFence.FENCE if effect is not None and effect.state in IN_DOUBT else _on_fence(effect)


def not_found_is_failure(row: AwaitedEffect, policy: AwaitedPolicy, number: int) -> Change:
    """Take a query that finds nothing for proof, though the provider does not promise it."""
    return _on_not_found(row, replace(policy, not_found_is_proof=True), number)


def mute_while_closing(row: AwaitedEffect, policy: AwaitedPolicy, evidence: Evidence) -> Change:
    """Publish no outcome of a closing step, also where nothing undoes it."""
    change = _on_evidence(row, policy, evidence)
    if not row.effect.closing:
        return change
    return replace(change, acts=tuple(act for act in change.acts if act is not Act.PUBLISH))


def stale_statement(row: AwaitedEffect, policy: AwaitedPolicy, number: int, _statement: Statement) -> Change:
    """Trust a statement whenever it was read."""
    return _on_evidence(row, policy, Evidence(attempt=number, outcome=Outcome.ABSENT))


def succeeding_under_a_cancel(row: AwaitedEffect, policy: AwaitedPolicy, evidence: Evidence) -> Change:
    """Let a success settle a step whose cancel is out."""
    uncancelled = tuple(replace(each, cancel=Cancel.NONE) for each in row.attempts)
    is_success = evidence.outcome is Outcome.SUCCEEDED
    return _on_evidence(replace(row, attempts=uncancelled) if is_success else row, policy, evidence)


def pausing_while_closing(row: AwaitedEffect, policy: AwaitedPolicy, evidence: Evidence) -> Change:
    """Pause a closing step whose attempt failed by our fault, so that another attempt follows."""
    if row.effect.closing and evidence.outcome is Outcome.FAILED and row.effect.state in effects.OPEN:
        opened = replace(row, effect=replace(row.effect, closing=False))
        after = _on_evidence(opened, policy, evidence).after
        return Change(after=replace(after, effect=replace(after.effect, closing=True)))
    return _on_evidence(row, policy, evidence)


def sending_while_closing(row: AwaitedEffect, policy: AwaitedPolicy, *, now: datetime, deadline_at: datetime) -> Change:
    """Begin the next attempt of a closing step."""
    is_paused = row.effect.state is EffectState.PAUSED and len(row.attempts) < 2
    return next_attempt(row, now) if is_paused else _on_due(row, policy, now=now, deadline_at=deadline_at)


class FencedWhole(SagaDefinition):
    """A definition whose fence names every step, also behind the one without a return."""

    @property
    def fenced_steps(self) -> tuple[StepDefinition, ...]:
        """Every step."""
        return self.steps


def fenced_whole(definition: SagaDefinition) -> SagaDefinition:
    """Return the definition with a fence that names every step."""
    names = [name for name in SagaDefinition.__dataclass_fields__ if name != "no_return"]
    return FencedWhole(**{name: getattr(definition, name) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedControl:
    """One rule taken out, with a model that is large enough to show it.

    ``rules`` are fields of :class:`Rules`; ``defined`` returns the definition without its rule.
    """

    rules: Mapping[str, Any] = field(default_factory=dict)
    decide: Decide = decide
    definition: SagaDefinition = PAYOUT_2
    defined: Callable[[SagaDefinition], SagaDefinition] = lambda definition: definition
    policy: AwaitedPolicy = NO_RETURN
    bounds: ProviderBounds = CALM
    model: Mapping[str, Any] = field(default_factory=dict)
    found_as: str

    def broken(self) -> AwaitedModel:
        """Return the model without the rule."""
        definition = self.defined(self.definition)
        return replace(self.whole(), definition=definition, rules=Rules(**self.rules), decide=self.decide)

    def whole(self) -> AwaitedModel:
        """Return the model with the rule."""
        return AwaitedModel(definition=self.definition, policy=self.policy, bounds=self.bounds, **self.model)


SILENT = {"has_cancellation": False}
PAID_AND_RELEASED = "cancelled, and paid|hold released, and paid"
UNDONE_BEFORE_THE_PIVOT = "is compensated, though book_shipment ran, which has no return"
STUCK = "no end can be reached any more"

AWAITED_CONTROLS: Mapping[str, AwaitedControl] = {
    "timeout-releases-the-hold": AwaitedControl(
        rules={"on_due": timeout_releases_the_hold}, model=SILENT, found_as=PAID_AND_RELEASED
    ),
    "new-key-on-timeout": AwaitedControl(rules={"on_due": new_key_on_timeout}, model=SILENT, found_as="paid twice"),
    "late-success-ignored": AwaitedControl(
        rules={"on_evidence": late_success_ignored}, policy=ONE_SEND, found_as=PAID_AND_RELEASED
    ),
    "credit-on-acknowledgement": AwaitedControl(
        rules={"on_accepted": credit_on_acknowledgement}, model=SILENT, found_as="confirmed, not paid"
    ),
    "fenced-while-sent": AwaitedControl(
        rules={"on_fence": fencing_what_is_in_doubt}, policy=ONE_SEND, found_as=PAID_AND_RELEASED
    ),
    "not-found-is-failure": AwaitedControl(
        rules={"on_not_found": not_found_is_failure}, model=SILENT, found_as=PAID_AND_RELEASED
    ),
    "late-success-dropped": AwaitedControl(
        rules={"on_evidence": late_success_dropped},
        definition=PAYOUT_1,
        policy=ONE_SEND,
        bounds=WITH_STATEMENT,
        found_as=STUCK,
    ),
    "fence-behind-the-pivot": AwaitedControl(
        definition=PAYOUT_3,
        defined=fenced_whole,
        rules={"fences_all": True},
        policy=ONE_SEND,
        found_as="never will run|" + STUCK,
    ),
    "mute-while-closing": AwaitedControl(
        rules={"on_evidence": mute_while_closing},
        definition=PAYOUT_FIRST_2,
        policy=ONE_SEND,
        bounds=WITH_STATEMENT,
        found_as=STUCK,
    ),
    "one-answer-only": AwaitedControl(
        rules={"answers_once": True}, definition=CARD_1, policy=UNDOABLE, bounds=WITH_STATEMENT, found_as=STUCK
    ),
    "cancellation-beats-the-pivot": AwaitedControl(
        decide=cancellation_beats_the_pivot, definition=PAYOUT_3, policy=ONE_SEND, found_as=UNDONE_BEFORE_THE_PIVOT
    ),
    "deadline-behind-the-pivot": AwaitedControl(
        decide=deadline_behind_the_pivot,
        definition=PAYOUT_3,
        policy=ONE_SEND,
        model=SILENT,
        found_as=UNDONE_BEFORE_THE_PIVOT,
    ),
    "stale-statement": AwaitedControl(
        rules={"on_missing": stale_statement}, bounds=WITH_STATEMENT, model=SILENT, found_as=PAID_AND_RELEASED
    ),
    "redrive-new-key": AwaitedControl(
        rules={"redrives_anew": True},
        definition=PAYOUT_1,
        model={"has_cancellation": False, "ladder_ends": True, "is_redriven": True},
        found_as="paid twice|a closing step sends",
    ),
    "new-attempt-while-closing": AwaitedControl(
        rules={"on_evidence": pausing_while_closing, "on_due": sending_while_closing},
        policy=replace(NO_RETURN, sends_max=1, attempts_max=2),
        bounds=replace(CALM, can_fail_by_our_fault=True),
        found_as="a closing step sends",
    ),
    "success-settles-under-a-cancel": AwaitedControl(
        rules={"on_evidence": succeeding_under_a_cancel},
        definition=CARD_1,
        policy=CANCELLABLE,
        model=SILENT,
        found_as="confirmed, not paid",
    ),
    "undo-on-acknowledgement": AwaitedControl(
        rules={"on_accepted": undo_on_acknowledgement},
        definition=CARD_1,
        policy=UNDOABLE,
        found_as="cancelled, and paid",
    ),
    "new-undo-key-on-timeout": AwaitedControl(
        rules={"on_due": new_undo_key_on_timeout},
        definition=CARD_1,
        policy=UNDOABLE,
        found_as="refunded twice",
    ),
    "call-before-publishing": AwaitedControl(
        rules={"calls_before_publishing": True},
        model={"restores_max": 1},
        policy=ONE_SEND,
        found_as=PAID_AND_RELEASED,
    ),
    "drawn-keys": AwaitedControl(
        definition=PAYOUT_1,
        rules={"key_of": lambda number, restores: number - 1 + restores},
        model={"restores_max": 1, "has_cancellation": False},
        found_as="paid twice",
    ),
    "contradiction-hidden": AwaitedControl(
        rules={"contradictions_hidden": True},
        definition=PAYOUT_1,
        bounds=replace(WITH_STATEMENT, can_fail=True, contradicts=True),
        policy=ONE_SEND,
        model=SILENT,
        found_as=STUCK,
    ),
}
"""By name, in the protocol's order."""
