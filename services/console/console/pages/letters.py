"""Dead letters. Those that no saga is responsible for are closed with a reason; none is edited and sent again."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console.access import Visit, act, page
from console.apis import TRACKER
from console.pages.ids import ID, id_of, reason_of
from console.rights import LOOK, OPERATE

CHOSEN = "letter."
SHOWN_MAX: Final = 200
STATES: Final = {
    "OPEN": "open", "OWNED": "of a parked saga", "CLOSED": "closed", "REDRIVEN": "redriven", "ALL": "all",
}  # fmt: skip

Json = Any


def routes() -> list[Route]:
    """Return the routes."""
    return [
        Route("/letters", show, methods=["GET"]),
        Route("/letters/close", preview, methods=["POST"]),
        Route("/letters/close/apply", close, methods=["POST"]),
        Route("/letters/{letter_id}", one, methods=["GET"]),
    ]


@page(LOOK)
async def show(visit: Visit) -> Response:
    """Letters of one state: open ones from the oldest on, the others from the latest."""
    given = visit.request.query_params
    state = given.get("state", "OPEN")
    if state not in STATES:
        raise HTTPException(422, f"Choose one of the states {', '.join(STATES)}.")
    found = await visit.apis.get(TRACKER, "/v1/dead-letters", state=state, cursor=given.get("cursor"), limit=SHOWN_MAX)
    following = found["next_cursor"]
    return visit.render(
        "letters.html",
        letters=found["letters"],
        state=state,
        states=STATES,
        next_url=f"/letters?{urlencode({'state': state, 'cursor': following})}" if following else None,
        done=given.get("closed", "")[:6],
    )


@page(LOOK)
async def one(visit: Visit) -> Response:
    """One letter: its headers, and its message where what may be personal is masked."""
    found = await visit.apis.get(TRACKER, f"/v1/dead-letters/{id_of(visit, 'letter_id')}")
    return visit.render("letter.html", letter=found["letter"], headers=found["headers"], body=found["body"])


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
