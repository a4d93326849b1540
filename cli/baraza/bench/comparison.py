"""Two versions side by side: the ratio of their figures, from runs that alternate. Pure.

The machine's own pace varies by a factor of two within an hour, so absolute figures of two versions cannot be compared.
Neighbouring runs can.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

SATURATED, MIDDLING, IDLE = "saturated", "225/s", "5/s"
"""The loads whose figures are compared."""
FIGURES = (
    ("p50 at 225/s, ms", MIDDLING, "p50_ms"),
    ("p99 at 225/s, ms", MIDDLING, "p99_ms"),
    ("CPU a saga at 225/s, ms", MIDDLING, "cpu_ms_per_saga"),
    ("p50 at 5/s, ms", IDLE, "p50_ms"),
    ("p99 at 5/s, ms", IDLE, "p99_ms"),
    ("CPU a saga at 5/s, ms", IDLE, "cpu_ms_per_saga"),
    ("saturated, sagas a second", SATURATED, "per_s"),
    ("CPU a saga, saturated, ms", SATURATED, "cpu_ms_per_saga"),
)
"""What is compared: its name, its load, and its member of that load's JSON."""

Figures: TypeAlias = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A figure of this version by the same figure of the other one: the median over the pairs, and its spread."""

    figure: str
    this: float
    other: float
    median: float
    lowest: float
    highest: float
    pairs: int

    def to_json(self) -> dict[str, float | int]:
        """Return the JSON object that --json prints."""
        return {
            "this": round(self.this, 3),
            "other": round(self.other, 3),
            "ratio": round(self.median, 3),
            "lowest": round(self.lowest, 3),
            "highest": round(self.highest, 3),
            "pairs": self.pairs,
        }


def figures_of(result: Mapping[str, Any]) -> Figures:
    """Return the figures in the JSON of a run; one that its version does not measure is missing."""
    loads = {load["load"]: load for load in result["loads"]}
    found = {name: loads[load].get(member) for name, load, member in FIGURES if load in loads}
    return {name: float(value) for name, value in found.items() if value}


def ratios(pairs: Sequence[tuple[Figures, Figures]]) -> list[Ratio]:
    """Return the ratio of each figure that both sides of every pair have. A pair is (this version's, the other's)."""
    found: list[Ratio] = []
    for name, _, _ in FIGURES:
        both = [(this[name], other[name]) for this, other in pairs if name in this and name in other]
        if not both:
            continue
        each = [this / other for this, other in both]
        found.append(
            Ratio(
                figure=name,
                this=statistics.median(this for this, _ in both),
                other=statistics.median(other for _, other in both),
                median=statistics.median(each),
                lowest=min(each),
                highest=max(each),
                pairs=len(both),
            )
        )
    return found
