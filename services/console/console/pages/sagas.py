"""The list of sagas: its filters are in the address, and its pages go by a cursor."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response
from starlette.routing import Route

from console import showing
from console.access import Visit, page
from console.apis import TRACKER
from console.rights import LOOK

PAGE_SIZE = 50
FILTERS = (
    "state", "type", "step", "subject", "reference", "started_after", "started_before", "awaiting", "contradicted",
    "older_than_s",
)  # fmt: skip
TIMES = ("started_after", "started_before")

Json = Any


def routes() -> list[Route]:
    """Return the routes."""
    return [Route("/sagas", show, methods=["GET"])]


@page(LOOK)
async def show(visit: Visit) -> Response:
    """A page of sagas, the newest first."""
    filters = filters_of(visit)
    query = {name: as_api(name, value) for name, value in filters.items()}
    cursor = visit.request.query_params.get("cursor")
    found = await visit.apis.get(TRACKER, "/v1/sagas", **query, cursor=cursor, limit=PAGE_SIZE)
    following = found["next_cursor"]
    return visit.render(
        "sagas.html",
        sagas=[{**saga, "subject": showing.masked(saga["subject"])} for saga in found["sagas"]],
        freshness=found["freshness"],
        filters=filters,
        is_later=cursor is not None,
        first_url=f"/sagas?{urlencode(filters)}",
        next_url=f"/sagas?{urlencode({**filters, 'cursor': following})}" if following else None,
        states=showing.STATES,
    )


def filters_of(visit: Visit) -> dict[str, str]:
    """Return the filters that are set, by name."""
    given = visit.request.query_params
    return {name: text for name in FILTERS if (text := given.get(name, "").strip())}


def as_api(name: str, value: str) -> str:
    """Return a filter as the API takes it: a time of a form is in UTC, and a mark is true."""
    if name in TIMES and len(value) == len("2026-11-21T10:00"):
        return f"{value}:00Z"
    return "true" if value == "on" else value
