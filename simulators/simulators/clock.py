"""A clock that a test moves ahead, so that days pass at once. A simulator that is started again goes on with it."""

from __future__ import annotations

from collections.abc import Callable

from simulators.gateway_records import GatewayRecords


class MovedClock:
    """The real time and what it was moved by. All threads of a process share one."""

    def __init__(self, records: GatewayRecords, real: Callable[[], float]) -> None:
        self._real = real
        self._offset_s = records.offset_s()

    def now(self) -> float:
        """Return the gateway's Unix time."""
        return self._real() + self._offset_s

    def real(self) -> float:
        """Return the real Unix time: signatures and limits follow it."""
        return self._real()

    def advance(self, records: GatewayRecords, seconds: float) -> float:
        """Move the clock ahead, and return the new time."""
        self._offset_s += seconds
        with records.transaction():
            records.set_offset_s(self._offset_s)
        return self.now()
