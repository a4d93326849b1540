"""The decision about a saga is a function of the set of its facts: their order, repetition and split do not matter.

The facts come from random walks of the order saga itself, through the model that ``baraza explore`` visits whole for
shorter sagas (tests/proof). A second test takes any facts, also combinations that no saga can have.
"""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proof.awaited_models import without_return
from proof.models import CALLS, ORDER
from proof.states import CANCEL, Model, ModelState
from saga_tracker.model.decision import FENCE, SagaState, redrive_key
from saga_tracker.model.facts import (
    NOTHING,
    UNKNOWN_STEP,
    Awaited,
    Cancelled,
    CommandDead,
    Compensated,
    Contradicted,
    EvidenceOverdue,
    Fact,
    Fenced,
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
    Unprocessable,
    merge_all,
)
from saga_tracker.model.progress import decide
from saga_tracker.model.records import from_record, to_record
from saga_tracker.model.saga import SagaDefinition

AT = datetime(2026, 11, 21, 10, tzinfo=UTC)
STOPS = (CANCEL, *(TimedOut(step=step.name) for step in ORDER.steps))
WALK_LENGTH_MAX = 500


@st.composite
def walks(draw: st.DrawFn) -> tuple[Model, ModelState, frozenset[Fact]]:
    """Walk at random until no transition is left, and return the facts that the tracker recorded on the way."""
    external = CALLS if draw(st.booleans()) else frozenset()
    model = Model(definition=ORDER, external=external, retries_run_out=draw(st.booleans()))
    chance = draw(st.randoms(use_true_random=False))
    stops_at = draw(st.integers(0, 40))
    state, recorded = model.initial, set[Fact]()
    for length in range(WALK_LENGTH_MAX):
        transitions = [(what, after) for what, after in model.transitions(state) if after != state]
        if not transitions:
            assert model.decision(state).state is not SagaState.PENDING, f"Nothing will ever wake this saga: {state}"
            return model, state, frozenset(recorded)
        quiet = [(what, after) for what, after in transitions if what not in STOPS]
        what, after = chance.choice(quiet if quiet and length < stops_at else transitions)
        assert model.violation(state, after) is None
        state = after
        recorded |= set() if isinstance(what, str) else {what}
    pytest.fail(f"Not at rest after {WALK_LENGTH_MAX} transitions: {state}")


@given(walks(), st.randoms(use_true_random=False), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_any_order_duplication_or_split_of_the_same_facts_gives_the_same_decision(
    walk: tuple[Model, ModelState, frozenset[Fact]], chance: random.Random, copies_max: int
) -> None:
    model, state, recorded = walk
    facts = [fact for fact in recorded for _ in range(chance.randint(1, copies_max))]
    chance.shuffle(facts)
    known = NOTHING
    while facts:
        batch, facts = facts[: (size := chance.randint(1, 5))], facts[size:]
        known = from_record(to_record(merge_all(known, batch)))
        decide(ORDER, known)
    assert known == merge_all(NOTHING, recorded)
    assert decide(ORDER, known) == model.decision(state)


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
    st.builds(Unprocessable, step=STEP_NAMES, reason=REASONS, redrive=GENERATIONS),
    st.builds(Unprocessable, step=st.just(UNKNOWN_STEP), reason=REASONS, letter=REASONS),
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
    st.builds(Awaited, step=STEP_NAMES, attempt=st.integers(1, 3), undo=st.booleans()),
    st.builds(Contradicted, step=STEP_NAMES, attempt=st.integers(1, 3), reason=REASONS, is_mark=st.booleans()),
    st.builds(EvidenceOverdue, step=STEP_NAMES),
    st.builds(ReplyOverdue, round_=STEP_NAMES, attempt=st.integers(1, 6)),
    st.builds(Cancelled, at=st.just(AT), by=REASONS, reason=REASONS),
)


AWAITED_ORDER = replace(
    ORDER,
    steps=(
        *ORDER.steps[:4],
        without_return(ORDER.steps[4]),
        replace(ORDER.steps[5], compensation=None),
    ),
)
"""The order saga with a capture that has no return."""


@pytest.mark.parametrize("definition", [ORDER, AWAITED_ORDER], ids=["order", "without return"])
@given(orders=st.lists(FACTS, max_size=12).flatmap(lambda facts: st.tuples(st.just(facts), st.permutations(facts))))
@settings(deadline=None)
def test_contradictory_facts_lead_to_one_decision_in_any_order_too(
    definition: SagaDefinition,
    orders: tuple[list[Fact], list[Fact]],
) -> None:
    first, second = (merge_all(NOTHING, facts) for facts in orders)
    assert first == second == merge_all(first, orders[1]) == from_record(to_record(first))
    assert decide(definition, first) == decide(definition, second)
