"""The metrics of tickets. No label names an alarm."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

REPORTS: Final = Counter(
    "baraza_ticket_reports_total",
    "Reports of alarms by what was done at the ITSM; failed, or busy where another report was under way.",
    ["outcome"],
)
LEFT_S: Final = Gauge(
    "baraza_ticket_left_oldest_seconds", "For how long the oldest alarm that fires has no ticket; 0 where each has one."
)
FAILED, BUSY = "failed", "busy"
