"""A wait for a described condition in tests, with a deadline; a failure shows the last value."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

POLL_S = 0.05
Value = TypeVar("Value")


def until(
    look: Callable[[], Value], what: str, *, holds: Callable[[Value], object] = bool, within_s: float = 60.0
) -> Value:
    """Call ``look`` until its value ``holds``, and return that; after the deadline, fail with the last value."""
    deadline = time.monotonic() + within_s
    while not holds(value := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"Not within {within_s:g} s: {what}. Last value: {value!r}")
        threading.Event().wait(POLL_S)
    return value
