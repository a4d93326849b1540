"""A wait for a described condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from stack.errors import ComponentFailed

POLL_S = 0.05
"""Short beside every start, long beside the cost of a check."""


def until(
    condition: Callable[[], bool], *, what: str, deadline_s: float, check: Callable[[], None] = lambda: None
) -> None:
    """Return when ``condition`` holds. ``check`` runs before each evaluation and may raise.

    Raises ComponentFailed after ``deadline_s`` seconds.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        check()
        if condition():
            return
        if time.monotonic() > deadline:
            raise ComponentFailed(f"Waited {deadline_s:.0f} s for {what}, in vain; read the logs and run this again.")
        time.sleep(POLL_S)
