"""The tracker as a process, with real Kafka, PostgreSQL and registry. The test plays the services."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from chassis.postgres.migrations import differences
from chassis.wire.envelope import new_id
from messages import checkout, inventory, loyalty, payment, saga
from saga_tracker.model.facts import Progress
from saga_tracker.store import sagas
from saga_tracker.store.conflicts import Overtaken
from saga_tracker.store.sagas import SagaRow
from saga_tracker.store.schema import METADATA
from support.tracker_peers import ORDER, STEPS, TrackerPeers, message, successes, until

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The registry's client, a library, leaves its connections to the garbage collector."""


def test_the_migrations_make_the_tables_that_the_code_declares(wire: TrackerPeers) -> None:
    with wire.engine.connect() as tx:
        assert differences(METADATA, tx) == []


@pytest.mark.parametrize("order", ["as they happen", "reversed", "shuffled", "each twice"])
def test_an_order_whose_steps_all_run_is_confirmed_once_in_any_order_of_arrival(wire: TrackerPeers, order: str) -> None:
    saga_id = new_id()
    events = successes(saga_id)
    arriving = {"reversed": events[::-1], "each twice": events * 2}.get(order, list(events))
    if order == "shuffled":
        random.Random(saga_id).shuffle(arriving)
    for event in arriving:
        wire.publish(event)
    until(lambda: len(wire.timeline(saga_id)) == len(events) + 1, "every event once, and the last event")
    row = wire.becomes(saga_id, "CONFIRMED")
    assert (row.subject, row.phase, row.deadline_at) == ("customer-1", "ENDED", None)
    (confirmed,) = wire.awaits(saga_id, "OrderConfirmed")
    assert isinstance(confirmed, saga.OrderConfirmed)
    assert confirmed.causation_id in {event.message_id for event in events}


def test_a_rejection_is_compensated_in_reverse_each_after_the_reply_for_the_one_before(wire: TrackerPeers) -> None:
    saga_id = new_id()
    wire.publish(*successes(saga_id, up_to=2), message(loyalty.LoyaltyPointsRejected, saga_id))
    (release,) = wire.awaits(saga_id, "ReleaseInventory")
    assert isinstance(release, inventory.ReleaseInventory)
    assert (release.step, release.attempt, release.reason) == ("reserve_inventory", 1, "said_no")
    wire.publish(message(inventory.InventoryReleased, saga_id, step="reserve_inventory"))
    wire.awaits(saga_id, "ReleaseInventory", "RefundPayment")
    wire.publish(message(payment.PaymentRefunded, saga_id, step="authorize_payment"))
    row = wire.becomes(saga_id, "CANCELLED_COMPENSATED")
    assert (row.cause, row.step, row.reason) == ("REJECTED", "burn_loyalty_points", "said_no")
    *_, failed = wire.awaits(saga_id, "ReleaseInventory", "RefundPayment", "OrderFailed")
    assert isinstance(failed, saga.OrderFailed)
    assert (failed.cause, failed.step, failed.started_at) == ("REJECTED", "burn_loyalty_points", row.started_at)
    kinds = [(entry.kind, entry.type) for entry in wire.timeline(saga_id)]
    assert ("command", "RefundPayment") in kinds
    assert ("reply", "PaymentRefunded") in kinds


def test_a_worker_that_was_overtaken_does_not_overwrite_what_another_has_recorded(wire: TrackerPeers) -> None:
    first, second = (
        SagaRow(
            saga_id=saga_id, saga_type="order", saga_version=1, partition=0, started_at=datetime.now(UTC),
            progress=Progress(ran=frozenset({step})),
        )
        for saga_id in [new_id()]
        for step in STEPS[:2]
    )  # fmt: skip
    for row, refused in ((first, False), (second, True)):
        with pytest.raises(Overtaken) if refused else nullcontext(), wire.engine.begin() as tx:
            sagas.save(tx, [row], now=datetime.now(UTC))
    assert wire.saga(first.saga_id).progress["known"] == {"ran": [STEPS[0]]}


def test_a_worker_builds_on_what_another_has_stored_after_it_cached_a_saga(wire: TrackerPeers) -> None:
    saga_id = new_id()
    first, *others = successes(saga_id)
    wire.publish(first)
    wire.becomes(saga_id, "PENDING")
    with wire.engine.begin() as tx:
        stored = text("UPDATE sagas SET subject = 'another', version = version + 1 WHERE saga_id = :saga_id")
        tx.execute(stored, {"saga_id": saga_id})
    (worker,) = wire.stack.pids("saga-tracker")
    wire.publish(*others)
    assert wire.becomes(saga_id, "CONFIRMED").subject == "another"
    # The last event alone confirms the saga, so the others may be recorded after it.
    until(lambda: len(wire.timeline(saga_id)) == len(others) + 2, "each message and the end are on the timeline once")
    assert wire.stack.pids("saga-tracker") == (worker,), "the process was not restarted for that"


def test_text_that_the_database_cannot_hold_stops_nothing(wire: TrackerPeers) -> None:
    cause, steps, trace = new_id(), new_id(), new_id()
    odd_cause = replace(message(checkout.OrderSubmitted, cause), causation_id="a\x00b")
    odd_step = message(
        saga.SagaFenced, steps, service="payment", steps=(saga.StepOutcome(step="a\x00b", state="DONE"),)
    )
    wire.publish(odd_cause, topic="checkout.events")
    wire.publish(odd_step, topic="payment.events")
    traced = message(checkout.OrderSubmitted, trace)
    wire.raw("checkout.events", trace, wire.codec.encode("checkout.events", traced), traced, traceparent="00-a\x00b")
    wire.producer.flush(10)
    wire.becomes(cause, "NEEDS_REVIEW")
    wire.becomes(steps, "NEEDS_REVIEW")
    wire.becomes(trace, "PENDING")


