"""The list of sagas: its filters are in the address, its pages go by a cursor, and it is exported as a file.

Saved views stand at its head. Where these cannot be read, the list says so, and is complete without them.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from console import showing
from console.access import Visit, page
from console.apis import TRACKER, ApiProblem
from console.pages.filters import LIST, address, as_api, filters_of, query_of
from console.pages.views import shown_views
from console.rights import LOOK

PAGE_SIZE: Final = 50
EXPORT_PAGE: Final = 200
EXPORT_MAX: Final = 10_000
"""Rows of an export; what is beyond them is said in its last row."""
COLUMNS = ("saga_id", "type", "state", "step", "subject", "started_at", "finished_at", "cause", "reason")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins with one of these would run in a spreadsheet."""

Json = Any


def routes() -> list[Route]:
    """Return the routes."""
    return [Route("/sagas", show, methods=["GET"]), Route("/sagas.csv", export, methods=["GET"])]


@page(LOOK)
async def show(visit: Visit) -> Response:
    """A page of sagas, the newest first."""
    filters = filters_of(visit.request.query_params)
    cursor = visit.request.query_params.get("cursor")
    query = as_api(filters)
    found, (counted,), views = await asyncio.gather(
        visit.apis.get(TRACKER, "/v1/sagas", **query, cursor=cursor, limit=PAGE_SIZE),
        visit.apis.each((TRACKER, f"/v1/saga-count?{urlencode(query, doseq=True)}")),
        shown_views(visit, filters),
    )
    following = found["next_cursor"]
    return visit.render(
        "sagas.html",
        sagas=[{**saga, "subject": showing.masked(saga["subject"])} for saga in found["sagas"]],
        counted=None if isinstance(counted, ApiProblem) else counted,
        freshness=found["freshness"],
        filters=filters,
        is_later=cursor is not None,
        views=views,
        query=query_of(filters),
        first_url=address(LIST, filters),
        export_url=address("/sagas.csv", filters),
        export_max=EXPORT_MAX,
        next_url=address(LIST, {**filters, "cursor": [following]}) if following else None,
        states=showing.STATES,
        causes=showing.CAUSES,
    )


@page(LOOK)
async def export(visit: Visit) -> Response:
    """The list as a file of comma-separated values (RFC 4180), the newest first; whom a saga is about stays masked."""
    query = as_api(filters_of(visit.request.query_params))
    first = await visit.apis.get(TRACKER, "/v1/sagas", **query, limit=EXPORT_PAGE)
    headers = {"Content-Disposition": 'attachment; filename="sagas.csv"'}
    return StreamingResponse(_rows(visit, query, first), media_type="text/csv; charset=utf-8", headers=headers)


async def _rows(visit: Visit, query: Mapping[str, Any], found: Json) -> AsyncIterator[str]:
    yield line(COLUMNS)
    count = 0
    while True:
        for saga in found["sagas"]:
            cells = {**saga, "subject": showing.masked(saga["subject"])}
            yield line([cells[name] for name in COLUMNS])
        count += len(found["sagas"])
        cursor = found["next_cursor"]
        if cursor is None:
            return
        if count >= EXPORT_MAX:
            yield line([f"There are more than these {count}; narrow the filters down for the rest."])
            return
        try:
            found = await visit.apis.get(TRACKER, "/v1/sagas", **query, cursor=cursor, limit=EXPORT_PAGE)
        except ApiProblem as problem:
            yield line([f"The rest is missing: {problem.detail}"])
            return


def line(cells: Sequence[str | None]) -> str:
    """Return one line of the file. A cell that a spreadsheet would take for a formula gets an apostrophe before it."""
    out = io.StringIO()
    texts = ["" if cell is None else str(cell) for cell in cells]
    csv.writer(out).writerow([f"'{text}" if text.startswith(FORMULA) else text for text in texts])
    return out.getvalue()
