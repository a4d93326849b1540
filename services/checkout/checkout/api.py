"""Checkout's HTTP API: orders and the catalogue. It answers what is certain, and names whatever it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Final

import anyio.to_thread
from anyio import CapacityLimiter
from chassis.http import problem
from chassis.http.auth import Principal, require
from chassis.http.problem import PROBLEM_RESPONSES, Problem
from chassis.postgres.transient import transact
from chassis.process.service import Dependencies
from chassis.saga.publisher import OutboxPublisher, Relay, producer
from chassis.telemetry import metrics
from chassis.wire.codec import Codec
from chassis.wire.kafka import KafkaLogin
from chassis.wire.redis import RedisLogin
from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from messages.checkout import OrderCancellationRequested, OrderSubmitted
from pydantic import Field
from sqlalchemy import Engine
from starlette.convertors import Convertor, register_url_convertor

from checkout import bulk, cancellation, tables
from checkout.answers import Answers
from checkout.domain import (
    CONFIG,
    IDEMPOTENCY_KEY_LENGTH_MAX,
    IDEMPOTENCY_KEY_PATTERN,
    Cart,
    OrderState,
    PricedLine,
    Product,
    message_of,
    repeated,
)
from checkout.intake import TOPIC, refused, submission
from checkout.order_batcher import OrderBatcher
from checkout.rates import Rates

PRODUCTS_MAX: Final = 5_000
PAGE_SIZE_MAX: Final = 1_000
BULK_AT_ONCE_MAX: Final = 2
"""More at once would only wait for the same processor, and hold two thousand locks in PostgreSQL."""
ORDER_BYTES_MAX: Final = 1_048_576
"""Far above LINES_MAX lines, so that a cart of ten thousand is told which line is too many."""
CATALOGUE_BYTES_MAX: Final = 4_194_304

STAFF = frozenset({"storefront", "support", "operator"})
"""Roles that see the orders of every customer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What the endpoints work with; the application's lifespan makes it."""

    engine: Engine
    codec: Codec
    publisher: OutboxPublisher
    desk: OrderBatcher
    rates: Rates
    bulk_limiter: CapacityLimiter


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An order that was taken in; nothing more than that is certain yet."""

    order_id: str
    state: OrderState
    message: str
    currency: str
    total_minor: int
    payable_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order as it stands. ``cause`` and ``reason`` say why it was cancelled."""

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
    """How many products were sent, and how many of them were new or different."""

    received: int
    changed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CataloguePage:
    """Products in the order of their skus; pass ``next`` as ``after`` for those that follow, null: there are none."""

    products: list[Product]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResult:
    """What became of one order: ``order`` where it was taken (202) or had been before (200), else ``problem``."""

    idempotency_key: str | None
    status: int
    order: Accepted | None = None
    problem: dict[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResults:
    """A result an order, in the order of the request."""

    accepted: int
    replayed: int
    refused: int
    results: list[BulkResult]


async def running(request: Request) -> Running:
    """Return what the application runs with."""
    parts: Running = request.app.state.running
    return parts


async def traceparent(request: Request) -> bytes:
    """Return the request's own W3C trace context, in the trace of its caller where it named a usable one."""
    own: bytes = request.scope["traceparent"]
    return own


def admitted(*roles: str) -> Callable[..., Awaitable[Principal]]:
    """Return a dependency: a caller with one of ``roles`` who keeps to its rate limit."""

    authenticated = Depends(require(*roles))
    """A default, not an annotation: annotations are read as text, where ``roles`` has no meaning."""

    async def principal(
        parts: Annotated[Running, Depends(running)], response: Response, caller: Principal = authenticated
    ) -> Principal:
        response.headers.update(await parts.rates.admit(caller))
        return caller

    return principal


Customer = Annotated[Principal, Depends(admitted("customer", "storefront"))]
Reader = Annotated[Principal, Depends(admitted("customer", *sorted(STAFF)))]
Storefront = Annotated[Principal, Depends(admitted("storefront"))]
Loader = Annotated[Principal, Depends(admitted("operator", "catalogue"))]
Anybody = Annotated[Principal, Depends(admitted())]
Parts_ = Annotated[Running, Depends(running)]
Trace = Annotated[bytes, Depends(traceparent)]
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=IDEMPOTENCY_KEY_LENGTH_MAX,
        pattern=IDEMPOTENCY_KEY_PATTERN,
        description="Made up by the client, one for each order; the same key returns the same answer.",
    ),
]
ULID: Final = "[0-9A-HJKMNP-TV-Z]{26}"
OrderId = Annotated[str, Path(pattern=f"^{ULID}$", description="A ULID.")]


class UlidConvertor(Convertor[str]):
    """Makes only a ULID match ``{order_id:ulid}``; any other path is another path, or none."""

    regex = ULID

    def convert(self, value: str) -> str:
        """Return the id as it stands in the path."""
        return value

    def to_string(self, value: str) -> str:
        """Return the id as it stands in a path."""
        return value


register_url_convertor("ulid", UlidConvertor())

COMMON: dict[int | str, dict[str, Any]] = {
    status: PROBLEM_RESPONSES[status] for status in (400, 401, 403, 413, 415, 422, 429, 500, 503)
}
ONE_ORDER: dict[int | str, dict[str, Any]] = COMMON | {404: PROBLEM_RESPONSES[404]}

