"""Kafka, PostgreSQL and a whole service are away for longer than an order may take: no order is lost to that.

Every deadline of a saga is shorter here, and so are the outages: as long in proportion as some four minutes.
"""

from __future__ import annotations

import random
from contextlib import closing
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from baraza.audit import report
from baraza.audit.sources import sources_of
from baraza.chaos import engine
from baraza.chaos.schedule import OUTAGES
from baraza.chaos.session import opened, sagas_of, settle
from baraza.chaos.target import ChaosTarget
from baraza.chaos.verdict import judge
from baraza.storefront import seed as seeding
from baraza.storefront.dataset import Mix, workload
from chassis.wire.envelope import new_id

RATE = 4.0
BASKETS = 2_000
TIMEOUT_FACTOR = 0.15
"""A saga has 27 s for all of its steps together."""
OUTAGE_S = 36.0
QUIET_WITHIN_S = 300.0


def plant(target: ChaosTarget, at: datetime) -> str:
    """Make a confirmed order look as if it had been stopped ``at`` a step that was never attempted; return its id."""
    saga_id = str(
        target.query("SELECT min(saga_id) FROM sagas WHERE saga_type = 'order' AND state = 'CONFIRMED'")[0][0]
    )
    timer = (
        "INSERT INTO timeline (saga_id, message_id, recorded_at, occurred_at, kind, type, service, step, late) "
        "VALUES (%s, %s, %s, %s, 'timer', 'TimedOut', 'saga-tracker', 'reserve_inventory', false)"
    )
    for service, statement, values in (
        ("saga_tracker", "UPDATE sagas SET state = 'CANCELLED_COMPENSATED' WHERE saga_id = %s", (saga_id,)),
        ("saga_tracker", timer, (saga_id, new_id(), at, at)),
        ("inventory", "UPDATE effects SET state = 'FENCED', attempt = 0 WHERE saga_id = %s", (saga_id,)),
    ):
        with closing(psycopg.connect(target.stack.database_url(service, "owner"), autocommit=True)) as connection:
            connection.execute(statement.encode(), values)
    return saga_id


@pytest.mark.timeout(1_200)
def test_outages_longer_than_a_saga_may_take_lose_no_order(tmp_path: Path) -> None:
    seed = random.randrange(2**31)
    print(f"The faults and the baskets are those of seed {seed}.")
    sagas = sagas_of(rate=RATE, payments_rate=0, sacco_rate=0)
    with opened(tmp_path / "home", timeout_factor=TIMEOUT_FACTOR, sagas=sagas) as target:
        baskets = workload(BASKETS, Mix(seed=seed))
        seeding.load_workload(target.running, baskets)
        load, injected = engine.run(
            target, baskets, minutes=0, seed=seed, rate=RATE, kinds=OUTAGES, outage_s=OUTAGE_S, write=print
        )
        settle(target, QUIET_WITHIN_S)
        found = report.run(sources_of(target.running), timeout_s=QUIET_WITHIN_S)
        verdict = judge(target, load, injected, found)
        print(verdict.to_json())
        assert not verdict.violations
        assert {past.fault.kind for past in injected} == set(OUTAGES)
        assert verdict.late == 0
        assert verdict.states["CONFIRMED"] > verdict.accepted / 2

        late = plant(target, injected[-1].ended_at)
        damaged = judge(target, load, injected, found)

    assert damaged.late == 1
    assert any(f"saga {late} was merely late" in violation for violation in damaged.violations)
