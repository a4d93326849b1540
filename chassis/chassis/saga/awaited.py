"""The decisions about an awaited step: a call is accepted now, and evidence of its outcome comes minutes to days later.

Pure: no I/O, no clock, no randomness. The rules:

- An acknowledgement proves arrival and nothing else. Only evidence settles; a time that has passed only leads to a
  query, or to the same attempt being sent again under the same key.
- A new attempt follows only after the one before is proven to have failed.
- Evidence comes through several doors (callback, query, statement, a clerk with proof), in any order, repeated, and
  before the acknowledgement. Every door leads to :func:`on_evidence`.
- A step of a saga that is being fenced is *closing*: it sends nothing any more, except to learn what nothing else can
  tell (``settles_by_sending``). Its outcome is published only where nothing can undo it, since its saga then goes
  forward.
- An outcome that contradicts the one before never turns a row round. It is published, once for each attempt. A second
  success with other details contradicts the first.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from chassis.saga import effects
from chassis.saga.attempts import (
    Attempt,
    AttemptState,
    AwaitedPolicy,
    Cancel,
    Evidence,
    Outcome,
    Statement,
    proves_absent,
)
from chassis.saga.effects import OPEN, Effect, EffectState, OnFence


class Act(enum.Enum):
    """What must follow a decision, in the transaction or after its commit."""

    SEND = enum.auto()
    """Publish StepAwaited; once Kafka has acknowledged it, call the provider under the attempt's key."""
    SEND_AGAIN = enum.auto()
    """Call the provider once more under the same key; its StepAwaited was published before the first call."""
    QUERY = enum.auto()
    CANCEL = enum.auto()
    """Cancel the attempt at the provider, and repeat that until it is answered."""
    PUBLISH = enum.auto()
    """Publish the step's success or rejection."""
    WAKE = enum.auto()
    """Wake the commands of the saga that wait for this step."""
    CONTRADICT = enum.auto()
    """Publish StepContradicted for ``Change.contradicted``."""
    UNDO_ATTEMPT = enum.auto()
    """Undo ``Change.contradicted`` at the provider: its success belongs to no step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedEffect:
    """An awaited step's effect with its attempts, by number from 1."""

    effect: Effect
    attempts: tuple[Attempt, ...] = ()

    @property
    def current(self) -> Attempt:
        """The current attempt. Raises IndexError where there is none."""
        return self.attempts[self.effect.attempt - 1]

    def attempt(self, number: int) -> Attempt | None:
        """Return an attempt by its number, or None."""
        return self.attempts[number - 1] if 1 <= number <= len(self.attempts) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A decision: what the step is after it, and what must follow. ``contradicted`` is the attempt that it is about."""

    after: AwaitedEffect
    acts: tuple[Act, ...] = ()
    contradicted: int | None = None


def undo_step(step: str) -> str:
    """Return the name under which the undo of an awaited step has its own effect and attempts."""
    return f"{step}:undo"


def stray_undo(step: str, number: int) -> str:
    """Return the name under which the undo of a stray attempt at a step has its own effect and attempts."""
    return f"{step}:stray:{number}"


def triggered(saga_id: str, step: str, *, now: datetime, deadline_at: datetime) -> Change:
    """Begin the first attempt. The caller has seen that the step has no effect."""
    effect = Effect(saga_id=saga_id, step=step, state=EffectState.STARTED, attempt=1, deadline_at=deadline_at)
    return Change(after=AwaitedEffect(effect=effect, attempts=(_attempt(1, now, deadline_at),)), acts=(Act.SEND,))


def restored(
    saga_id: str,
    step: str,
    begun: Mapping[int, datetime],
    *,
    calls_end_at: datetime,
    before: AwaitedEffect | None = None,
    closing: bool = False,
    cancels: bool = False,
) -> Change:
    """Return a step as a restored database must have it: by its own published StepAwaited, number to time.

    How often each was sent, and when last, is lost: at the latest by ``calls_end_at``, when every call from before is
    over. So no statement from before proves anything, and nothing is sent: the provider is queried. Lower attempts had
    failed, or the highest would not have begun. ``before`` is what the database has of the step. ``closing``: its
    saga is fenced. Then a cancel may be out where the step ``cancels``, and is sent again.
    """
    known = {} if before is None else {each.number: each for each in before.attempts}
    highest = max(begun.keys() | known.keys())
    has_arrived = before is not None and before.effect.state is EffectState.SENT and highest in known
    closing = closing or (before is not None and before.effect.closing)
    found = []
    for number in range(1, highest + 1):
        attempt = known.get(number) or Attempt(number=number, first_sent_at=begun.get(number), last_sent_at=None)
        attempt = replace(attempt, last_sent_at=calls_end_at, was_not_found=False)
        if number < highest and attempt.state is AttemptState.OPEN:
            attempt = replace(attempt, state=AttemptState.FAILED)
        elif number == highest and closing and cancels and attempt.cancel is Cancel.NONE:
            attempt = replace(attempt, cancel=Cancel.OUT)
        found.append(attempt)
    state = EffectState.SENT if has_arrived else EffectState.UNSURE
    effect = Effect(saga_id=saga_id, step=step, state=state, attempt=highest, closing=closing)
    return Change(after=AwaitedEffect(effect=effect, attempts=tuple(found)), acts=(Act.QUERY,))


def settled_as_published(
    awaited: AwaitedEffect, state: EffectState, proof: Evidence, *, contradicts: bool = False
) -> Change:
    """Return a step of a restored database as its service has published its end, by the attempt of the proof.

    It is not asked for: whatever a provider answers now, others have acted on what was published. ``contradicts``: the
    evidence that settled it contradicted what was recorded of the attempt.
    """
    number = proof.attempt
    attempt = awaited.attempt(number)
    if attempt is None:
        raise LookupError(f"{awaited.effect.step} has no attempt {number}; restore what was begun at first.")
    if state is EffectState.DONE:
        attempt = replace(attempt, state=AttemptState.SUCCEEDED, detail=proof.detail)
    else:
        is_voided = proof.outcome is Outcome.VOIDED
        attempt = replace(attempt, state=AttemptState.VOIDED if is_voided else AttemptState.FAILED)
    settled = replace(awaited, effect=effects.settled(awaited.effect, state))
    after = (
        contradicted_as_published(settled, number, Outcome.SUCCEEDED)
        if contradicts
        else _with_attempt(settled, attempt)
    )
    return Change(after=after, acts=(Act.WAKE,), contradicted=number if contradicts else None)


def contradicted_as_published(awaited: AwaitedEffect, number: int, proven: Outcome) -> AwaitedEffect:
    """Return a step whose service has published that evidence contradicts this attempt, so that it does so once."""
    attempt = awaited.attempt(number)
    if attempt is None or attempt.is_contradicted:
        return awaited
    is_claimed = attempt.state is AttemptState.OPEN and proven is Outcome.SUCCEEDED
    state = AttemptState.SUCCEEDED if is_claimed else attempt.state
    return _with_attempt(awaited, replace(attempt, is_contradicted=True, state=state))


def on_accepted(awaited: AwaitedEffect, number: int) -> Change:
    """Record that the attempt arrived: the provider accepted it, or refused it as one that it has already."""
    effect = awaited.effect
    if effect.state not in OPEN or number != effect.attempt or effect.state is EffectState.SENT:
        return Change(after=awaited)
    after = replace(awaited, effect=replace(effect, state=EffectState.SENT, deadline_at=None))
    return _wake_closing(after) if effect.state is EffectState.STARTED else Change(after=after)


def on_due(
    awaited: AwaitedEffect, policy: AwaitedPolicy, *, now: datetime, deadline_at: datetime, lane_is_open: bool = True
) -> Change:
    """Decide what to do now that the ladder has reached its next time. ``deadline_at`` is that of a call begun now.

    1. A call that is over without an answer leaves the step UNSURE.
    2. A closing step whose attempt can be cancelled is cancelled; otherwise it only queries.
    3. The same attempt is sent again where a query found nothing; a new one only where all before it failed.
    """
    effect = awaited.effect
    if effect.state is EffectState.PAUSED:
        if effect.closing or not lane_is_open:
            return Change(after=awaited)
        return _next_attempt(awaited, now, deadline_at)
    if effect.state not in OPEN:
        return Change(after=awaited)
    # 1.
    wakes: tuple[Act, ...] = ()
    if effect.state is EffectState.STARTED:
        if effect.deadline_at is not None and now < effect.deadline_at:
            return Change(after=awaited)
        awaited = replace(awaited, effect=replace(effect, state=EffectState.UNSURE, deadline_at=None))
        wakes = (Act.WAKE,) if effect.closing else ()
    # 2.
    if effect.closing and policy.can_cancel and awaited.current.cancel is not Cancel.REFUSED:
        return _cancel(awaited, wakes)
    # 3.
    if may_send_again(awaited, policy, deadline_at):
        return _send_again(awaited, deadline_at)
    return Change(after=awaited, acts=(*wakes, Act.QUERY))


def may_send_again(awaited: AwaitedEffect, policy: AwaitedPolicy, deadline_at: datetime | None = None) -> bool:
    """Return whether the same attempt may be sent once more: UNSURE, not found, and sends are left.

    It is not closing, or only another send settles it.
    Its provider must know its key until ``deadline_at``. Where it is not known when that was first sent, it may not.
    """
    effect, current = awaited.effect, awaited.current
    is_unsure = effect.state is EffectState.UNSURE and not effect.closing
    is_unsure = is_unsure or _is_settled_by_sending(awaited, policy)
    if policy.sends_within is not None:
        if current.first_sent_at is None or deadline_at is None:
            return False
        is_unsure = is_unsure and deadline_at <= current.first_sent_at + policy.sends_within
    return is_unsure and current.was_not_found and current.sends < policy.sends_max


def on_not_found(awaited: AwaitedEffect, policy: AwaitedPolicy, number: int) -> Change:
    """A query found nothing. A request may still be under way, so this only allows the same attempt again."""
    if policy.not_found_is_proof:
        return on_evidence(awaited, policy, Evidence(attempt=number, outcome=Outcome.ABSENT))
    may_be_sent = awaited.effect.state is EffectState.UNSURE or _is_settled_by_sending(awaited, policy)
    if not may_be_sent or number != awaited.effect.attempt:
        return Change(after=awaited)
    return Change(after=_with_attempt(awaited, replace(awaited.current, was_not_found=True)))


def _is_settled_by_sending(awaited: AwaitedEffect, policy: AwaitedPolicy) -> bool:
    """Return whether a closing step is sent again: its cancel is refused. That a cancel was accepted made it SENT."""
    effect = awaited.effect
    if not policy.settles_by_sending or effect.state not in (EffectState.UNSURE, EffectState.SENT):
        return False
    return effect.closing and awaited.current.cancel is Cancel.REFUSED


def on_missing(awaited: AwaitedEffect, policy: AwaitedPolicy, number: int, statement: Statement) -> Change:
    """Decide about a statement that does not show the attempt."""
    attempt = awaited.attempt(number)
    if attempt is None or not proves_absent(attempt, policy, statement):
        return Change(after=awaited)
    return on_evidence(awaited, policy, Evidence(attempt=number, outcome=Outcome.ABSENT))


def on_evidence(awaited: AwaitedEffect, policy: AwaitedPolicy, evidence: Evidence) -> Change:
    """Decide about a piece of evidence. The same piece again changes nothing. It must be matched to an attempt."""
    attempt = awaited.attempt(evidence.attempt)
    if attempt is None:
        raise LookupError(f"{awaited.effect.step} has no attempt {evidence.attempt}; keep the evidence as an orphan.")
    match evidence.outcome:
        case Outcome.SUCCEEDED:
            return _succeeded(awaited, policy, attempt, evidence.detail)
        case Outcome.REFUSED | Outcome.FAILED:
            return _failed(awaited, policy, attempt, is_final=evidence.outcome is Outcome.REFUSED)
        case Outcome.ABSENT:
            return _absent(awaited, policy, attempt)
        case Outcome.VOIDED:
            return _voided(awaited, policy, attempt)
        case Outcome.CANCEL_REFUSED:
            if attempt.cancel is not Cancel.OUT or attempt.state is not AttemptState.OPEN:
                return Change(after=awaited)
            return Change(after=_with_attempt(awaited, replace(attempt, cancel=Cancel.REFUSED)), acts=(Act.QUERY,))
        case Outcome.MISMATCHED:
            return _contradict_once(awaited, attempt)


def on_fenced(awaited: AwaitedEffect, policy: AwaitedPolicy) -> Change:
    """Close the step: nothing is sent for it any more. A cancel goes out where the provider has one."""
    before = effects.on_fence(awaited.effect)
    closing = replace(awaited, effect=effects.fenced(awaited.effect.saga_id, awaited.effect.step, awaited.effect))
    if before is not OnFence.DOUBT or not policy.can_cancel or closing.current.cancel is not Cancel.NONE:
        return Change(after=closing)
    return _cancel(closing)


def publishes(effect: Effect, policy: AwaitedPolicy) -> bool:
    """Return whether the outcome is published as the step's event: not while closing, but always without a return."""
    return policy.no_return or not effect.closing


