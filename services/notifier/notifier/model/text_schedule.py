"""When a text that was not sent is sent again: five attempts in all, and no further one. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

PAUSES: Final = (timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=10), timedelta(hours=1))
"""After the first attempt, the second one and so on. A text that is later than that says nothing new."""
ATTEMPTS_MAX: Final = len(PAUSES) + 1


def pause_after(attempts: int) -> timedelta | None:
    """Return how long to wait after this many attempts that failed; None where no further one is made."""
    return PAUSES[attempts - 1] if attempts < ATTEMPTS_MAX else None
