"""The progress of a start or a stop, for a watcher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """``component`` does ``what`` (``downloading``, ``starting``, ``ready``, …); ``done`` of ``total`` are bytes."""

    component: str
    what: str
    done: int = 0
    total: int = 0


Watcher = Callable[[Progress], None]
"""May be called from several threads at once."""


def silent(_progress: Progress) -> None:
    """Ignore all progress."""
