"""The protocol as a whole: the tracker's decisions against a model of services that fence their effects.

The model is bounded and exhaustive: nothing that was published is ever taken away, so every message may arrive at any
moment, again, or after any other; a deadline may pass and a cancellation come at any moment. The negative controls show
that the exploration finds what the rules are there to prevent.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from saga_tracker.definitions import newest
from saga_tracker.facts import (
    ANY_STEP,
    NOTHING,
    Cancelled,
    CommandDead,
    Compensated,
    Fact,
    Fenced,
    Progress,
    Redriven,
    RedriveOutcome,
    Rejected,
    ReplyOverdue,
    RetriesExhausted,
    Started,
    StepRedriven,
    StepState,
    Succeeded,
    TimedOut,
    Unreadable,
    from_record,
    merge_all,
    to_record,
)
from saga_tracker.progress import FENCE, Cause, Decision, Phase, SagaState, decide, redrive_key
from saga_tracker.saga import SagaDefinition

ORDER = newest("order")
AT = datetime(2026, 11, 21, 10, tzinfo=UTC)
START = Started(at=AT)
CANCEL = Cancelled(at=AT, by="support-7", reason="asked")

STOPS: frozenset[Fact] = frozenset({CANCEL, *(TimedOut(step=step.name) for step in ORDER.steps)})
WALK_LENGTH_MAX = 500

Decide: TypeAlias = Callable[[SagaDefinition, Progress], Decision]


@dataclass(frozen=True, slots=True)
class Fence:
    service: str


@dataclass(frozen=True, slots=True)
class Undo:
    step: str


Sent: TypeAlias = Fact | Fence | Undo | SagaState
"""What is on the wire: a fact is the event that the tracker reads, a state is the saga's last event."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything at one moment. An effect is '' (no row), STARTED, HELD (dead-lettered), CLOSING, or a settled one."""

    effects: tuple[str, ...]
    sent: frozenset[Sent]
    heard: frozenset[Fact]


class Violation(AssertionError):
    """An invariant does not hold in a world that the protocol can reach."""


