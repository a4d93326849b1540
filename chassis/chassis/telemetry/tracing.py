"""Traces: one saga is one trace, from the request that began it through every step and compensation.

The trace context travels in Kafka's headers, whether or not spans are collected. A span is created only after the
commit of what it describes, so a trace never shows what did not happen. Instrumentation of the Kafka client is not
used: it knows nothing of batches, commits and retries.
"""

from __future__ import annotations

from datetime import datetime

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from chassis.telemetry.spans import Span

QUEUE_MAX = 8_192
"""Spans that wait for the collector. More are dropped: a trace may be lost, an order may not."""
EXPORT_TIMEOUT_S = 5
NANOSECONDS = 1_000_000_000
TRACES = 2**64


class Traces:
    """Hands spans to an exporter on a thread of its own.

    ``ratio`` of the traces are kept, chosen by the trace id, so that all processes choose the same ones.
    """

    def __init__(self, service: str, exporter: SpanExporter, *, ratio: float = 1.0) -> None:
        self._resource = Resource.create({"service.name": service})
        self._processor = BatchSpanProcessor(exporter, max_queue_size=QUEUE_MAX)
        self._kept = int(ratio * TRACES)

    def record(self, span: Span) -> None:
        """Record a span. It never waits and never fails."""
        context = _context(span.traceparent)
        if context is None or context.trace_id % TRACES >= self._kept:
            return
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=context,
                parent=_context(span.parent),
                resource=self._resource,
                attributes=dict(span.attributes),
                links=[Link(linked) for link in span.links if (linked := _context(link))],
                kind=SpanKind[span.kind.upper()],
                status=Status(StatusCode.ERROR, span.failure) if span.failure else Status(),
                start_time=_nanoseconds(min(span.began_at, span.ended_at)),
                end_time=_nanoseconds(span.ended_at),
            )
        )

    def close(self) -> None:
        """Export the spans that are left."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def exporter(*, otlp_url: str, zipkin_url: str) -> SpanExporter:
    """Return the exporter to an OpenTelemetry collector (OTLP over HTTP), or else to a Zipkin."""
    # Only the one that is used is imported: together they need about 10 MB.
    if otlp_url:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint=f"{otlp_url.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
    from opentelemetry.exporter.zipkin.json import ZipkinExporter

    return ZipkinExporter(endpoint=zipkin_url, timeout=EXPORT_TIMEOUT_S)


def _context(traceparent: bytes | None) -> SpanContext | None:
    parts = (traceparent or b"").split(b"-")
    if len(parts) != 4:
        return None
    try:
        trace_id, span_id, flags = (int(part, 16) for part in parts[1:])
    except ValueError:
        return None
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags | TraceFlags.SAMPLED))


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * NANOSECONDS)