routes = APIRouter(prefix="/v1", responses=COMMON)


@routes.post(
    "/orders",
    status_code=202,
    tags=["orders"],
    response_model=Accepted,
    responses={409: PROBLEM_RESPONSES[409]},
)
async def submit_order(
    cart: Cart, key: IdempotencyKey, caller: Customer, parts: Parts_, request: Request, response: Response
) -> Response:
    """Take an order in. The answer says that it was received; whether it is confirmed shows at ``Location``."""
    if "storefront" not in caller.roles and cart.customer_id != caller.subject:
        raise _not_yours()
    outcome = await parts.desk.submit(submission(caller.subject, key, cart, request.scope["traceparent"]))
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
async def submit_orders(request: Request, caller: Storefront, parts: Parts_, response: Response) -> Response:
    """Take many orders in, each under its own idempotency key; they commit together, and each has its own result."""
    body = await request.body()

    def answer() -> str:
        return bulk.answer(
            body,
            request.headers.get("content-type", ""),
            client_id=caller.subject,
            store=parts.desk.store,
        )

    text = await anyio.to_thread.run_sync(answer, limiter=parts.bulk_limiter)
    return Response(text, headers=dict(response.headers), media_type="application/json")


@routes.get("/orders/{order_id:ulid}", tags=["orders"], responses=ONE_ORDER)
def read_order(order_id: OrderId, caller: Reader, parts: Parts_) -> Order:
    """Tell how an order stands. Customers see their own; to them any other order does not exist."""
    with parts.engine.begin() as tx:
        return _visible(tables.load_order(tx, order_id), order_id, caller)


@routes.post(
    "/orders/{order_id:ulid}/cancel",
    status_code=202,
    tags=["orders"],
    responses=ONE_ORDER | {409: PROBLEM_RESPONSES[409]},
)
def cancel_order(order_id: OrderId, caller: Customer, parts: Parts_, trace: Trace) -> Order:
    """Ask for the cancellation of an order that is not decided yet; whether it comes in time shows at the order."""
    with parts.engine.begin() as tx:
        _visible(tables.load_order(tx, order_id), order_id, caller)
        rows = cancellation.cancel(tx, order_id, codec=parts.codec, now=datetime.now(UTC), traceparent=trace)
        order = _visible(tables.load_order(tx, order_id), order_id, caller)
    parts.publisher.publish(rows)
    return order


@routes.put("/catalogue", tags=["catalogue"])
def load_catalogue(load: CatalogueLoad, caller: Loader, parts: Parts_) -> CatalogueLoaded:
    """Add products, or change those that are there; what is not in the load stays."""
    refusals = repeated(load.products)
    if refusals:
        raise refused(refusals, type="urn:baraza:problem:catalogue-refused")
    with parts.engine.begin() as tx:
        changed = tables.upsert_products(tx, load.products)
    return CatalogueLoaded(received=len(load.products), changed=changed)


@routes.get("/catalogue", tags=["catalogue"])
def read_catalogue(
    caller: Anybody,
    parts: Parts_,
    after: Annotated[str, Query(max_length=64, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] = "",
    limit: Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX)] = 100,
) -> CataloguePage:
    """Return a page of the catalogue."""
    with parts.engine.begin() as tx:
        found = tables.catalogue_page(tx, after=after, limit=limit + 1)
    page = found[:limit]
    return CataloguePage(products=page, next=page[-1].sku if len(found) > limit else None)


def application(parts: Dependencies, requests_per_second: Mapping[str, int]) -> FastAPI:
    """Return the API. Its lifespan starts what stores and publishes orders, and ends it without losing one."""
    instance = f"{parts.settings.service}-api"

    observer = parts.observer()

    def new_relay() -> Relay:
        return Relay(producer(KafkaLogin.of(parts.settings), client_id=instance), observer)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(parts.codec.learn, TOPIC, (OrderSubmitted, OrderCancellationRequested))
        publisher = OutboxPublisher(partial(transact, parts.engine), new_relay(), new_relay=new_relay)
        desk = OrderBatcher(
            parts.engine, parts.codec, publisher, Answers(parts.settings.redis_url, RedisLogin.of(parts.settings))
        )
        app.state.running = Running(
            engine=parts.engine,
            codec=parts.codec,
            publisher=publisher,
            desk=desk,
            rates=Rates(parts.settings.redis_url, RedisLogin.of(parts.settings), requests_per_second),
            bulk_limiter=CapacityLimiter(BULK_AT_ONCE_MAX),
        )
        desk.start(asyncio.get_running_loop())
        yield
        await asyncio.to_thread(desk.stop)

    app = FastAPI(
        title="Checkout", version="1", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    longer = {"/v1/orders/bulk": bulk.BODY_BYTES_MAX, "/v1/catalogue": CATALOGUE_BYTES_MAX}
    problem.install(app, body_bytes_max=ORDER_BYTES_MAX, body_bytes_max_of=longer)
    metrics.install(app, parts.traces)
    app.state.verifier = parts.verifier
    app.include_router(routes)
    return app


def _visible(row: tables.OrderRow | None, order_id: str, caller: Principal) -> Order:
    if row is None or (caller.roles.isdisjoint(STAFF) and row.customer_id != caller.subject):
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


def _not_yours() -> Problem:
    return Problem(
        status=403,
        detail="A customer may order for itself only; send your own customer_id, which is the token's subject.",
    )
