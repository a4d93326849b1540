"""The worlds that a saga can come to, over the real decisions of the tracker and of the fence.

A world is what the services' effects are, what was sent, what the tracker knows, and what the providers have done.
Nothing that was sent is ever taken away, so each message may come at any moment, again, in any order or never so far;
a crash between commit and publish is a message that comes late. A deadline may pass and a cancellation come at any
moment. Where a saga is redriven, an operator may redrive it, or give it up, whenever it is parked, and then only an end
counts as one. So the order in which the same messages were heard makes no world of its own, nor does it which of
several told the tracker the same: that is the reduction. The bounds are the saga's length, one cancellation, and one
attempt of each command (a second one says the same again).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from chassis.saga import effects
from chassis.saga.effects import Effect, EffectState, OnCompensation, OnDue, OnRedrive, OnTrigger
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
    to_record,
)
from saga_tracker.model.progress import Command, Decision, NotRedrivable, Phase, SagaState, admits, decide, redrive
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
    """The command that compensates a step; after a redrive it is sent again, with a higher attempt."""

    step: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Redrive:
    """The command to run a step again."""

    step: str
    number: int


Sent: TypeAlias = Fact | Fence | Undo | Redrive | SagaState
"""What was sent: a fact is the event that the tracker hears, a state is the saga's last event."""
Decide: TypeAlias = Callable[[SagaDefinition, Progress], Decision]


@dataclass(frozen=True, slots=True)
class ModelState:
    """Everything at one moment. ``held`` are steps whose retries ran out, ``provided`` what providers did by step.

    ``known`` is the number of what the tracker knows: which of several messages told it makes no difference.
    """

    effects: tuple[Effect | None, ...]
    provided: tuple[str | None, ...]
    held: frozenset[int]
    sent: frozenset[Sent]
    known: int


Move: TypeAlias = tuple["str | Fact", ModelState]
"""What happens (a fact: the tracker hears it) and the world after it."""


