"""The model of a saga with a step whose outcome comes later, over the real decisions of the service and the tracker.

It adds to :mod:`proof.states`: a call is made only once Kafka has its StepAwaited; a request may be lost, or arrive at
any time after its call; evidence comes at any time, again, in any order, or not yet; a statement proves absence only
where no request is under way; a cancel may void what was paid; a service's database may be restored once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from chassis.saga import awaited, effects
from chassis.saga.attempts import AwaitedPolicy
from chassis.saga.awaited import Act, AwaitedEffect, Change
from chassis.saga.effects import OPEN, EffectState, OnCompensation, OnFence
from proof.awaited_invariants import owes_a_contradiction, sends_while_closing, wrong_effects, wrong_payments
from proof.awaited_models import awaited_index
from proof.awaited_provider import Provider, ProviderBounds, Record, transitions
from proof.awaited_restore import restored, with_effect
from proof.awaited_rules import AwaitedState, Rules, evidence
from proof.states import SAGA, START, Fence, Model, ModelState, Redrive, Sent, Transition, Undo, is_late
from saga_tracker.model.contradictions import Contradicted
from saga_tracker.model.decision import Phase, SagaState
from saga_tracker.model.facts import (
    Awaited,
    CommandDead,
    Compensated,
    Fact,
    Fenced,
    RedriveOutcome,
    Rejected,
    RetriesExhausted,
    StepRedriven,
    StepState,
    Succeeded,
)

UNDO_POLICY = AwaitedPolicy(no_return=True, sends_max=2)
FAR = timedelta(days=90)


@dataclass(slots=True, kw_only=True)
class AwaitedModel(Model):
    """A model with one awaited step. ``restores_max`` lets its service's database be restored from a backup."""

    policy: AwaitedPolicy
    bounds: ProviderBounds = field(default_factory=ProviderBounds)
    restores_max: int = 0
    ladder_ends: bool = False
    rules: Rules = field(default_factory=Rules)
    index: int = field(init=False)

    def __post_init__(self) -> None:
        Model.__post_init__(self)
        self.index = awaited_index(self.definition)

    @property
    def initial(self) -> AwaitedState:
        """The state in which only the starting event was sent."""
        nothing = (None,) * len(self.definition.steps)
        return AwaitedState(nothing, nothing, frozenset(), frozenset({START}), 0)

    def transitions(self, state: ModelState) -> Iterator[Transition]:
        """Yield every transition from this state."""
        assert isinstance(state, AwaitedState)
        for each in self._all(state):
            if each[1] != state:
                yield each

    def _all(self, state: AwaitedState) -> Iterator[Transition]:
        for index in range(len(self.definition.steps)):
            if index != self.index:
                yield from self._step(state, index)
        yield from self._service(state)
        yield from self._providers(state)
        for message in state.sent:
            if isinstance(message, Fence):
                yield from self._fence(state, message.service)
            elif isinstance(message, Undo):
                is_awaited = message.step == self._awaited_step
                yield from self._undo_awaited(state) if is_awaited else self._undo(state, message)
            elif isinstance(message, Redrive):
                yield from self._redrive(state, message)
            elif not isinstance(message, SagaState):
                yield message, self._record(state, message)
        yield from self._timers_and_people(state)

    @property
    def _awaited_step(self) -> str:
        return self.definition.steps[self.index].name

    @property
    def _service_name(self) -> str:
        return self.definition.steps[self.index].service

    # The service

    def _service(self, state: AwaitedState) -> Iterator[Transition]:
        step, payment = self._awaited_step, state.payment
        trigger: Sent = Succeeded(step=self.definition.steps[self.index - 1].name) if self.index else START
        if trigger in state.sent and self.on_trigger(state.effects[self.index]) is effects.OnTrigger.RUN:
            change = awaited.triggered(SAGA, step, now=payment.now, deadline_at=payment.now)
            yield f"the service commits STARTED for {step}", self._changed(state, change)
        if payment.awaited is not None:
            yield from self._calls(state, payment, self._changed, self.policy, is_undo=False)
            for what, change in evidence(payment, self.rules, self.policy, state.restores):
                yield what, self._changed(state, change)
            if payment.awaited.effect.state in OPEN and self.ladder_ends and not state.ladder_ended:
                dead = RetriesExhausted(step=step, reason="queried 41 times")
                yield "the ladder ends", replace(state, sent=state.sent | {dead}, ladder_ended=True)
            if state.restores < self.restores_max:
                found = restored(state, step, self.index, service=self._service_name, cancels=self.policy.can_cancel)
                yield "the service's database is restored", found
        if state.undo.awaited is not None:
            yield from self._calls(state, state.undo, self._undo_changed, UNDO_POLICY, is_undo=True)
            for what, change in evidence(state.undo, self.rules, UNDO_POLICY, 0):
                yield what, self._undo_changed(state, change)

    def _calls(
        self,
        state: AwaitedState,
        provider: Provider,
        changed: Callable[[AwaitedState, Change], AwaitedState],
        policy: AwaitedPolicy,
        *,
        is_undo: bool,
    ) -> Iterator[Transition]:
        """Publish StepAwaited, call, and reach the ladder's next time."""
        row = provider.awaited
        assert row is not None, "it was begun"
        what = "the undo" if is_undo else f"attempt {row.effect.attempt}"
        if provider.unpublished:
            fact = Awaited(step=self._awaited_step, attempt=row.effect.attempt, undo=is_undo)
            published = _with_provider(state, replace(provider, unpublished=False), is_undo=is_undo)
            yield f"Kafka has StepAwaited of {what}", replace(published, sent=state.sent | {fact})
        may_call = not provider.unpublished or (self.rules.calls_before_publishing and not is_undo)
        if provider.unsent and may_call and row.effect.state in OPEN:
            key = row.effect.attempt - 1 if is_undo else self.rules.key_of(row.effect.attempt, state.restores)
            requests = tuple(each + (number == key) for number, each in enumerate(provider.requests))
            called = replace(provider, unsent=False, requests=requests)
            yield f"the service calls for {what}", _with_provider(state, called, is_undo=is_undo)
        due = self.rules.on_due(row, policy, now=provider.now + FAR, deadline_at=provider.now)
        if due.after != row or Act.CANCEL in due.acts:
            over = _with_provider(state, replace(provider, unsent=False), is_undo=is_undo)
            yield f"{what} is due", changed(over, due)

    def _changed(self, state: AwaitedState, change: Change) -> AwaitedState:
        """Commit a decision about the step, and what must follow it."""
        step, effect = self._awaited_step, change.after.effect
        sent: set[Sent] = set()
        if Act.PUBLISH in change.acts:
            is_done = effect.state is EffectState.DONE
            sent.add(Succeeded(step=step) if is_done else Rejected(step=step, reason="no"))
        payment = _sending(replace(state.payment, awaited=change.after), change)
        if Act.CANCEL in change.acts and not payment.unpublished:
            key = self.rules.key_of(effect.attempt, state.restores)
            payment = payment.cancelling(key)
        if Act.CONTRADICT in change.acts and not self.rules.contradictions_hidden:
            assert change.contradicted is not None, "a contradiction is about an attempt"
            sent.add(Contradicted(step=step, attempt=change.contradicted, reason="paid after all"))
        if Act.UNDO_ATTEMPT in change.acts:
            assert change.contradicted is not None, "it is the contradicted attempt that is undone"
            key = self.rules.key_of(change.contradicted, state.restores)
            payment = payment.recorded(key, Record.UNDONE)
        return replace(with_effect(state, self.index, effect), payment=payment, sent=state.sent | sent)

    def _undo_changed(self, state: AwaitedState, change: Change) -> AwaitedState:
        """Commit a decision about the undo; its proof makes the step UNDONE, and the reply goes out.

        One that fails for good is dead-lettered, as any compensation.
        """
        after = replace(state, undo=_sending(replace(state.undo, awaited=change.after), change))
        if change.after.effect.state is EffectState.REJECTED:
            dead = CommandDead(command=self._awaited_step, reason="the undo failed for good")
            return replace(after, sent=after.sent | {dead})
        if change.after.effect.state is not EffectState.DONE:
            return after
        undone = effects.undone(SAGA, self._awaited_step, state.effects[self.index])
        after = with_effect(after, self.index, undone)
        return replace(after, sent=after.sent | {Compensated(step=self._awaited_step)})

    def _fence(self, state: ModelState, service: str) -> Iterator[Transition]:
        assert isinstance(state, AwaitedState)
        definition = self.definition
        names = definition.steps_of(service) if self.rules.fences_all else definition.fenced_steps_of(service)
        if self.rules.answers_once and any(isinstance(each, Fenced) and each.service == service for each in state.sent):
            return
        after, found = state, dict[str, OnFence]()
        for name in names:
            index = self._indexes[name]
            found[name] = self.rules.on_fence(after.effects[index])
            if index == self.index and after.payment.awaited is not None:
                after = self._changed(after, awaited.on_fenced(after.payment.awaited, self.policy))
                effect = after.effects[index]
                if found[name] is OnFence.FENCE and effect is not None and effect.state in OPEN:
                    after = with_effect(after, index, replace(effect, state=EffectState.FENCED))
            else:
                effect = effects.fenced(SAGA, name, after.effects[index])
                changed = tuple(effect if each == index else was for each, was in enumerate(after.effects))
                after = replace(after, effects=changed)
        if OnFence.WAIT in found.values():
            yield f"{service} is fenced while a call is under way", after
            return
        states = tuple((name, reported(after.effects[self._indexes[name]], found[name])) for name in names)
        reply = Fenced(service=service, states=states)
        yield f"{service} is fenced and replies {states}", replace(after, sent=after.sent | {reply})

    def _undo_awaited(self, state: AwaitedState) -> Iterator[Transition]:
        effect, step = state.effects[self.index], self._awaited_step
        reaction = effects.on_compensation([effect])
        if reaction is OnCompensation.SETTLE:
            assert state.payment.awaited is not None, "an open effect was begun"
            yield (
                f"{step} is compensated while open",
                self._changed(state, awaited.on_fenced(state.payment.awaited, self.policy)),
            )
        elif reaction is OnCompensation.UNDO:
            if state.undo.awaited is None:
                undo = state.undo
                begun = awaited.triggered(SAGA, awaited.undo_step(step), now=undo.now, deadline_at=undo.now)
                yield f"the undo of {step} begins", self._undo_changed(state, begun)
        else:
            after = with_effect(state, self.index, effects.undone(SAGA, step, effect))
            yield f"{step} has nothing to undo", replace(after, sent=after.sent | {Compensated(step=step)})

    def _redrive(self, state: ModelState, command: Redrive) -> Iterator[Transition]:
        assert isinstance(state, AwaitedState)
        outcome = redriven(state.effects[self.index], is_its=command.step == self._awaited_step)
        reply = StepRedriven(step=command.step, number=command.number, outcome=outcome)
        after, row = state, state.payment.awaited
        if self.rules.redrives_anew and row is not None and reply not in state.sent and row.effect.state in OPEN:
            after = self._changed(state, next_attempt(row, state.payment.now))
        yield f"{command.step} is redriven: {outcome}", replace(after, sent=after.sent | {reply})

    # Providers

    def _providers(self, state: AwaitedState) -> Iterator[Transition]:
        for what, after in transitions(state.payment, self.bounds):
            yield what, replace(state, payment=after)
        if state.undo.awaited is not None:
            bounds = replace(self.bounds, can_fail=False, can_fail_by_our_fault=False, contradicts=False)
            for what, after in transitions(state.undo, bounds):
                yield f"undo: {what}", replace(state, undo=after)

    # The tracker

    def _record(self, state: ModelState, fact: Fact) -> ModelState:
        progress = self._tracker.progresses[state.progress]
        found = self.rules.admitted(self.definition, progress, fact)
        return state if found is None else Model._record(self, state, found)

    # Invariants

    def violation(self, before: ModelState, state: ModelState) -> str | None:
        """Return what is wrong with a state, or with the transition that led to it."""
        assert isinstance(state, AwaitedState)
        ends = [message for message in state.sent if isinstance(message, SagaState)]
        if len(ends) > 1:
            return "two last events"
        wrong = wrong_payments(state, ends, index=self.index, contradicts=self.bounds.contradicts)
        wrong = wrong or wrong_effects(state, ends, self.index)
        if wrong is not None:
            return wrong
        for message in state.sent - before.sent:
            if isinstance(message, Undo) and (wrong := self._wrong_order(state, message.step)) is not None:
                return wrong
        assert isinstance(before, AwaitedState)
        if sends_while_closing(before, state):
            return "a closing step sends"
        parked = self.decision(state).parked
        is_expected = parked is None or is_late(parked) or parked.endswith("the undo failed for good")
        if not is_expected and not self.ladder_ends:
            return f"parked, though no retries ran out: {parked}"
        return None

    def is_end(self, state: ModelState) -> bool:
        """Return whether nothing is owed: ended, an incident, or parked because the ladder has ended.

        A contradiction that was not published is owed. So is a step that is merely late.
        """
        assert isinstance(state, AwaitedState)
        if owes_a_contradiction(state, self.rules):
            return False
        decision = self.decision(state)
        if decision.incident is not None:
            return True
        is_parked = decision.parked is not None and not is_late(decision.parked)
        return decision.phase is Phase.ENDED or (is_parked and not self.is_redriven)


