"""Leases a worker slot in PostgreSQL, and issues ids while the lease is certain. It must never issue beyond a lease.

Two rules keep ids unique, and either alone would do for a well-behaved clock:

1. A lease has a bound of milliseconds, stored before its first id. The next lease of the slot begins after it.
2. The age of a lease is measured by a clock that no one sets. A process that was paused for longer issues nothing.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, Engine, text

from merchant.snowflake import BeyondBound, Sequencer, ms_of

LEASE_S: Final = 30.0
"""A slot of a killed process is free after this long."""
MARGIN_S: Final = 5.0
"""A lease counts as over this long before it is: the statement that gave it took time as well."""
RENEW_AFTER_S: Final = 10.0
ATTEMPTS_MAX: Final = 3

LEASE = text("""
    UPDATE worker_slots
    SET holder = :holder, leased_until = now() + CAST(:lease AS interval), last_ms = greatest(last_ms, :now_ms) + :span
    WHERE slot = (
        SELECT slot FROM worker_slots WHERE leased_until <= now() ORDER BY leased_until, slot
        LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING slot, last_ms
""")
RENEW = text("""
    UPDATE worker_slots
    SET leased_until = now() + CAST(:lease AS interval), last_ms = greatest(last_ms, :now_ms + :span)
    WHERE slot = :slot AND holder = :holder AND leased_until > now()
    RETURNING slot, last_ms
""")
RELEASE = text("""
    UPDATE worker_slots SET holder = NULL, leased_until = now(), last_ms = :used_ms
    WHERE slot = :slot AND holder = :holder AND last_ms >= :used_ms
""")


class NoFreeSlot(Exception):
    """Every worker slot is leased, so no id can be issued. Stop processes that are not needed."""

    def __init__(self) -> None:
        super().__init__(
            "All 1,024 worker slots are leased, so no payment id can be issued. Stop processes of this service that "
            f"are not needed; the slot of a killed one is free after {LEASE_S:.0f} s."
        )


def boot_clock() -> float:
    """Return seconds that no one sets and that also pass while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True, kw_only=True)
class _Lease:
    sequencer: Sequencer
    holder: str
    leased_at_s: float


class PaymentIds:
    """Issues ids of payments and refunds. Any thread may use it; it leases its slot at the first id."""

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], float] = time.time,
        age_clock: Callable[[], float] = boot_clock,
        lease_s: float = LEASE_S,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._age_clock = age_clock
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._lease: _Lease | None = None

    def next(self, count: int = 1) -> list[int]:
        """Return new ids. Raises NoFreeSlot, or what PostgreSQL raises where a lease is due and it is unavailable."""
        with self._lock:
            return [self._next() for _ in range(count)]

    def release(self) -> None:
        """Free the slot, for a process that ends."""
        with self._lock:
            lease, self._lease = self._lease, None
            if lease is not None and self._is_certain(lease):
                with self._engine.begin() as tx:
                    used = {"slot": lease.sequencer.slot, "used_ms": lease.sequencer.used_ms, "holder": lease.holder}
                    tx.execute(RELEASE, used)

    def _next(self) -> int:
        for _ in range(ATTEMPTS_MAX):
            lease = self._current()
            try:
                found = lease.sequencer.next(ms_of(self._clock()))
            except BeyondBound:  # the clock has moved beyond the lease's time
                self._renew(lease)
                continue
            if self._is_certain(lease):
                return found
        raise BeyondBound("The lease of the worker slot ends as soon as it is taken; check the machine's clock.")

    def _current(self) -> _Lease:
        """Return a lease that is certain: the present one, renewed where that is due, or a new one."""
        lease = self._lease
        if lease is not None and self._is_certain(lease):
            if self._age_clock() - lease.leased_at_s >= RENEW_AFTER_S * self._lease_s / LEASE_S:
                self._renew(lease)
            if self._lease is not None:
                return self._lease
        with self._engine.begin() as tx:
            self._lease = self._take(tx)
        return self._lease

    def _is_certain(self, lease: _Lease) -> bool:
        return self._age_clock() - lease.leased_at_s < self._lease_s * (1 - MARGIN_S / LEASE_S)

    def _values(self) -> dict[str, object]:
        return {
            "lease": timedelta(seconds=self._lease_s),
            "span": int(self._lease_s * 1000),
            "now_ms": ms_of(self._clock()),
        }

    def _take(self, tx: Connection) -> _Lease:
        leased_at_s, holder, values = self._age_clock(), secrets.token_hex(16), self._values()
        row = tx.execute(LEASE, {**values, "holder": holder}).one_or_none()
        if row is None:
            raise NoFreeSlot
        span = int(self._lease_s * 1000)
        sequencer = Sequencer(slot=row.slot, used_ms=row.last_ms - span, bound_ms=row.last_ms)
        return _Lease(sequencer=sequencer, holder=holder, leased_at_s=leased_at_s)

    def _renew(self, lease: _Lease) -> None:
        """Move the lease's end and its bound; without the lease there is none afterwards."""
        leased_at_s = self._age_clock()
        now_ms = max(ms_of(self._clock()), lease.sequencer.used_ms)
        with self._engine.begin() as tx:
            values = {**self._values(), "now_ms": now_ms, "slot": lease.sequencer.slot, "holder": lease.holder}
            row = tx.execute(RENEW, values).one_or_none()
        if row is None:
            self._lease = None
            return
        lease.leased_at_s, lease.sequencer.bound_ms = leased_at_s, row.last_ms
