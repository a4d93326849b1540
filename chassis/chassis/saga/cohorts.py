"""Ids of new sagas, chosen so that sagas that begin together share a partition, and so travel together.

The key of a saga's messages is its id, and Kafka's clients choose the partition by a hash of the key. librdkafka's
producer sends one request for each partition: five sagas on one partition need one request, on five partitions five.
Kafka's own producers do this for records without a key (KIP-480, the sticky partitioner). Here we choose the key, and
nothing depends on it: a saga whose id was chosen otherwise only travels alone.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from chassis.wire.envelope import PAIRS, new_id

SIZE_MAX = 25
"""One process of each service handles a cohort; the limit spreads a large commit over several processes."""
_TAILS = tuple((pair, int.from_bytes(pair.encode(), "little")) for pair in PAIRS)
_TAIL_LENGTH = 2
_ID_LENGTH = 26
_SEED, _FACTOR, _MASK = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF
_BLOCK = 4


class Cohorts:
    """Chooses the ids of new sagas. ``partition_count`` returns the number of partitions, as far as it is known.

    While the number is too low, the ids spread as random ones do, so that acknowledgements show the other partitions.
    A cohort lasts as long as the window in which its sagas are gathered for publishing; ``window`` returns its number.
    """

    def __init__(self, partition_count: Callable[[], int], window: Callable[[], int]) -> None:
        self._partition_count = partition_count
        self._window = window
        self._using = threading.Lock()
        self._partition = self._size = self._latest_window = 0

    def new_id(self) -> str:
        """Return a new ULID on the partition of the present cohort."""
        count = self._partition_count()
        if count < 2:
            return new_id()
        with self._using:
            window = self._window()
            if self._size >= SIZE_MAX or window != self._latest_window:
                self._partition, self._size, self._latest_window = self._partition + 1, 0, window
            self._size += 1
            partition = self._partition % count
        return id_on(partition, count)


def id_on(partition: int, count: int) -> str:
    """Return a new ULID on this partition of ``count``. All but its last two letters are random.

    Where none of the 1,024 endings leads to it, as with hundreds of partitions, the id is on another partition.
    """
    head = new_id()[:-_TAIL_LENGTH]
    mixed = _mixed(head.encode(), _SEED ^ _ID_LENGTH)
    first = random.randrange(len(_TAILS))
    for index in range(first, first + len(_TAILS)):
        tail, value = _TAILS[index % len(_TAILS)]
        if _finished(mixed ^ value) % count == partition:
            break
    return head + tail


def _mixed(blocks: bytes, state: int) -> int:
    """Mix whole blocks as MurmurHash2 does, which Java's ``Utils.murmur2`` and librdkafka's partitioner use."""
    for start in range(0, len(blocks), _BLOCK):
        part = int.from_bytes(blocks[start : start + _BLOCK], "little") * _FACTOR & _MASK
        part = (part ^ part >> 24) * _FACTOR & _MASK
        state = state * _FACTOR & _MASK ^ part
    return state


def _finished(state: int) -> int:
    """Return the hash, without its sign bit, as the partitioners use it."""
    state = state * _FACTOR & _MASK
    state = (state ^ state >> 13) * _FACTOR & _MASK
    return (state ^ state >> 15) & 0x7FFFFFFF
