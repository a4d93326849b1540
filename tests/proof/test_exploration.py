"""Every world of the protocol, over the real decisions: all invariants hold; without one of its rules one breaks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proof.controls import CONTROLS
from proof.exploration import Model, explore
from proof.models import BOOK, BURN, MODELS, RESERVE, chain


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        (1, "a call, given up"),
        (1, "local, given up and redriven"),
        (2, "calls, given up and redriven, not cancelled"),
        (2, "one undone by the other, calls"),
        (3, "the last undone by the first"),
        (4, "calls, not cancelled"),
    ],
)
def test_every_world_keeps_the_promise_and_leads_to_an_end(steps: int, name: str) -> None:
    found = explore(MODELS[steps][name]())
    print(f"{found.worlds} worlds, {found.moves} moves, {found.ends} of them ended or parked")
    assert found.violation is None, "\n".join((str(found.violation), *found.trace))
    assert found.ends


@pytest.mark.parametrize("name", CONTROLS)
def test_without_one_of_its_rules_the_exploration_finds_the_way_to_a_broken_promise(name: str) -> None:

    found = explore(replace(Model(definition=chain(RESERVE, BURN, BOOK)), **CONTROLS[name].explored))
    print(f"{found.violation} after {found.worlds} worlds:", *found.trace, sep="\n  ")
    assert found.violation is not None
    assert found.trace