@dataclass(slots=True, kw_only=True)
class Model:
    """Services with effects, providers and a tracker, for one saga.

    ``external`` steps call a provider. ``gives_up`` lets the retries of steps, and of compensations, run out, of
    ``given_up_max`` of them at most. ``has_cancellation`` says whether somebody may cancel. ``is_redriven`` lets an
    operator redrive what is parked; what was redriven does not fail again. The rest is for negative controls: another
    ``decide``, ``on_trigger``, ``on_redrive`` or ``merge``.
    """

    definition: SagaDefinition
    external: frozenset[str] = frozenset()
    gives_up: bool = False
    given_up_max: int | None = None
    has_cancellation: bool = True
    is_redriven: bool = False
    decide: Decide = decide
    on_trigger: Callable[[Effect | None], OnTrigger] = effects.on_trigger
    on_redrive: Callable[[Effect | None], OnRedrive] = effects.on_redrive
    merge: Callable[[Progress, Fact], Progress] = merge
    _numbers: dict[str, int] = field(init=False, default_factory=dict)
    _progresses: list[Progress] = field(init=False, default_factory=list)
    _decisions: list[Decision] = field(init=False, default_factory=list)
    _outs: list[frozenset[Sent]] = field(init=False, default_factory=list)
    _merged: dict[tuple[int, Fact], int] = field(init=False, default_factory=dict)
    _places: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._places = {step.name: place for place, step in enumerate(self.definition.steps)}
        self._number(NOTHING)

    @property
    def first(self) -> ModelState:
        """The world in which only the starting event was sent."""
        nothing = (None,) * len(self.definition.steps)
        return ModelState(nothing, nothing, frozenset(), frozenset({START}), 0)

    def _number(self, progress: Progress) -> int:
        """Return the number of what is known; what follows from it is decided once."""
        key = json.dumps(to_record(progress), sort_keys=True)
        number = self._numbers.setdefault(key, len(self._numbers))
        if number == len(self._decisions):
            decision = self.decide(self.definition, progress)
            commands = decision.commands
            out: set[Sent] = {_sent(each) for each in commands}
            if decision.phase is Phase.ENDED:
                out.add(decision.state)
            self._progresses.append(progress)
            self._decisions.append(decision)
            self._outs.append(frozenset(out))
        return number

    def _with_fact(self, known: int, fact: Fact) -> int:
        found = self._merged.get((known, fact))
        if found is None:
            found = self._merged[(known, fact)] = self._number(self.merge(self._progresses[known], fact))
        return found

    def decision(self, world: ModelState) -> Decision:
        """Return what the tracker has decided in this world."""
        return self._decisions[world.known]

    def moves(self, world: ModelState) -> Iterator[Move]:
        """Yield every world that is one move away, with what happens."""
        for place in range(len(self.definition.steps)):
            yield from self._step(world, place)
        for message in world.sent:
            if isinstance(message, Fence):
                yield from self._fence(world, message.service)
            elif isinstance(message, Undo):
                yield from self._undo(world, message)
            elif isinstance(message, Redrive):
                yield from self._redrive(world, message)
            elif not isinstance(message, SagaState):
                yield from _new(world, message, self._hear(world, message))
        yield from self._times(world)

    # Services

    def _step(self, world: ModelState, place: int) -> Iterator[Move]:
        step, effect = self.definition.steps[place], world.effects[place]
        before: Sent = Succeeded(step=self.definition.steps[place - 1].name) if place else START
        may_run = before in world.sent and self.on_trigger(effect) is OnTrigger.RUN
        if step.name in self.external:
            if may_run and place not in world.held:
                begun = effects.started(None, saga_id=SAGA, step=step.name, deadline_at=LATER)
                yield f"{step.service} commits STARTED for {step.name} and calls", _with(world, {place: begun})
            elif effect is not None and effect.state is EffectState.STARTED:
                yield from self._call(world, place, effect)
        elif may_run:
            for state in (EffectState.DONE, *((EffectState.REJECTED,) if step.rejected_with else ())):
                ran = Effect(saga_id=SAGA, step=step.name, state=state)
                yield f"{step.service} runs {step.name}: {state}", _with(world, {place: ran}, self._event(place, state))
            if self._gives_up(world, step.name) and effect is None:
                dead = RetriesExhausted(step=step.name, reason="fails", redrive=_redrives(world, step.name))
                yield f"{step.service} gives {step.name} up", _with(world, {}, dead)

    def _call(self, world: ModelState, place: int, effect: Effect) -> Iterator[Move]:
        """A call arrives or not, is answered or not; a closing one is asked about when it can be under way no more."""
        step, provided = self.definition.steps[place], world.provided[place]
        if provided is None:
            for outcome in (YES, *((NO,) if step.rejected_with else ())):
                after = tuple(outcome if each == place else was for each, was in enumerate(world.provided))
                yield f"the provider of {step.name} says {outcome}", replace(world, provided=after)
        if not effect.closing and self._gives_up(world, step.name) and place not in world.held:
            dead = RetriesExhausted(step=step.name, reason="does not answer", redrive=_redrives(world, step.name))
            held = replace(_with(world, {}, dead), held=world.held | {place})
            yield f"{step.service} hears no answer about {step.name} and gives it up", held
        if provided is not None and place not in world.held:
            yield self._settle(world, place, effect, "the answer comes")
        elif effect.closing and effects.on_due(effect, AT) is OnDue.WAIT and effects.on_due(effect, LATER) is OnDue.ASK:
            yield self._settle(world, place, effect, "the call is over, the provider is asked")

    def _settle(self, world: ModelState, place: int, effect: Effect, how: str) -> Move:
        outcomes = {YES: EffectState.DONE, NO: EffectState.REJECTED, None: EffectState.FENCED}
        state = outcomes[world.provided[place]]
        sent = () if effect.closing else (self._event(place, state),)
        after = _with(world, {place: effects.settled(effect, state)}, *sent)
        return f"{how}: {effect.step} is {state}", replace(after, held=after.held - {place})

    def _event(self, place: int, state: EffectState) -> Sent:
        step = self.definition.steps[place].name
        return Succeeded(step=step) if state is EffectState.DONE else Rejected(step=step, reason="no")

    def _fence(self, world: ModelState, service: str) -> Iterator[Move]:
        names = self.definition.steps_of(service)
        after = {self._places[name]: effects.fenced(SAGA, name, world.effects[self._places[name]]) for name in names}
        if any(effect.state is EffectState.STARTED for effect in after.values()):
            yield from _new(world, f"{service} is fenced while a call is under way", _with(world, after))
            return
        states = tuple((effect.step, _told(effect.state)) for effect in after.values())
        said = ", ".join(f"{step} {state}" for step, state in states)
        answered = _with(world, after, Fenced(service=service, states=states))
        yield from _new(world, f"{service} is fenced and answers {said}", answered)

    def _gives_up(self, world: ModelState, step: str) -> bool:
        """Say whether the retries of a step may run out: with redrives, only before it was redriven."""
        return self._gives_something_up(world) and (not self.is_redriven or not _redrives(world, step))

    def _gives_something_up(self, world: ModelState) -> bool:
        if not self.gives_up or self.given_up_max is None:
            return self.gives_up
        return sum(isinstance(each, RetriesExhausted | CommandDead) for each in world.sent) < self.given_up_max

    def _redrive(self, world: ModelState, command: Redrive) -> Iterator[Move]:
        place = self._places[command.step]
        service, effect = self.definition.steps[place].service, world.effects[place]
        what = self.on_redrive(effect)
        if what is OnRedrive.WAIT:
            return
        outcome = RedriveOutcome.NOTHING_PARKED
        if what is OnRedrive.TELL:
            assert effect is not None, "only an effect that is there has something to tell"
            outcome = RedriveOutcome(effect.state.value)
        elif any(isinstance(each, RetriesExhausted) and each.step == command.step for each in world.sent):
            outcome = RedriveOutcome.RESUMED
        told = StepRedriven(step=command.step, number=command.number, outcome=outcome)
        is_under_way = effect is not None and effect.state is EffectState.STARTED
        again = {} if what is OnRedrive.TELL or is_under_way else {place: None}
        after = replace(_with(world, again, told), held=world.held - {place})
        yield from _new(world, f"{service} is to redrive {command.step}: {outcome}", after)

    def _undo(self, world: ModelState, command: Undo) -> Iterator[Move]:
        step = command.step
        places = [place for place, each in enumerate(self.definition.steps) if step in (each.name, each.undone_by)]
        found = {place: world.effects[place] for place in places}
        names = {place: self.definition.steps[place].name for place in places}
        what = effects.on_compensation(list(found.values()))
        if what is OnCompensation.SETTLE:
            closing = {place: effects.fenced(SAGA, names[place], effect) for place, effect in found.items()}
            yield from _new(world, f"{step} is to be undone while a call is under way", _with(world, closing))
            return
        after = {place: effects.undone(SAGA, names[place], effect) for place, effect in found.items()}
        yield from _new(world, f"{step} is undone ({what.name})", _with(world, after, Compensated(step=step)))
        if (
            self._gives_something_up(world)
            and what is OnCompensation.UNDO
            and (command.attempt == 1 or not self.is_redriven)
        ):
            dead = CommandDead(command=step, reason="fails", attempt=command.attempt)
            yield from _new(world, f"the compensation of {step} is given up", _with(world, {}, dead))

    # The tracker

    def _times(self, world: ModelState) -> Iterator[Move]:
        decision = self.decision(world)
        if decision.waiting is not None and not isinstance(decision.waiting.timer, ReplyOverdue):
            timer = decision.waiting.timer
            yield from _new(world, timer, self._hear(world, timer))
        if self.is_redriven and decision.parked is not None:
            yield from self._operate(world)
        if self.has_cancellation and admits(self.definition, self._progresses[world.known], CANCEL):
            yield from _new(world, CANCEL, self._hear(world, CANCEL))

    def _operate(self, world: ModelState) -> Iterator[Move]:
        """An operator redrives what is parked, or gives up what no redrive helps."""
        progress = self._progresses[world.known]
        fact: Fact
        try:
            fact = redrive(self.definition, progress, at=AT, by="ops-3", reason="looked at it")
        except NotRedrivable:
            fact = CANCEL
        yield from _new(world, fact, self._hear(world, fact))

    def _hear(self, world: ModelState, fact: Fact) -> ModelState:
        known = self._with_fact(world.known, fact)
        return replace(world, sent=world.sent | self._outs[known], known=known)

    # Invariants

    def violation(self, before: ModelState, world: ModelState) -> str | None:
        """Return what is wrong with a world, or with the move that led to it."""
        states = {None if effect is None else effect.state for effect in world.effects}
        ends = [message for message in world.sent if isinstance(message, SagaState)]
        if len(ends) > 1:
            return "two last events"
        if ends == [SagaState.CONFIRMED] and states != {EffectState.DONE}:
            return "confirmed, but not every step is done"
        if ends == [SagaState.CANCELLED_COMPENSATED] and states & {EffectState.DONE, EffectState.STARTED}:
            return "cancelled, but a step is done or may still be"
        for message in world.sent - before.sent:
            if isinstance(message, Undo):
                place = self._places[message.step]
                effect = world.effects[place]
                if effect is None or effect.state not in (EffectState.DONE, EffectState.UNDONE):
                    return f"{message.step} is compensated, but it has not run"
                for later in self.definition.steps[place + 1 :]:
                    other = world.effects[self._places[later.name]]
                    if later.compensation and other is not None and other.state is EffectState.DONE:
                        return f"{message.step} is compensated before {later.name}"
        if not self.gives_up and self.decision(world).parked is not None:
            return f"parked, though nothing was given up: {self.decision(world).parked}"
        return None

    def is_end(self, world: ModelState) -> bool:
        """Say whether the saga has ended, or is parked with a reason; where it is redriven, only an end is one."""
        decision = self.decision(world)
        return decision.phase is Phase.ENDED or (decision.parked is not None and not self.is_redriven)


def _sent(command: Command) -> Sent:
    if command.step is None:
        return Fence(command.service)
    if command.redrive is not None:
        return Redrive(command.step, command.redrive)
    return Undo(command.step, command.attempt)


def _redrives(world: ModelState, step: str) -> int:
    """Return the latest redrive after which the service runs a step again."""
    return max((each.number for each in world.sent if isinstance(each, StepRedriven) and each.step == step), default=0)


def _with(world: ModelState, changed: Mapping[int, Effect | None], *sent: Sent) -> ModelState:
    after = tuple(changed.get(place, effect) for place, effect in enumerate(world.effects))
    return replace(world, effects=after, sent=world.sent.union(sent))


def _new(world: ModelState, what: str | Fact, after: ModelState) -> Iterator[Move]:
    if after != world:
        yield what, after


def _told(state: EffectState) -> StepState:
    """An undone step ran: to the tracker it is the same message."""
    return StepState.DONE if state is EffectState.UNDONE else StepState(state.value)
