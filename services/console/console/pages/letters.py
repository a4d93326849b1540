"""Dead letters that no saga is responsible for: they are closed with a reason, and never edited and sent again."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console.access import Visit, act, page
from console.apis import TRACKER
from console.pages.ids import ID, reason_of
from console.rights import LOOK, OPERATE

CHOSEN = "letter."
SHOWN_MAX = 200

Json = Any


def routes() -> list[Route]:
    """Return the routes."""
    return [
        Route("/letters", show, methods=["GET"]),
        Route("/letters/close", preview, methods=["POST"]),
        Route("/letters/close/apply", close, methods=["POST"]),
    ]


@page(LOOK)
async def show(visit: Visit) -> Response:
    """The open letters, the oldest first."""
    found = await visit.apis.get(TRACKER, "/v1/dead-letters", limit=SHOWN_MAX)
    done = visit.request.query_params.get("closed", "")
    return visit.render("letters.html", letters=found["letters"], shown_max=SHOWN_MAX, done=done[:6])


@act(OPERATE)
async def preview(visit: Visit) -> Response:
    """Show what will be closed, and why."""
    reason, chosen = reason_of(visit), set(chosen_of(visit))
    found = await visit.apis.get(TRACKER, "/v1/dead-letters", limit=SHOWN_MAX)
    letters = [each for each in found["letters"] if each["letter_id"] in chosen]
    return visit.render("letters_preview.html", letters=letters, reason=reason, gone=len(chosen) - len(letters))


@act(OPERATE)
async def close(visit: Visit) -> Response:
    """Close the letters."""
    body = {"letter_ids": chosen_of(visit), "reason": reason_of(visit)}
    closed = await visit.apis.post(TRACKER, "/v1/dead-letters/close", body)
    return RedirectResponse(f"/letters?closed={len(closed['closed'])}", 303)


def chosen_of(visit: Visit) -> list[str]:
    """Return the ids that a form has chosen, or answer 422."""
    found = [name.removeprefix(CHOSEN) for name in visit.form if name.startswith(CHOSEN)]
    if not found or any(ID.fullmatch(each) is None for each in found):
        raise HTTPException(422, "Choose at least one letter.")
    return found
