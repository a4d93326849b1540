"""Every world of the protocol, over the real decisions: all invariants hold; without one of its rules one breaks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proof.exploration import Model, explore
from saga_tracker.definitions import newest
from saga_tracker.saga import SagaDefinition, StepDefinition

from proof import controls

ORDER = newest("order")
AUTHORIZE, RESERVE, BURN, BOOK, CAPTURE, _ = ORDER.steps
CALLS = frozenset({AUTHORIZE.name, BOOK.name, CAPTURE.name})
"""The steps that ask a provider outside."""


def saga(*steps: StepDefinition) -> SagaDefinition:
    """Return a saga of these steps; each is triggered by the success of the one before."""
    chained = [replace(steps[0], trigger=ORDER.started_by)]
    for step in steps[1:]:
        chained.append(replace(step, trigger=chained[-1].succeeds_with))
    return replace(ORDER, steps=tuple(chained))


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Model(definition=saga(AUTHORIZE, RESERVE), external=CALLS), id="2 steps, calls, cancelled"),
        pytest.param(
            Model(definition=saga(RESERVE, BURN), gives_up=True, has_cancellation=False), id="2 steps, given up"
        ),
        pytest.param(Model(definition=saga(AUTHORIZE, RESERVE, BURN), has_cancellation=False), id="3 steps"),
        pytest.param(
            Model(definition=saga(AUTHORIZE, RESERVE, CAPTURE), has_cancellation=False),
            id="3 steps, the last undone by the first",
        ),
    ],
)
def test_every_world_keeps_the_promise_and_leads_to_an_end(model: Model) -> None:
    found = explore(model)
    print(f"{found.worlds} worlds, {found.moves} moves, {found.ends} of them ended or parked")
    assert found.violation is None, "\n".join((str(found.violation), *found.trace))
    assert found.ends


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(
            Model(definition=saga(AUTHORIZE, RESERVE, BURN), decide=controls.without_the_fence), id="without the fence"
        ),
        pytest.param(
            Model(definition=saga(AUTHORIZE, RESERVE, BURN), decide=controls.compensating_by_step_index),
            id="compensation by step index",
        ),
        pytest.param(
            Model(definition=saga(RESERVE, BURN), is_heard=controls.late_success_forgotten), id="without late success"
        ),
        pytest.param(
            Model(definition=saga(RESERVE, BURN), on_trigger=controls.running_what_is_fenced),
            id="a fence that services do not keep",
        ),
    ],
)
def test_without_one_of_its_rules_the_exploration_finds_the_way_to_a_broken_promise(broken: Model) -> None:
    found = explore(broken)
    print(f"{found.violation} after {found.worlds} worlds:", *found.trace, sep="\n  ")
    assert found.violation is not None
    assert found.trace
