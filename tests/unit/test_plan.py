"""What a stack consists of, derived from its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack import InvalidSettings, StackSettings, contract, plan, services
from stack.home import Home

SERVICE, OTHER = contract.services()[:2]


def settings(home: Path, **changes: object) -> StackSettings:
    return StackSettings(home=home, cache=home, **changes)  # type: ignore[arg-type]


def test_a_substitute_runs_in_the_place_of_its_service_and_migrates_after_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    state = plan.next_state(settings(tmp_path, substitutes={SERVICE: "elsewhere"}), None, is_alive=False)
    commands = {each: services.component(home, state, each, each).command[-1] for each in (SERVICE, OTHER)}
    assert commands == {SERVICE: "elsewhere.main", OTHER: f"{OTHER}.main"}
    migrated = {each: services.migrated_packages(state, each) for each in (SERVICE, OTHER)}
    assert migrated == {SERVICE: (SERVICE, "elsewhere"), OTHER: (OTHER,)}


def test_a_stack_keeps_its_substitutes(tmp_path: Path) -> None:
    before = plan.next_state(settings(tmp_path, substitutes={SERVICE: "elsewhere"}), None, is_alive=False)
    assert plan.next_state(settings(tmp_path), before, is_alive=False).substitutes == {SERVICE: "elsewhere"}


def test_only_a_service_can_have_a_substitute(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="kafka cannot have a substitute"):
        plan.next_state(settings(tmp_path, substitutes={"kafka": "elsewhere"}), None, is_alive=False)
