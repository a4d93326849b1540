"""Seeded schedules of a SACCO over the real services, Daraja's adapter and the tracker: every invariant holds."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from proof.controls import SIMULATED_OF_SACCO
from proof.databases import Database
from proof.running import OF_SACCO as KIND
from proof.running import first_violation, one_database, results

SEEDS = int(os.environ.get("BARAZA_PROOF_SACCO_SEEDS", "12"))
"""What the whole suite has time for; a longer run sets the variable, or is one of ``./baraza simulate --sacco``."""
CONTROL_SEEDS_MAX = 400
FOUND_AT: dict[str, int] = {}
"""The seed that finds each rule's absence. After a change of the schedules the search goes on from there."""
NAMED = {
    "timeout-releases-hold": "no hold is released while the money may have gone|nothing is paid twice",
    "new-id-after-timeout": "nothing is paid twice",
    "late-payout-ignored": "no hold is released while the money may have gone|nothing is paid twice",
    "credit-by-request": "one receipt is one credit",
    "acknowledgement-is-payout": "nothing is paid twice|no hold is released while the money may have gone",
    "not-found-is-no-payout": "nothing is paid twice|no hold is released while the money may have gone",
    "suspense-allocated-twice": "members' money, in transit and not allocated, is the provider's book",
}
"""The invariants that name it."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with one_database(KIND) as database:
        yield database


def test_no_schedule_of_a_sacco_breaks_an_invariant(database: Database) -> None:
    states: Counter[str] = Counter()
    for result in results(range(SEEDS), database, kind=KIND):
        states += result.states
        assert not result.violations, f"Replay with ./baraza simulate --sacco --seed …: {result.violations[0]}"
    print(states)
    assert {"receipt CONFIRMED", "withdrawal CONFIRMED", "withdrawal CANCELLED_COMPENSATED"} <= set(states)


@pytest.mark.parametrize("name", SIMULATED_OF_SACCO)
def test_without_one_of_its_rules_a_sacco_breaks_an_invariant(name: str, database: Database) -> None:
    found = first_violation(range(FOUND_AT.get(name, 0), CONTROL_SEEDS_MAX), database, control_name=name, kind=KIND)
    assert found is not None, name
    print(found.seed, found.violations[0])
    if name in NAMED:
        assert any(each.invariant in NAMED[name].split("|") for each in found.violations), found.violations
