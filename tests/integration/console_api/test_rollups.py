"""The counts of sagas that are kept as sagas move are the counts of the sagas, at each moment and for little."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from chassis.postgres import migrations
from chassis.wire.envelope import new_id
from messages.contract import Message
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest.rebuilding import Rebuild, Rebuilt
from saga_tracker.ingest.records import Record
from saga_tracker.store import rollups
from saga_tracker.store.now import quantile_s
from saga_tracker.store.rollups import BOUNDS_S
from support.console_api import CODEC, PARTITIONS, Console, Tracked
from support.together import raw_of
from support.tracker_peers import ORDER, message, successes

CANCEL_EVERY = 4


def rejected(saga_id: str, step: int) -> list[Message]:
    """Return the events of an order whose steps run up to this one, which is rejected."""
    type_ = ORDER.steps[step].rejected_with
    assert type_ is not None
    return [*successes(saga_id, up_to=step), message(type_, saga_id)]


def some_orders(chance: random.Random, count: int) -> list[Message]:
    """Return the events of orders that got to any step, confirmed or rejected, each order's in its order."""
    rejecting = [index for index, step in enumerate(ORDER.steps) if step.rejected_with is not None]
    queues = []
    for _ in range(count):
        saga_id = new_id()
        if chance.random() < 1 / CANCEL_EVERY:
            queues.append(rejected(saga_id, chance.choice(rejecting)))
        else:
            queues.append(successes(saga_id, up_to=chance.randint(0, len(ORDER.steps))))
    found = []
    while queues:
        queue = chance.choice(queues)
        found.append(queue.pop(0))
        queues = [each for each in queues if each]
    return found


def differences(engine: Engine) -> list[rollups.Difference]:
    with engine.connect() as tx:
        return rollups.differences(tx, PARTITIONS)


def kept(engine: Engine) -> list[Any]:
    """Return the counts without the minutes, in which two runs differ."""
    query = "SELECT saga_type, state, step, sum(count) FROM rollups WHERE count <> 0 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    with engine.connect() as tx:
        return list(tx.execute(text(query)).all())


def test_whatever_is_recorded_in_whatever_batches_the_counts_are_those_of_the_sagas(engine: Engine) -> None:
    seed = random.randrange(2**32)
    chance, tracked = random.Random(seed), Tracked(engine=engine)
    messages = some_orders(chance, 60)
    while messages:
        size = chance.randint(1, 40)
        batch, messages = messages[:size], messages[size:]
        tracked.record(*batch, *chance.sample(batch, k=min(2, len(batch))))
        assert differences(engine) == [], f"seed {seed}"
    assert sum(row[3] for row in kept(engine)) == 60
    with engine.begin() as tx:
        rollups.remove_empty(tx, PARTITIONS)
        live = "SELECT count(*) FROM rollups WHERE count = 0 AND state = ANY(:live)"
        assert tx.execute(text(live), {"live": list(rollups.LIVE)}).scalar_one() == 0
    assert differences(engine) == [], "what was deleted counted nothing"


def test_a_batch_that_moves_sagas_sends_one_statement_more_and_waits_for_none(engine: Engine) -> None:
    tracked, orders = Tracked(engine=engine), [new_id() for _ in range(50)]
    tracked.record(*[each for saga_id in orders for each in successes(saga_id, up_to=0)])
    sent: list[str] = []

    @event.listens_for(engine, "begin")
    def watch(connection: Any) -> None:
        pipelined = connection.connection.driver_connection
        original = type(pipelined).send

        def send(query: Any, parameters: Any) -> Any:
            sent.append(query.text)
            return original(pipelined, query, parameters)

        pipelined.send = send

    first = ORDER.steps[0].succeeds_with
    tracked.record(*[message(first, saga_id) for saga_id in orders])
    counting = [each for each in sent if "rollups" in each]
    assert len(counting) == 1, "one statement for fifty sagas that moved"
    assert len(sent) > 3, "the other statements of the batch were seen as well"
    assert differences(engine) == []


def test_a_batch_that_moves_no_saga_counts_nothing(engine: Engine) -> None:
    tracked, saga_id = Tracked(engine=engine), new_id()
    events = successes(saga_id, up_to=1)
    tracked.record(*events)
    before = kept(engine)
    tracked.record(events[-1])
    assert kept(engine) == before
    assert differences(engine) == []


def test_a_failed_transaction_counts_nothing_and_the_batch_is_counted_once_when_it_is_repeated(engine: Engine) -> None:
    tracked, saga_id = Tracked(engine=engine), new_id()
    tracked.record(*successes(saga_id, up_to=0))
    raw = raw_of(message(ORDER.steps[0].succeeds_with, saga_id), f"{ORDER.steps[0].service}.events", CODEC)
    record = Record(raw=raw, offset=0, timestamp_ms=0)
    with engine.connect() as tx:
        tracked.recorder.record(tx, [record], now=datetime.now(UTC))
        tx.rollback()
    assert differences(engine) == []
    with engine.begin() as tx:
        recorded = tracked.recorder.record(tx, [record], now=datetime.now(UTC))
    tracked.recorder.committed(recorded)
    assert differences(engine) == []
    assert [row[2] for row in kept(engine)] == [ORDER.steps[1].name]


