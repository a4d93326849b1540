"""Events, deliveries and attempts over HTTP, and what people ask to be delivered: a test event, or something again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from sqlalchemy import Connection

from chassis.http.problem import FieldError, invalid
from chassis.wire.envelope import new_id
from notifier.answers import (
    NUMBER,
    AttemptPage,
    Cursor,
    DeliveryAnswer,
    DeliveryPage,
    EventAnswer,
    EventPage,
    Id,
    IdFilter,
    Limit,
    Planned,
    Range,
    ReplayedRange,
    attempt_answer,
    cursor_of,
    delivery_answer,
    event_answer,
    missing,
    not_enabled,
    position_of,
    responses,
    whole,
)
from notifier.callers import Scope
from notifier.domain import Cause, EventType, MerchantNotice, Owner, first_delivery
from notifier.domain import Planned as Plan
from notifier.endpoint_api import Resources
from notifier.store import endpoints, reading, replays
from notifier.tables import save_planned

State = Literal["DUE", "DELIVERED", "FAILED"]
PaymentId = Annotated[str | None, Query(pattern=NUMBER)]


def add_events(router: APIRouter, resources: Resources, reads: Any) -> None:
    """Add the routes that read events."""
    engine = resources.engine

    @router.get("/webhook-events", responses=responses(422))
    def list_events(
        scope: Scope = reads,
        type: EventType | None = None,  # noqa: A002 - the parameter's name on the wire
        payment_id: PaymentId = None,
        cursor: Cursor = None,
        limit: Limit = 20,
    ) -> EventPage:
        """Return events, the newest first, whether or not an endpoint gets them."""
        with engine.connect() as tx:
            found = reading.list_events(
                scope.owner,
                tx,
                before=position_of(cursor),
                count=limit + 1,
                type_=None if type is None else type.value,
                payment_id=None if payment_id is None else whole(payment_id, "query:payment_id"),
            )
        return EventPage(events=[event_answer(row) for row in found[:limit]], next_cursor=cursor_of(found, limit))

    @router.get("/webhook-events/{event_id}", responses=responses(404, 422))
    def get_event(event_id: Id, scope: Scope = reads) -> EventAnswer:
        """Return one event."""
        with engine.connect() as tx:
            row = reading.find_event(event_id, scope.owner, tx)
        if row is None:
            raise missing("event")
        return event_answer(row)


def add_deliveries(router: APIRouter, resources: Resources, reads: Any) -> None:
    """Add the routes that read deliveries."""
    engine = resources.engine

    @router.get("/webhook-deliveries", responses=responses(422))
    def list_deliveries(
        scope: Scope = reads,
        state: State | None = None,
        endpoint_id: IdFilter = None,
        event_id: IdFilter = None,
        cursor: Cursor = None,
        limit: Limit = 20,
    ) -> DeliveryPage:
        """Return deliveries, the newest first. Those that failed for good have the state FAILED."""
        with engine.connect() as tx:
            found = reading.list_deliveries(
                scope.owner, tx, before=position_of(cursor), count=limit + 1, state=state,
                endpoint_id=endpoint_id, event_id=event_id,
            )  # fmt: skip
        return DeliveryPage(
            deliveries=[delivery_answer(row) for row in found[:limit]], next_cursor=cursor_of(found, limit)
        )

    @router.get("/webhook-deliveries/{delivery_id}", responses=responses(404, 422))
    def get_delivery(delivery_id: Id, scope: Scope = reads) -> DeliveryAnswer:
        """Return one delivery."""
        with engine.connect() as tx:
            return delivery_answer(_found_delivery(delivery_id, scope.owner, tx))


def add_attempts(router: APIRouter, resources: Resources, reads: Any) -> None:
    """Add the route that reads attempts."""
    engine = resources.engine

    @router.get("/webhook-attempts", responses=responses(422))
    def list_attempts(
        scope: Scope = reads,
        endpoint_id: IdFilter = None,
        delivery_id: IdFilter = None,
        only_failed: bool = False,
        cursor: Cursor = None,
        limit: Limit = 20,
    ) -> AttemptPage:
        """Return attempts, the newest first. Nothing of a response but its status is kept."""
        with engine.connect() as tx:
            found = reading.list_attempts(
                scope.owner, tx, before=position_of(cursor), count=limit + 1, endpoint_id=endpoint_id,
                delivery_id=delivery_id, only_failed=only_failed,
            )  # fmt: skip
        return AttemptPage(attempts=[attempt_answer(row) for row in found[:limit]], next_cursor=cursor_of(found, limit))


def add_replays(router: APIRouter, resources: Resources, acts: Any) -> None:
    """Add the routes by which people have something delivered."""
    engine, clock = resources.engine, resources.clock

    @router.post("/webhook-deliveries/{delivery_id}/replay", status_code=202, responses=responses(404, 409, 422))
    def replay(delivery_id: Id, scope: Scope = acts) -> Planned:
        """Deliver an event again, under the same webhook-id and with the whole schedule."""
        with engine.begin() as tx:
            row = _found_delivery(delivery_id, scope.owner, tx)
            _check_enabled(row.endpoint_id, scope.owner, tx)
            made = replays.repeat(delivery_id, new_id(), scope.owner, tx, now=clock())
        if made is None:
            raise missing("delivery")
        return Planned(event_id=row.event_id, delivery_id=made)

    @router.post("/webhook-endpoints/{endpoint_id}/replay", status_code=202, responses=responses(404, 409, 413, 422))
    def replay_range(endpoint_id: Id, body: Range, scope: Scope = acts) -> ReplayedRange:
        """Deliver the events of a range of time again, those included that occurred while it was disabled."""
        if body.until <= body.since:
            raise invalid([FieldError(pointer="#/until", detail="Not later than since.")])
        with engine.begin() as tx:
            endpoint = _check_enabled(endpoint_id, scope.owner, tx)
            found = replays.repeat_range(
                endpoint_id, list(endpoint.types), new_id(), scope.owner, tx,
                since=body.since, until=body.until, after=whole(body.after, "#/after"),
                only_failed=body.only_failed, now=clock(),
            )  # fmt: skip
        has_more = found.chosen == replays.REPLAY_MAX
        return ReplayedRange(
            events=found.chosen, deliveries=found.repeated, next_after=str(found.last) if has_more else None
        )


def add_ping(router: APIRouter, resources: Resources, acts: Any) -> None:
    """Add the route by which people test an endpoint."""
    engine, clock = resources.engine, resources.clock

    @router.post("/webhook-endpoints/{endpoint_id}/ping", status_code=202, responses=responses(404, 409, 422))
    def ping(endpoint_id: Id, scope: Scope = acts) -> Planned:
        """Send a test event to one endpoint."""
        notice = _ping(endpoint_id, scope.owner, clock())
        delivery = first_delivery(notice, endpoint_id, Cause.PING)
        with engine.begin() as tx:
            _check_enabled(endpoint_id, scope.owner, tx)
            save_planned(Plan(subscriptions={}, notices=[notice], deliveries=[delivery]), tx)
        return Planned(event_id=notice.event_id, delivery_id=delivery.delivery_id)


def _ping(endpoint_id: str, owner: Owner, now: datetime) -> MerchantNotice:
    merchant_id, is_live = owner
    return MerchantNotice(
        event_id=new_id(),
        type=EventType.PING,
        merchant_id=merchant_id,
        is_live=is_live,
        occurred_at=now,
        data={"endpoint_id": endpoint_id, "is_live": is_live},
    )


def _check_enabled(endpoint_id: str, owner: Owner, tx: Connection) -> Any:
    """Return an endpoint's row. Raises the 404 without one, and the 409 of a disabled one."""
    row = endpoints.find(endpoint_id, owner, tx)
    if row is None:
        raise missing("endpoint")
    if row.state != "ENABLED":
        raise not_enabled(endpoint_id)
    return row


def _found_delivery(delivery_id: str, owner: Owner, tx: Connection) -> Any:
    row = reading.find_delivery(delivery_id, owner, tx)
    if row is None:
        raise missing("delivery")
    return row
