"""What the tracker requests of Kafka: dead letters rarely, and each answer's end once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from saga_tracker.ingest.fetches import DEAD_LETTERS_EVERY_S, PartitionEnds, RareTopics

EVENTS = ("payment.events", [(0, 5, 100)])
DEAD = ("payment.dlq", [(0, 0, 100)])


def test_dead_letters_are_left_out_until_they_are_due() -> None:
    rare = RareTopics()
    assert rare.requested([EVENTS, DEAD], 10.0) == [EVENTS, DEAD]
    assert rare.requested([DEAD, EVENTS], 10.0 + DEAD_LETTERS_EVERY_S * 0.9) == [EVENTS]
    assert rare.requested([DEAD, EVENTS], 10.0 + DEAD_LETTERS_EVERY_S * 1.1) == [DEAD, EVENTS]


def test_a_request_is_never_empty() -> None:
    rare = RareTopics()
    assert [rare.requested([DEAD], now_s) for now_s in (10.0, 10.01)] == [[DEAD], [DEAD]]


@dataclass
class State:
    timestamp: int | None
    highwater: int | None


def test_an_end_is_known_once_kafka_has_answered_and_as_of_its_last_answer() -> None:
    ends, states = PartitionEnds(), {("a", 0): State(None, None), ("a", 1): State(1_000, 7)}
    assigned = [("a", 0), ("a", 1), ("gone", 0)]
    (found,) = ends.read(states, assigned).items()
    assert (found[0], found[1].offset, found[1].answered_at) == (("a", 1), 7, datetime.fromtimestamp(1, UTC))
    for changed in (State(2_000, 7), State(2_000, 8)):
        states["a", 1] = changed
        end = ends.read(states, assigned)["a", 1]
        assert (end.answered_at.timestamp() * 1_000, end.offset) == pytest.approx((2_000, changed.highwater))