def _succeeded(awaited: AwaitedEffect, policy: AwaitedPolicy, attempt: Attempt, detail: str | None) -> Change:
    effect, is_current = awaited.effect, attempt.number == awaited.effect.attempt
    if attempt.is_contradicted:
        return Change(after=awaited)
    if attempt.state is AttemptState.SUCCEEDED:
        is_known = attempt.detail is not None and detail is not None
        return _contradict_once(awaited, attempt) if is_known and detail != attempt.detail else Change(after=awaited)
    if attempt.cancel is Cancel.OUT and attempt.state is AttemptState.OPEN:
        return Change(after=awaited)  # The cancel may void it; only the cancel's own outcome settles.
    if attempt.state is AttemptState.VOIDED and policy.void_is_final:
        return Change(after=awaited)
    if effect.state in OPEN and is_current:
        succeeded = replace(attempt, state=AttemptState.SUCCEEDED, detail=detail)
        return _settle(_with_attempt(awaited, succeeded), policy, EffectState.DONE)
    claimed = replace(attempt, is_contradicted=True)
    if attempt.state is AttemptState.OPEN:
        claimed = replace(claimed, state=AttemptState.SUCCEEDED)
    contradicted = _with_attempt(awaited, claimed)
    settles = effect.state in OPEN or effect.state is EffectState.PAUSED
    if settles and (policy.no_return or (is_current and effect.state is EffectState.PAUSED)):
        return _contradict(_settle(contradicted, policy, EffectState.DONE), attempt.number)
    stray = () if policy.no_return else (Act.UNDO_ATTEMPT,)
    return Change(after=contradicted, acts=(Act.CONTRADICT, *stray), contradicted=attempt.number)


