"""Ids of new sagas, chosen so that sagas that begin together share a partition, and so travel together.

A saga's messages bear its id as their key, and Kafka's clients choose the partition by a hash of the key. librdkafka's
producer sends a request for each partition: five sagas on one partition leave a service in one request, on five in
five. Kafka's own producers do this for records without a key (KIP-480, the sticky partitioner); here the key is ours
to choose, and nobody else needs to know: a saga whose id was chosen otherwise only travels alone.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from chassis.wire.envelope import PAIRS, new_id

SIZE_MAX = 25
"""A cohort is handled by one process of each service, so that a large commit is still shared among several."""
LASTS_S = 0.02
"""Sagas that begin further apart are in different batches anyway."""

_TAILS = tuple((pair, int.from_bytes(pair.encode(), "little")) for pair in PAIRS)
_TAIL_LENGTH = 2
_ID_LENGTH = 26
_SEED, _FACTOR, _MASK = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF
_BLOCK = 4


class Cohorts:
    """Gives new sagas their ids. ``partition_count`` says how many partitions there are, as far as anybody knows.

    Where it says too few, the ids are spread as if they had been drawn, and whoever counts finds the others.
    """

    def __init__(self, partition_count: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._partition_count = partition_count
        self._clock = clock
        self._using = threading.Lock()
        self._partition = self._size = 0
        self._until_s = 0.0

    def new_id(self) -> str:
        """Return a fresh ULID on the partition of the cohort that is forming now."""
        count = self._partition_count()
        if count < 2:
            return new_id()
        with self._using:
            now_s = self._clock()
            if self._size >= SIZE_MAX or now_s >= self._until_s:
                self._partition, self._size, self._until_s = self._partition + 1, 0, now_s + LASTS_S
            self._size += 1
            partition = self._partition % count
        return id_on(partition, count)


def id_on(partition: int, count: int) -> str:
    """Return a fresh ULID whose partition this is of so many. All but its last two letters are drawn freely.

    Where none of the 1,024 endings leads there, which takes hundreds of partitions, it is the id of another.
    """
    head = new_id()[:-_TAIL_LENGTH]
    mixed = _mixed(head.encode(), _SEED ^ _ID_LENGTH)
    first = random.randrange(len(_TAILS))
    for place in range(first, first + len(_TAILS)):
        tail, value = _TAILS[place % len(_TAILS)]
        if _finished(mixed ^ value) % count == partition:
            break
    return head + tail


def _mixed(blocks: bytes, state: int) -> int:
    """Take in whole blocks as MurmurHash2 does, which Java's ``Utils.murmur2`` and librdkafka's partitioner are."""
    for place in range(0, len(blocks), _BLOCK):
        part = int.from_bytes(blocks[place : place + _BLOCK], "little") * _FACTOR & _MASK
        part = (part ^ part >> 24) * _FACTOR & _MASK
        state = state * _FACTOR & _MASK ^ part
    return state


def _finished(state: int) -> int:
    """Return the hash, without its sign bit, as the partitioners use it."""
    state = state * _FACTOR & _MASK
    state = (state ^ state >> 13) * _FACTOR & _MASK
    return (state ^ state >> 15) & 0x7FFFFFFF
