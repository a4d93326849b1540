"""The metrics of a process, in Prometheus' format at ``/metrics``. They must never slow a batch down noticeably.

A label never holds an id or a person's text: every combination of labels is kept as long as the process runs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.telemetry.spans import Span
from chassis.wire.envelope import TRACEPARENT_FORM, child_traceparent

if TYPE_CHECKING:
    from chassis.telemetry.tracing import Traces

STEP_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60, 180)
"""From a step that only waits for its batch to one that takes as long as a saga may."""
CALL_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4)
"""Up to the longest that a call may take."""
REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
BATCH_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500)
QUERY_AGE_MAX_S = 5.0
"""However often the metrics are scraped, the database is queried at most this often."""
QUERY_REST_FACTOR = 200
"""A query rests that many times as long as it took, so that counting a million rows costs little as well."""
QUERY_REST_MAX_S = 60.0
"""It rests no longer than that, since one query may take long for once."""

ANSWERS = Counter(
    "baraza_step_answers_total", "Replies of a service for its steps, by step and message type.", ["step", "type"]
)
STEP_SECONDS = Histogram(
    "baraza_step_seconds",
    "Duration from a step's trigger to the commit of its reply, by step.",
    ["step"],
    buckets=STEP_BUCKETS_S,
)
RETRIES = Counter("baraza_retries_total", "Messages deferred for a retry, by handler.", ["handler"])
CALLBACKS = Counter(
    "baraza_callbacks_total", "Callbacks of providers, stored or refused, by provider.", ["provider", "outcome"]
)
DEAD_LETTERS = Counter("baraza_dead_letters_total", "Messages published to a dead-letter topic, by topic.", ["topic"])
BATCH_MESSAGES = Histogram("baraza_batch_messages", "Messages handled in one transaction.", buckets=BATCH_BUCKETS)
BATCH_SECONDS = Histogram("baraza_batch_seconds", "Duration of one transaction.", buckets=CALL_BUCKETS_S)
LAG_MESSAGES = Gauge("baraza_consumer_lag_messages", "Messages in Kafka that are not handled yet, by topic.", ["topic"])
LAG_SECONDS = Gauge(
    "baraza_consumer_lag_seconds", "Age of the last handled message while others wait, by topic.", ["topic"]
)
CALL_SECONDS = Histogram(
    "baraza_call_seconds",
    "Duration of a call to a provider, by outcome: the status, or none where there was no answer.",
    ["downstream", "outcome"],
    buckets=CALL_BUCKETS_S,
)
BREAKER_OPEN = Gauge("baraza_breaker_open", "1 while the circuit to a provider is not closed, else 0.", ["downstream"])
CALLS_UNDER_WAY = Gauge("baraza_calls_under_way", "Calls to providers under way.")
POOL_IN_USE = Gauge("baraza_pool_connections_in_use", "Database connections in use.")
POOL_SIZE = Gauge("baraza_pool_connections_max", "Maximum number of database connections.")
BREAK_GLASS_UNTIL = Gauge(
    "baraza_break_glass_until_seconds", "When the latest token of break-glass that was used expires; 0: none was used."
)
REQUEST_SECONDS = Histogram(
    "baraza_http_request_seconds",
    "Duration of a request, by method, route and status.",
    ["method", "route", "status"],
    buckets=REQUEST_BUCKETS_S,
)


def router() -> APIRouter:
    """Return ``/metrics``. It is for a scraper inside; a network policy hides it from others."""
    routes = APIRouter()

    @routes.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return routes


class Requests:
    """ASGI middleware that measures every request under the template of its route, never under its path.

    It gives the request a trace context of its own, in ``scope["traceparent"]``. When an endpoint sets
    ``scope["saga_id"]``, its request becomes the first span of the saga's trace.
    """

    def __init__(self, app: ASGIApp, traces: Traces | None) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        parent = parent if TRACEPARENT_FORM.fullmatch(parent) else None
        scope["traceparent"] = child_traceparent(parent)
        began_at, status = datetime.now(UTC), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            now = datetime.now(UTC)
            route = getattr(scope.get("route"), "path", "none")
            REQUEST_SECONDS.labels(scope["method"], route, status).observe((now - began_at).total_seconds())
            if self._traces is not None and "saga_id" in scope:
                self._traces.record(
                    Span(
                        name=f"{scope['method']} {route}",
                        traceparent=scope["traceparent"],
                        parent=parent,
                        began_at=began_at,
                        ended_at=now,
                        attributes={"baraza.saga_id": scope["saga_id"], "http.response.status_code": status},
                        kind="server",
                    )
                )


def install(app: FastAPI, traces: Traces | None = None) -> None:
    """Serve ``/metrics`` and measure the requests of an API."""
    app.include_router(router())
    app.add_middleware(Requests, traces=traces)


def watch_pool(engine: Engine) -> None:
    """Measure how much of the engine's pool is in use, at each scrape."""
    pool = engine.pool
    POOL_IN_USE.set_function(pool.checkedout)  # type: ignore[attr-defined]
    POOL_SIZE.set(pool.size())  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A gauge that a query returns: rows of label values, the value last.

    It is run every ``age_max_s`` at most, and less often where it takes long (``QUERY_REST_FACTOR``).
    """

    name: str
    documentation: str
    labels: tuple[str, ...]
    query: Callable[[Connection], Iterable[tuple[object, ...]]]
    age_max_s: float = QUERY_AGE_MAX_S

    def family(self, rows: Iterable[tuple[object, ...]] = ()) -> GaugeMetricFamily:
        """Return the gauge with these rows."""
        family = GaugeMetricFamily(self.name, self.documentation, labels=self.labels)
        for *labels, value in rows:
            family.add_metric([str(label) for label in labels], float(str(value)))
        return family

    def rest_s(self, took_s: float) -> float:
        """Return how long its result is used, by how long its query took."""
        return max(self.age_max_s, min(QUERY_REST_FACTOR * took_s, QUERY_REST_MAX_S))


class DatabaseCollector(Collector):
    """Measures what only the database knows. While it does not answer, these gauges are absent, which an alert sees."""

    def __init__(self, engine: Engine, measures: tuple[Measure, ...]) -> None:
        self._engine = engine
        self._measures = measures
        self._queried: dict[str, tuple[float, GaugeMetricFamily]] = {}

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return the gauges without values, and without a query."""
        return (measure.family() for measure in self._measures)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Query the database, or return the last result while it is recent."""
        for measure in self._measures:
            used_until_s, family = self._queried.get(measure.name, (-math.inf, None))
            if family is None or time.monotonic() >= used_until_s:
                family = self._query(measure)
            if family is not None:
                yield family

    def _query(self, measure: Measure) -> GaugeMetricFamily | None:
        began_s = time.monotonic()
        try:
            with self._engine.connect() as tx:
                family = measure.family(measure.query(tx))
        except SQLAlchemyError:
            return None
        ended_s = time.monotonic()
        self._queried[measure.name] = ended_s + measure.rest_s(ended_s - began_s), family
        return family


def watch_database(engine: Engine, *measures: Measure) -> None:
    """Add gauges whose values are queried from the database."""
    REGISTRY.register(DatabaseCollector(engine, measures))
