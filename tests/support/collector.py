"""An OpenTelemetry collector for tests: it accepts OTLP over HTTP and keeps every span."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSpan:
    """A span that was received."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    saga_id: str
    attributes: dict[str, str]
    links: tuple[str, ...]
    failed: bool


class Collector:
    """Everything that was received so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._spans: list[RecordedSpan] = []
        self._bodies: list[bytes] = []
        self._lock = threading.Lock()

    def add(self, body: bytes) -> None:
        """Add the spans of one request's body."""
        spans = _spans(ExportTraceServiceRequest.FromString(body))
        with self._lock:
            self._spans += spans
            self._bodies.append(body)

    def of_saga(self, saga_id: str) -> list[RecordedSpan]:
        with self._lock:
            return [span for span in self._spans if span.saga_id == saga_id]

    @property
    def spans(self) -> list[RecordedSpan]:
        with self._lock:
            return list(self._spans)

    def bodies(self) -> list[bytes]:
        """Return the body of every request, with what :attr:`spans` leaves out."""
        with self._lock:
            return list(self._bodies)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Listen on a free loopback port for the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        collector: ClassVar[Collector]

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            self.collector.add(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own word
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Handler.collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Handler.collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _spans(request: ExportTraceServiceRequest) -> list[RecordedSpan]:
    found = []
    for resource in request.resource_spans:
        service = next(each.value.string_value for each in resource.resource.attributes if each.key == "service.name")
        for scope in resource.scope_spans:
            for span in scope.spans:
                attributes = {
                    each.key: each.value.string_value or str(each.value.int_value) for each in span.attributes
                }
                found.append(
                    RecordedSpan(
                        service=service,
                        name=span.name,
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                        saga_id=attributes.get("baraza.saga_id", ""),
                        attributes=attributes,
                        links=tuple(link.span_id.hex() for link in span.links),
                        failed=span.status.code == 2,
                    )
                )
    return found
