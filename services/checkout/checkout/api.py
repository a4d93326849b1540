"""Checkout's HTTP API: orders and the catalogue. A response states only what is certain; a refusal has reasons."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Final

import anyio.from_thread
import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, FastAPI, Query, Request, Response
from pydantic import Field
from starlette.exceptions import HTTPException

from chassis.http import problem
from chassis.http.auth import Principal
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, Problem
from chassis.http.rate_limits import RateLimits
from chassis.postgres.transient import transact
from chassis.process.service import Dependencies
from chassis.saga.publisher import OutboxPublisher, Relay, producer
from chassis.telemetry import metrics
from chassis.values import address
from chassis.values.text import normal
from chassis.wire.kafka import KafkaLogin
from chassis.wire.redis import RedisLogin
from checkout import bulk, cancellation, return_api, tables
from checkout.catalogue import repeated
from checkout.domain import (
    Cart,
    OrderState,
    PricedLine,
    Product,
    message_of,
)
from checkout.endpoints import (
    COMMON,
    ONE_ORDER,
    AnyCaller,
    ApiResources,
    Customer,
    IdempotencyKey,
    Loader,
    OrderId,
    Reader,
    Resources,
    Storefront,
    Trace,
    may_see,
)
from checkout.fields import CONFIG
from checkout.guards import COUNTED
from checkout.intake import TOPIC, Terms, not_yours, refused, submission
from checkout.order_batcher import OrderBatcher
from checkout.points import PointsRate
from checkout.response_cache import ResponseCache
from messages.checkout import (
    OrderCancellationRequested,
    OrderSubmitted,
    ReturnCancellationRequested,
    ReturnRequested,
)

PRODUCTS_MAX: Final = 5_000
PAGE_SIZE_MAX: Final = 1_000
IN_FLIGHT_MAX: Final = 50_000
"""Events that Kafka has not acknowledged; while it is unavailable, checkout goes on, and later ones stay rows."""
BULK_AT_ONCE_MAX: Final = 2
"""More would compete for the same processor, and each holds up to ORDERS_MAX locks in PostgreSQL."""
ORDER_BYTES_MAX: Final = 1_048_576
"""Far more than LINES_MAX lines need, so that the response to ten thousand lines names the first excess line."""
CATALOGUE_BYTES_MAX: Final = 4_194_304
PUBLISHED: Final = (OrderSubmitted, OrderCancellationRequested, ReturnRequested, ReturnCancellationRequested)
"""The events of requests; the registry knows them before the first one is accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An order that was accepted. Its outcome is not known yet."""

    order_id: str
    state: OrderState
    message: str
    currency: str
    total_minor: int
    payable_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order with its current state. ``cause`` and ``reason`` explain a cancellation."""

    order_id: str
    customer_id: str
    state: OrderState
    message: str
    cause: str | None
    reason: str | None
    currency: str
    lines: list[PricedLine]
    points_to_burn: int
    total_minor: int
    payable_minor: int
    submitted_at: datetime
    cancellation_requested_at: datetime | None
    decided_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueLoad:
    """Products to add or change."""

    __pydantic_config__ = CONFIG

    products: Annotated[tuple[Product, ...], Field(min_length=1, max_length=PRODUCTS_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueLoaded:
    """The number of products received, and the number that were new or different."""

    received: int
    changed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedProduct:
    """A product as it is stored. An earlier release may have stored what this one would refuse."""

    sku: str
    name: str
    price_minor: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CataloguePage:
    """Products in the order of their SKUs. Pass ``next`` as ``after`` for the next page; null: this is the last one."""

    products: list[ListedProduct]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResult:
    """The result of one order: ``order`` when it is accepted (202) or was accepted before (200), else ``problem``."""

    idempotency_key: str | None
    status: int
    order: Accepted | None = None
    problem: dict[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResults:
    """One result for each order, in the order of the request."""

    accepted: int
    replayed: int
    refused: int
    results: list[BulkResult]


routes = APIRouter(route_class=JsonRoute, prefix="/v1", responses=COMMON)


@routes.post(
    "/orders",
    status_code=202,
    tags=["orders"],
    response_model=Accepted,
    responses={409: PROBLEM_RESPONSES[409]},
)
async def submit_order(
    cart: Cart, key: IdempotencyKey, caller: Customer, resources: Resources, request: Request, response: Response
) -> Response:
    """Accept an order. The response confirms the receipt; the resource at ``Location`` shows the outcome."""
    own_id = None if "storefront" in caller.roles else caller.subject
    if own_id not in {None, cart.customer_id, normal(cart.customer_id)}:
        raise not_yours()
    sent = submission(caller.subject, key, cart, request.scope["traceparent"], own_id=own_id)
    outcome = await resources.batcher.submit(sent)
    if isinstance(outcome, Problem):
        raise outcome
    request.scope["saga_id"] = outcome.order_id
    headers = dict(response.headers) | {"Location": f"/v1/orders/{outcome.order_id}"}
    if outcome.is_replay:
        headers["Idempotent-Replayed"] = "true"
    return Response(outcome.body, outcome.status, headers=headers, media_type="application/json")


@routes.post(
    "/orders/bulk",
    tags=["orders"],
    response_model=BulkResults,
    openapi_extra={"requestBody": bulk.request_body()},
)
async def submit_orders(request: Request, caller: Storefront, resources: Resources) -> Response:
    """Accept many orders, each under its own idempotency key. They commit together; each has its own result."""
    limits: RateLimits = request.app.state.rate_limits
    try:
        body = await request.body()
    except HTTPException:  # too long: it counts like any other
        if not request.scope[COUNTED]:
            await limits.admit(caller)
        raise

    def admit(orders: int, keys: Sequence[tables.Key]) -> Mapping[tables.Key, tables.StoredResponse]:
        hit = limits.hit_of_orders(caller, orders, request.scope[COUNTED])
        is_within, known = resources.cache.get_counting(keys, hit)
        if is_within is None:
            is_within = anyio.from_thread.run(limits.count_alone, hit)
        limits.settle(hit, is_within)
        return known

    def respond() -> str:
        content_type = request.headers.get("content-type", "")
        return bulk.respond(body, content_type, client_id=caller.subject, admit=admit, store=resources.batcher.store)

    text = await anyio.to_thread.run_sync(respond, limiter=resources.bulk_limiter)
    return Response(text, headers=limits.hit_of(caller).headers, media_type="application/json")


@routes.get("/orders/{order_id:ulid}", tags=["orders"], responses=ONE_ORDER)
def read_order(order_id: OrderId, caller: Reader, resources: Resources) -> Order:
    """Return an order. A customer sees only its own orders; any other id is a 404."""
    with resources.engine.begin() as tx:
        return _visible(tables.load_order(tx, order_id), order_id, caller)


@routes.post(
    "/orders/{order_id:ulid}/cancel",
    status_code=202,
    tags=["orders"],
    responses=ONE_ORDER | {409: PROBLEM_RESPONSES[409]},
)
def cancel_order(order_id: OrderId, caller: Customer, resources: Resources, trace: Trace) -> Order:
    """Request the cancellation of an order that is not decided yet. The order shows whether it came in time."""
    with resources.engine.begin() as tx:
        _visible(tables.load_order(tx, order_id), order_id, caller)
        rows = cancellation.cancel(tx, order_id, codec=resources.codec, now=datetime.now(UTC), traceparent=trace)
        order = _visible(tables.load_order(tx, order_id), order_id, caller)
    resources.batcher.publish(rows)
    return order


@routes.put("/catalogue", tags=["catalogue"])
def load_catalogue(load: CatalogueLoad, caller: Loader, resources: Resources) -> CatalogueLoaded:
    """Add or change products. Products that are not in the load stay as they are."""
    refusals = repeated(load.products)
    if refusals:
        raise refused(refusals, type="urn:baraza:problem:catalogue-refused")
    with resources.engine.begin() as tx:
        changed = tables.upsert_products(tx, load.products)
    return CatalogueLoaded(received=len(load.products), changed=changed)


@routes.get("/catalogue", tags=["catalogue"])
def read_catalogue(
    caller: AnyCaller,
    resources: Resources,
    after: Annotated[str, Query(max_length=64, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] = "",
    limit: Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX)] = 100,
) -> CataloguePage:
    """Return a page of the catalogue."""
    with resources.engine.begin() as tx:
        found = tables.catalogue_page(tx, after=after, limit=limit + 1)
    page = [
        ListedProduct(sku=each.sku, name=each.name, price_minor=each.price_minor, currency=each.currency)
        for each in found[:limit]
    ]
    return CataloguePage(products=page, next=page[-1].sku if len(found) > limit else None)


def application(
    dependencies: Dependencies, requests_per_second: Mapping[str, int], rates: Mapping[str, PointsRate]
) -> FastAPI:
    """Return the API. Its lifespan starts the batcher and the publisher, and stops them without losing an order."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(dependencies.codec.learn, TOPIC, PUBLISHED)
        await asyncio.to_thread(address.warm_up)
        resources = _resources(dependencies, rates)
        app.state.resources = resources
        resources.batcher.start(asyncio.get_running_loop())
        yield
        await asyncio.to_thread(resources.batcher.stop)

    app = FastAPI(
        title="Checkout", version="1", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    longer = {"/v1/orders/bulk": bulk.BODY_BYTES_MAX, "/v1/catalogue": CATALOGUE_BYTES_MAX}
    problem.install(app, body_bytes_max=ORDER_BYTES_MAX, body_bytes_max_of=longer)
    metrics.install(app, dependencies.traces)
    app.state.verifier = dependencies.verifier
    settings = dependencies.settings
    app.state.rate_limits = RateLimits(
        settings.redis_url, RedisLogin.of(settings), requests_per_second, service=settings.service
    )
    app.include_router(routes)
    app.include_router(return_api.routes)
    return app


def _resources(dependencies: Dependencies, rates: Mapping[str, PointsRate]) -> ApiResources:
    settings, engine, codec = dependencies.settings, dependencies.engine, dependencies.codec
    observer = dependencies.observer()

    def new_relay() -> Relay:
        return Relay(producer(KafkaLogin.of(settings), client_id=f"{settings.service}-api"), observer)

    publisher = OutboxPublisher(
        partial(transact, engine), new_relay(), new_relay=new_relay, in_flight_max=IN_FLIGHT_MAX
    )
    cache = ResponseCache(settings.redis_url, RedisLogin.of(settings))
    return ApiResources(
        engine=engine,
        codec=codec,
        batcher=OrderBatcher(engine, Terms(codec=codec, rates=rates), publisher, cache, gather_s=settings.gather_s),
        cache=cache,
        bulk_limiter=CapacityLimiter(BULK_AT_ONCE_MAX),
    )


def _visible(row: tables.OrderRow | None, order_id: str, caller: Principal) -> Order:
    if row is None or not may_see(caller, row.customer_id):
        raise Problem(status=404, detail=f"There is no order {order_id} of yours; check the id in Location.")
    state = OrderState(row.state)
    return Order(
        order_id=row.order_id,
        customer_id=row.customer_id,
        state=state,
        message=message_of(state, is_cancellation_requested=row.cancellation_requested_at is not None),
        cause=row.failure_cause,
        reason=row.failure_reason,
        currency=row.currency,
        lines=[PricedLine(**line) for line in row.lines],
        points_to_burn=row.points_to_burn,
        total_minor=row.total_minor,
        payable_minor=row.payable_minor,
        submitted_at=row.submitted_at,
        cancellation_requested_at=row.cancellation_requested_at,
        decided_at=row.decided_at,
    )
