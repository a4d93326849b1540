"""What members' endpoints share: their resources, what stands in their paths and headers, and their problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

from fastapi import Depends, Header, Path, Query, Request
from sqlalchemy import Connection, Engine

from chassis.http.fields import CANONICAL, SagaId
from chassis.http.problem import PROBLEM_RESPONSES, Problem
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from members.bodies import CAPITALS
from members.intake import outbox_row
from members.member_batcher import RequestsOfMembers
from messages.contract import Message

KEY_LENGTH_MAX: Final = 255
LAST_ID: Final = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiResources:
    """The resources of the endpoints. Without ``phone_key`` no phone is hashed, and no payer is a hint."""

    engine: Engine
    codec: Codec
    batcher: RequestsOfMembers
    phone_key: bytes


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
            description="Required. Chosen by the client, one for each request. The same key and body return what it "
            "was used for, as it stands then.",
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


def save_events(tx: Connection, events: Sequence[Message], codec: Codec, trace: bytes | None) -> list[OutboxRow]:
    """Store the outbox rows of events, to be published after the commit, and return them."""
    rows = [outbox_row(event, codec, trace) for event in events]
    outbox.save(tx, rows)
    return rows


Resources = Annotated[ApiResources, Depends(resources_of)]
Trace = Annotated[bytes, Depends(traceparent)]
IdempotencyKey = Annotated[str, Depends(idempotency_key)]
MemberPath: TypeAlias = Annotated[str, CAPITALS, Path(pattern=r"^[A-Z0-9]{3,16}$", description="The member's number.")]
LoanPath: TypeAlias = Annotated[str, CAPITALS, Path(pattern=r"^LN[0-9]{1,12}$", description="The loan's number.")]
RunPath: TypeAlias = Annotated[str, CAPITALS, Path(pattern=r"^[A-Z0-9-]{3,24}$", description="The run's id.")]
ReceiptPath: TypeAlias = Annotated[str, CAPITALS, Path(pattern=r"^[A-Z0-9-]{3,40}$", description="The number.")]
RequestPath: TypeAlias = Annotated[SagaId, Path(description="The id, as a response gave it; also its saga's.")]
Before: TypeAlias = Annotated[str, CANONICAL, Query(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
After: TypeAlias = Annotated[str, Query(max_length=64, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Limit: TypeAlias = Annotated[int, Query(ge=1, le=500)]

COMMON: dict[int | str, dict[str, Any]] = {
    status: PROBLEM_RESPONSES[status] for status in (400, 401, 403, 413, 415, 422, 429, 500, 503)
}
ONE: dict[int | str, dict[str, Any]] = COMMON | {404: PROBLEM_RESPONSES[404]}
CHANGE: dict[int | str, dict[str, Any]] = ONE | {409: PROBLEM_RESPONSES[409]}
