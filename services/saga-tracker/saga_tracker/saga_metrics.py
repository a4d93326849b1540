"""The metrics of sagas: how they end, how long they take, and at which steps those under way are.

It must never change a saga or its row.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy import text

from chassis.telemetry.table_gauges import measure
from saga_tracker.model.decision import Cause, SagaState
from saga_tracker.model.saga import SagaDefinition
from saga_tracker.store.sagas import SagaRow
from saga_tracker.store.timeline import Entry

SAGA_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600)
"""From an order on an idle machine to one that took longer than a saga should."""

STARTED = Counter("baraza_sagas_started_total", "Sagas that started.", ["saga"])
ENDED = Counter(
    "baraza_sagas_ended_total", "Sagas that ended; the cause is empty for a confirmed saga.", ["saga", "state", "cause"]
)
SECONDS = Histogram(
    "baraza_saga_seconds",
    "Duration of a saga, from its starting event to its end.",
    ["saga", "state"],
    buckets=SAGA_BUCKETS_S,
)
LATE = Counter("baraza_late_successes_total", "Steps that succeeded after their saga was stopped, by step.", ["step"])
COMMANDS = Counter("baraza_commands_total", "Commands that the tracker sent, by type and step.", ["type", "step"])
REPEATED = Counter(
    "baraza_commands_repeated_total",
    "Commands sent again after no reply came in time, by type and step.",
    ["type", "step"],
)
STEP_TIMEOUT_SECONDS = Gauge("baraza_step_timeout_seconds", "Timeout of a step, by step.", ["saga", "step"])
STEP_EXPECTED_SECONDS = Gauge(
    "baraza_step_outcome_expected_seconds",
    "Within what time the outcome of a step comes as a rule that comes later, by step.",
    ["saga", "step"],
)
TIMERS = Counter("baraza_deadlines_passed_total", "Deadlines that passed, by type and step.", ["type", "step"])

BY_STEP = """
    SELECT saga_type, step, {value}
    FROM sagas
    WHERE {where}
    GROUP BY saga_type, step
"""
AWAITING = "awaits_since IS NOT NULL"
UNSETTLED = "contradicted_at IS NOT NULL AND settled_at IS NULL"
OLDEST_S = "extract(epoch FROM now() - min(updated_at))"

MEASURES = (
    measure(
        "baraza_sagas_pending",
        "Pending sagas, by step.",
        ("saga", "step"),
        text(BY_STEP.format(value="count(*)", where="state = 'PENDING'")),
    ),
    measure(
        "baraza_sagas_pending_oldest_seconds",
        "Age of the oldest pending saga that waits for no outcome that comes later, by step.",
        ("saga", "step"),
        text(BY_STEP.format(value=OLDEST_S, where="state = 'PENDING' AND awaits_since IS NULL")),
    ),
    measure(
        "baraza_sagas_parked",
        "Parked sagas (NEEDS_REVIEW), by step.",
        ("saga", "step"),
        text(BY_STEP.format(value="count(*)", where="state = 'NEEDS_REVIEW'")),
    ),
    measure(
        "baraza_sagas_parked_oldest_seconds",
        "Age of the oldest parked saga, by step.",
        ("saga", "step"),
        text(BY_STEP.format(value=OLDEST_S, where="state = 'NEEDS_REVIEW'")),
    ),
    measure(
        "baraza_sagas_awaiting",
        "Sagas that wait for an outcome that comes later, stopped (IN_DOUBT) or not, by step.",
        ("saga", "step"),
        text(BY_STEP.format(value="count(*)", where=AWAITING)),
    ),
    measure(
        "baraza_sagas_awaiting_oldest_seconds",
        "Longest wait for an outcome that comes later, by step.",
        ("saga", "step"),
        text(BY_STEP.format(value="extract(epoch FROM now() - min(awaits_since))", where=AWAITING)),
    ),
    measure(
        "baraza_sagas_contradicted",
        "Sagas, ended or not, with a contradiction that a person has to settle, by step.",
        ("saga", "step"),
        text(BY_STEP.format(value="count(*)", where=UNSETTLED)),
    ),
    measure(
        "baraza_timeline_age_seconds",
        "Age of the moment up to which every timeline is complete.",
        (),
        text("SELECT coalesce(extract(epoch FROM now() - min(recorded_until)), 0) FROM watermarks"),
    ),
)


OUTCOMES = {
    SagaState.CONFIRMED.value: ("",),
    SagaState.CANCELLED_COMPENSATED.value: tuple(cause.value for cause in Cause),
}
"""Each final state with the causes that it can have."""


def initialise(definitions: Iterable[SagaDefinition]) -> None:
    """Set each step's timeout, and create the counters at zero: Prometheus sees no increase in a series that is new."""
    for definition in definitions:
        STARTED.labels(definition.name)
        for state, causes in OUTCOMES.items():
            for cause in causes:
                ENDED.labels(definition.name, state, cause)
        for step in definition.steps:
            STEP_TIMEOUT_SECONDS.labels(definition.name, step.name).set(step.timeout_s)
            if step.awaited is not None:
                STEP_EXPECTED_SECONDS.labels(definition.name, step.name).set(step.awaited.expected_within_s)
            LATE.labels(step.name)
            if step.compensation is not None:
                REPEATED.labels(step.compensation.command.FULL_NAME.rpartition(".")[2], step.name)


def count(entries: Iterable[Entry], rows: Iterable[SagaRow], at: datetime) -> None:
    """Count what the transaction ``at`` a time has recorded: its timeline entries, and its sagas as they are now."""
    for entry in entries:
        step = entry.step or ""
        if entry.late:
            LATE.labels(step).inc()
        if entry.kind == "command":
            COMMANDS.labels(entry.type, step).inc()
            if (entry.attempt or 1) > 1:
                REPEATED.labels(entry.type, step).inc()
        elif entry.kind == "timer":
            TIMERS.labels(entry.type, step).inc()
    for row in rows:
        if row.version == 1:
            STARTED.labels(row.saga_type).inc()
        if row.finished_at == at:
            ENDED.labels(row.saga_type, row.state, row.cause or "").inc()
            SECONDS.labels(row.saga_type, row.state).observe((at - row.started_at).total_seconds())
