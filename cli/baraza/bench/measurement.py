"""One load, measured: what a run reports of it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from baraza.percentiles import percentile


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One load, measured. A latency is the time in milliseconds from when an order was due to its readable outcome."""

    name: str
    began_at_s: float
    seconds: float
    offered_per_s: float | None
    confirmed: int
    cancelled: int
    latencies_ms: list[float]
    cpu_s: dict[str, float]
    load_cpu_s: float
    others_cores: float
    """How many processors worked for others than the stack and the load; it disturbs the figures."""
    stolen_cores: float
    statuses: Mapping[int, int]
    """How many orders checkout answered with each status."""
    parts_s: Mapping[str, float] | None = None
    intervals_per_s: Sequence[float] = ()
    """Sagas a second in each of its intervals, where it was measured in some."""
    repeated: int = 0
    """How many intervals were measured again, because the machine worked too much for others."""

    @property
    def sagas(self) -> int:
        """How many ended while the clock ran."""
        return self.confirmed + self.cancelled

    @property
    def per_s(self) -> float:
        """Complete sagas a second."""
        return self.sagas / self.seconds

    @property
    def cpu_ms_per_saga(self) -> float:
        """Processor time of the whole stack for one saga."""
        return 1_000 * sum(self.cpu_s.values()) / max(1, self.sagas)

    def quantile_ms(self, share: float) -> float | None:
        """Return the latency that ``share`` of the orders did not exceed; None where none was measured."""
        return percentile(self.latencies_ms, share)

    def parts_ms(self) -> dict[str, float] | None:
        """Return the processor time of a saga by part of the work, the largest first; None without a profile."""
        if self.parts_s is None:
            return None
        return {
            part: round(1_000 * used_s / max(1, self.sagas), 3)
            for part, used_s in sorted(self.parts_s.items(), key=lambda pair: -pair[1])
        }

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that --json prints."""
        return {
            "load": self.name,
            "seconds": round(self.seconds, 1),
            "offered_per_s": self.offered_per_s,
            "per_s": round(self.per_s, 1),
            "confirmed": self.confirmed,
            "cancelled": self.cancelled,
            "p50_ms": self.quantile_ms(0.50),
            "p99_ms": self.quantile_ms(0.99),
            "cpu_ms_per_saga": round(self.cpu_ms_per_saga, 3),
            "cpu_s": {name: round(used, 2) for name, used in sorted(self.cpu_s.items()) if used >= 0.01},
            "load_cpu_s": round(self.load_cpu_s, 2),
            "others_cores": round(self.others_cores, 3),
            "stolen_cores": round(self.stolen_cores, 3),
            "repeated": self.repeated,
            "orders_by_status": {str(status): count for status, count in sorted(self.statuses.items())},
            "cpu_ms_per_saga_by_part": self.parts_ms(),
            "turns_per_s": [round(each, 1) for each in self.intervals_per_s],
        }


def combined(intervals: Sequence[Measured]) -> Measured:
    """Return the intervals of one load as one measurement."""
    seconds = sum(each.seconds for each in intervals)
    return replace(
        intervals[0],
        seconds=seconds,
        confirmed=sum(each.confirmed for each in intervals),
        cancelled=sum(each.cancelled for each in intervals),
        cpu_s={name: sum(each.cpu_s.get(name, 0.0) for each in intervals) for name in intervals[0].cpu_s},
        load_cpu_s=sum(each.load_cpu_s for each in intervals),
        others_cores=sum(each.others_cores * each.seconds for each in intervals) / seconds,
        stolen_cores=sum(each.stolen_cores * each.seconds for each in intervals) / seconds,
        repeated=sum(each.repeated for each in intervals),
        statuses=sum((Counter(each.statuses) for each in intervals), Counter()),
        intervals_per_s=[each.per_s for each in intervals],
    )