def _failed(awaited: AwaitedEffect, policy: AwaitedPolicy, attempt: Attempt, *, is_final: bool) -> Change:
    effect = awaited.effect
    if attempt.state is AttemptState.SUCCEEDED:
        return _contradict_once(awaited, attempt)
    if attempt.state is not AttemptState.OPEN:
        return Change(after=awaited)
    failed = _with_attempt(awaited, replace(attempt, state=AttemptState.FAILED))
    if effect.state not in OPEN or attempt.number != effect.attempt:
        return Change(after=failed)
    if is_final or effect.closing or attempt.number >= policy.attempts_max:
        return _settle(failed, policy, EffectState.REJECTED)
    return Change(after=replace(failed, effect=replace(effect, state=EffectState.PAUSED, deadline_at=None)))


def _absent(awaited: AwaitedEffect, policy: AwaitedPolicy, attempt: Attempt) -> Change:
    effect = awaited.effect
    if effect.state is not EffectState.UNSURE or attempt.number != effect.attempt:
        return Change(after=awaited)
    if not effect.closing:
        return _failed(awaited, policy, attempt, is_final=False)
    failed = _with_attempt(awaited, replace(attempt, state=AttemptState.FAILED))
    return _fence(failed)


def _voided(awaited: AwaitedEffect, policy: AwaitedPolicy, attempt: Attempt) -> Change:
    effect = awaited.effect
    if attempt.state is AttemptState.SUCCEEDED and effect.state is EffectState.DONE:
        is_our_undo = policy.void_is_final and effect.closing
        return Change(after=awaited) if is_our_undo else _contradict_once(awaited, attempt)
    if attempt.state is not AttemptState.OPEN:
        return Change(after=awaited)
    voided = _with_attempt(awaited, replace(attempt, state=AttemptState.VOIDED))
    if effect.state not in OPEN or attempt.number != effect.attempt:
        return Change(after=voided)
    if effect.closing:
        return _fence(voided)
    rejected = replace(voided, effect=effects.settled(effect, EffectState.REJECTED))
    return Change(after=rejected, acts=(Act.PUBLISH, Act.WAKE))


