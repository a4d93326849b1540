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
from proof.sacco_checks import INVARIANTS

SEEDS = int(os.environ.get("BARAZA_PROOF_SACCO_SEEDS", "7"))
"""What the whole suite has time for; a longer run sets the variable, or is one of ``./baraza simulate --sacco``."""
ONCE_BROKEN = (129,)
"""Its tracker was rebuilt otherwise than it was: it read a contradiction behind a saga's last event."""
CONTROL_SEEDS_MAX = 60
"""How far a search goes on from the seed that found it once."""
FOUND_AT = {
    "timeout-releases-hold": 5,
    "new-id-after-timeout": 16,
    "late-payout-ignored": 5,
    "credit-by-request": 7,
    "acknowledgement-is-payout": 0,
    "not-found-is-no-payout": 14,
    "forward-only-late": 128,
    "suspense-allocated-twice": 6,
}
"""The seed that finds each rule's absence. After a change of the schedules the search goes on from there."""
NAMED = {
    "timeout-releases-hold": "no hold is released while the money may have gone|nothing is paid twice",
    "new-id-after-timeout": "nothing is paid twice",
    "late-payout-ignored": "no hold is released while the money may have gone|nothing is paid twice",
    "credit-by-request": "one receipt is one credit",
    "acknowledgement-is-payout": "nothing is paid twice|no hold is released while the money may have gone",
    "not-found-is-no-payout": "nothing is paid twice|no hold is released while the money may have gone",
    "forward-only-late": "a confirmed saga has every effect, a cancelled one none",
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
    for result in results([*range(SEEDS), *ONCE_BROKEN], database, kind=KIND):
        states += result.states
        assert not result.violations, f"Replay with ./baraza simulate --sacco --seed …: {result.violations[0]}"
    print(states)
    ended = {f"withdrawal {state}" for state in ("CONFIRMED", "CANCELLED_COMPENSATED")}
    assert ended | {"receipt CONFIRMED", "suspense_allocation CONFIRMED"} <= set(states)


@pytest.mark.parametrize(("name", "seed"), FOUND_AT.items())
def test_without_one_of_its_rules_a_sacco_breaks_an_invariant(name: str, seed: int, database: Database) -> None:
    found = first_violation(range(seed, seed + CONTROL_SEEDS_MAX), database, control_name=name, kind=KIND)
    assert found is not None, name
    print(found.seed, found.violations[0])
    assert any(each.invariant in NAMED[name].split("|") for each in found.violations), found.violations


def test_each_control_of_a_sacco_is_named_by_invariants() -> None:
    assert set(FOUND_AT) == set(NAMED) == set(SIMULATED_OF_SACCO)
    assert {each for names in NAMED.values() for each in names.split("|")} <= set(INVARIANTS)
