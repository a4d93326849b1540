"""Gathering at the beginning of sagas: what is published at once, what waits and for how long. Time is injected."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chassis.saga.cohorts import SIZE_MAX, Cohorts
from chassis.saga.gathering import LONGEST_AT_ROWS, SHORTEST, GatheringPublisher
from chassis.saga.outbox import OutboxRow
from chassis.settings import GATHER_MAX_S, Settings
from support.waiting import until

LONGEST_S = 0.04
PARTITIONS = 6


def rows(*ids: str) -> list[OutboxRow]:
    return [
        OutboxRow(id=each, topic="t", saga_id=each, type="T", payload=b"", headers=(), partition=None) for each in ids
    ]


@dataclass
class Door:
    """A publisher over a clock that the test moves, and what it published: ids by publishing, and when."""

    longest_s: float = LONGEST_S
    now_s: float = 1_000.0
    published: list[list[str]] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gathering = GatheringPublisher(self._publish, longest_s=self.longest_s, clock=lambda: self.now_s)

    def _publish(self, published: object) -> None:
        assert isinstance(published, list)
        self.published.append([row.id for row in published])
        self.times_s.append(self.now_s)

    def pass_s(self, seconds: float) -> None:
        """Let the time pass as :meth:`GatheringPublisher.run` does: what is due on the way is published when it is."""
        end_s = self.now_s + seconds
        while (due_in_s := self.gathering.publish_due()) is not None and self.now_s + due_in_s <= end_s:
            self.now_s += due_in_s
        self.now_s = end_s


def test_the_first_order_of_an_idle_checkout_waits_for_nothing() -> None:
    door = Door()
    door.gathering.publish(rows("a"))
    assert door.published == [["a"]]
    door.pass_s(5.0)
    door.gathering.publish(rows("b"))
    assert door.published == [["a"], ["b"]]


def test_what_follows_is_published_together_30_to_40_ms_after_the_last_publishing() -> None:
    door = Door()
    door.gathering.publish(rows("a"))
    for each in "bc":
        door.pass_s(0.005)
        door.gathering.publish(rows(each))
    door.pass_s(0.019)
    assert door.published == [["a"]], "29 ms after the last publishing"
    door.pass_s(0.012)
    assert door.published == [["a"], ["b", "c"]]
    assert 0.030 <= door.times_s[1] - door.times_s[0] <= 0.040


def test_the_window_grows_with_the_load() -> None:
    lengths_s = []
    for count in (1, LONGEST_AT_ROWS // 2, LONGEST_AT_ROWS, 2 * LONGEST_AT_ROWS):
        door = Door()
        door.gathering.publish(rows(*[str(number) for number in range(count)]))
        door.gathering.publish(rows("next"))
        due_in_s = door.gathering.publish_due()
        assert due_in_s is not None
        lengths_s.append(due_in_s)
    assert lengths_s == sorted(lengths_s)
    assert lengths_s[0] >= SHORTEST * LONGEST_S
    assert lengths_s[-2:] == pytest.approx([LONGEST_S, LONGEST_S])


def test_a_whole_cohort_is_published_at_once() -> None:
    door = Door()
    door.gathering.publish(rows("first"))
    many = [str(number) for number in range(SIZE_MAX)]
    door.gathering.publish(rows(*many[:-1]))
    assert len(door.published) == 1
    door.gathering.publish(rows(many[-1]))
    assert door.published[1:] == [many]


def test_without_a_window_nothing_is_held() -> None:
    door = Door(longest_s=0.0)
    for each in "abc":
        door.gathering.publish(rows(each))
    assert door.published == [["a"], ["b"], ["c"]]


def test_a_commit_without_rows_opens_no_window() -> None:
    door = Door()
    door.gathering.publish([])
    door.gathering.publish(rows("a"))
    assert door.published == [["a"]]


def test_at_the_end_what_was_gathered_is_published_and_nothing_waits_any_more() -> None:
    door = Door()
    door.gathering.publish(rows("a"))
    door.gathering.publish(rows("b"))
    door.gathering.close()
    door.gathering.publish(rows("c"))
    assert door.published == [["a"], ["b"], ["c"]]


@given(st.lists(st.tuples(st.floats(0.0, 0.1), st.integers(0, 40)), max_size=60))
def test_every_row_is_published_once_in_its_order_and_none_waits_for_longer_than_the_longest_window(
    commits: list[tuple[float, int]],
) -> None:
    door = Door()
    committed_at_s: dict[str, float] = {}
    for gap_s, count in commits:
        door.pass_s(gap_s)
        ids = [str(len(committed_at_s) + number) for number in range(count)]
        committed_at_s |= dict.fromkeys(ids, door.now_s)
        door.gathering.publish(rows(*ids))
    door.pass_s(1.0)
    assert [each for batch in door.published for each in batch] == list(committed_at_s)
    for batch, at_s in zip(door.published, door.times_s, strict=True):
        assert all(at_s - committed_at_s[each] <= LONGEST_S + 1e-9 for each in batch)


def test_a_cohort_lasts_as_long_as_the_window() -> None:
    door = Door()
    drawn: list[int] = []

    class Recorded(Cohorts):
        """Cohorts that note which cohort an id belongs to."""

        def new_id(self) -> str:
            saga_id = super().new_id()
            drawn.append(self._partition)
            return saga_id

    cohorts = Recorded(lambda: PARTITIONS, lambda: door.gathering.window)
    for _ in range(60):
        door.gathering.publish(rows(cohorts.new_id()))
        door.pass_s(1 / 225)
    by_publishing = []
    for batch in door.published:
        by_publishing.append(set(drawn[: len(batch)]))
        del drawn[: len(batch)]
    assert all(len(cohorts_of) == 1 for cohorts_of in by_publishing), "a publishing goes to one partition"
    assert len({each for cohorts_of in by_publishing for each in cohorts_of}) == len(door.published)


def test_the_thread_publishes_at_the_end_of_the_window_and_ends_when_it_is_closed() -> None:
    published: list[str] = []
    gathering = GatheringPublisher(lambda each: published.extend(row.id for row in each), longest_s=LONGEST_S)
    thread = threading.Thread(target=gathering.run)
    thread.start()
    gathering.publish(rows("a"))
    gathering.publish(rows("b"))
    assert until(lambda: published, "b is published", holds=lambda ids: ids == ["a", "b"])
    gathering.close()
    thread.join(10.0)
    assert not thread.is_alive()


def test_a_window_so_long_that_a_replica_would_publish_its_rows_is_refused() -> None:
    with pytest.raises(ValidationError, match="gather_s"):
        Settings(
            service="checkout",
            kafka="",
            registry_url="",
            database_url="",
            database_password_file=Path("password"),
            gather_s=GATHER_MAX_S + 0.01,
        )
