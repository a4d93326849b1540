"""The model: every state that a saga can reach, over the real decisions of the tracker and of the effects table.

A state holds the services' effects, the messages that were sent, what the tracker knows, and what the providers did.
A transition leads from one state to the next. Five rules say which transitions there are:

- A message that was sent is never taken away. So each may arrive at any moment, again, in any order, or not yet.
  A crash between commit and publish is a message that arrives late.
- A deadline may pass, and a cancellation may arrive, at any moment.
- In a model with redrives, an operator may redrive a parked saga, or compensate it, at any moment. Then only an ended
  saga counts as an end.
- Symmetry reduction: states that differ only in the order in which the tracker received the same messages are equal.
  So are states that differ only in which of several messages carried the same fact.
- The bounds: the saga's length, one cancellation, and one attempt of each command (a second one repeats the first).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from chassis.saga import effects
from chassis.saga.effects import Effect, EffectState, OnCompensation, OnDue, OnRedrive, OnTrigger
from saga_tracker.model.decision import Command, Decision, Phase, SagaState
from saga_tracker.model.facts import (
    NOTHING,
    Cancelled,
    CommandDead,
    Compensated,
    Fact,
    Fenced,
    Progress,
    RedriveOutcome,
    Rejected,
    ReplyOverdue,
    RetriesExhausted,
    Started,
    StepRedriven,
    StepState,
    Succeeded,
    merge,
)
from saga_tracker.model.operating import NotRedrivable, admits, redrive
from saga_tracker.model.progress import decide
from saga_tracker.model.records import to_record
from saga_tracker.model.saga import SagaDefinition

AT = datetime(2026, 1, 1, tzinfo=UTC)
LATER = AT + timedelta(seconds=4)
START = Started(at=AT)
CANCEL = Cancelled(at=AT, by="support-7", reason="asked")
SAGA = "saga"
YES, NO = "yes", "no"


@dataclass(frozen=True, slots=True)
class Fence:
    """The command that fences a service's steps."""

    service: str


@dataclass(frozen=True, slots=True)
class Undo:
    """The command that compensates a step. After a redrive it is sent again, with a higher attempt."""

    step: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Redrive:
    """The command that runs a step again."""

    step: str
    number: int


Sent: TypeAlias = Fact | Fence | Undo | Redrive | SagaState
"""A message that was sent. A fact is an event that the tracker records; a saga state is the saga's last event."""
Decide: TypeAlias = Callable[[SagaDefinition, Progress], Decision]


@dataclass(frozen=True, slots=True)
class ModelState:
    """One state of everything. ``effects`` and ``provided`` (what the providers did) have one entry for each step.

    ``parked`` holds the indexes of the steps whose retries are exhausted. ``progress`` is the number of what the
    tracker knows, so that states with equal knowledge are equal whichever messages it came from.
    """

    effects: tuple[Effect | None, ...]
    provided: tuple[str | None, ...]
    parked: frozenset[int]
    sent: frozenset[Sent]
    progress: int


Transition: TypeAlias = tuple["str | Fact", ModelState]
"""What happens (a fact: the tracker records it), and the state after it."""


