"""Observes committed work: metrics always, spans where a collector is configured. It must never fail the work.

Its hook is where all our messages pass after their commit: the relay of the outbox.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from chassis.settings import Settings
from chassis.telemetry import metrics
from chassis.telemetry.spans import Span, derived_traceparent
from chassis.wire.envelope import TIME_MAX, TIME_MIN, TRACEPARENT, Headers, header, trace_context

if TYPE_CHECKING:
    # Only for its name: a process without a collector does not load the SDK.
    from chassis.telemetry.tracing import Traces

DEAD_LETTERS = ".dlq"
LAST_SPANS_WITHIN_S = 1.0


def traces_of(settings: Settings) -> Traces | None:
    """Return the exporter of spans, None where no collector is configured."""
    if not (settings.otlp_url or settings.zipkin_url):
        return None
    # Imported only here, so that a process without a collector does not need the 20 MB.
    from chassis.telemetry.tracing import Traces, exporter

    to = exporter(otlp_url=settings.otlp_url, zipkin_url=settings.zipkin_url)
    return Traces(settings.service, to, ratio=settings.trace_ratio)


class Observer:
    """Counts and traces what a process publishes and calls.

    ``step_of`` names the step of each message type that is a step's reply. ``traces`` is None without a collector.
    """

    def __init__(self, service: str, step_of: Mapping[str, str], traces: Traces | None = None) -> None:
        self._traces = traces
        self._step_of = dict(step_of)
        self._answers: dict[str, tuple[Counter, Histogram]] = {
            type_: (metrics.ANSWERS.labels(step, type_.rpartition(".")[2]), metrics.STEP_SECONDS.labels(step))
            for type_, step in step_of.items()
        }
        # To Prometheus, a counter whose first value is one never increased. So it begins at zero.
        for name in {service, *step_of.values()}:
            metrics.DEAD_LETTERS.labels(f"{name}{DEAD_LETTERS}")

    def published(
        self, *, topic: str, type_: str, saga_id: str, message_id: str, sent: Headers, cause: Headers, now: datetime
    ) -> None:
        """Observe a committed message that is published at ``now``; ``cause`` are the headers of its cause."""
        if topic.endswith(DEAD_LETTERS):
            metrics.DEAD_LETTERS.labels(topic).inc()
            return
        measured = self._answers.get(type_)
        if measured is None and self._traces is None:
            return
        caused_at = time_of(cause) or now
        if measured is not None:
            answers, seconds = measured
            answers.inc()
            seconds.observe(max(0.0, (now - caused_at).total_seconds()))
        own = header(sent, TRACEPARENT)
        if self._traces is None or own is None:
            return
        attributes = {"baraza.saga_id": saga_id, "messaging.system": "kafka", "messaging.message.id": message_id}
        attributes["messaging.destination.name"] = topic
        if step := self._step_of.get(type_):
            attributes["baraza.step"] = step
        self._traces.record(
            Span(
                name=type_.rpartition(".")[2],
                traceparent=own,
                parent=trace_context(cause),
                began_at=caused_at,
                ended_at=now,
                attributes=attributes,
                kind="producer",
            )
        )

    def called(
        self,
        *,
        handler: str,
        saga_id: str,
        cause: Headers,
        attempt: int,
        began_at: datetime,
        now: datetime,
        failure: str | None,
    ) -> None:
        """Observe a call to a provider that has ended. Each attempt's span links to the one before it."""
        trigger = trace_context(cause)
        if self._traces is None or trigger is None:
            return
        span_id = (saga_id, handler)
        self._traces.record(
            Span(
                name=f"call {handler}",
                traceparent=derived_traceparent(trigger, *span_id, attempt),
                parent=trigger,
                began_at=began_at,
                ended_at=now,
                attributes={"baraza.saga_id": saga_id, "baraza.step": handler, "baraza.attempt": attempt},
                kind="client",
                failure=failure,
                links=[derived_traceparent(trigger, *span_id, attempt - 1)] if attempt > 1 else [],
            )
        )

    def close(self) -> None:
        """Export the spans that are left; an unavailable collector delays the process's end by a second at most."""
        if self._traces is not None:
            last = threading.Thread(target=self._traces.close, name="last spans", daemon=True)
            last.start()
            last.join(LAST_SPANS_WITHIN_S)


def time_of(headers: Headers) -> datetime | None:
    """Return when a message occurred, by its CloudEvents header; None where it is missing, invalid or out of range."""
    value = header(headers, "ce_time")
    try:
        at = datetime.fromisoformat(value.decode()) if value else None
    except ValueError:
        return None
    return at if at is not None and at.tzinfo is not None and TIME_MIN <= at < TIME_MAX else None
