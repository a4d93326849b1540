"""Waiting in tests: for a described condition, with a deadline, and an answer to "what did it see last?"."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

POLL_S = 0.05
Seen = TypeVar("Seen")


def until(
    look: Callable[[], Seen], what: str, *, holds: Callable[[Seen], object] = bool, within_s: float = 60.0
) -> Seen:
    """Look again and again until what was seen ``holds``, and return it; fail with what was seen last."""
    give_up_at = time.monotonic() + within_s
    while not holds(seen := look()):
        if time.monotonic() > give_up_at:
            pytest.fail(f"Not within {within_s:g} s: {what}. Last seen: {seen!r}")
        threading.Event().wait(POLL_S)
    return seen