def _settle(awaited: AwaitedEffect, policy: AwaitedPolicy, state: EffectState) -> Change:
    acts = (Act.PUBLISH, Act.WAKE) if publishes(awaited.effect, policy) else (Act.WAKE,)
    return Change(after=replace(awaited, effect=effects.settled(awaited.effect, state)), acts=acts)


def _fence(awaited: AwaitedEffect) -> Change:
    settled = effects.settled(awaited.effect, EffectState.FENCED)
    return Change(after=replace(awaited, effect=settled), acts=(Act.WAKE,))


def _contradict(change: Change, number: int) -> Change:
    return replace(change, acts=(*change.acts, Act.CONTRADICT), contradicted=number)


def _contradict_once(awaited: AwaitedEffect, attempt: Attempt) -> Change:
    if attempt.is_contradicted:
        return Change(after=awaited)
    return _contradict(Change(after=_with_attempt(awaited, replace(attempt, is_contradicted=True))), attempt.number)


def _cancel(awaited: AwaitedEffect, acts: tuple[Act, ...] = ()) -> Change:
    after = _with_attempt(awaited, replace(awaited.current, cancel=Cancel.OUT))
    return Change(after=after, acts=(*acts, Act.CANCEL))


def _next_attempt(awaited: AwaitedEffect, now: datetime, deadline_at: datetime) -> Change:
    number = len(awaited.attempts) + 1
    effect = replace(awaited.effect, state=EffectState.STARTED, attempt=number, deadline_at=deadline_at)
    attempts = (*awaited.attempts, _attempt(number, now, deadline_at))
    return Change(after=AwaitedEffect(effect=effect, attempts=attempts), acts=(Act.SEND,))


def _send_again(awaited: AwaitedEffect, deadline_at: datetime) -> Change:
    current = awaited.current
    again = replace(current, sends=current.sends + 1, last_sent_at=deadline_at, was_not_found=False)
    effect = replace(awaited.effect, state=EffectState.STARTED, deadline_at=deadline_at)
    return Change(after=_with_attempt(replace(awaited, effect=effect), again), acts=(Act.SEND_AGAIN,))


def _attempt(number: int, now: datetime, deadline_at: datetime) -> Attempt:
    return Attempt(number=number, first_sent_at=now, last_sent_at=deadline_at)


def _with_attempt(awaited: AwaitedEffect, attempt: Attempt) -> AwaitedEffect:
    index = attempt.number - 1
    return replace(awaited, attempts=(*awaited.attempts[:index], attempt, *awaited.attempts[index + 1 :]))


def _wake_closing(awaited: AwaitedEffect) -> Change:
    """Wake a fence that waited for the end of a call: the step is in doubt now."""
    return Change(after=awaited, acts=(Act.WAKE,) if awaited.effect.closing else ())
