"""Now: where sagas are, how they end, what is parked, in doubt and open; each number with a link to its list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console.access import SCREENS, Visit, page
from console.apis import TRACKER, ApiProblem
from console.rights import LOOK, SIGN_OUT

STATES = ("PENDING", "IN_DOUBT", "NEEDS_REVIEW")
"""The others count among the contradicted ones, of which some have ended."""
WINDOWS = {3_600: "the last hour", 86_400: "the last day"}
"""How far back the ends of sagas are counted, in seconds."""

Json = Any


def routes() -> list[Route]:
    """Return the routes."""
    return [Route("/", show, methods=["GET"])]


@page(SIGN_OUT)
async def show(visit: Visit) -> Response:
    """The war room; who may not see sagas is led to the first screen that is theirs."""
    if not visit.rights.has(LOOK):
        for url, _, right in SCREENS:
            if visit.rights.has(right):
                return RedirectResponse(url, 303)
        raise HTTPException(403, visit.rights.why_not(LOOK))
    window_s = window_of(visit.request.query_params.get("window", ""))
    found, plans = await visit.apis.each((TRACKER, f"/v1/now?window_s={window_s}"), (TRACKER, "/v1/plans?limit=5"))
    if isinstance(found, ApiProblem):
        raise found
    return visit.render(
        "now.html",
        found=found,
        totals=totals(found["sagas"]),
        plans=plans,
        window_s=window_s,
        windows=WINDOWS,
        now=datetime.now(UTC),
        is_problem=lambda each: isinstance(each, ApiProblem),
    )


def window_of(text: str) -> int:
    """Return the window in seconds that an address names; the shortest for any other text."""
    return next((each for each in WINDOWS if str(each) == text), min(WINDOWS))


def totals(sagas: Sequence[Json]) -> dict[str, int]:
    """Return how many sagas are in each of the states that have a tile."""
    return {state: sum(each["count"] for each in sagas if each["state"] == state) for state in STATES}
