"""Endpoints over HTTP: what a merchant creates and changes, and what staff read, enable and disable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import Engine

from chassis.http import webhook_signing
from chassis.http.json_body import JsonRoute
from chassis.http.problem import FieldError, Problem, invalid
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from notifier.answers import (
    CreatedEndpoint,
    Cursor,
    EndpointAnswer,
    EndpointChange,
    EndpointPage,
    Id,
    Limit,
    NewEndpoint,
    RotatedSecret,
    endpoint_answer,
    missing,
    responses,
)
from notifier.callers import Scope
from notifier.calling import Caller, UnknownName
from notifier.model.addresses import ForbiddenAddress, ForbiddenUrl
from notifier.model.schedule import Disabled
from notifier.sealing import NoKey, Sealing
from notifier.store import endpoints
from notifier.store.endpoints import TooManyEndpoints, UrlTaken

FIRST = ""
"""The id before all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the routes are built from."""

    engine: Engine
    codec: Codec
    caller: Caller
    sealing: Sealing
    clock: Callable[[], datetime]


def add_reading(router: APIRouter, resources: Resources, reads: Any) -> None:
    """Add the routes that read endpoints; ``reads`` is the dependency that returns their scope."""
    engine = resources.engine

    @router.get("/webhook-endpoints", responses=responses(422))
    def list_endpoints(scope: Scope = reads, cursor: Cursor = None, limit: Limit = 20) -> EndpointPage:
        """Return endpoints in the order in which they were created."""
        with engine.connect() as tx:
            found = endpoints.list_endpoints(scope.owner, tx, after=cursor or FIRST, count=limit + 1)
        shown = found[:limit]
        return EndpointPage(
            endpoints=[endpoint_answer(row) for row in shown],
            next_cursor=shown[-1].endpoint_id if len(found) > limit else None,
        )

    @router.get("/webhook-endpoints/{endpoint_id}", responses=responses(404, 422))
    def get_endpoint(endpoint_id: Id, scope: Scope = reads) -> EndpointAnswer:
        """Return one endpoint. Its secret is never shown again."""
        with engine.connect() as tx:
            return endpoint_answer(_found(endpoints.find(endpoint_id, scope.owner, tx)))


def add_switching(router: APIRouter, resources: Resources, acts: Any) -> None:
    """Add the routes by which a merchant or an operator switches endpoints off and on."""
    engine, clock = resources.engine, resources.clock

    @router.post("/webhook-endpoints/{endpoint_id}/enabling", responses=responses(404, 422))
    def enable(endpoint_id: Id, scope: Scope = acts) -> EndpointAnswer:
        """Enable an endpoint. What was not delivered meanwhile is delivered by a replay."""
        with engine.begin() as tx:
            return endpoint_answer(_found(endpoints.enable(endpoint_id, scope.owner, tx, now=clock())))

    @router.post("/webhook-endpoints/{endpoint_id}/disabling", responses=responses(404, 422))
    def disable(endpoint_id: Id, scope: Scope = acts) -> EndpointAnswer:
        """Disable an endpoint: nothing is sent to it any more, and what is due ends as failed."""
        because = Disabled.OPERATOR if scope.is_staff else Disabled.MERCHANT
        with engine.begin() as tx:
            row = endpoints.disable(endpoint_id, scope.owner, tx, because=because.value, now=clock())
        return endpoint_answer(_found(row))


def add_creating(router: APIRouter, resources: Resources, acts: Any) -> None:
    """Add the routes by which a merchant creates and deletes endpoints."""
    engine, clock = resources.engine, resources.clock

    @router.post("/webhook-endpoints", status_code=201, responses=responses(409, 413, 415, 422))
    def create(body: NewEndpoint, response: Response, scope: Scope = acts) -> CreatedEndpoint:
        """Create an endpoint. Its secret is in this response alone."""
        _check(resources.caller, body.url, scope)
        secret = webhook_signing.new_secret()
        new = endpoints.NewEndpoint(
            endpoint_id=new_id(), url=body.url, description=body.description or "", types=body.types
        )
        sealed = _sealed(resources.sealing, secret)
        try:
            with engine.begin() as tx:
                row = endpoints.create(new, sealed, scope.owner, tx, now=clock())
        except UrlTaken as taken:
            raise _url_taken(taken) from taken
        except TooManyEndpoints as error:
            raise Problem(status=409, title="Too many endpoints", detail=str(error)) from error
        response.headers["Location"] = f"/v1/webhook-endpoints/{new.endpoint_id}"
        response.headers["Cache-Control"] = "no-store"
        return CreatedEndpoint(**endpoint_answer(row).model_dump(), secret=secret)

    @router.delete("/webhook-endpoints/{endpoint_id}", status_code=204, responses=responses(404, 422))
    def delete(endpoint_id: Id, scope: Scope = acts) -> None:
        """Delete an endpoint with its secrets. What was sent to it stays readable until it is too old."""
        with engine.begin() as tx:
            deleted = endpoints.delete(endpoint_id, scope.owner, tx, now=clock())
        if not deleted:
            raise missing("endpoint")


def add_editing(router: APIRouter, resources: Resources, acts: Any) -> None:
    """Add the route by which a merchant changes an endpoint."""
    engine, clock = resources.engine, resources.clock

    @router.patch("/webhook-endpoints/{endpoint_id}", responses=responses(404, 409, 413, 415, 422))
    def change(endpoint_id: Id, body: EndpointChange, scope: Scope = acts) -> EndpointAnswer:
        """Change an endpoint. A new address is checked as that of a new endpoint is."""
        with engine.connect() as tx:
            _found(endpoints.find(endpoint_id, scope.owner, tx))
        if body.url is not None:
            _check(resources.caller, body.url, scope)
        try:
            with engine.begin() as tx:
                row = endpoints.change(
                    endpoint_id, scope.owner, tx,
                    url=body.url, description=body.description, types=body.types, now=clock(),
                )  # fmt: skip
        except UrlTaken as taken:
            raise _url_taken(taken) from taken
        return endpoint_answer(_found(row))


def add_rotation(router: APIRouter, resources: Resources, acts: Any) -> None:
    """Add the route by which a merchant replaces a secret."""
    engine, clock = resources.engine, resources.clock

    @router.post("/webhook-endpoints/{endpoint_id}/secret-rotation", responses=responses(404, 422))
    def rotate(endpoint_id: Id, response: Response, scope: Scope = acts) -> RotatedSecret:
        """Replace the secret. For 24 hours every event is signed with both."""
        secret, now = webhook_signing.new_secret(), clock()
        with engine.connect() as tx:
            _found(endpoints.find(endpoint_id, scope.owner, tx))
        sealed = _sealed(resources.sealing, secret)
        with engine.begin() as tx:
            _found(endpoints.rotate(endpoint_id, sealed, scope.owner, tx, now=now))
        response.headers["Cache-Control"] = "no-store"
        return RotatedSecret(endpoint_id=endpoint_id, secret=secret, previous_until=now + webhook_signing.OVERLAP)


def add_merchants(router: APIRouter, resources: Resources, acts: Any) -> None:
    """Add every route about endpoints that a merchant has."""
    add_reading(router, resources, acts)
    add_switching(router, resources, acts)
    add_creating(router, resources, acts)
    add_editing(router, resources, acts)
    add_rotation(router, resources, acts)


def new_router(prefix: str, tag: str) -> APIRouter:
    """Return a router whose routes begin with ``prefix``."""
    return APIRouter(route_class=JsonRoute, prefix=prefix, tags=[tag])


def _check(caller: Caller, url: str, scope: Scope) -> None:
    """Raise the 422 for an address that is never called, or leads nowhere now."""
    try:
        caller.check(url, is_live=scope.owner[1])
    except (ForbiddenUrl, ForbiddenAddress) as error:
        raise invalid([FieldError(pointer="#/url", detail=f"{error}.")]) from error
    except UnknownName as error:
        detail = "The name has no address now; check it, and send it when it has one."
        raise invalid([FieldError(pointer="#/url", detail=detail)]) from error


def _sealed(sealing: Sealing, secret: str) -> bytes:
    try:
        return sealing.seal(secret)
    except (NoKey, OSError) as error:
        raise Problem(
            status=503,
            title="Endpoints are not configured",
            detail="This deployment has no key for the secrets of endpoints; an operator must set one.",
        ) from error


def _url_taken(taken: UrlTaken) -> Problem:
    return Problem(
        status=409,
        title="The address is taken",
        detail=f"{taken} Change that one, or send another address.",
        type="urn:baraza:problem:endpoint-exists",
        extra={"endpoint_id": taken.endpoint_id},
    )


def _found(row: Any) -> Any:
    if row is None:
        raise missing("endpoint")
    return row
