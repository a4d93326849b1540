"""Find: one box for whatever a person has in hand. An exact id leads to its page at once."""

from __future__ import annotations

from typing import Any

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console import showing
from console.access import Visit, page
from console.apis import TRACKER, ApiProblem
from console.pages.ids import ID
from console.rights import LOOK

TEXT_MAX = 128
FOUND_MAX = 20

Json = Any


def routes() -> list[Route]:
    """Return the routes."""
    return [Route("/find", find, methods=["GET"])]


@page(LOOK)
async def find(visit: Visit) -> Response:
    """Look for a saga, a plan, a reference and a subject at once."""
    text = visit.request.query_params.get("q", "").strip()[:TEXT_MAX]
    if not text:
        return visit.render("find.html", text="", sagas=[], plan=None, problems=[])
    exact: list[Json | ApiProblem] = []
    if ID.fullmatch(text):
        exact = await visit.apis.each((TRACKER, f"/v1/sagas/{text}"), (TRACKER, f"/v1/plans/{text}"))
    saga, plan = (each if isinstance(each, dict) else None for each in exact or (None, None))
    if saga is not None:
        return RedirectResponse(f"/sagas/{saga['saga']['saga_id']}", 303)
    if plan is not None:
        return RedirectResponse(f"/plans/{plan['plan_id']}", 303)
    sagas, problems = await _listed(visit, text)
    if len(sagas) == 1:
        return RedirectResponse(f"/sagas/{sagas[0]['saga_id']}", 303)
    shown = [{**each, "subject": showing.masked(each["subject"])} for each in sagas]
    return visit.render("find.html", text=text, sagas=shown, plan=None, problems=problems)


async def _listed(visit: Visit, text: str) -> tuple[list[Json], list[str]]:
    """Return the sagas with this reference or subject, each once, the newest first, and what could not be searched."""
    found: dict[str, Json] = {}
    problems = []
    for name in ("reference", "subject"):
        try:
            page_of = await visit.apis.get(TRACKER, "/v1/sagas", **{name: text}, limit=FOUND_MAX)
        except ApiProblem as problem:
            problems.append(f"By {name}: {problem.detail}")
            continue
        found |= {saga["saga_id"]: saga for saga in page_of["sagas"]}
    return sorted(found.values(), key=lambda saga: str(saga["started_at"]), reverse=True), problems