def reported(effect: effects.Effect | None, found: OnFence) -> StepState:
    """Return what the answer to a fence says of a step."""
    if found is OnFence.DOUBT:
        return StepState.IN_DOUBT
    assert effect is not None, "it was fenced before"
    return StepState.DONE if effect.state is EffectState.UNDONE else StepState(effect.state.value)


def next_attempt(row: AwaitedEffect, now: datetime) -> Change:
    """Begin another attempt, as the ladder does where the one before failed and the lane is open."""
    paused = replace(row, effect=replace(row.effect, state=EffectState.PAUSED, closing=False))
    return awaited.on_due(paused, AwaitedPolicy(no_return=True), now=now, deadline_at=now)


def redriven(effect: effects.Effect | None, *, is_its: bool) -> RedriveOutcome:
    """Return what a redrive of the awaited step, or of another one, is replied to with."""
    if not is_its:
        return RedriveOutcome.NOTHING_PARKED
    if effects.on_redrive(effect, is_awaited=True) is effects.OnRedrive.RESUME:
        return RedriveOutcome.RESUMED
    assert effect is not None, "only a settled effect is reported"
    return RedriveOutcome(effect.state.value)


def _sending(provider: Provider, change: Change) -> Provider:
    if Act.SEND in change.acts:
        return replace(provider, unpublished=True, unsent=True, sends=provider.sends + 1)
    if Act.SEND_AGAIN in change.acts:
        return replace(provider, unsent=True, sends=provider.sends + 1)
    return provider


def _with_provider(state: AwaitedState, provider: Provider, *, is_undo: bool) -> AwaitedState:
    return replace(state, undo=provider) if is_undo else replace(state, payment=provider)
