"""The metrics of members' texts. No label names a member."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

from chassis.telemetry.table_gauges import measure
from notifier.store.texts import GIVEN_UP_COUNT, OLDEST_DUE_S

ATTEMPTS: Final = Counter(
    "baraza_text_attempts_total",
    "Attempts to send a text, by what became of it: SENT, DUE again or GIVEN_UP.",
    ["state"],
)
MEASURES: Final = (
    measure(
        "baraza_texts_oldest_due_seconds",
        "For how long the oldest text to a member is due.",
        (),
        OLDEST_DUE_S,
        age_max_s=15,
    ),
    measure(
        "baraza_texts_given_up",
        "Texts of the last day whose attempts are exhausted.",
        (),
        GIVEN_UP_COUNT,
        age_max_s=60,
    ),
)
