"""What merchant's endpoints share: their resources, what stands in their paths and headers, and their problems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

from fastapi import Depends, Header, Path, Request
from sqlalchemy import Engine

from chassis.http.problem import PROBLEM_RESPONSES, Problem
from chassis.wire.codec import Codec
from merchant.payment_batcher import PaymentBatcher
from merchant.tokens import TokenIssuer
from merchant.waiting import OutcomeWaiter
from merchant.worker_slots import NoFreeSlot, PaymentIds

KEY_LENGTH_MAX: Final = 255
INT64_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiResources:
    """The resources of the endpoints. Without a ``batcher`` no payment is taken: the key that hashes payers is missing.

    Without ``tokens`` no key is exchanged for a token.
    """

    engine: Engine
    codec: Codec
    ids: PaymentIds
    batcher: PaymentBatcher
    waiter: OutcomeWaiter
    takes_payments: bool
    tokens: TokenIssuer | None


async def resources_of(request: Request) -> ApiResources:
    """Return the resources of the application."""
    found: ApiResources = request.app.state.resources
    return found


async def traceparent(request: Request) -> bytes:
    """Return the request's W3C trace context. It is in the caller's trace when the caller sent a valid one."""
    own: bytes = request.scope["traceparent"]
    return own


async def idempotency_key(
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=KEY_LENGTH_MAX,
            pattern=r"^[!-~]+$",
            description="Required. Chosen by the client, one for each payment, capture, cancellation or refund. The "
            "same key and body return what it was used for, as it stands then.",
        ),
    ] = None,
) -> str:
    """Return the key. Raises Problem (400) without one: a request that is sent again would be done again."""
    if key is None:
        raise Problem(
            status=400,
            title="Idempotency-Key is missing",
            detail="Send the header Idempotency-Key, for example a UUID: a request that is sent again is then done "
            "once.",
            type="urn:baraza:problem:idempotency-key-missing",
        )
    return key


def new_operation_id(resources: ApiResources) -> int:
    """Return the id of a new refund, capture or void. Raises Problem (503) where there is no free slot."""
    try:
        return resources.ids.next()[0]
    except NoFreeSlot as error:
        raise Problem(status=503, detail=str(error), headers={"Retry-After": "5"}) from error


def number_of(text: str) -> int:
    """Return the number that an id in a path is, or 0, which no payment has."""
    number = int(text)
    return number if number <= INT64_MAX else 0


Resources = Annotated[ApiResources, Depends(resources_of)]
Trace = Annotated[bytes, Depends(traceparent)]
IdempotencyKey = Annotated[str, Depends(idempotency_key)]
PaymentId: TypeAlias = Annotated[
    str, Path(pattern=r"^[1-9][0-9]{0,18}$", description="The payment's number, as a response gave it.")
]
MerchantPath: TypeAlias = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$", description="The merchant's id.")]
KeyPath: TypeAlias = Annotated[str, Path(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}$", description="The key's id, a ULID.")]

COMMON: dict[int | str, dict[str, Any]] = {
    status: PROBLEM_RESPONSES[status] for status in (400, 401, 403, 413, 415, 422, 429, 500, 503)
}
ONE: dict[int | str, dict[str, Any]] = COMMON | {404: PROBLEM_RESPONSES[404]}
CHANGE: dict[int | str, dict[str, Any]] = ONE | {409: PROBLEM_RESPONSES[409]}
