"""Review, plans and the log: why sagas are parked, what an act would do to many of them, and who did what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console.access import Handler, Visit, act, page
from console.apis import TRACKER
from console.pages.ids import ID, id_of, reason_of
from console.rights import APPROVE, LOOK, OPERATE

SAMPLE = 50
RATE_MAX = 2_000
"""As the API has it."""
ACTS = ("REDRIVE", "COMPENSATE")
SHOWN_MAX = 200
LOG_PAGE = 100
LOG_FILTERS = ("saga_id", "plan_id", "actor", "act")

Json = Any


def routes() -> list[Route]:
    """Return the routes."""
    return [
        Route("/review", review, methods=["GET"]),
        Route("/plans", listed, methods=["GET"]),
        Route("/plans", make, methods=["POST"]),
        Route("/plans/{plan_id}", show, methods=["GET"]),
        Route("/plans/{plan_id}/apply", apply, methods=["POST"]),
        Route("/plans/{plan_id}/approve", act(APPROVE)(_changing("approve")), methods=["POST"]),
        *(
            Route(f"/plans/{{plan_id}}/{change}", act(OPERATE)(_changing(change)), methods=["POST"])
            for change in ("pause", "resume", "stop")
        ),
        Route("/log", logged, methods=["GET"]),
    ]


@page(LOOK)
async def review(visit: Visit) -> Response:
    """Why sagas are parked, by cause."""
    found = await visit.apis.get(TRACKER, "/v1/review")
    return visit.render("review.html", groups=found["groups"], now=datetime.now(UTC))


@page(LOOK)
async def listed(visit: Visit) -> Response:
    """The latest plans."""
    found = await visit.apis.get(TRACKER, "/v1/plans", limit=50)
    return visit.render("plans.html", plans=found["plans"])


@act(OPERATE)
async def make(visit: Visit) -> Response:
    """Freeze what an act would do to a group or a step. Nothing is sent."""
    name = visit.form.get("act", "")
    if name not in ACTS:
        raise HTTPException(422, f"Choose an act: {' or '.join(ACTS)}.")
    selection = {key: visit.form[key] for key in ("group", "step") if visit.form.get(key)}
    if not selection:
        raise HTTPException(422, "Choose a group or a step.")
    made = await visit.apis.post(TRACKER, "/v1/plans", {"act": name, "selection": selection})
    return RedirectResponse(f"/plans/{made['plan_id']}", 303)


@page(LOOK)
async def show(visit: Visit) -> Response:
    """One plan: what it would send to which sagas, or what became of them."""
    plan_id = id_of(visit, "plan_id")
    plan = await visit.apis.get(TRACKER, f"/v1/plans/{plan_id}")
    outcomes = await visit.apis.get(TRACKER, f"/v1/plans/{plan_id}/outcomes")
    given = visit.request.query_params
    state, parked_again = given.get("state"), "true" if given.get("parked_again") else None
    items = await visit.apis.get(
        TRACKER, f"/v1/plans/{plan_id}/items", state=state, parked_again=parked_again, after=given.get("after"),
        limit=SAMPLE,
    )  # fmt: skip
    acts = await visit.apis.get(TRACKER, "/v1/acts", plan_id=plan_id, limit=SHOWN_MAX)
    return visit.render(
        "plan.html",
        plan=plan,
        items=items["items"],
        next_after=items["next_after"],
        total=sum(plan["counts"].values()),
        state=state,
        parked_again=parked_again,
        outcomes=outcomes["outcomes"],
        parked_again_count=outcomes["parked_again"],
        acts=acts["acts"],
        is_own=plan["planned_by"] == visit.session.subject,
        is_resolution=plan["act"].startswith("RESOLVE"),
        rate_max=RATE_MAX,
        is_under_way=plan["state"] == "APPLYING",
    )


@act(OPERATE)
async def apply(visit: Visit) -> Response:
    """Apply a plan at a rate. One that was applied before stays as it is."""
    plan_id, reason, rate = id_of(visit, "plan_id"), reason_of(visit), visit.form.get("rate_per_s", "")
    if not rate.isascii() or not rate.isdigit() or not 1 <= int(rate) <= RATE_MAX:
        raise HTTPException(422, f"The rate is 1 to {RATE_MAX} sagas a second.")
    await visit.apis.post(TRACKER, f"/v1/plans/{plan_id}/apply", {"reason": reason, "rate_per_s": int(rate)})
    return RedirectResponse(f"/plans/{plan_id}", 303)


def _changing(change: str) -> Handler:
    async def changing(visit: Visit) -> Response:
        """Approve, pause, resume or stop a plan; the API refuses what its state does not allow."""
        plan_id, reason = id_of(visit, "plan_id"), reason_of(visit)
        await visit.apis.post(TRACKER, f"/v1/plans/{plan_id}/{change}", {"reason": reason})
        return RedirectResponse(f"/plans/{plan_id}", 303)

    return changing


@page(LOOK)
async def logged(visit: Visit) -> Response:
    """What operators did, the latest first."""
    query = visit.request.query_params
    given = {name: query.get(name, "").strip() for name in LOG_FILTERS}
    for name in ("saga_id", "plan_id"):
        if given[name] and ID.fullmatch(given[name]) is None:
            raise HTTPException(422, f"{name} is no id.")
    found = await visit.apis.get(
        TRACKER, "/v1/acts", **given | {"act": given["act"].upper()}, cursor=query.get("cursor"), limit=LOG_PAGE
    )
    following = found["next_cursor"]
    filters = {name: value for name, value in given.items() if value}
    return visit.render(
        "log.html",
        acts=found["acts"],
        given=given,
        filters=filters,
        next_url=None if following is None else f"/log?{urlencode({**filters, 'cursor': following})}",
    )
