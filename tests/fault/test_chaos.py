"""A bounded part of ``baraza chaos``: every order survives a stack that is hurt, and damage does not go unseen.

One stack serves both, since its start is what costs: first chaos must leave no violation, then damage is planted that
the same verdict must name, each by another of its checks.
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
from baraza.chaos.engine import InjectedFault, suffer
from baraza.chaos.letters import Poison
from baraza.chaos.load import Load
from baraza.chaos.schedule import ESSENTIAL, Kind
from baraza.chaos.target import ChaosTarget
from baraza.chaos.verdict import Verdict, judge
from baraza.commands.audit import wait_until_quiet
from baraza.commands.chaos import SHORT_PRODUCTS, opened
from baraza.commands.load import put_dataset
from baraza.dataset import Mix, work
from chassis.wire.envelope import new_id

RATE = 4.0
BASKETS = 2_000
OTHERS = tuple(kind for kind in Kind if kind not in (*ESSENTIAL, Kind.ROLLBACK))
"""What a seed may add. A rollback goes back in the repository's history, which a single commit does not prove."""
REST_S = 300.0


def kinds_of(seed: int) -> tuple[Kind, ...]:
    """Return what no run may leave out, and one kind more."""
    return (*ESSENTIAL, random.Random(seed).choice(OTHERS))


def chaos(field: ChaosTarget, seed: int) -> tuple[Load, list[InjectedFault]]:
    """Fill the shelves and let each kind of fault come once."""
    baskets = work(BASKETS, Mix(seed=seed, short_products=SHORT_PRODUCTS))
    put_dataset(field.running, baskets)
    return suffer(field, baskets, minutes=0, seed=seed, rate=RATE, kinds=kinds_of(seed), tell=print)


def judged(field: ChaosTarget, load: Load, suffered: list[InjectedFault], *, wait_s: float) -> Verdict:
    """Audit and judge."""
    return judge(field, load, suffered, report.run(field.running.sources(), timeout_s=wait_s))


def plant(field: ChaosTarget, load: Load) -> tuple[str, str]:
    """Forget one confirmed order in the tracker, ship another twice, and lose a piece of stock; return the orders."""
    rows = field.ask("SELECT saga_id FROM sagas WHERE state = 'CONFIRMED' ORDER BY saga_id LIMIT 2")
    forgotten, doubled = (row[0] for row in rows)
    for service, statement, values in (
        ("saga_tracker", "DELETE FROM sagas WHERE saga_id = %s", [forgotten]),
        ("inventory", "UPDATE stock SET on_hand = on_hand + 1 WHERE sku = (SELECT min(sku) FROM stock)", []),
    ):
        with closing(psycopg.connect(field.stack.database_url(service, "owner"), autocommit=True)) as connection:
            connection.execute(statement, values)
    address = {"name": "N", "street": "S", "city": "C", "postal_code": "45202", "country": "US"}
    body = {"reference": doubled, "ship_to": address, "lines": [{"sku": "tea", "quantity": 1}]}
    headers = {"Idempotency-Key": new_id()}
    url = f"{field.running.url('courier')}/v1/shipments"
    httpx.post(url, json=body, headers=headers, trust_env=False).raise_for_status()
    return forgotten, doubled


@pytest.mark.timeout(600)
def test_chaos_loses_and_doubles_nothing_and_planted_damage_is_named(tmp_path: Path) -> None:
    seed = random.randrange(2**31)
    only = " ".join(f"--fault {kind}" for kind in kinds_of(seed))
    print(f"The same faults again: ./baraza chaos --minutes 0 --rate {RATE:g} --seed {seed} {only}")
    with opened(tmp_path / "home") as field:
        load, suffered = chaos(field, seed)
        wait_until_quiet(field.running, REST_S)
        field.close_letters()
        verdict = judged(field, load, suffered, wait_s=REST_S)
        assert not verdict.violations
        assert {past.fault.kind for past in suffered} >= set(ESSENTIAL)
        assert verdict.states["CONFIRMED"] > verdict.accepted / 2

        forgotten, doubled = plant(field, load)
        unread = Poison(topic="payment.events", saga_id=doubled, payload=b"\xff", readers=frozenset({"inventory"}))
        field.letters.poisons.append(unread)
        never = replace(suffered[-1], ended_at=datetime.now(UTC), recovery_s=None)
        damaged = judged(field, load, [*suffered, never], wait_s=0.0)

    assert damaged.lost == 1
    assert damaged.doubled >= 1
    for sign in (
        f"order {forgotten} was accepted",
        f"shipped-once: {doubled}",
        "stock-conserved:",
        "the poison on payment.events",
        "not at all",
    ):
        assert any(sign in violation for violation in damaged.violations), f"{sign}: {damaged.violations}"