def test_an_unprocessable_message_parks_its_saga_and_stops_nothing_else(wire: TrackerPeers) -> None:
    saga_id, other = new_id(), new_id()
    wire.publish(message(checkout.OrderSubmitted, saga_id))
    wire.becomes(saga_id, "PENDING")
    wire.raw("payment.events", saga_id, b"\x00\x00\x0f\x42\x40garbage")
    wire.raw("payment.events", saga_id, b"")
    row = wire.becomes(saga_id, "NEEDS_REVIEW")
    assert "saga-tracker" in row.reason
    wire.publish(*successes(other))
    wire.becomes(other, "CONFIRMED")
    wire.publish(*successes(saga_id)[1:])
    wire.becomes(saga_id, "CONFIRMED")


@pytest.mark.parametrize(("step", "state"), [("book_shipment", "PENDING"), ("reserve_inventory", "NEEDS_REVIEW")])
def test_a_dead_letter_stops_a_saga_or_parks_it_as_its_definition_says(
    wire: TrackerPeers, step: str, state: str
) -> None:
    saga_id = new_id()
    events = successes(saga_id)
    index = STEPS.index(step)
    wire.publish(*events[: index + 1])
    trigger = events[index]
    topic = f"{trigger.OWNER}.events"
    letter = {"baraza_service": ORDER.steps[index].service, "baraza_step": step, "baraza_reason": "it is down"}
    wire.raw(
        f"{step}.dlq",
        saga_id,
        wire.codec.encode(topic, trigger),
        trigger,
        **letter,
        baraza_attempts="3",
        baraza_topic=topic,
    )
    wire.producer.flush(10)
    until(lambda: any(entry.kind == "dead_letter" for entry in wire.timeline(saga_id)), "the dead letter's entry")
    row = wire.saga(saga_id)
    assert (row.state, row.phase) == (state, "FENCING" if state == "PENDING" else "RUNNING")


@pytest.mark.timeout(300)  # It is killed twice, and each time it starts again and waits for its partitions.
def test_a_tracker_that_is_killed_in_mid_stream_loses_and_repeats_nothing(wire: TrackerPeers) -> None:
    saga_ids = [new_id() for _ in range(400)]
    events = [event for saga_id in saga_ids for event in successes(saga_id)]
    random.Random(7).shuffle(events)
    third = len(events) // 3
    for round_, part in enumerate((events[:third], events[third : 2 * third], events[2 * third :])):
        wire.publish(*part)
        if round_ < 2:
            until(lambda: wire.stack.pids("saga-tracker"), "the tracker is running again")
            wire.stack.kill("saga-tracker", signal.SIGKILL)
    counts = "SELECT count(*) FILTER (WHERE state = 'CONFIRMED') AS confirmed FROM sagas WHERE saga_id = ANY(:saga_ids)"
    until(lambda: wire.one(counts, saga_ids=saga_ids).confirmed == len(saga_ids), "all are confirmed", within_s=180)
    entries = "SELECT count(*) AS entries FROM timeline WHERE saga_id = ANY(:saga_ids)"
    expected = len(events) + len(saga_ids)
    until(lambda: wire.one(entries, saga_ids=saga_ids).entries == expected, "every message is on a timeline once")
    for saga_id in saga_ids:
        confirmed = (
            wire.awaits(saga_id, "OrderConfirmed") if len(wire.outgoing(saga_id)) <= 1 else wire.outgoing(saga_id)
        )
        assert len({each.message_id for each in confirmed}) == 1
    until(lambda: wire.one("SELECT count(*) AS rows FROM outbox").rows == 0, "the outbox is drained")


@pytest.mark.timeout(300)  # The one that is left waits until the session of the other has ended.
def test_two_trackers_share_the_partitions_and_one_of_them_may_die(wire: TrackerPeers, tmp_path: Path) -> None:
    environment = os.environ | wire.stack.environment("saga-tracker") | {"BARAZA_HTTP_PORT": "0"}
    with (tmp_path / "tracker.log").open("w") as log:
        second = subprocess.Popen([sys.executable, "-m", "saga_tracker.main"], env=environment, stderr=log)
    saga_ids = [new_id() for _ in range(60)]
    events = [successes(saga_id) for saga_id in saga_ids]
    try:
        assigned = '"Partitions assigned."'
        until(lambda: assigned in (tmp_path / "tracker.log").read_text(), "the second tracker has partitions")
        wire.publish(*(event for each in events for event in each[:4]))
    finally:
        second.kill()
        second.wait()
    wire.publish(*(event for each in events for event in each[4:]))
    counts = "SELECT count(*) AS entries FROM timeline WHERE saga_id = ANY(:saga_ids)"
    expected = len(saga_ids) * (len(STEPS) + 2)
    until(
        lambda: wire.one(counts, saga_ids=saga_ids).entries == expected, "every message is recorded once", within_s=180
    )
    for saga_id in saga_ids:
        wire.becomes(saga_id, "CONFIRMED")