class Model:
    """Services with effects and a tracker, for one definition. ``has_calls`` gives every step a call to a provider."""

    def __init__(
        self,
        definition: SagaDefinition,
        *,
        has_calls: bool = False,
        has_dead_letters: bool = False,
        decide: Decide = decide,
    ) -> None:
        self.definition = definition
        self.has_calls = has_calls
        self.has_dead_letters = has_dead_letters
        self.decide = decide
        self._decisions: dict[frozenset[Fact], Decision] = {}
        self._place = {step.name: place for place, step in enumerate(definition.steps)}
        self._undoes = {
            step.name: [
                each for each, other in enumerate(definition.steps) if step.name in (other.name, other.undone_by)
            ]
            for step in definition.steps
        }
        self.first = World(effects=("",) * len(definition.steps), sent=frozenset({START}), heard=frozenset())

    def decision(self, heard: frozenset[Fact]) -> Decision:
        found = self._decisions.get(heard)
        if found is None:
            found = self._decisions[heard] = self.decide(self.definition, merge_all(NOTHING, heard))
        return found

    def moves(self, world: World) -> Iterator[World]:
        """Every world that is one move away."""
        for place in range(len(self.definition.steps)):
            yield from self._step_moves(world, place)
        for message in world.sent:
            if isinstance(message, Fence):
                yield from self._on_fence(world, message.service)
            elif isinstance(message, Undo):
                yield from self._on_undo(world, message.step)
            elif not isinstance(message, SagaState) and message not in world.heard:
                yield self._record(world, message)
        yield from self._timer_and_cancellation(world)

    def _step_moves(self, world: World, place: int) -> Iterator[World]:
        step, effect = self.definition.steps[place], world.effects[place]
        before = Succeeded(step=self.definition.steps[place - 1].name) if place else START
        succeeded: Sent = Succeeded(step=step.name)
        rejected: Sent | None = Rejected(step=step.name, reason="no") if step.rejected_with else None
        if effect == "" and before in world.sent:
            if self.has_calls:
                yield self._with(world, {place: "STARTED"})
            else:
                yield self._with(world, {place: "DONE"}, succeeded)
                if rejected:
                    yield self._with(world, {place: "REJECTED"}, rejected)
        elif effect == "STARTED":
            yield self._with(world, {place: "DONE"}, succeeded)
            if rejected:
                yield self._with(world, {place: "REJECTED"}, rejected)
            if self.has_dead_letters:
                yield self._with(world, {place: "HELD"}, RetriesExhausted(step=step.name, reason="down"))
        elif effect == "CLOSING":
            for outcome in ("DONE", "FENCED", *(["REJECTED"] if rejected else [])):
                yield self._with(world, {place: outcome})

    def _on_fence(self, world: World, service: str) -> Iterator[World]:
        places = [self._place[step] for step in self.definition.steps_of(service)]
        after = {place: _closed(world.effects[place], "FENCED") for place in places}
        if "CLOSING" in after.values():
            yield from self._if_new(world, after)
            return
        states = tuple((self.definition.steps[place].name, StepState(after[place])) for place in places)
        yield from self._if_new(world, after, Fenced(service=service, states=states))

    def _on_undo(self, world: World, step: str) -> Iterator[World]:
        places = self._undoes[step]
        after = {place: _closed(world.effects[place], "FENCED") for place in places}
        if "CLOSING" in after.values():
            yield from self._if_new(world, after)
            return
        after = {place: "UNDONE" if effect == "DONE" else effect for place, effect in after.items()}
        yield from self._if_new(world, after, Compensated(step=step))

    def _timer_and_cancellation(self, world: World) -> Iterator[World]:
        decision = self.decision(world.heard)
        if decision.waiting is not None and isinstance(decision.waiting.timer, TimedOut):
            yield self._record(world, decision.waiting.timer)
        if CANCEL not in world.heard and decision.phase is not Phase.ENDED:
            yield self._record(world, CANCEL)

    def _record(self, world: World, fact: Fact) -> World:
        heard = world.heard | {fact}
        decision = self.decision(heard)
        out: set[Sent] = {
            Fence(command.service) if command.step is None else Undo(command.step) for command in decision.commands
        }
        if decision.phase is Phase.ENDED:
            out.add(decision.state)
        for message in out - world.sent:
            if isinstance(message, Undo):
                self._check_compensation(world, message.step)
        return World(world.effects, world.sent | out, heard)

    def _with(self, world: World, effects: dict[int, str], *sent: Sent) -> World:
        after = tuple(effects.get(place, effect) for place, effect in enumerate(world.effects))
        return World(after, world.sent.union(sent), world.heard)

    def _if_new(self, world: World, effects: dict[int, str], *sent: Sent) -> Iterator[World]:
        after = self._with(world, effects, *sent)
        if after != world:
            yield after

    def _check_compensation(self, world: World, step: str) -> None:
        place = self._place[step]
        if world.effects[place] not in ("DONE", "UNDONE"):
            raise Violation(f"{step} is compensated but its effect is {world.effects[place] or 'not there'}: {world}")
        for later in self.definition.steps[place + 1 :]:
            if later.compensation is not None and world.effects[self._place[later.name]] == "DONE":
                raise Violation(f"{step} is compensated before {later.name}, which still stands: {world}")

    def check(self, world: World) -> None:
        """Raise Violation where this world breaks an invariant."""
        ends = [message for message in world.sent if isinstance(message, SagaState)]
        if len(ends) > 1:
            raise Violation(f"Two last events: {world}")
        if ends == [SagaState.CONFIRMED] and set(world.effects) != {"DONE"}:
            raise Violation(f"Confirmed, but not every step stands: {world}")
        if ends == [SagaState.CANCELLED_COMPENSATED] and {"DONE", "STARTED", "CLOSING"} & set(world.effects):
            raise Violation(f"Cancelled, but a step stands or may still: {world}")
        if self.decision(world.heard).state is SagaState.NEEDS_REVIEW and not self.has_dead_letters:
            raise Violation(f"Parked without a dead letter ({self.decision(world.heard).parked}): {world}")

    def check_end(self, world: World) -> None:
        """Raise Violation where nothing can happen any more and the saga has not ended."""
        if self.decision(world.heard).state is SagaState.PENDING:
            raise Violation(f"Nobody will ever wake this saga: {world}")


def _closed(effect: str, if_not_run: str) -> str:
    return {"": if_not_run, "STARTED": "CLOSING", "HELD": "CLOSING"}.get(effect, effect)


def explore(model: Model) -> set[World]:
    """Visit every world that can be reached, check each, and return them."""
    seen, frontier = {model.first}, [model.first]
    while frontier:
        world = frontier.pop()
        moved = False
        for after in model.moves(world):
            moved = True
            if after not in seen:
                model.check(after)
                seen.add(after)
                frontier.append(after)
        if not moved:
            model.check_end(world)
    return seen


def chain(length: int) -> SagaDefinition:
    return replace(ORDER, steps=ORDER.steps[:length])


def with_a_shared_compensation() -> SagaDefinition:
    """Two steps of one service, the second undone by the first, and one of another service between them."""
    authorize, reserve, *_, capture, _ = ORDER.steps
    return replace(ORDER, steps=(authorize, reserve, replace(capture, trigger=reserve.succeeds_with)))


def without_the_fence(definition: SagaDefinition, progress: Progress) -> Decision:
    return decide(definition, replace(progress, fenced_services=frozenset(definition.services)))


def compensating_only_what_was_seen(definition: SagaDefinition, progress: Progress) -> Decision:
    unseen = {step.name for step in definition.steps} - progress.ran
    return decide(definition, replace(progress, compensated=progress.compensated | unseen))


