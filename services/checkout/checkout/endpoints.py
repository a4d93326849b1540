"""What checkout's endpoints share: their resources, who may call them, and what stands in their paths and headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from anyio import CapacityLimiter
from fastapi import Depends, Header, Path, Request
from sqlalchemy import Engine
from starlette.convertors import Convertor, register_url_convertor

from chassis.http.auth import Principal
from chassis.http.problem import PROBLEM_RESPONSES
from chassis.http.rate_limits import admitted
from chassis.wire.codec import Codec
from checkout.domain import IDEMPOTENCY_KEY_LENGTH_MAX, IDEMPOTENCY_KEY_PATTERN
from checkout.guards import BulkGuard
from checkout.order_batcher import OrderBatcher
from checkout.response_cache import ResponseCache

STAFF = frozenset({"storefront", "support", "operator"})
"""Roles that may read the orders of all customers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiResources:
    """The resources of the endpoints. The application's lifespan creates them."""

    engine: Engine
    codec: Codec
    batcher: OrderBatcher
    cache: ResponseCache
    bulk_limiter: CapacityLimiter


async def resources_of(request: Request) -> ApiResources:
    """Return the resources of the application."""
    found: ApiResources = request.app.state.resources
    return found


async def traceparent(request: Request) -> bytes:
    """Return the request's W3C trace context. It is in the caller's trace when the caller sent a valid one."""
    own: bytes = request.scope["traceparent"]
    return own


def may_see(caller: Principal, customer_id: str) -> bool:
    """Return whether the caller may read what belongs to this customer."""
    return not caller.roles.isdisjoint(STAFF) or customer_id == caller.subject


Customer = Annotated[Principal, Depends(admitted("customer", "storefront"))]
Reader = Annotated[Principal, Depends(admitted("customer", *sorted(STAFF)))]
Storefront = Annotated[Principal, Depends(BulkGuard("storefront").caller)]
Loader = Annotated[Principal, Depends(admitted("operator", "catalogue"))]
AnyCaller = Annotated[Principal, Depends(admitted())]
Resources = Annotated[ApiResources, Depends(resources_of)]
Trace = Annotated[bytes, Depends(traceparent)]
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=IDEMPOTENCY_KEY_LENGTH_MAX,
        pattern=IDEMPOTENCY_KEY_PATTERN,
        description="Chosen by the client, one for each order or return. The same key returns the same response.",
    ),
]
ULID: Final = "[0-9A-HJKMNP-TV-Z]{26}"
OrderId = Annotated[str, Path(pattern=f"^{ULID}$", description="A ULID.")]
ReturnId = Annotated[str, Path(pattern=f"^{ULID}$", description="A ULID.")]


class UlidConvertor(Convertor[str]):
    """Lets ``{order_id:ulid}`` match only a ULID, whose letters may be small."""

    regex = f"(?i:{ULID})"

    def convert(self, value: str) -> str:
        """Return the id in its canonical form."""
        return value.upper()

    def to_string(self, value: str) -> str:
        """Return the id as it stands in a path."""
        return value


register_url_convertor("ulid", UlidConvertor())

COMMON: dict[int | str, dict[str, Any]] = {
    status: PROBLEM_RESPONSES[status] for status in (400, 401, 403, 413, 415, 422, 429, 500, 503)
}
ONE_ORDER: dict[int | str, dict[str, Any]] = COMMON | {404: PROBLEM_RESPONSES[404]}
