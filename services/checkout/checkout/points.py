"""What loyalty points pay, by currency. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsRate:
    """What loyalty points pay in a currency: ``points`` of them pay ``minor`` minor units."""

    points: int
    minor: int

    def paid_minor(self, points: int) -> int:
        """Return what these points pay, in minor units."""
        return points // self.points * self.minor


ONE_CENT: Final[Mapping[str, PointsRate]] = {"USD": PointsRate(points=1, minor=1)}
"""The rates by currency where no others are set. In a currency without a rate points pay nothing and are refused."""


def flaw_of(points: int, currency: str, rate: PointsRate | None) -> str | None:
    """Return why these points cannot pay, or None. That there are fewer than none is another rule's."""
    if points <= 0 or (rate is not None and points % rate.points == 0):
        return None
    if rate is None:
        return f"The loyalty programme has no rate for {currency}, so points pay nothing in it; send 0."
    return f"{points} points; {rate.points} of them pay together in {currency}, so send a multiple of that."
