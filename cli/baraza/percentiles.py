"""Percentiles as every report of the command line computes them. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def percentile(ascending: Sequence[float], share: float) -> float | None:
    """Return the value that ``share`` of the values do not exceed; None where there are none."""
    if not ascending:
        return None
    return round(ascending[min(len(ascending) - 1, int(share * len(ascending)))], 1)
