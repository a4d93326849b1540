"""Deadlines of the tracker as a process. The test plays the services, or leaves them silent."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from sqlalchemy import text

from chassis.wire.envelope import new_id
from messages import checkout, inventory, payment, saga
from messages.contract import Message
from support.tracker_peers import ORDER, PARTITIONS, SHORT, TrackerPeers, fence_replies, message, successes, until

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The registry's client, a library, leaves its connections to the garbage collector."""


FACTOR = float(SHORT["BARAZA_TIMEOUT_FACTOR"])
CLOCK_OFF = timedelta(minutes=3)
AUTHORIZE = "authorize_payment"
AWAITS_PAYMENT = f"{AUTHORIZE} to be taken by payment"


def publish_fenced(wire: TrackerPeers, replies: Iterable[Message]) -> None:
    for reply in replies:
        assert isinstance(reply, saga.SagaFenced)
        wire.publish(reply, topic=f"{reply.service}.events")


@pytest.mark.usefixtures("with_short_deadlines")
def test_a_step_that_times_out_is_fenced_and_its_late_success_compensated(wire: TrackerPeers) -> None:
    saga_id = new_id()
    wire.publish(*successes(saga_id, up_to=1))
    with consuming_everything(wire, "inventory", "payment.events"):
        fences = wire.awaits(saga_id, *["FenceSaga"] * len(ORDER.services))
    assert {each.steps for each in fences if isinstance(each, saga.FenceSaga)} == {
        ORDER.steps_of(service) for service in ORDER.services
    }
    publish_fenced(wire, fence_replies(saga_id, "authorize_payment", "reserve_inventory"))
    names = ["FenceSaga"] * len(ORDER.services)
    wire.awaits(saga_id, *names, "ReleaseInventory")
    wire.publish(message(inventory.InventoryReleased, saga_id, step="reserve_inventory"))
    wire.awaits(saga_id, *names, "ReleaseInventory", "RefundPayment")
    wire.publish(message(payment.PaymentRefunded, saga_id, step="authorize_payment"))
    row = wire.becomes(saga_id, "CANCELLED_COMPENSATED")
    assert (row.cause, row.step) == ("TIMED_OUT", "reserve_inventory")
    (timer,) = timers(wire, saga_id)
    assert (timer.kind, timer.step) == ("timer", "reserve_inventory")
    assert [entry.detail for entry in wire.timeline(saga_id) if entry.late] == ["reserve_inventory DONE"]


@pytest.mark.usefixtures("with_short_deadlines")
def test_a_command_without_a_reply_is_sent_again_and_a_reply_still_counts(wire: TrackerPeers) -> None:
    saga_id = new_id()
    wire.publish(*successes(saga_id, up_to=1), message(inventory.InventoryRejected, saga_id))
    first, second, *_ = until(lambda: found if len(found := wire.outgoing(saga_id)) > 1 else None, "it is sent again")
    assert first.message_id != second.message_id
    assert [each.attempt for each in (first, second) if isinstance(each, payment.RefundPayment)] == [1, 2]
    wire.publish(message(payment.PaymentRefunded, saga_id, step="authorize_payment"))
    wire.becomes(saga_id, "CANCELLED_COMPENSATED")


