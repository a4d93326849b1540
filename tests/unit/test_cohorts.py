"""Ids of new sagas: on the chosen partition, by the hash that Kafka's clients use, and alternating."""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest
from aiokafka.partitioner import murmur2  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from chassis.saga.cohorts import SIZE_MAX, Cohorts, id_on
from chassis.wire.envelope import ID

PARTITIONS = 6


def partition_of(saga_id: str, partitions: int = PARTITIONS) -> int:
    """Return the partition that another client's own partitioner chooses for the key."""
    found: int = (murmur2(saga_id.encode()) & 0x7FFFFFFF) % partitions
    return found


@given(partitions=st.integers(1, 24), number=st.integers(0, 1_000))
def test_an_id_is_on_the_chosen_partition(partitions: int, number: int) -> None:
    saga_id = id_on(number % partitions, partitions)
    assert partition_of(saga_id, partitions) == number % partitions
    assert ID.fullmatch(saga_id)
    assert len(saga_id) == 26


def test_ids_of_one_partition_are_all_different() -> None:
    assert len({id_on(0, PARTITIONS) for _ in range(5_000)}) == 5_000


def test_where_no_ending_leads_to_the_partition_there_is_an_id_all_the_same() -> None:
    assert all(ID.fullmatch(id_on(0, 1_000_003)) for _ in range(10))


def test_sagas_that_begin_together_share_a_partition() -> None:
    cohorts = Cohorts(lambda: PARTITIONS, window=lambda: 5)
    first = [partition_of(cohorts.new_id()) for _ in range(SIZE_MAX)]
    assert len(set(first)) == 1
    assert partition_of(cohorts.new_id()) not in first, "a large commit is shared among several"


def test_sagas_that_begin_apart_alternate_between_the_partitions() -> None:
    windows = count(1)
    cohorts = Cohorts(lambda: PARTITIONS, window=lambda: next(windows))
    assert Counter(partition_of(cohorts.new_id()) for _ in range(10 * PARTITIONS)) == dict.fromkeys(range(6), 10)


@pytest.mark.parametrize("known", [0, 1, 2, 3, 5])
def test_a_count_that_is_too_low_is_corrected(known: int) -> None:
    """Ids that are chosen for fewer partitions reach the unknown ones too, and the acknowledgements show those."""
    cohorts = Cohorts(lambda: known, window=lambda: 1)
    assert max(partition_of(cohorts.new_id()) for _ in range(3_000)) == PARTITIONS - 1
