"""Movements of a balance that people keep by hand: units of stock, points on an account. Pure.

A balance changes in two ways: by orders, which reserve and release, and by movements, which people enter. A movement
says by how much, never to what, so that it holds whatever orders have done meanwhile; and it says who and why.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class MovementKind(enum.StrEnum):
    """Why a balance moved."""

    OPENED = "OPENED"
    """The first movement of every balance."""
    RECEIVED = "RECEIVED"
    GRANTED = "GRANTED"
    COUNTED = "COUNTED"
    """The difference between what was counted and what was expected when the count began."""
    CORRECTED = "CORRECTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """One movement. ``units`` are added to the balance; negative ones are taken out."""

    kind: MovementKind
    units: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """One balance: the sum of its movements, what no order holds of it, and the units that it was opened with."""

    entered: int
    free: int
    opened: int

    @property
    def version(self) -> str:
        """The version for a condition. Equal versions are equal balances, whatever came and went between them."""
        return f"{self.entered}-{self.free}"


def overdrawn(movements: Mapping[str, Movement], balances: Mapping[str, Balance]) -> dict[str, Balance]:
    """Return the balances that would become negative: a movement takes out what orders hold, or what was never in."""
    return {item: balances[item] for item, movement in movements.items() if balances[item].free + movement.units < 0}