def test_a_migration_counts_the_sagas_that_are_stored(empty: Engine) -> None:
    migrations.upgrade("saga_tracker", empty, "0008")
    insert = """
        INSERT INTO sagas (saga_id, saga_type, saga_version, subject, state, phase, step, partition, progress, version,
                           started_at, updated_at, finished_at, parked_at)
        SELECT '01' || lpad(number::text, 24, '0'), 'order', 1, 'c1',
               (ARRAY['PENDING', 'CONFIRMED', 'NEEDS_REVIEW', 'CANCELLED_COMPENSATED', 'IN_DOUBT'])[1 + number % 5],
               'RUNNING', 'step_' || number % 3, number % 3, '{}', 1,
               timestamptz '2026-11-01' + number * interval '7.31 seconds', now(),
               CASE WHEN number % 5 IN (1, 3) THEN timestamptz '2026-11-01' + number * interval '7.31 seconds'
                                                   + interval '50 milliseconds' * (1 + number) END,
               CASE WHEN number % 5 = 2 THEN timestamptz '2026-11-02' END
        FROM generate_series(0, 499) AS number
    """
    with empty.begin() as tx:
        tx.execute(text(insert))
    migrations.upgrade("saga_tracker", empty)
    assert differences(empty) == []
    assert sum(row[3] for row in kept(empty)) == 500


def test_a_rebuild_counts_what_was_counted_before(engine: Engine, empty_too: Engine) -> None:
    chance, tracked = random.Random(7), Tracked(engine=engine)
    messages = some_orders(chance, 20)
    records = tracked.record_raw([raw_of(each, f"{each.OWNER}.events", CODEC) for each in messages])
    rebuild = Rebuild(DEFINITIONS, CODEC)
    now = datetime.now(UTC)
    with empty_too.begin() as tx:
        rebuild.record(tx, records, now=now)
    assert differences(empty_too) == [], "while it is rebuilt too"
    with empty_too.begin() as tx:
        after: str | None = ""
        while after is not None:
            after = rebuild.conclude(tx, Rebuilt(), after=after, limit=7, now=now)
    assert differences(empty_too) == []
    assert kept(empty_too) == kept(engine)


def test_the_owner_of_a_partition_counts_again_what_a_process_of_the_release_before_recorded(engine: Engine) -> None:
    tracked = Tracked(engine=engine)
    tracked.record(*[each for _ in range(9) for each in successes(new_id(), up_to=2)])
    with engine.begin() as tx:
        tx.execute(text("UPDATE rollups SET count = count + 3"))
    assert differences(engine) != [], "the comparison finds what is wrong"
    with engine.begin() as tx:
        rollups.count_again(tx, PARTITIONS)
    assert differences(engine) == []


def test_the_age_and_the_duration_fall_into_the_same_minute_and_bucket_as_postgresql_finds() -> None:
    """The recorder decides both in Python, the migration and the audit in SQL; the bounds are where they may differ."""
    assert list(BOUNDS_S) == sorted(set(BOUNDS_S))
    for seconds in (0.0, *BOUNDS_S):
        row = _Ended(started_at=datetime(2026, 11, 1, tzinfo=UTC), took_s=seconds)
        assert rollups.counted_of(row).bucket == 1 + sum(bound <= seconds for bound in BOUNDS_S), seconds


class _Ended:
    """A saga that took so long."""

    saga_type, state, step, partition, parked_at, counted = "order", "CONFIRMED", "x", 0, None, None

    def __init__(self, *, started_at: datetime, took_s: float) -> None:
        self.started_at, self.finished_at = started_at, started_at + timedelta(seconds=took_s)


def test_quantiles_are_those_of_the_durations_as_exactly_as_the_buckets_are() -> None:
    chance = random.Random(1)
    durations = sorted(chance.lognormvariate(0, 1) for _ in range(5_000))
    buckets: dict[int, int] = {}
    for each in durations:
        bucket = rollups.counted_of(_Ended(started_at=datetime(2026, 11, 1, tzinfo=UTC), took_s=each)).bucket
        buckets[bucket] = buckets.get(bucket, 0) + 1
    for share in (0.5, 0.99):
        exact = durations[int(share * len(durations))]
        assert quantile_s(buckets, share) == pytest.approx(exact, rel=0.1), share


def test_now_shows_where_sagas_are_how_they_end_and_what_waits_for_people(console: Console) -> None:
    ended, waits = new_id(), new_id()
    console.tracked.record(*successes(ended), *successes(waits, up_to=1))
    found = console.get("/now", role="finance")
    (place,) = found["sagas"]
    assert (place["type"], place["state"], place["count"]) == ("order", "PENDING", 1)
    assert place["step"] == ORDER.steps[1].name
    (outcome,) = found["ended"]
    assert (outcome["confirmed"], outcome["compensated"], outcome["success_rate"]) == (1, 0, 1.0)
    assert outcome["p50_s"] <= outcome["p99_s"]
    assert found["letters"] == {"count": 0, "is_capped": False, "oldest_at": None}
    (minute,) = console.get("/minutes", type="order")["minutes"]
    assert (minute["state"], minute["count"]) == ("CONFIRMED", 1)
    assert console.get("/minutes", type="refund")["minutes"] == []
    assert console.status("/now", role="customer") == 403
