"""How long a loop gathers before its next batch: not at all when it is idle, longer the longer batches take.

A batch costs much the same whether it holds one message or ten, so handling each message as it comes would keep the
processors busy with that alone. A batch that takes long shows that they are busy. Gathering for a multiple of its
duration leaves them to other processes, and fills the next batch.
"""

from __future__ import annotations

GATHER_FACTOR = 1.5
"""A loop rests half as long as its last batch took. Messages come in the groups in which sagas began, so a longer rest
adds few to a batch. And it would make a process with two steps wait twice as long: the trigger of one step, or the
result of its call, comes while the loop rests after the other step's batch.
"""
GATHER_MAX_S = 0.008
"""Each of a saga's nine hops may wait that long. Sagas are gathered once, where they begin (``gathering.py``)."""


class Pace:
    """Decides when the next batch may begin, by monotonic times in seconds."""

    def __init__(self) -> None:
        self._began_s = self._took_s = 0.0

    def rest_s(self, now_s: float) -> float:
        """Return how long to gather from now on; 0 where the last batch was long ago."""
        return min(GATHER_MAX_S, max(0.0, self._began_s + GATHER_FACTOR * self._took_s - now_s))

    def took(self, began_s: float, ended_s: float) -> None:
        """Take note of a batch."""
        self._began_s, self._took_s = began_s, ended_s - began_s
