"""Finance: a day's books by account, what differs from the gateways' books, and how sagas ended by cause."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from console.access import Visit, page
from console.apis import LEDGER, RECONCILIATION, TRACKER, ApiProblem
from console.rights import FINANCE

CHARTS = ("shop", "merchants", "merchants_test")
DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
ENDED_MAX = 200

Json = Any


def routes() -> list[Route]:
    """Return the routes."""
    return [Route("/finance", show, methods=["GET"])]


@page(FINANCE)
async def show(visit: Visit) -> Response:
    """The day sheet."""
    given = visit.request.query_params
    day = given.get("day") or (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    chart = given.get("chart") or CHARTS[0]
    if DAY.fullmatch(day) is None or chart not in CHARTS:
        raise HTTPException(422, f"Write a day as 2026-11-21, and one of the charts {', '.join(CHARTS)}.")
    balance, divergences, compensated = await visit.apis.each(
        (LEDGER, f"/v1/trial-balance?chart={chart}&day={day}"),
        (RECONCILIATION, "/v1/divergences?state=OPEN"),
        (
            TRACKER,
            f"/v1/sagas?state=CANCELLED_COMPENSATED&started_after={day}T00:00:00Z&started_before={day}T23:59:59.999Z"
            f"&limit={ENDED_MAX}",
        ),
    )
    return visit.render(
        "finance.html",
        day=day,
        chart=chart,
        charts=CHARTS,
        balance=balance,
        divergences=divergences,
        causes={} if isinstance(compensated, ApiProblem) else causes(compensated["sagas"]),
        compensated=compensated,
        is_problem=lambda found: isinstance(found, ApiProblem),
    )


def causes(sagas: list[Json]) -> dict[tuple[str, str, str], int]:
    """Return how many sagas ended undone, by type, cause and reason, the most first."""
    found: dict[tuple[str, str, str], int] = {}
    for saga in sagas:
        key = (saga["type"], saga["cause"] or "", saga["reason"] or "")
        found[key] = found.get(key, 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))
