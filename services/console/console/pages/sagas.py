"""The list of sagas: its filters are in the address, its pages go by a cursor, and it is exported as a file."""

from __future__ import annotations

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
from console.rights import LOOK

PAGE_SIZE: Final = 50
EXPORT_PAGE: Final = 200
EXPORT_MAX: Final = 10_000
"""Rows of an export; what is beyond them is said in its last row."""
FILTERS = (
    "state", "type", "step", "cause", "group", "subject", "reference", "started_after", "started_before", "awaiting",
    "contradicted", "older_than_s",
)  # fmt: skip
REPEATED = ("state", "type", "step", "cause")
"""Of these several values may be given."""
TIMES = ("started_after", "started_before")
COLUMNS = ("saga_id", "type", "state", "step", "subject", "started_at", "finished_at", "cause", "reason")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins with one of these would run in a spreadsheet."""

Json = Any
Filters = Mapping[str, Sequence[str]]


def routes() -> list[Route]:
    """Return the routes."""
    return [Route("/sagas", show, methods=["GET"]), Route("/sagas.csv", export, methods=["GET"])]


@page(LOOK)
async def show(visit: Visit) -> Response:
    """A page of sagas, the newest first."""
    filters = filters_of(visit)
    cursor = visit.request.query_params.get("cursor")
    query = as_api(filters)
    found = await visit.apis.get(TRACKER, "/v1/sagas", **query, cursor=cursor, limit=PAGE_SIZE)
    (counted,) = await visit.apis.each((TRACKER, f"/v1/saga-count?{urlencode(query, doseq=True)}"))
    following = found["next_cursor"]
    return visit.render(
        "sagas.html",
        sagas=[{**saga, "subject": showing.masked(saga["subject"])} for saga in found["sagas"]],
        counted=None if isinstance(counted, ApiProblem) else counted,
        freshness=found["freshness"],
        filters=filters,
        is_later=cursor is not None,
        first_url=address("/sagas", filters),
        export_url=address("/sagas.csv", filters),
        export_max=EXPORT_MAX,
        next_url=address("/sagas", {**filters, "cursor": [following]}) if following else None,
        states=showing.STATES,
        causes=showing.CAUSES,
    )


@page(LOOK)
async def export(visit: Visit) -> Response:
    """The list as a file of comma-separated values (RFC 4180), the newest first; whom a saga is about stays masked."""
    query = as_api(filters_of(visit))
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


def filters_of(visit: Visit) -> dict[str, list[str]]:
    """Return the filters that are set, by name."""
    given = visit.request.query_params
    found = {name: [text for each in given.getlist(name) if (text := each.strip())] for name in FILTERS}
    return {name: texts if name in REPEATED else texts[-1:] for name, texts in found.items() if texts}


def address(path: str, filters: Filters) -> str:
    """Return the address of a list with these filters."""
    return f"{path}?{urlencode(filters, doseq=True)}" if filters else path


def as_api(filters: Filters) -> dict[str, Any]:
    """Return filters as the API takes them."""
    return {name: [_as_api(name, text) for text in texts] for name, texts in filters.items()}


def _as_api(name: str, value: str) -> str:
    """Return a filter as the API takes it: a time of a form is in UTC, and a mark is true."""
    if name in TIMES and len(value) == len("2026-11-21T10:00"):
        return f"{value}:00Z"
    return "true" if value == "on" else value
