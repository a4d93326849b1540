"""The bodies of notifier's API, and the problems that several of its routes have."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from chassis.http.fields import ShortText, Time
from chassis.http.problem import PROBLEM_RESPONSES, FieldError, Problem, invalid
from notifier.domain import EventType
from notifier.model.addresses import URL_LENGTH_MAX
from notifier.store.reading import NEWEST

PAGE_MAX: Final = 100
NUMBER: Final = r"^(0|[1-9][0-9]{0,18})$"
TYPES_MAX: Final = len(EventType)
Id: TypeAlias = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
IdFilter: TypeAlias = Annotated[str | None, Query(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
Cursor: TypeAlias = Annotated[str | None, Query(max_length=26, pattern=r"^[0-9A-Za-z_-]+$")]
Limit: TypeAlias = Annotated[int, Query(ge=1, le=PAGE_MAX)]


def _subscribed(types: list[EventType]) -> list[EventType]:
    """Return the types without repetition. Raises ValueError for a test event, which nothing subscribes to."""
    if EventType.PING in types:
        raise ValueError("ping is sent only as a test event; leave it out")
    return sorted(set(types))


Url: TypeAlias = Annotated[str, Field(min_length=1, max_length=URL_LENGTH_MAX)]
Types: TypeAlias = Annotated[list[EventType], Field(max_length=TYPES_MAX), AfterValidator(_subscribed)]


class NewEndpoint(BaseModel):
    """Where a merchant wants to be called, and for which events; no types: all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Url
    description: ShortText | None = None
    types: Types = []


class EndpointChange(BaseModel):
    """What of an endpoint is changed; what is missing stays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Url | None = None
    description: ShortText | None = None
    types: Types | None = None


class Range(BaseModel):
    """Which events are delivered again: those that occurred from ``since`` on, and before ``until``.

    ``only_failed`` leaves out what the endpoint has accepted already. ``after`` is the ``next_after`` of the range's
    last piece.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: Time
    until: Time
    only_failed: bool = True
    after: Annotated[str, Field(pattern=NUMBER)] = "0"


class EndpointAnswer(BaseModel):
    """An endpoint. ``disabled_because`` is MERCHANT, OPERATOR, GONE (it answered 410) or FAILING (for five days).

    ``failing_since`` is its first failure since its last success. Nothing is sent to it before ``slow_until``.
    """

    endpoint_id: str
    is_live: bool
    url: str
    description: str
    types: list[str]
    is_enabled: bool
    disabled_because: str | None
    disabled_at: datetime | None
    failing_since: datetime | None
    slow_until: datetime | None
    created_at: datetime
    updated_at: datetime


class CreatedEndpoint(EndpointAnswer):
    """A new endpoint with its secret, which is shown this once."""

    secret: str


class EndpointPage(BaseModel):
    """A page of endpoints; request the next one with ``cursor=next_cursor``."""

    endpoints: list[EndpointAnswer]
    next_cursor: str | None


class RotatedSecret(BaseModel):
    """A new secret, which is shown this once. Until ``previous_until`` the one before signs as well."""

    endpoint_id: str
    secret: str
    previous_until: datetime


class EventAnswer(BaseModel):
    """An event. ``body`` is what is sent and signed; ``event_id`` is its ``webhook-id``."""

    event_id: str
    type: str
    payment_id: str | None
    occurred_at: datetime
    created_at: datetime
    body: str


class EventPage(BaseModel):
    """A page of events, the newest first; request the next one with ``cursor=next_cursor``."""

    events: list[EventAnswer]
    next_cursor: str | None


class DeliveryAnswer(BaseModel):
    """One event to one endpoint: DUE, DELIVERED or FAILED. ``cause`` is EVENT, REPLAY or PING."""

    delivery_id: str
    event_id: str
    endpoint_id: str
    type: str
    cause: str
    state: str
    attempt_count: int
    next_attempt_at: datetime | None
    last_outcome: str | None
    last_status: int | None
    created_at: datetime
    ended_at: datetime | None


class DeliveryPage(BaseModel):
    """A page of deliveries, the newest first; request the next one with ``cursor=next_cursor``."""

    deliveries: list[DeliveryAnswer]
    next_cursor: str | None


class AttemptAnswer(BaseModel):
    """One call: how it ended, and the status of the response where there was one."""

    delivery_id: str
    number: int
    event_id: str
    endpoint_id: str
    began_at: datetime
    duration_ms: int
    outcome: str
    status: int | None


class AttemptPage(BaseModel):
    """A page of attempts, the newest first; request the next one with ``cursor=next_cursor``."""

    attempts: list[AttemptAnswer]
    next_cursor: str | None


class Planned(BaseModel):
    """A delivery that is made at once."""

    event_id: str
    delivery_id: str


class ReplayedRange(BaseModel):
    """How many events of a range were found, and how many are new deliveries; the others were due already.

    ``next_after`` is not null where the range has more: send it as ``after``.
    """

    events: int
    deliveries: int
    next_after: str | None


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the declarations of a route's problems."""
    return {status: PROBLEM_RESPONSES[status] for status in sorted({*statuses, 400, 401, 403, 500, 503})}


def endpoint_answer(row: Any) -> EndpointAnswer:
    """Return the answer about an endpoint's row."""
    return EndpointAnswer(**_fields(EndpointAnswer, row), is_enabled=row.state == "ENABLED")


def event_answer(row: Any) -> EventAnswer:
    """Return the answer about an event's row."""
    payment_id = None if row.payment_id is None else str(row.payment_id)
    return EventAnswer(**_fields(EventAnswer, row) | {"payment_id": payment_id})


def delivery_answer(row: Any) -> DeliveryAnswer:
    """Return the answer about a delivery's row."""
    return DeliveryAnswer(**_fields(DeliveryAnswer, row))


def attempt_answer(row: Any) -> AttemptAnswer:
    """Return the answer about an attempt's row."""
    return AttemptAnswer(**_fields(AttemptAnswer, row))


def position_of(cursor: str | None) -> int:
    """Return the position before which a page begins. Raises the 422 of a cursor that no page has returned."""
    if cursor is None:
        return NEWEST
    if not (cursor.isascii() and cursor.isdecimal()):
        raise invalid(
            [FieldError(pointer="query:cursor", detail="No page has returned this cursor; send it unchanged.")]
        )
    return whole(cursor, "query:cursor")


def whole(digits: str, pointer: str) -> int:
    """Return a number of 63 bits. Raises the 422 of a larger one."""
    if int(digits) > NEWEST:
        raise invalid([FieldError(pointer=pointer, detail="Too large a number.")])
    return int(digits)


def cursor_of(found: list[Any], limit: int) -> str | None:
    """Return the cursor of the page after this one; None on the last one. One row more than ``limit`` was read."""
    return str(found[limit - 1].position) if len(found) > limit else None


def missing(what: str) -> Problem:
    """Return the 404 for what this merchant does not have in this mode, whether or not another one has it."""
    return Problem(status=404, detail=f"There is no such {what} of this merchant in this mode.")


def not_enabled(endpoint_id: str) -> Problem:
    """Return the 409 for a disabled endpoint, to which nothing is sent."""
    return Problem(
        status=409,
        title="The endpoint is disabled",
        detail=f"Nothing is sent to endpoint {endpoint_id} while it is disabled; enable it first.",
        type="urn:baraza:problem:endpoint-disabled",
    )


def _fields(model: type[BaseModel], row: Any) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if name in model.model_fields}