def completing_in_spite_of_a_cancellation(definition: SagaDefinition, progress: Progress) -> Decision:
    """A cancellation that loses to completion if it comes while the last event is under way: not order-independent."""
    decision = decide(definition, progress)
    if decision.failure is not None and decision.failure.cause is Cause.CANCELLED and not progress.fenced_services:
        return decide(definition, replace(progress, cancelled=None))
    return decision


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Model(chain(2), has_calls=True, has_dead_letters=True), id="2 steps, calls, dead letters"),
        pytest.param(Model(chain(3)), id="3 steps"),
        pytest.param(Model(with_a_shared_compensation()), id="shared compensation"),
        pytest.param(Model(with_a_shared_compensation(), has_calls=True), id="shared compensation, calls"),
    ],
)
def test_every_reachable_world_keeps_the_promise(model: Model) -> None:
    worlds = explore(model)
    assert any(SagaState.CONFIRMED in world.sent for world in worlds)
    assert any(SagaState.CANCELLED_COMPENSATED in world.sent for world in worlds)


@pytest.mark.parametrize(
    "broken", [without_the_fence, compensating_only_what_was_seen, completing_in_spite_of_a_cancellation]
)
def test_the_exploration_finds_what_a_broken_rule_leads_to(broken: Decide) -> None:
    with pytest.raises(Violation):
        explore(Model(chain(3), decide=broken))


@st.composite
def walks(draw: st.DrawFn) -> tuple[Model, World]:
    """The order saga itself, moved at random until nothing can happen any more; every world on the way is checked."""
    model = Model(ORDER, has_calls=draw(st.booleans()), has_dead_letters=draw(st.booleans()))
    chance = draw(st.randoms(use_true_random=False))
    stops_at = draw(st.integers(0, 40))
    world = model.first
    for moved in range(WALK_LENGTH_MAX):
        moves = list(model.moves(world))
        if not moves:
            model.check_end(world)
            return model, world
        quiet = [after for after in moves if not (after.heard - world.heard) & STOPS]
        world = chance.choice(quiet if quiet and moved < stops_at else moves)
        model.check(world)
    raise Violation(f"Still moving after {WALK_LENGTH_MAX} moves: {world}")


@given(walks(), st.randoms(use_true_random=False), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_any_order_duplication_or_split_of_the_same_facts_gives_the_same_end(
    walk: tuple[Model, World], chance: random.Random, copies_max: int
) -> None:
    model, world = walk
    facts = [fact for fact in world.heard for _ in range(chance.randint(1, copies_max))]
    chance.shuffle(facts)
    known = NOTHING
    while facts:
        batch, facts = facts[: (size := chance.randint(1, 5))], facts[size:]
        known = from_record(to_record(merge_all(known, batch)))
        decide(ORDER, known)
    assert known == merge_all(NOTHING, world.heard)
    assert decide(ORDER, known) == model.decision(world.heard)


STEP_NAMES = st.sampled_from([step.name for step in ORDER.steps])
REASONS = st.sampled_from(["", "a", "b"])
GENERATIONS = st.integers(0, 3)
FACTS: st.SearchStrategy[Fact] = st.one_of(
    st.builds(Started, at=st.just(AT)),
    st.builds(Succeeded, step=STEP_NAMES),
    st.builds(Rejected, step=STEP_NAMES, reason=REASONS),
    st.builds(Compensated, step=STEP_NAMES),
    st.builds(
        Fenced,
        service=st.sampled_from(ORDER.services),
        states=st.lists(st.tuples(STEP_NAMES, st.sampled_from(StepState)), max_size=2).map(tuple),
    ),
    st.builds(RetriesExhausted, step=STEP_NAMES, reason=REASONS, redrive=GENERATIONS),
    st.builds(CommandDead, command=STEP_NAMES, reason=REASONS, attempt=st.integers(1, 12)),
    st.builds(Unreadable, step=STEP_NAMES, reason=REASONS, redrive=GENERATIONS),
    st.builds(Unreadable, step=st.just(ANY_STEP), reason=REASONS, letter=REASONS),
    st.builds(
        Redriven,
        round_=st.one_of(STEP_NAMES, STEP_NAMES.map(redrive_key), st.just(FENCE)),
        number=GENERATIONS,
        at=st.just(AT),
        by=REASONS,
        reason=REASONS,
        letters=st.frozensets(REASONS, max_size=2),
    ),
    st.builds(StepRedriven, step=STEP_NAMES, number=GENERATIONS, outcome=st.sampled_from(RedriveOutcome)),
    st.builds(TimedOut, step=STEP_NAMES),
    st.builds(ReplyOverdue, round_=STEP_NAMES, attempt=st.integers(1, 6)),
    st.builds(Cancelled, at=st.just(AT), by=REASONS, reason=REASONS),
)


@given(st.lists(FACTS, max_size=12).flatmap(lambda facts: st.tuples(st.just(facts), st.permutations(facts))))
@settings(deadline=None)
def test_facts_that_contradict_each_other_lead_to_one_end_in_any_order_as_well(
    orders: tuple[list[Fact], list[Fact]],
) -> None:
    first, second = (merge_all(NOTHING, facts) for facts in orders)
    assert first == second == merge_all(first, orders[1]) == from_record(to_record(first))
    assert decide(ORDER, first) == decide(ORDER, second)
