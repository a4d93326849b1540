"""A bounded part of ``baraza chaos`` with the money of a SACCO's members alone: nothing is lost, nothing paid twice.

Its stack has only the services of that money, because two processors carry no more at once. Afterwards damage is
planted that the comparison with the provider's own books must name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from baraza.audit import console, report
from baraza.audit.sources import sources_of
from baraza.chaos import engine, sacco_books
from baraza.chaos.engine import InjectedFault
from baraza.chaos.load import Load
from baraza.chaos.mobile_money import SERVICE
from baraza.chaos.schedule import Kind
from baraza.chaos.session import opened, sagas_of, settle
from baraza.chaos.target import REPLICAS, ChaosTarget
from baraza.chaos.verdict import Verdict, judge
from baraza.storefront.dataset import Mix, workload
from stack.services import replica_names
from support import rebuilt

RATE = 1.0
KINDS = (Kind.KILL, Kind.POSTGRES, Kind.KILL_IN_CALLS, Kind.LOST_RESULTS, Kind.PROVIDER_AWAY, Kind.LISTENER_AWAY)
"""What meets this money above all; the others meet orders in the test beside this one."""
AWAY_S = 12.0
"""Longer than a call may take, and than the first query after it."""
QUIET_WITHIN_S = 300.0
OUTCOMES_WITHIN_S = 60.0
"""Not all come so soon, and no time makes silence a failure: what waits then has its next query."""


def chaos(target: ChaosTarget, seed: int) -> tuple[Load, list[InjectedFault]]:
    """Let members move their money and inject each kind of fault once."""
    return engine.run(
        target, workload(0, Mix(seed=seed)), minutes=0, seed=seed, rate=0.0, kinds=KINDS, outage_s=AWAY_S, write=print,
        sacco_rate=RATE,
    )  # fmt: skip


def judged(target: ChaosTarget, load: Load, injected: list[InjectedFault]) -> Verdict:
    """Compare the provider's books with ours, audit the stack and return the verdict."""
    assert load.sacco is not None
    differing = sacco_books.compared(target, load.sacco.began_at, QUIET_WITHIN_S)
    return judge(target, load, injected, report.run(sources_of(target.running), timeout_s=QUIET_WITHIN_S), differing)


def plant(target: ChaosTarget, load: Load) -> str:
    """Delete what the ledger has of one receipt; return the receipt."""
    assert load.sacco is not None
    receipt = min(load.sacco.paid_in)
    with closing(psycopg.connect(target.stack.database_url("ledger", "owner"), autocommit=True)) as connection:
        connection.execute("DELETE FROM receipt_books WHERE receipt = %s", (receipt,))
    return receipt


@contextmanager
def at_rest(target: ChaosTarget) -> Iterator[None]:
    """Stop what queries for outcomes while the block runs: a saga that waits would move."""
    names = replica_names(SERVICE, REPLICAS)
    console.wait_until_quiet(target.running, QUIET_WITHIN_S)
    for name in names:
        target.stack.stop(name)
    try:
        console.wait_until_quiet(target.running, QUIET_WITHIN_S)
        yield
    finally:
        for name in names:
            target.stack.start(name)


@pytest.mark.timeout(1_200)
def test_chaos_loses_no_money_of_members_and_pays_nothing_twice(tmp_path: Path) -> None:
    seed = random.randrange(2**31)
    only = " ".join(f"--fault {kind}" for kind in KINDS)
    print(
        f"Repeat these faults with: ./baraza chaos --minutes 0 --rate 0 --payments-rate 0 --sacco-rate {RATE:g}"
        f" --outage {AWAY_S:g} --seed {seed} {only}"
    )
    with opened(tmp_path / "home", sagas=sagas_of(rate=0, payments_rate=0, sacco_rate=RATE)) as target:
        load, injected = chaos(target, seed)
        settle(target, QUIET_WITHIN_S, outcomes_s=OUTCOMES_WITHIN_S)
        verdict = judged(target, load, injected)
        assert not verdict.violations
        assert all(each.query_at is not None for each in verdict.waiting)
        assert load.sacco is not None
        assert verdict.sacco_states["receipt"]["CONFIRMED"] >= len(load.sacco.paid_in) > 0
        assert verdict.sacco_states["withdrawal"]["CONFIRMED"] > 0
        assert {past.fault.kind for past in injected} == set(KINDS)
        with at_rest(target):
            was = rebuilt.snapshot(target.stack.database_url("saga-tracker", "audit"))
            assert not (found := rebuilt.differences_after_a_rebuild(target.stack, was)), "\n".join(found)

        receipt = plant(target, load)
        damaged = judged(target, load, injected)

    assert any(receipt in violation for violation in damaged.violations), damaged.violations
