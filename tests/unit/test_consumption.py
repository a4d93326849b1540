"""Since when a service could have had a message: never earlier than is certain, whatever was away meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from saga_tracker.model.consumption import (
    OBSERVE_EVERY,
    ConsumptionHistory,
    ServiceObservation,
    TopicPartition,
    judge_again_at,
)

START = datetime(2026, 11, 28, 12, tzinfo=UTC)
TRIGGERS, OTHERS = ("loyalty.events", 0), ("loyalty.events", 1)
EVERY_S = OBSERVE_EVERY.total_seconds()
TIMEOUT_S = 20.0


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@dataclass(kw_only=True)
class Observed:
    """A history that is observed every two seconds, of one service with one process."""

    history: ConsumptionHistory = field(default_factory=lambda: ConsumptionHistory(kept_s=TIMEOUT_S))
    clock_s: float = 0.0
    elapsed_s: float = 0.0

    def sees(
        self,
        committed: int,
        *members: str,
        others: int = 0,
        recorded: Mapping[TopicPartition, int] | None = None,
        passed_s: float = EVERY_S,
    ) -> None:
        """Observe the service after some seconds; without members it is away."""
        self.elapsed_s += passed_s
        self.clock_s += passed_s
        seen = ServiceObservation(members=frozenset(members), committed={TRIGGERS: committed, OTHERS: others})
        self.observes({"shipping": seen}, recorded)

    def observes(
        self, seen: Mapping[str, ServiceObservation], recorded: Mapping[TopicPartition, int] | None = None
    ) -> None:
        self.history.observe(seen, recorded or {}, at=at(self.clock_s), elapsed_s=self.elapsed_s)

    def had_since(self, offset: int, topic_partition: TopicPartition = TRIGGERS) -> float | None:
        found = self.history.had_since("shipping", topic_partition, offset)
        return None if found is None else (found - START).total_seconds()


def test_a_message_counts_from_the_observation_that_shows_its_offset_as_consumed() -> None:
    seen = Observed()
    seen.sees(5, "a")
    assert (seen.had_since(4), seen.had_since(5)) == (2, None)
    seen.sees(6, "a")
    seen.sees(9, "a")
    assert [seen.had_since(offset) for offset in (4, 5, 6, 8, 9)] == [2, 4, 6, 6, None]


def test_nothing_is_certain_of_a_service_or_a_partition_that_was_never_observed() -> None:
    seen = Observed()
    assert seen.had_since(0) is None
    seen.sees(5, "a")
    assert seen.history.had_since("ledger", TRIGGERS, 0) is None
    assert seen.had_since(0, ("loyalty.events", 7)) is None


def test_while_no_process_runs_nothing_counts_and_afterwards_it_counts_from_the_first_observation() -> None:
    seen = Observed()
    seen.sees(5, "a")
    seen.sees(5)
    assert seen.had_since(4) is None
    seen.sees(5, "b")
    assert seen.had_since(4) == 6


def test_a_process_that_was_replaced_begins_anew_even_if_its_group_was_never_empty() -> None:
    seen = Observed()
    seen.sees(5, "a")
    seen.sees(5, "a", "b")
    assert seen.had_since(4) == 2, "one of its processes was there all the time"
    seen.sees(5, "b")
    assert seen.had_since(4) == 4


def test_what_kafka_does_not_answer_begins_anew() -> None:
    seen = Observed()
    seen.sees(5, "a")
    seen.observes({})
    assert seen.had_since(4) is None
    seen.sees(5, "a")
    assert seen.had_since(4) == 4


@pytest.mark.parametrize(("clock_s", "elapsed_s"), [(30, 30), (180, 2), (-180, 2), (2, 30)])
def test_an_interruption_of_the_tracker_or_of_its_clock_begins_everything_anew(
    clock_s: float, elapsed_s: float
) -> None:
    seen = Observed()
    seen.sees(5, "a")
    seen.clock_s += clock_s - EVERY_S
    seen.elapsed_s += elapsed_s - EVERY_S
    seen.sees(5, "a")
    assert seen.had_since(4) == 2 + clock_s


def test_a_partition_in_which_messages_wait_and_nothing_moves_begins_anew() -> None:
    seen = Observed()
    ends = {TRIGGERS: 8, OTHERS: 0}
    seen.sees(5, "a", recorded=ends)
    seen.sees(5, "a", recorded=ends)
    seen.sees(5, "a", recorded=ends)
    assert seen.had_since(4) == 6, "messages waited for four seconds"
    seen.sees(8, "a", others=1, recorded=ends)
    assert (seen.had_since(4), seen.had_since(7)) == (6, 8)
    assert seen.had_since(0, OTHERS) == 8, "nothing waited in the other partition"


def test_a_backlog_that_moves_counts_for_what_is_consumed() -> None:
    seen = Observed()
    for committed in range(20):
        seen.sees(committed, "a", recorded={TRIGGERS: 100})
    assert [seen.had_since(offset) for offset in (9, 18, 19)] == [22, 40, None]


def test_offsets_that_go_back_make_what_is_behind_them_unconsumed_again() -> None:
    seen = Observed()
    seen.sees(9, "a")
    seen.sees(5, "a")
    assert (seen.had_since(8), seen.had_since(4)) == (None, 4)


def test_old_offsets_are_forgotten_and_what_lies_before_them_was_consumed_long_ago() -> None:
    seen = Observed()
    for committed in range(100):
        seen.sees(committed, "a")
    kept = seen.had_since(0)
    assert kept is not None
    assert kept <= seen.clock_s - TIMEOUT_S


def test_a_step_whose_service_has_not_had_the_trigger_is_judged_again_a_timeout_later() -> None:
    assert judge_again_at(None, timeout_s=20, recorded_until=at(600), now=at(600)) == at(620)


def test_a_step_gets_its_whole_timeout_from_then_on_and_no_more() -> None:
    assert judge_again_at(at(590), timeout_s=20, recorded_until=at(600), now=at(600)) == at(610)
    assert judge_again_at(at(590), timeout_s=20, recorded_until=at(610), now=at(611)) is None


def test_a_step_is_not_over_before_every_answer_of_its_time_is_recorded() -> None:
    assert judge_again_at(at(590), timeout_s=20, recorded_until=at(609), now=at(700)) == at(610)
