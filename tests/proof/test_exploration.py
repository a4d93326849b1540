"""Every state of the protocol, over the real decisions: all invariants hold; without one of its rules one breaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proof.controls import CONTROLS, EXPLORED, FORWARD_ONLY
from proof.exploration import explore
from proof.models import BOOK, BURN, LARGE, MODELS, RESERVE, chain
from proof.states import Model
from saga_tracker.definitions import newest
from saga_tracker.model.decision import SagaState

REDRIVEN = MODELS[1]["local, retries exhausted and redriven"]
FORWARD = MODELS[3]["forward only, behind a step that is undone"]
STATES_MAX = 40_000


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        (1, "a call, retries exhausted"),
        (1, "local, retries exhausted and redriven"),
        (2, "calls, retries exhausted and redriven, not cancelled"),
        (2, "loan_repayment, forward only"),
        (2, "end_of_day, forward only"),
        (3, "forward only, behind a step that is undone"),
        (4, "receipt, forward only"),
        (3, "calls, one exhausted and redriven, not cancelled"),
        (3, "the last undone by the first"),
        (3, "the last undone by the first, calls"),
        (4, "local, one exhausted, not cancelled"),
        (4, "calls, not cancelled"),
    ],
)
def test_every_state_keeps_the_invariants_and_an_end_can_be_reached_from_it(steps: int, name: str) -> None:
    found = explore(MODELS[steps][name]())
    print(
        f"{found.state_count} states, {found.transition_count} transitions, {found.end_count} of them ended or parked"
    )
    assert found.violation is None, "\n".join((str(found.violation), *found.trace))
    assert found.is_whole
    assert {SagaState.CONFIRMED, SagaState.CANCELLED_COMPENSATED} <= set(found.outcomes)


def test_the_first_states_of_a_model_too_large_for_a_test_keep_the_invariants() -> None:
    found = explore(LARGE[4]["calls, one exhausted and redriven, not cancelled"](), states_max=STATES_MAX)
    print(f"{found.state_count} states, {found.transition_count} transitions, {found.end_count} of them ended")
    assert found.violation is None, "\n".join((str(found.violation), *found.trace))
    assert found.state_count >= STATES_MAX


@pytest.mark.parametrize("name", EXPLORED)
def test_without_one_of_its_rules_the_exploration_finds_a_trace_to_a_broken_invariant(name: str) -> None:
    broken = CONTROLS[name].explored
    model = REDRIVEN() if "on_redrive" in broken else Model(definition=chain(RESERVE, BURN, BOOK))
    found = explore(replace(FORWARD() if name in FORWARD_ONLY else model, **broken))
    print(f"{found.violation} after {found.state_count} states:", *found.trace, sep="\n  ")
    assert found.violation is not None
    assert found.trace


@pytest.mark.parametrize("saga", ["receipt", "suspense_allocation", "loan_repayment", "end_of_day"])
@pytest.mark.parametrize("name", FORWARD_ONLY)
def test_money_that_is_recorded_is_never_cancelled_in_any_saga_that_only_goes_forward(saga: str, name: str) -> None:
    found = explore(replace(Model(definition=newest(saga)), **CONTROLS[name].explored))
    assert found.violation == "cancelled, but a step is done or may still run"
