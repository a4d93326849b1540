"""What mobile-money is about: lanes, float, and what is decided about waves and days. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Lane(enum.StrEnum):
    """The lanes of one short code."""

    MEMBERS = "MEMBERS"
    BULK = "BULK"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneId:
    """One lane of one short code."""

    short_code: str
    name: Lane

    def __str__(self) -> str:
        return f"{self.short_code}:{self.name}"


@dataclass(slots=True)
class Float:
    """The float of one short code as a batch changes it. ``utility_minor`` is None where it is not known."""

    utility_minor: int | None
    reserved_minor: int
    members_reserve_minor: int = 0

    @property
    def free_minor(self) -> int | None:
        """What is not reserved; None where the balance is not known."""
        return None if self.utility_minor is None else self.utility_minor - self.reserved_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is decided about a wave; without a reason it may begin."""

    reason: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is decided about a day. ``reason`` is None where it is closed."""

    saga_id: str
    reason: str | None
    difference_minor: int

    @property
    def state(self) -> str:
        """CLOSED or OPEN."""
        return "CLOSED" if self.reason is None else "OPEN"
