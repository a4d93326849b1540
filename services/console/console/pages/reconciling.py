"""Reconciliation: the runs, what each opened and closed, and the divergences, which finance explains."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console.access import Visit, act, page
from console.apis import RECONCILIATION, ApiProblem
from console.pages.ids import id_of, reason_of
from console.rights import FINANCE

PAGE_SIZE: Final = 50
LINES_MAX: Final = 200

Json = Any


def routes() -> list[Route]:
    """Return the routes."""
    return [
        Route("/reconciliation", listed, methods=["GET"]),
        Route("/reconciliation/{run}", show, methods=["GET"]),
        Route("/divergences/{divergence_id}/close", close, methods=["POST"]),
    ]


@page(FINANCE)
async def listed(visit: Visit) -> Response:
    """The runs, the newest first, and what is open."""
    cursor = visit.request.query_params.get("cursor", "")
    query = {"limit": PAGE_SIZE} | ({"cursor": cursor} if cursor.isdigit() else {})
    runs, divergences = await visit.apis.each(
        (RECONCILIATION, f"/v1/reconciliation-runs?{urlencode(query)}"),
        (RECONCILIATION, f"/v1/divergences?state=OPEN&limit={PAGE_SIZE}"),
    )
    if isinstance(runs, ApiProblem):
        raise runs
    following = runs["next_cursor"]
    return visit.render(
        "reconciliation.html",
        runs=runs["runs"],
        divergences=divergences,
        next_url=f"/reconciliation?{urlencode({'cursor': following})}" if following else None,
        done=visit.request.query_params.get("done", "") == "1",
        is_problem=lambda each: isinstance(each, ApiProblem),
    )


@page(FINANCE)
async def show(visit: Visit) -> Response:
    """One run: what it opened, changed and closed, and its lines."""
    number = str(visit.request.path_params["run"])
    if not (number.isascii() and number.isdigit() and len(number) <= 18):
        raise HTTPException(404, "This is no run's number.")
    run = await visit.apis.get(RECONCILIATION, f"/v1/reconciliation-runs/{number}")
    state = visit.request.query_params.get("state")
    changes = await visit.apis.get(RECONCILIATION, f"/v1/reconciliation-runs/{number}/changes")
    lines = await visit.apis.get(
        RECONCILIATION, f"/v1/reconciliation-runs/{number}/lines", state=state, limit=LINES_MAX
    )
    return visit.render(
        "run.html", run=run, changes=changes, lines=lines["lines"], has_more=lines["next_cursor"] is not None,
        state=state,
    )  # fmt: skip


@act(FINANCE)
async def close(visit: Visit) -> Response:
    """Close an open divergence with a reason."""
    path = f"/v1/divergences/{id_of(visit, 'divergence_id')}/closure"
    await visit.apis.post(RECONCILIATION, path, {"reason": reason_of(visit)})
    return RedirectResponse("/reconciliation?done=1", 303)
