"""The metrics of merchants' webhooks. No label names a merchant or an endpoint."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from chassis.telemetry.table_gauges import measure
from notifier.store.reading import DISABLED_COUNTS, OLDEST_DUE_S

ATTEMPTS: Final = Counter(
    "baraza_webhook_attempts_total", "Attempts to deliver an event to an endpoint, by outcome.", ["outcome"]
)
DELIVERIES: Final = Counter(
    "baraza_webhook_deliveries_total",
    "Deliveries that have ended: DELIVERED, or FAILED after the last attempt.",
    ["state"],
)
SECONDS: Final = Histogram(
    "baraza_webhook_seconds",
    "Duration of an attempt.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 15),
)
UNDER_WAY: Final = Gauge("baraza_webhook_calls_under_way", "Calls to endpoints under way.")

OLDEST_DUE: Final = measure(
    "baraza_webhook_oldest_due_seconds",
    "For how long the oldest delivery is due of an endpoint to which no call is under way and that is not overloaded.",
    (),
    OLDEST_DUE_S,
    age_max_s=15,
)
DISABLED: Final = measure(
    "baraza_webhook_endpoints_disabled",
    "Endpoints that get nothing, by the reason: MERCHANT, OPERATOR, GONE or FAILING.",
    ("reason",),
    DISABLED_COUNTS,
    age_max_s=15,
)
MEASURES: Final = (OLDEST_DUE, DISABLED)
