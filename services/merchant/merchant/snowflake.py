"""Ids of payments and refunds: 63-bit Snowflakes, unique without a round trip. Pure: time and limits are arguments.

From the highest bit: 41 bits of milliseconds since our epoch, 10 bits of the worker's slot, 12 bits of sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The time of millisecond 0. It must never change: the ids of 69 years count from it."""
MS_BITS, SLOT_BITS, SEQUENCE_BITS = 41, 10, 12
MS_MAX: Final = 2**MS_BITS - 1
SLOTS: Final = 2**SLOT_BITS
SEQUENCES: Final = 2**SEQUENCE_BITS
ID_MAX: Final = 2**63 - 1


class BeyondBound(Exception):
    """No id is left up to the bound of the lease; renew the lease, which moves the bound."""


class TimeOutOfRange(Exception):
    """The clock shows a time that no id can hold. Check the clock: ids last from 2026 to 2095."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdFields:
    """What an id is made of. ``ms`` counts from the epoch."""

    ms: int
    slot: int
    sequence: int

    @property
    def at(self) -> datetime:
        """The time that the id names."""
        return EPOCH + timedelta(milliseconds=self.ms)


def compose(fields: IdFields) -> int:
    """Return the id of these fields. Raises TimeOutOfRange."""
    if not 0 <= fields.ms <= MS_MAX:
        raise TimeOutOfRange(f"Millisecond {fields.ms} since {EPOCH:%Y-%m-%d} fits into no id; check the clock.")
    return fields.ms << (SLOT_BITS + SEQUENCE_BITS) | fields.slot << SEQUENCE_BITS | fields.sequence


def decompose(snowflake: int) -> IdFields:
    """Return the fields of an id."""
    return IdFields(
        ms=snowflake >> (SLOT_BITS + SEQUENCE_BITS),
        slot=snowflake >> SEQUENCE_BITS & (SLOTS - 1),
        sequence=snowflake & (SEQUENCES - 1),
    )


def ms_of(at_s: float) -> int:
    """Return the milliseconds since our epoch of a Unix time in seconds."""
    return int(at_s * 1000) - int(EPOCH.timestamp() * 1000)


@dataclass(slots=True, kw_only=True)
class Sequencer:
    """Numbers the ids of one lease of a slot. It uses milliseconds after ``used_ms`` and up to ``bound_ms`` alone.

    Another lease of the same slot begins after that bound. So no clock, however it moves, leads to an id twice.
    """

    slot: int
    used_ms: int
    bound_ms: int
    sequence: int = SEQUENCES - 1
    """The last sequence of ``used_ms``. An earlier lease may have used all of that millisecond."""

    def next(self, now_ms: int) -> int:
        """Return a new id; ``now_ms`` is the clock. Raises BeyondBound where the lease has none left."""
        if now_ms > self.used_ms:
            ms, sequence = now_ms, 0
        elif self.sequence + 1 < SEQUENCES:
            ms, sequence = self.used_ms, self.sequence + 1
        else:  # the millisecond is full, or the clock went back
            ms, sequence = self.used_ms + 1, 0
        if ms > self.bound_ms:
            raise BeyondBound(f"Millisecond {ms} is beyond the bound {self.bound_ms} of the lease of slot {self.slot}.")
        found = compose(IdFields(ms=ms, slot=self.slot, sequence=sequence))
        self.used_ms, self.sequence = ms, sequence
        return found
