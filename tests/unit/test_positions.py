"""Stored offsets and what Kafka has: an offset that Kafka does not have, or a topic made anew, stops the worker."""

from __future__ import annotations

import pytest

from saga_tracker.ingest.positions import SHOWN_MAX, Available, OffsetsInvalid, check, check_topics, complete
from saga_tracker.store.consumed_offsets import StoredOffset

TOPIC = "payment.events"
STORED = {(TOPIC, 0): StoredOffset(next_offset=7, topic_id="a")}


@pytest.mark.parametrize(
    "available",
    [
        Available(earliest=0, end=7, topic_id="a"),
        Available(earliest=7, end=7, topic_id="a"),
        Available(earliest=0, end=9_000, topic_id=None),
    ],
)
def test_an_offset_between_the_earliest_and_the_end_is_continued(available: Available) -> None:
    check(STORED, {(TOPIC, 0): available, (TOPIC, 1): Available(earliest=3, end=4)})


def test_a_topic_whose_id_was_never_stored_is_continued() -> None:
    check({(TOPIC, 0): StoredOffset(next_offset=7)}, {(TOPIC, 0): Available(earliest=0, end=7, topic_id="b")})


@pytest.mark.parametrize(
    ("available", "reason"),
    [
        (
            Available(earliest=0, end=6, topic_id="a"),
            r"payment\.events\[0\] ends at 6 in Kafka and is recorded up to 7",
        ),
        (Available(earliest=0, end=0), "Kafka has lost messages, or the topic was made anew"),
        (Available(earliest=8, end=9, topic_id="a"), "begins at 8 in Kafka and is recorded up to 7"),
        (Available(earliest=0, end=9, topic_id="b"), "not the topic that was recorded: its id is b, that one's was a"),
    ],
)
def test_an_offset_that_kafka_does_not_have_is_refused_with_the_way_on(available: Available, reason: str) -> None:
    with pytest.raises(OffsetsInvalid, match=reason) as refusal:
        check(STORED, {(TOPIC, 0): available})
    assert "docs/operations.md" in str(refusal.value)


def test_a_topic_made_anew_is_named_once_and_of_many_partitions_only_some_are() -> None:
    stored = {(TOPIC, number): StoredOffset(next_offset=7, topic_id="a") for number in range(20)}
    with pytest.raises(OffsetsInvalid) as refusal:
        check(stored, {each: Available(earliest=0, end=9, topic_id="b") for each in stored})
    assert str(refusal.value).count(TOPIC) == 1
    with pytest.raises(OffsetsInvalid, match=f"And {20 - SHOWN_MAX} more") as refusal:
        check(stored, {each: Available(earliest=0, end=1, topic_id="a") for each in stored})
    assert str(refusal.value).count(TOPIC) == SHOWN_MAX


def test_a_topic_of_which_nothing_is_assigned_stops_a_worker_that_has_partitions() -> None:
    with pytest.raises(OffsetsInvalid, match=r"did not have ledger\.events, loyalty\.events when"):
        check_topics({(TOPIC, 0), (TOPIC, 1)}, {TOPIC, "ledger.events", "loyalty.events"})
    check_topics({(TOPIC, 0), ("ledger.events", 1)}, {TOPIC, "ledger.events"})
    check_topics(set(), {TOPIC, "ledger.events"})


def test_a_worker_acts_on_a_number_only_if_every_topic_is_assigned_with_it() -> None:
    both = {(TOPIC, 1), ("ledger.events", 1)}
    assert complete({*both, (TOPIC, 2), ("ledger.events", 3)}, {TOPIC, "ledger.events"}) == both