@dataclass(slots=True, kw_only=True)
class ModelTracker:
    """The tracker of a model. Each progress has a number, in the order of discovery, and is decided once.

    ``decisions`` and ``outputs`` (the commands and the last event that the tracker then sends) have the same order.
    """

    definition: SagaDefinition
    decide: Decide
    merge: Callable[[Progress, Fact], Progress]
    progresses: list[Progress] = field(init=False, default_factory=list)
    decisions: list[Decision] = field(init=False, default_factory=list)
    outputs: list[frozenset[Sent]] = field(init=False, default_factory=list)
    _numbers: dict[str, int] = field(init=False, default_factory=dict)
    _merged: dict[tuple[int, Fact], int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._number(NOTHING)

    def with_fact(self, progress: int, fact: Fact) -> int:
        """Return the number of the progress that a fact leads to."""
        found = self._merged.get((progress, fact))
        if found is None:
            merged = self.merge(self.progresses[progress], fact)
            found = self._merged[(progress, fact)] = self._number(merged)
        return found

    def _number(self, progress: Progress) -> int:
        key = json.dumps(to_record(progress), sort_keys=True)
        number = self._numbers.setdefault(key, len(self._numbers))
        if number == len(self.decisions):
            decision = self.decide(self.definition, progress)
            output: set[Sent] = {_sent(each) for each in decision.commands}
            if decision.phase is Phase.ENDED:
                output.add(decision.state)
            self.progresses.append(progress)
            self.decisions.append(decision)
            self.outputs.append(frozenset(output))
        return number


@dataclass(slots=True, kw_only=True)
class Model:
    """Services with effects, providers and a tracker, for one saga.

    ``external`` steps call a provider. ``retries_run_out`` lets the retries of steps and of compensations run out, of
    at most ``exhausted_max`` of them. ``has_cancellation`` allows a cancellation. ``is_redriven`` lets an operator
    redrive a parked saga; a redriven step does not fail again. The rest is for negative controls: another ``decide``,
    ``on_trigger``, ``on_redrive`` or ``merge``.
    """

    definition: SagaDefinition
    external: frozenset[str] = frozenset()
    retries_run_out: bool = False
    exhausted_max: int | None = None
    has_cancellation: bool = True
    is_redriven: bool = False
    decide: Decide = decide
    on_trigger: Callable[[Effect | None], OnTrigger] = effects.on_trigger
    on_redrive: Callable[[Effect | None], OnRedrive] = effects.on_redrive
    merge: Callable[[Progress, Fact], Progress] = merge
    _tracker: ModelTracker = field(init=False)
    _indexes: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._indexes = {step.name: index for index, step in enumerate(self.definition.steps)}
        self._tracker = ModelTracker(definition=self.definition, decide=self.decide, merge=self.merge)

    @property
    def initial(self) -> ModelState:
        """The state in which only the starting event was sent."""
        nothing = (None,) * len(self.definition.steps)
        return ModelState(nothing, nothing, frozenset(), frozenset({START}), 0)

    def decision(self, state: ModelState) -> Decision:
        """Return the tracker's decision in this state."""
        return self._tracker.decisions[state.progress]

    def outcome(self, state: ModelState) -> str:
        """Return the saga's state at an end."""
        return self.decision(state).state

    def transitions(self, state: ModelState) -> Iterator[Transition]:
        """Yield every transition from this state."""
        for index in range(len(self.definition.steps)):
            yield from self._step(state, index)
        for message in state.sent:
            if isinstance(message, Fence):
                yield from self._fence(state, message.service)
            elif isinstance(message, Undo):
                yield from self._undo(state, message)
            elif isinstance(message, Redrive):
                yield from self._redrive(state, message)
            elif not isinstance(message, SagaState):
                yield from _unless_equal(state, message, self._record(state, message))
        yield from self._timers_and_people(state)

    # Services

    def _step(self, state: ModelState, index: int) -> Iterator[Transition]:
        step, effect = self.definition.steps[index], state.effects[index]
        trigger: Sent = Succeeded(step=self.definition.steps[index - 1].name) if index else START
        may_run = trigger in state.sent and self.on_trigger(effect) is OnTrigger.RUN
        if step.name in self.external:
            if may_run and index not in state.parked:
                begun = effects.started(None, saga_id=SAGA, step=step.name, deadline_at=LATER)
                yield f"{step.service} commits STARTED for {step.name} and calls", _with(state, {index: begun})
            elif effect is not None and effect.state is EffectState.STARTED:
                yield from self._call(state, index, effect)
        elif may_run:
            for outcome in (EffectState.DONE, *((EffectState.REJECTED,) if step.rejected_with else ())):
                ran = Effect(saga_id=SAGA, step=step.name, state=outcome)
                after = _with(state, {index: ran}, self._event(index, outcome))
                yield f"{step.service} runs {step.name}: {outcome}", after
            if self._may_exhaust(state, step.name) and effect is None:
                dead = RetriesExhausted(step=step.name, reason="fails", redrive=_latest_redrive(state, step.name))
                yield f"{step.service} exhausts the retries of {step.name}", _with(state, {}, dead)

    def _call(self, state: ModelState, index: int, effect: Effect) -> Iterator[Transition]:
        """A call arrives or not, and is answered or not. After its deadline a closing one is queried."""
        step, provided = self.definition.steps[index], state.provided[index]
        if provided is None:
            for outcome in (YES, *((NO,) if step.rejected_with else ())):
                after = tuple(outcome if each == index else was for each, was in enumerate(state.provided))
                yield f"the provider of {step.name} decides {outcome}", replace(state, provided=after)
        if not effect.closing and self._may_exhaust(state, step.name) and index not in state.parked:
            redrive = _latest_redrive(state, step.name)
            dead = RetriesExhausted(step=step.name, reason="does not answer", redrive=redrive)
            parked = replace(_with(state, {}, dead), parked=state.parked | {index})
            yield f"{step.service} gets no answer for {step.name} and exhausts its retries", parked
        if provided is not None and index not in state.parked:
            yield self._settle(state, index, effect, "the answer arrives")
        elif effect.closing and [effects.on_due(effect, at) for at in (AT, LATER)] == [OnDue.WAIT, OnDue.QUERY]:
            yield self._settle(state, index, effect, "the call's deadline passes, the provider is queried")

    def _settle(self, state: ModelState, index: int, effect: Effect, how: str) -> Transition:
        outcomes = {YES: EffectState.DONE, NO: EffectState.REJECTED, None: EffectState.FENCED}
        outcome = outcomes[state.provided[index]]
        sent = () if effect.closing else (self._event(index, outcome),)
        after = _with(state, {index: effects.settled(effect, outcome)}, *sent)
        return f"{how}: {effect.step} is {outcome}", replace(after, parked=after.parked - {index})

    def _event(self, index: int, outcome: EffectState) -> Sent:
        step = self.definition.steps[index].name
        return Succeeded(step=step) if outcome is EffectState.DONE else Rejected(step=step, reason="no")

    def _fence(self, state: ModelState, service: str) -> Iterator[Transition]:
        names = self.definition.fenced_steps_of(service)
        changed = {
            self._indexes[name]: effects.fenced(SAGA, name, state.effects[self._indexes[name]]) for name in names
        }
        if any(effect.state is EffectState.STARTED for effect in changed.values()):
            yield from _unless_equal(state, f"{service} is fenced while a call is under way", _with(state, changed))
            return
        reported = tuple((effect.step, _reported(effect.state)) for effect in changed.values())
        listed = ", ".join(f"{step} {effect_state}" for step, effect_state in reported)
        fenced = _with(state, changed, Fenced(service=service, states=reported))
        yield from _unless_equal(state, f"{service} is fenced and replies {listed}", fenced)

    def _may_exhaust(self, state: ModelState, step: str) -> bool:
        """Return whether the retries of a step may run out. In a model with redrives, only before its redrive."""
        return self._may_exhaust_more(state) and (not self.is_redriven or not _latest_redrive(state, step))

    def _may_exhaust_more(self, state: ModelState) -> bool:
        if not self.retries_run_out or self.exhausted_max is None:
            return self.retries_run_out
        return sum(isinstance(each, RetriesExhausted | CommandDead) for each in state.sent) < self.exhausted_max

    def _redrive(self, state: ModelState, command: Redrive) -> Iterator[Transition]:
        index = self._indexes[command.step]
        service, effect = self.definition.steps[index].service, state.effects[index]
        reaction = self.on_redrive(effect)
        if reaction is OnRedrive.WAIT:
            return
        outcome = RedriveOutcome.NOTHING_PARKED
        if reaction is OnRedrive.REPORT:
            assert effect is not None, "only an effect that exists has a state to report"
            outcome = RedriveOutcome(effect.state.value)
        elif any(isinstance(each, RetriesExhausted) and each.step == command.step for each in state.sent):
            outcome = RedriveOutcome.RESUMED
        reply = StepRedriven(step=command.step, number=command.number, outcome=outcome)
        is_under_way = effect is not None and effect.state is EffectState.STARTED
        changed = {} if reaction is OnRedrive.REPORT or is_under_way else {index: None}
        after = replace(_with(state, changed, reply), parked=state.parked - {index})
        yield from _unless_equal(state, f"{service} redrives {command.step}: {outcome}", after)

    def _undo(self, state: ModelState, command: Undo) -> Iterator[Transition]:
        step = command.step
        indexes = [index for index, each in enumerate(self.definition.steps) if step in (each.name, each.undone_by)]
        found = {index: state.effects[index] for index in indexes}
        names = {index: self.definition.steps[index].name for index in indexes}
        reaction = effects.on_compensation(list(found.values()))
        if reaction is OnCompensation.SETTLE:
            closing = {index: effects.fenced(SAGA, names[index], effect) for index, effect in found.items()}
            yield from _unless_equal(state, f"{step} is compensated while a call is under way", _with(state, closing))
            return
        undone = {index: effects.undone(SAGA, names[index], effect) for index, effect in found.items()}
        compensated = _with(state, undone, Compensated(step=step))
        yield from _unless_equal(state, f"{step} is compensated ({reaction.name})", compensated)
        if (
            self._may_exhaust_more(state)
            and reaction is OnCompensation.UNDO
            and (command.attempt == 1 or not self.is_redriven)
        ):
            dead = CommandDead(command=step, reason="fails", attempt=command.attempt)
            exhausted = _with(state, {}, dead)
            yield from _unless_equal(state, f"the compensation of {step} exhausts its retries", exhausted)

    # The tracker

    def _timers_and_people(self, state: ModelState) -> Iterator[Transition]:
        decision = self.decision(state)
        if decision.waiting is not None and not isinstance(decision.waiting.timer, ReplyOverdue):
            timer = decision.waiting.timer
            yield from _unless_equal(state, timer, self._record(state, timer))
        if self.is_redriven and decision.parked is not None and not is_late(decision.parked):
            yield from self._operate(state)
        if self.has_cancellation and admits(self.definition, self._tracker.progresses[state.progress], CANCEL):
            yield from _unless_equal(state, CANCEL, self._record(state, CANCEL))

    def _operate(self, state: ModelState) -> Iterator[Transition]:
        """An operator redrives a parked saga, or cancels it where a redrive does not help."""
        progress = self._tracker.progresses[state.progress]
        fact: Fact
        try:
            fact = redrive(self.definition, progress, at=AT, by="ops-3", reason="looked at it")
        except NotRedrivable:
            fact = CANCEL
        yield from _unless_equal(state, fact, self._record(state, fact))

    def _record(self, state: ModelState, fact: Fact) -> ModelState:
        progress = self._tracker.with_fact(state.progress, fact)
        return replace(state, sent=state.sent | self._tracker.outputs[progress], progress=progress)

    # Invariants

    def violation(self, before: ModelState, state: ModelState) -> str | None:
        """Return what is wrong with a state, or with the transition that led to it."""
        effect_states = {None if effect is None else effect.state for effect in state.effects}
        ends = [message for message in state.sent if isinstance(message, SagaState)]
        if len(ends) > 1:
            return "two last events"
        if ends == [SagaState.CONFIRMED] and effect_states != {EffectState.DONE}:
            return "confirmed, but not every step is done"
        if ends == [SagaState.CANCELLED_COMPENSATED] and effect_states & {EffectState.DONE, EffectState.STARTED}:
            return "cancelled, but a step is done or may still run"
        for message in state.sent - before.sent:
            if isinstance(message, Undo) and (wrong := self._wrong_order(state, message.step)) is not None:
                return wrong
        parked = self.decision(state).parked
        if not self.retries_run_out and parked is not None and not is_late(parked):
            return f"parked, though no retries ran out: {parked}"
        return None

    def _wrong_order(self, state: ModelState, step: str) -> str | None:
        """Return what is wrong with compensating a step in this state."""
        index = self._indexes[step]
        effect = state.effects[index]
        if effect is None or effect.state not in (EffectState.DONE, EffectState.UNDONE):
            return f"{step} is compensated, but it has not run"
        pivot = None if self.definition.no_return is None else state.effects[self.definition.no_return]
        if pivot is not None and pivot.state is EffectState.DONE:
            return f"{step} is compensated, though {pivot.step} ran, which has no return"
        for later in self.definition.steps[index + 1 :]:
            other = state.effects[self._indexes[later.name]]
            if later.compensation and other is not None and other.state is EffectState.DONE:
                return f"{step} is compensated before {later.name}"
        return None

    def is_end(self, state: ModelState) -> bool:
        """Return whether the saga has ended or is parked with a reason. In a model with redrives, only ended counts.

        A saga that is merely late goes on by itself, so it owes an end.
        """
        decision = self.decision(state)
        is_parked = decision.parked is not None and not is_late(decision.parked)
        return decision.phase is Phase.ENDED or (is_parked and not self.is_redriven)


def is_late(parked: str) -> bool:
    """Return whether a saga is parked only because a step behind the one without a return is late."""
    return parked.endswith(" is late")


def _sent(command: Command) -> Sent:
    if command.step is None:
        return Fence(command.service)
    if command.redrive is not None:
        return Redrive(command.step, command.redrive)
    return Undo(command.step, command.attempt)


def _latest_redrive(state: ModelState, step: str) -> int:
    """Return the number of the latest redrive of a step that its service has answered, 0 where there is none."""
    return max((each.number for each in state.sent if isinstance(each, StepRedriven) and each.step == step), default=0)


def _with(state: ModelState, changed: Mapping[int, Effect | None], *sent: Sent) -> ModelState:
    """Return the state with these effects changed and these messages sent."""
    after = tuple(changed.get(index, effect) for index, effect in enumerate(state.effects))
    return replace(state, effects=after, sent=state.sent.union(sent))


def _unless_equal(before: ModelState, what: str | Fact, after: ModelState) -> Iterator[Transition]:
    """Yield the transition, unless it leads to the same state."""
    if after != before:
        yield what, after


def _reported(state: EffectState) -> StepState:
    """Return an effect's state as a service reports it. An undone step ran: for the tracker it is the same message."""
    return StepState.DONE if state is EffectState.UNDONE else StepState(state.value)
