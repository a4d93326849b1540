"""A bounded part of ``baraza chaos``: every order, return and payment survives the faults, and damage is detected.

The money of a SACCO's members has a stack and a test of its own. One stack serves both parts here, because its start is
what takes time: first chaos must leave no violation, and a tracker that is rebuilt from Kafka must be the same. Then
damage is planted that the same verdict must name, each kind by another of its checks.
"""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psycopg
import pytest

from baraza.audit import report
from baraza.audit.sources import sources_of
from baraza.chaos import engine
from baraza.chaos.engine import InjectedFault
from baraza.chaos.load import Load
from baraza.chaos.messages import Poison
from baraza.chaos.schedule import ESSENTIAL, LONG, OF_PAYMENTS, OF_SACCO, Kind
from baraza.chaos.session import SHORT_PRODUCTS, opened, sagas_of, settle
from baraza.chaos.target import ChaosTarget
from baraza.chaos.verdict import Verdict, judge
from baraza.storefront import seed as seeding
from baraza.storefront.dataset import Mix, workload
from chassis.wire.envelope import new_id
from support import rebuilt

RATE, PAYMENTS_RATE = 2.0, 0.5
"""Forty processes share two processors."""
BASKETS = 2_000
OTHERS = tuple(kind for kind in Kind if kind not in (*ESSENTIAL, *LONG, *OF_PAYMENTS, *OF_SACCO, Kind.ROLLBACK))
"""The kinds that a seed may add. A rollback needs the repository's history, which a shallow clone does not have; the
outages have a test of their own."""
CALLBACKS_LOST_S = 12.0
"""Longer than a parcel takes: the returns of this time are ended by the first query."""
QUIET_WITHIN_S = 300.0


def kinds_of(seed: int) -> tuple[Kind, ...]:
    """Return the essential kinds, those of providers that report late or never, and one more."""
    return (*ESSENTIAL, Kind.LOST_CALLBACKS, *OF_PAYMENTS, random.Random(seed).choice(OTHERS))


def chaos(target: ChaosTarget, seed: int) -> tuple[Load, list[InjectedFault]]:
    """Load the seed data and inject each kind of fault once."""
    baskets = workload(BASKETS, Mix(seed=seed, short_products=SHORT_PRODUCTS))
    seeding.load_workload(target.running, baskets)
    return engine.run(
        target, baskets, minutes=0, seed=seed, rate=RATE, kinds=kinds_of(seed), outage_s=CALLBACKS_LOST_S, write=print,
        payments_rate=PAYMENTS_RATE,
    )  # fmt: skip


def judged(target: ChaosTarget, load: Load, injected: list[InjectedFault], *, wait_s: float) -> Verdict:
    """Audit the stack and return the verdict."""
    return judge(target, load, injected, report.run(sources_of(target.running), timeout_s=wait_s))


def plant(target: ChaosTarget, load: Load) -> tuple[str, str]:
    """Delete one confirmed order in the tracker, ship another twice, and add a piece of stock; return the orders."""
    rows = target.query("SELECT saga_id FROM sagas WHERE saga_type = 'order' AND state = 'CONFIRMED' LIMIT 2")
    deleted, doubled = (row[0] for row in rows)
    for service, statement, values in (
        ("saga_tracker", "DELETE FROM sagas WHERE saga_id = %s", [deleted]),
        ("inventory", "UPDATE stock SET on_hand = on_hand + 1 WHERE sku = (SELECT min(sku) FROM stock)", []),
    ):
        with closing(psycopg.connect(target.stack.database_url(service, "owner"), autocommit=True)) as connection:
            connection.execute(statement, values)
    address = {"name": "N", "street": "S", "city": "C", "postal_code": "45202", "country": "US"}
    body = {"reference": doubled, "ship_to": address, "lines": [{"sku": "tea", "quantity": 1}]}
    headers = {"Idempotency-Key": new_id()}
    url = f"{target.running.url('courier')}/v1/shipments"
    httpx.post(url, json=body, headers=headers, trust_env=False).raise_for_status()
    return deleted, doubled


@pytest.mark.timeout(1_200)
def test_chaos_loses_and_doubles_nothing_and_planted_damage_is_named(tmp_path: Path) -> None:
    seed = random.randrange(2**31)
    options = f"--rate {RATE:g} --payments-rate {PAYMENTS_RATE:g} --sacco-rate 0"
    options += f" --outage {CALLBACKS_LOST_S:g} --seed {seed}"
    only = " ".join(f"--fault {kind}" for kind in kinds_of(seed))
    print(f"Repeat these faults with: ./baraza chaos --minutes 0 {options} {only}")
    sagas = sagas_of(rate=RATE, payments_rate=PAYMENTS_RATE, sacco_rate=0)
    with opened(tmp_path / "home", sagas=sagas) as target:
        load, injected = chaos(target, seed)
        settle(target, QUIET_WITHIN_S)
        target.close_letters()
        verdict = judged(target, load, injected, wait_s=QUIET_WITHIN_S)
        assert not verdict.violations
        assert not verdict.waiting
        assert verdict.return_states["CONFIRMED"] > 0
        assert verdict.payment_states["CONFIRMED"] > verdict.payments / 2
        assert {past.fault.kind for past in injected} == set(kinds_of(seed))
        assert verdict.states["CONFIRMED"] > verdict.accepted / 2
        was = rebuilt.snapshot(target.stack.database_url("saga-tracker", "audit"))
        assert not (found := rebuilt.differences_after_a_rebuild(target.stack, was)), "\n".join(found)

        deleted, doubled = plant(target, load)
        unreported = Poison(topic="payment.events", saga_id=doubled, payload=b"\xff", readers=frozenset({"inventory"}))
        target.messages.poisons.append(unreported)
        never = replace(injected[-1], ended_at=datetime.now(UTC), recovery_s=None)
        damaged = judged(target, load, [*injected, never], wait_s=0.0)

    assert damaged.lost == 1
    assert damaged.doubled >= 1
    for sign in (
        f"order {deleted} was accepted",
        f"shipped-once: {doubled}",
        "stock-conserved:",
        "the poison on payment.events",
        "not at all",
    ):
        assert any(sign in violation for violation in damaged.violations), f"{sign}: {damaged.violations}"
