"""When a step whose outcome comes later is queried next. Pure. Its times only lead to queries; they settle nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

MINUTE_S, HOUR_S = 60, 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """The waits between two queries; the last of them repeats. After ``ends_after_s`` a person is called.

    Evidence that comes after its end still settles the step.
    """

    waits_s: tuple[float, ...] = (
        *(30, 60, MINUTE_S, 2 * MINUTE_S, 5 * MINUTE_S, 15 * MINUTE_S),
        *(HOUR_S, 3 * HOUR_S, 6 * HOUR_S, 12 * HOUR_S, 24 * HOUR_S),
    )
    ends_after_s: float = 7 * 24 * HOUR_S

    def __post_init__(self) -> None:
        if not self.waits_s or min(self.waits_s) <= 0 or self.ends_after_s <= 0:
            raise ValueError(f"The waits are {self.waits_s}, the end is {self.ends_after_s} s; each must be above 0.")

    def next_at(self, queries: int, *, began_at: datetime, now: datetime) -> datetime | None:
        """Return when the next query is due after so many; None once the ladder has ended."""
        due_at = now + timedelta(seconds=self.waits_s[min(queries, len(self.waits_s) - 1)])
        return due_at if due_at <= began_at + timedelta(seconds=self.ends_after_s) else None
