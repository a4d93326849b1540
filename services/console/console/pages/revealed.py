"""Who revealed whom a saga is about, and why: a part of the log for those who watch over it."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from chassis.values.text import is_storable
from console.access import Visit, page
from console.pages.ids import ID
from console.rights import AUDIT

PAGE_SIZE: Final = 100
DIGITS_MAX: Final = 18
"""Of a number that PostgreSQL's bigint can hold."""


def routes() -> list[Route]:
    """Return the routes."""
    return [Route("/log/reveals", shown, methods=["GET"])]


@page(AUDIT)
async def shown(visit: Visit) -> Response:
    """Who revealed what, the latest first."""
    query = visit.request.query_params
    given = {name: query.get(name, "").strip() for name in ("saga_id", "actor")}
    if given["saga_id"] and ID.fullmatch(given["saga_id"]) is None:
        raise HTTPException(422, "saga_id is no id.")
    if not is_storable(given["actor"]):
        raise HTTPException(422, "actor is no text.")
    found = await visit.console.store.revealed(
        before=_before(query.get("cursor", "")),
        saga_id=given["saga_id"] or None,
        subject=given["actor"] or None,
        limit=PAGE_SIZE + 1,
    )
    reveals, more = found[:PAGE_SIZE], len(found) > PAGE_SIZE
    filters = {name: value for name, value in given.items() if value}
    cursor = {**filters, "cursor": reveals[-1].reveal_id} if more else {}
    return visit.render(
        "reveals.html",
        reveals=[{**row._asdict(), "revealed_at": row.revealed_at.isoformat()} for row in reveals],
        given=given,
        filters=filters,
        next_url=f"/log/reveals?{urlencode(cursor)}" if more else None,
    )


def _before(cursor: str) -> int | None:
    """Return the number in a cursor, or answer 422."""
    if not cursor:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= DIGITS_MAX):
        raise HTTPException(422, "The cursor is none of ours; begin at the first page.")
    return int(cursor)
