"""Now: what is under way, parked, in doubt and open, each number with a link to its list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from console.access import Visit, page
from console.apis import TRACKER, ApiProblem
from console.rights import LOOK

COUNTED_MAX = 200
"""As many as the tracker returns at once; more are shown as 200+."""
STATES = ("PENDING", "IN_DOUBT", "NEEDS_REVIEW", "INCIDENT")

Json = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Pile:
    """Sagas of one type at one step: how many, and since when the oldest of them runs."""

    type: str
    step: str
    count: int
    oldest_at: str


def routes() -> list[Route]:
    """Return the routes."""
    return [Route("/", show, methods=["GET"])]


@page(LOOK)
async def show(visit: Visit) -> Response:
    """The war room."""
    *pages, review, plans, letters = await visit.apis.each(
        *((TRACKER, f"/v1/sagas?state={state}&limit={COUNTED_MAX}") for state in STATES),
        (TRACKER, "/v1/review"),
        (TRACKER, "/v1/plans?limit=5"),
        (TRACKER, f"/v1/dead-letters?limit={COUNTED_MAX}"),
    )
    by_state = dict(zip(STATES, pages, strict=True))
    if isinstance(by_state["PENDING"], ApiProblem):
        raise by_state["PENDING"]
    return visit.render(
        "now.html",
        counts={state: capped(found) for state, found in by_state.items()},
        piles=piles(by_state["PENDING"]["sagas"]),
        is_capped=by_state["PENDING"]["next_cursor"] is not None,
        review=review,
        plans=plans,
        letters=letters,
        freshness=by_state["PENDING"]["freshness"],
        counted_max=COUNTED_MAX,
        now=datetime.now(UTC),
        is_problem=lambda found: isinstance(found, ApiProblem),
    )


def capped(found: Json | ApiProblem) -> str:
    """Return how many sagas there are, as far as they were counted."""
    if isinstance(found, ApiProblem):
        return "?"
    return f"{len(found['sagas'])}{'+' if found['next_cursor'] else ''}"


def piles(sagas: Sequence[Json]) -> list[Pile]:
    """Return where sagas are, the largest pile first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for saga in sagas:
        groups.setdefault((saga["type"], saga["step"]), []).append(saga["started_at"])
    found = [
        Pile(type=type_, step=step, count=len(times), oldest_at=min(times)) for (type_, step), times in groups.items()
    ]
    return sorted(found, key=lambda pile: (-pile.count, pile.type, pile.step))
