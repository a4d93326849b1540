"""One decision about an awaited step with what led to it, and when its ladder goes on after it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from chassis.http.downstream import NotTried
from chassis.saga.answers import Proven, Settlement
from chassis.saga.attempt_rows import AwaitedStepRow
from chassis.saga.attempts import AttemptState, Evidence, Outcome
from chassis.saga.awaited import Act, AwaitedEffect, Change
from chassis.saga.effects import OPEN, Effect, EffectState
from chassis.saga.evidence import Source
from chassis.saga.steps import AnyAwaited, AwaitedStep, AwaitedStray
from chassis.saga.triggers import StepKey
from chassis.wire.envelope import derived_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """One decision about a step, with what led to it. ``before`` is None where it begins the first attempt."""

    step: AnyAwaited
    before: AwaitedEffect | None
    change: Change
    proof: Proven | None = None
    source: Source = Source.QUERY

    @property
    def effect(self) -> Effect:
        """The effect as it is after the decision."""
        return self.change.after.effect

    @property
    def key(self) -> StepKey:
        """The saga and the step."""
        return self.effect.saga_id, self.effect.step

    @property
    def owner(self) -> str:
        """The step that it is about, also where it is an undo of the step."""
        return self.step.name if isinstance(self.step, AwaitedStep) else self.step.step

    @property
    def announced_by(self) -> str:
        """The id of the message that Kafka must have before a call of the present attempt begins."""
        if isinstance(self.step, AwaitedStray):
            return contradicted_id(self.effect.saga_id, self.step.step, self.step.number)
        return awaited_id(self.effect)

    @property
    def is_open(self) -> bool:
        """Whether the step is not settled: its outcome is open, or another attempt may follow."""
        return self.effect.state in OPEN or self.effect.state is EffectState.PAUSED

    @property
    def number(self) -> int:
        """The attempt that it is about."""
        return self.change.contradicted or self.effect.attempt

    @property
    def settlement(self) -> Settlement:
        """How the step ended. Without proof its attempt is proven to be absent."""
        proof = self.proof or Proven(outcome=Outcome.ABSENT)
        return Settlement(state=self.effect.state, attempt=self.number, proof=proof)

    @property
    def recorded(self) -> str:
        """What was recorded of the attempt before, or of its step while the attempt was open."""
        assert self.before is not None, "what begins contradicts nothing"
        attempt = self.before.attempt(self.number)
        if attempt is None or attempt.state is AttemptState.OPEN:
            return self.before.effect.state.value
        return attempt.state.value


def evidence_of(number: int, proof: Proven) -> Evidence:
    """Return what is proven of an attempt."""
    return Evidence(attempt=number, outcome=proof.outcome, detail=proof.detail)


def awaited_id(effect: Effect) -> str:
    """Return the id of the StepAwaited of the step's present attempt: a repeated decision publishes the same."""
    return derived_id(effect.saga_id, effect.step, effect.attempt, "awaited")


def accepted_id(effect: Effect) -> str:
    """Return the id of the StepAwaited that the step's present attempt is accepted."""
    return derived_id(effect.saga_id, effect.step, effect.attempt, "accepted")


def contradicted_id(saga_id: str, effect: str, number: int) -> str:
    """Return the id of the StepContradicted of an attempt; ``effect`` names the step, or its undo."""
    return derived_id(saga_id, effect, number, "contradicted")


def rescheduled(decided: Decided, row: AwaitedStepRow, *, now: datetime, is_due: bool) -> AwaitedStepRow:
    """Return the step's row with when its ladder goes on.

    That is when the call is over, after the next wait, or not at all once the step is settled or the ladder has ended.
    A redrive begins an ended ladder anew.
    """
    effect, before, ladder = decided.effect, decided.before, decided.step.ladder
    if effect.state is EffectState.STARTED:
        if Act.SEND in decided.change.acts:
            row = replace(row, queries=0, queried_since=now)
        return replace(row, query_at=effect.deadline_at)
    if not decided.is_open:
        return replace(row, query_at=None)
    if row.query_at is None:
        return row
    if is_due or Act.CANCEL in decided.change.acts:
        queries = row.queries + 1
        return replace(row, queries=queries, query_at=ladder.next_at(queries, began_at=row.queried_since, now=now))
    if before is None or before.effect.state is not effect.state:
        return replace(row, query_at=ladder.next_at(row.queries, began_at=row.queried_since, now=now) or now)
    return row


def unsent(before: AwaitedEffect, number: int, *, again_at: datetime | None = None) -> Change:
    """Take back a send that was not made, so that the same attempt may be sent at the end of its call's time.

    With ``again_at`` that is over then: nothing of the call is under way.
    """
    effect = before.effect
    if effect.state is not EffectState.STARTED or number != effect.attempt:
        return Change(after=before)
    unsent = replace(before.current, sends=max(0, before.current.sends - 1), was_not_found=True)
    attempts = (*before.attempts[: number - 1], unsent, *before.attempts[number:])
    ended = replace(effect, deadline_at=again_at or effect.deadline_at)
    return Change(after=replace(before, effect=ended, attempts=attempts))


def waiting(
    row: AwaitedStepRow, before: AwaitedEffect, number: int, now: datetime, refusal: NotTried
) -> AwaitedStepRow:
    """Return the row of a step whose send was not made: it waits as long as the refusal says, if that is longer.

    A fence needs the end of the call, so a step that is closing waits for nothing else.
    """
    effect, again_at = before.effect, now + timedelta(seconds=refusal.retry_after_s or 0.0)
    if effect.state is not EffectState.STARTED or number != effect.attempt or effect.closing:
        return row
    return replace(row, query_at=max(row.query_at, again_at)) if row.query_at is not None else row
