"""A tracker whose Kafka no longer has what it recorded stops, states why, and goes on after the documented command."""

from __future__ import annotations

import os
import signal

import pytest
from sqlalchemy import text

from chassis.wire.envelope import new_id
from stack import StackError
from stack.deploy import create_topics
from stack.kafka import admin
from support.tracker_peers import PARTITIONS, TrackerPeers, successes, until

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The registry's client, a library, leaves its connections to the garbage collector."""

TOPIC = "ledger.events"


def confirm_one(wire: TrackerPeers) -> None:
    saga_id = new_id()
    wire.publish(*successes(saga_id))
    wire.becomes(saga_id, "CONFIRMED")


def states_why(wire: TrackerPeers, reason: str, *, since: int) -> None:
    """Wait until the tracker's log, from a position on, gives this reason and the page with the way on."""

    def found() -> bool:
        log = wire.stack.log("saga-tracker").read_text()[since:]
        return reason in log and "docs/operations.md" in log

    until(found, f"the tracker ends with {reason!r}")


def logged(wire: TrackerPeers) -> int:
    return len(wire.stack.log("saga-tracker").read_text())


def make_anew(wire: TrackerPeers) -> None:
    client = admin(wire.stack.kafka())
    client.delete_topics([TOPIC])[TOPIC].result(30)
    until(lambda: TOPIC not in client.list_topics(timeout=10).topics, "the topic is deleted")

    def is_made() -> bool:
        try:
            create_topics(client, (TOPIC,), PARTITIONS)
        except StackError:
            return False
        return TOPIC in client.list_topics(timeout=10).topics

    until(is_made, "the topic is made anew")


def test_a_topic_that_was_made_anew_stops_the_tracker_until_it_is_read_again(wire: TrackerPeers) -> None:
    confirm_one(wire)
    wire.records()
    since = logged(wire)
    make_anew(wire)
    states_why(wire, f"{TOPIC} is not the topic that was recorded", since=since)
    assert f"{PARTITIONS} partitions are read from Kafka's earliest messages." in wire.stack.reread([TOPIC])
    confirm_one(wire)


def test_the_lost_end_of_a_partition_stops_the_tracker(wire: TrackerPeers) -> None:
    confirm_one(wire)
    wire.records()
    since = logged(wire)
    with wire.engine.begin() as tx:
        # As if Kafka had lost the last three messages of each partition, which are recorded.
        lost = "UPDATE consumed_offsets SET next_offset = next_offset + 3 WHERE topic = 'payment.events'"
        tx.execute(text(lost))
    (tracker,) = wire.stack.pids("saga-tracker")
    os.kill(tracker, signal.SIGKILL)
    states_why(wire, "Kafka has lost messages, or the topic was made anew", since=since)
    wire.stack.reread(["payment.events"])
    confirm_one(wire)
