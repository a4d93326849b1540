"""How long a loop gathers before its next batch: not at all when it is idle, longer the longer batches take.

A batch costs much the same whether it holds one message or ten, so handling each message as it comes would keep the
processors busy with that alone. A batch that takes long shows that they are busy. Gathering for a multiple of its
duration leaves them to other processes, and fills the next batch.
"""

from __future__ import annotations

GATHER_FACTOR = 4.0
"""A loop spends at most a quarter of its time in batches, unless a batch cannot take everything that waits."""
GATHER_MAX_S = 0.025
"""Each hop of a saga may wait that long. At full load a batch has hundreds of messages and gains nothing from more."""


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
