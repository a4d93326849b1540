"""Find: one box for whatever a person has in hand. What names one thing alone leads to its page at once."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console import showing
from console.access import Visit, page
from console.apis import TRACKER
from console.rights import LOOK

TEXT_MAX = 128


def routes() -> list[Route]:
    """Return the routes."""
    return [Route("/find", find, methods=["GET"])]


@page(LOOK)
async def find(visit: Visit) -> Response:
    """Look for an id or its beginning, a reference, a subject, a letter, its message and a plan at once."""
    text = visit.request.query_params.get("q", "").strip()[:TEXT_MAX]
    if not text:
        return visit.render("find.html", text="", sagas=[])
    found = await visit.apis.get(TRACKER, "/v1/find", text=text)
    sagas, plan_id = found["sagas"], found["plan_id"]
    if plan_id is not None and not sagas:
        return RedirectResponse(f"/plans/{plan_id}", 303)
    if plan_id is None and (len(sagas) == 1 or any(saga["saga_id"] == text for saga in sagas)):
        return RedirectResponse(f"/sagas/{sagas[0]['saga_id']}", 303)
    shown = [{**each, "subject": showing.masked(each["subject"])} for each in sagas]
    return visit.render("find.html", text=text, sagas=shown)
