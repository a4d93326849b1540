"""How long a loop gathers before its next batch: not at all when it is idle, longer the longer batches take.

A batch costs much the same whether it holds one message or ten, and whoever handles each message as it comes keeps the
processors busy with that alone. A batch that takes long says that they are busy; gathering for some multiple of what
the last one took leaves them to others, and lets the next one be worth it.
"""

from __future__ import annotations

GATHER_FACTOR = 4.0
"""A loop is in its batches for a quarter of the time at most, as long as a batch does not take all that waits."""
GATHER_MAX_S = 0.025
"""Each hop of a saga waits up to that long; at full load, batches of a second's hundreds gain nothing from more."""


class Pace:
    """When the next batch may begin, by monotonic times in seconds."""

    def __init__(self) -> None:
        self._began_s = self._took_s = 0.0

    def rest_s(self, now_s: float) -> float:
        """Return how long to gather from now on; 0 where the last batch was long ago."""
        return min(GATHER_MAX_S, max(0.0, self._began_s + GATHER_FACTOR * self._took_s - now_s))

    def took(self, began_s: float, ended_s: float) -> None:
        """Take note of a batch."""
        self._began_s, self._took_s = began_s, ended_s - began_s
