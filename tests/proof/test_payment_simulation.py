"""Seeded schedules of merchants' payments over the real services, adapters and tracker: every invariant holds."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from proof.databases import Database
from proof.running import OF_PAYMENTS as KIND
from proof.running import first_violation, one_database, run

SEEDS = int(os.environ.get("BARAZA_PROOF_PAYMENT_SEEDS", "12"))
"""What the whole suite has time for; a longer run sets the variable, or is one of ``./baraza simulate --payments``."""
CONTROL_SEEDS_MAX = 400
FOUND_AT = {
    "refund-unlimited": 0,
    "one-key-for-a-payment": 0,
    "hold-kept-on-void": 1,
    "received-is-captured": 3,
    "failure-untold": 3,
}
"""The seed that finds each rule's absence. After a change of the schedules the search goes on from there."""

pytestmark = pytest.mark.timeout(600)


def test_no_schedule_of_payments_breaks_an_invariant() -> None:
    figures = run(range(SEEDS), kind=KIND)
    print(figures.to_json())
    assert not figures.violations, f"Replay with ./baraza simulate --payments --seed …: {figures.violations[0]}"
    ended = {f"payment {state}" for state in ("CONFIRMED", "CANCELLED_COMPENSATED")}
    also = {f"{saga} CONFIRMED" for saga in ("capture_later", "void_payment", "refund", "payment_reversal")}
    assert ended | also <= set(figures.sagas)


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with one_database(KIND) as database:
        yield database


@pytest.mark.parametrize(("name", "seed"), FOUND_AT.items())
def test_without_one_of_its_rules_a_payment_breaks_an_invariant(name: str, seed: int, database: Database) -> None:
    found = first_violation(range(seed, CONTROL_SEEDS_MAX), database, control_name=name, kind=KIND)
    assert found is not None, name
    print(found.seed, found.violations[0])