@pytest.mark.usefixtures("with_short_deadlines")
def test_a_deadline_waits_until_everything_that_kafka_had_by_then_is_recorded(wire: TrackerPeers) -> None:
    late, early = new_id(), new_id()
    wire.publish(message(checkout.OrderSubmitted, late), message(checkout.OrderSubmitted, early))
    for saga_id in (late, early):
        until(lambda saga_id=saga_id: wire.saga(saga_id), "it is recorded")
    wire.records()
    (kafka,) = wire.stack.pids("kafka")
    with consuming_everything(wire, "payment", "checkout.events"):
        os.kill(kafka, signal.SIGSTOP)
        try:
            with wire.engine.begin() as tx:
                deadlines = text(
                    "UPDATE sagas SET deadline_at = now() - :ago * interval '1 hour', wake_at = NULL, "
                    "waiting = :waiting, version = version + 1 WHERE saga_id = :saga_id"
                )
                waiting = f"{AUTHORIZE} to run"
                tx.execute(
                    deadlines,
                    [{"saga_id": each, "ago": ago, "waiting": waiting} for each, ago in ((late, 0), (early, 1))],
                )
            until(lambda: wire.saga(early).waiting == AWAITS_PAYMENT, "the deadline of an hour ago is judged")
            assert timers(wire, early) == [], "whether its service is there is unknown"
            assert (timers(wire, late), wire.saga(late).waiting) == ([], waiting), "the step's answer may be in Kafka"
        finally:
            os.kill(kafka, signal.SIGCONT)
        for saga_id in (late, early):
            until(lambda saga_id=saga_id: timers(wire, saga_id), "Kafka has answered, and the step had its whole time")


@pytest.mark.usefixtures("with_short_deadlines")
def test_an_order_is_not_late_by_checkouts_clock_and_can_be_cancelled_while_its_service_is_away(
    wire: TrackerPeers,
) -> None:
    """After an outage of minutes, or with a clock that is minutes off, it looks as if its time had long passed."""
    slow, fast = new_id(), new_id()
    for saga_id, off in ((slow, -CLOCK_OFF), (fast, CLOCK_OFF)):
        submitted = message(checkout.OrderSubmitted, saga_id)
        wire.publish(replace(submitted, occurred_at=submitted.occurred_at + off))
    for saga_id in (slow, fast):
        until(
            lambda saga_id=saga_id: (row := wire.saga(saga_id)) and row.waiting == AWAITS_PAYMENT,
            "its deadline is postponed while payment is away",
        )
        assert (timers(wire, saga_id), wire.outgoing(saga_id)) == ([], [])
    wire.publish(message(checkout.OrderCancellationRequested, fast, reason="changed_mind"))
    wire.awaits(fast, *["FenceSaga"] * len(ORDER.services))
    back_at = datetime.now(UTC)
    with consuming_everything(wire, "payment", "checkout.events"):
        (timer,) = until(lambda: timers(wire, slow), "a service that is back and does not answer is still late")
    assert timer.recorded_at >= back_at + timedelta(seconds=ORDER.steps[0].timeout_s * FACTOR)


def timers(wire: TrackerPeers, saga_id: str) -> list[Any]:
    """Return the entries of steps that were late. On a busy machine a reply of the test may be late as well."""
    return [entry for entry in wire.timeline(saga_id) if entry.type == "TimedOut"]


@contextmanager
def consuming_everything(wire: TrackerPeers, service: str, topic: str) -> Iterator[None]:
    """Play the service towards Kafka: a member of its group that has consumed everything on a topic."""
    group = Consumer({**wire.stack.kafka().options(), "group.id": service})
    group.subscribe([topic])
    until(lambda: (group.poll(0.1), group.assignment())[1], "the group has its member")
    partitions = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    ends = [TopicPartition(topic, each.partition, group.get_watermark_offsets(each, 10)[1]) for each in partitions]
    group.commit(offsets=ends, asynchronous=False)
    yield
    group.close()


@pytest.mark.usefixtures("with_short_deadlines")
def test_a_steps_timeout_begins_when_its_service_has_consumed_the_trigger(wire: TrackerPeers) -> None:
    saga_id = new_id()
    wire.publish(*successes(saga_id, up_to=3))
    postponed = "book_shipment to be taken by shipping"
    until(lambda: (row := wire.saga(saga_id)) and row.waiting == postponed, "the deadline is postponed")
    assert timers(wire, saga_id) == []
    back_at = datetime.now(UTC)
    with consuming_everything(wire, "shipping", "loyalty.events"):
        (timer,) = until(lambda: timers(wire, saga_id), "the step is overdue")
    assert timer.step == "book_shipment"
    assert timer.recorded_at >= back_at + timedelta(seconds=ORDER.steps[3].timeout_s * FACTOR)
