"""How many calls may be begun now, so that slow endpoints never hold up the others.

A call is quick until it has lasted longer than ``SLOW_S``. An endpoint is slow as long as its last call was. Slow ones
share calls of their own, one for each endpoint; the quick ones have theirs whatever the slow ones do.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

SLOW_S: Final = 2.0
QUICK_MAX: Final = 32
"""Calls that are quick so far."""
SLOW_MAX: Final = 32
"""Calls to endpoints that are known to be slow."""
CALLS_MAX: Final = 256
"""All calls of a process. Only endpoints that are slow for the first time can bring it beyond the two above."""
ENDPOINT_MAX: Final = 4
"""Calls of a process to one endpoint."""
KNOWN_SLOW_MAX: Final = 5_000
"""Endpoints that are remembered as slow; beyond it the one that was slow longest ago counts as quick again."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many calls may be begun to quick endpoints and to slow ones, and to which endpoints how many fewer.

    ``busy`` has the calls under way of each endpoint, ``slow`` the endpoints that are slow.
    """

    quick: int
    slow_calls: int
    busy: Mapping[str, int]
    slow: frozenset[str]

    def limit_of(self, endpoint_id: str) -> int:
        """Return how many further calls an endpoint may have."""
        most = 1 if endpoint_id in self.slow else ENDPOINT_MAX
        return max(0, most - self.busy.get(endpoint_id, 0))


@dataclass(slots=True)
class Capacity:
    """The calls under way in one process, by delivery: the endpoint, and when the call began."""

    _calls: dict[str, tuple[str, float]] = field(default_factory=dict)
    _slow: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def begin(self, delivery_id: str, endpoint_id: str, now_s: float) -> None:
        """Count a call from now on."""
        self._calls[delivery_id] = endpoint_id, now_s

    def end(self, delivery_id: str, now_s: float, *, is_overloaded: bool = False) -> None:
        """Count a call no longer, and note whether its endpoint is slow, or has too much to do."""
        endpoint_id, began_s = self._calls.pop(delivery_id)
        self._slow.pop(endpoint_id, None)
        if is_overloaded or now_s - began_s > SLOW_S:
            self._slow[endpoint_id] = None
            if len(self._slow) > KNOWN_SLOW_MAX:
                self._slow.popitem(last=False)

    def __len__(self) -> int:
        """Return how many calls are under way."""
        return len(self._calls)

    def room(self, now_s: float) -> Room:
        """Return what may be begun now."""
        lasting = {endpoint for endpoint, began_s in self._calls.values() if now_s - began_s > SLOW_S}
        slow = frozenset(lasting | self._slow.keys())
        slow_calls = sum(endpoint in slow for endpoint, _ in self._calls.values())
        free = CALLS_MAX - len(self._calls)
        return Room(
            quick=max(0, min(QUICK_MAX - (len(self._calls) - slow_calls), free)),
            slow_calls=max(0, min(SLOW_MAX - slow_calls, free)),
            busy=Counter(endpoint for endpoint, _ in self._calls.values()),
            slow=slow,
        )
