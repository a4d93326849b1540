"""Every world of the protocol, over the real decisions: all invariants hold; without one of its rules one breaks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proof.controls import CONTROLS
from proof.exploration import explore
from proof.models import BOOK, BURN, LARGE, MODELS, RESERVE, chain
from proof.states import Model
from saga_tracker.model.progress import SagaState

REDRIVEN = MODELS[1]["local, given up and redriven"]
WORLDS_MAX = 40_000


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        (1, "a call, given up"),
        (1, "local, given up and redriven"),
        (2, "calls, given up and redriven, not cancelled"),
        (3, "calls, one given up and redriven, not cancelled"),
        (3, "the last undone by the first"),
        (3, "the last undone by the first, calls"),
        (4, "local, one given up, not cancelled"),
        (4, "calls, not cancelled"),
    ],
)
def test_every_world_keeps_the_promise_and_leads_to_an_end(steps: int, name: str) -> None:
    found = explore(MODELS[steps][name]())
    print(f"{found.worlds} worlds, {found.moves} moves, {found.ends} of them ended or parked")
    assert found.violation is None, "\n".join((str(found.violation), *found.trace))
    assert found.is_whole
    assert {SagaState.CONFIRMED, SagaState.CANCELLED_COMPENSATED} <= set(found.states)


def test_the_first_worlds_of_what_is_too_large_for_a_test_keep_the_promise() -> None:
    found = explore(LARGE[4]["calls, one given up and redriven, not cancelled"](), worlds_max=WORLDS_MAX)
    print(f"{found.worlds} worlds, {found.moves} moves, {found.ends} of them ended")
    assert found.violation is None, "\n".join((str(found.violation), *found.trace))
    assert found.worlds >= WORLDS_MAX


@pytest.mark.parametrize("name", CONTROLS)
def test_without_one_of_its_rules_the_exploration_finds_the_way_to_a_broken_promise(name: str) -> None:
    broken = CONTROLS[name].explored
    model = REDRIVEN() if "on_redrive" in broken else Model(definition=chain(RESERVE, BURN, BOOK))
    found = explore(replace(model, **broken))
    print(f"{found.violation} after {found.worlds} worlds:", *found.trace, sep="\n  ")
    assert found.violation is not None
    assert found.trace
