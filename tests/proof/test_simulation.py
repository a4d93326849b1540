"""Seeded schedules of the real handlers and the real tracker over real SQL: every promise is kept."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest
from proof.controls import CONTROLS, control
from proof.simulation import simulate
from sqlalchemy import Connection

from proof import databases
from stack import from_environment, up

SEEDS = int(os.environ.get("BARAZA_PROOF_SEEDS", "30"))
"""What the whole suite can spare; a longer run sets the variable."""
CONTROL_SEEDS_MAX = 150
"""A missing rule shows within a few dozen schedules; the rarest needs a trigger that comes after its saga's fence."""


@pytest.fixture(scope="module")
def connections(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Connection]]:
    stack = up(from_environment(home=tmp_path_factory.mktemp("proof"), only=("postgres",)))
    try:
        with databases.connections(stack) as opened:
            yield opened
    finally:
        stack.down()


def test_no_schedule_breaks_a_promise(connections: Mapping[str, Connection]) -> None:
    faults: Counter[str] = Counter()
    states: Counter[str] = Counter()
    for seed in range(SEEDS):
        result = simulate(seed, connections)
        faults += result.faults
        states += result.states
        assert not result.violations, (
            f"Replay with: python -m proof --first {seed} --seeds 1 --trace: {result.violations}"
        )
    print(f"{SEEDS} schedules; sagas: {dict(states)}; faults: {dict(faults)}")
    assert {"CONFIRMED", "CANCELLED_COMPENSATED"} <= set(states)


def test_a_seed_says_it_all(connections: Mapping[str, Connection]) -> None:
    assert simulate(7, connections).trace == simulate(7, connections).trace


@pytest.mark.parametrize("name", CONTROLS)
def test_without_one_of_its_rules_a_schedule_breaks_a_promise(name: str, connections: Mapping[str, Connection]) -> None:
    with control(name):
        assert any(simulate(seed, connections).violations for seed in range(CONTROL_SEEDS_MAX)), name
