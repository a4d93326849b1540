"""How far a demo run is, and its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from baraza.audit.report import Report
from baraza.demo.open_orders import Tally
from baraza.demo.returns import Returned
from baraza.percentiles import percentile
from baraza.storefront.replay import Intake


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoProgress:
    """How far a run is."""

    orders: int
    submitted: int
    refused: int
    tally: Tally
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """The result of a run. ``unfinished`` are orders that are parked or stuck."""

    intake: Intake
    tally: Tally
    latencies_ms: Sequence[float]
    examples: Mapping[str, str]
    confirmed_orders: Sequence[str]
    """The first ones."""
    unfinished: Sequence[str]
    late_successes: int
    late_example: str | None
    took_s: float
    orders_per_s: float
    stuck: str | None

    def summary(self, returned: Returned, report: Report) -> dict[str, Any]:
        """Return the run, its returns and the audit's verdict as one JSON object."""
        return {
            "orders": self.intake.total,
            "confirmed": self.tally.confirmed,
            "cancelled": self.tally.cancelled_total,
            "refused": self.intake.refused.total(),
            "late_successes": self.late_successes,
            "p50_ms": percentile(self.latencies_ms, 0.50),
            "p99_ms": percentile(self.latencies_ms, 0.99),
            "audit": "green" if report.is_green else "red",
            "accepted": self.intake.accepted + self.intake.repeated,
            "parked": self.tally.parked,
            "unfinished": list(self.unfinished),
            "cancelled_by": self.tally.cancelled,
            "refused_by": dict(self.intake.refused.most_common()),
            "returns": len(returned.outcomes),
            "returns_completed": len(returned.completed),
            "returns_failed": len(returned.failed),
            "returns_unfinished": [each.return_id for each in returned.unfinished],
            "returns_by": dict(returned.by_summary().most_common()),
            "took_s": round(self.took_s, 1),
            "orders_per_s": round(self.orders_per_s, 1),
            "broken_invariants": [finding.invariant.name for finding in report.findings if finding.total],
        }
