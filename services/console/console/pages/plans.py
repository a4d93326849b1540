"""Review, plans and the log: why sagas are parked, what an act would do to many of them, and who did what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console.access import Visit, act, page
from console.apis import TRACKER
from console.pages.ids import ID, id_of, reason_of
from console.rights import LOOK, OPERATE

SAMPLE = 50
RATE_MAX = 2_000
"""As the API has it."""
ACTS = ("REDRIVE", "COMPENSATE")
SHOWN_MAX = 200

Json = Any


def routes() -> list[Route]:
    """Return the routes."""
    return [
        Route("/review", review, methods=["GET"]),
        Route("/plans", listed, methods=["GET"]),
        Route("/plans", make, methods=["POST"]),
        Route("/plans/{plan_id}", show, methods=["GET"]),
        Route("/plans/{plan_id}/apply", apply, methods=["POST"]),
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
    state = visit.request.query_params.get("state")
    after = visit.request.query_params.get("after")
    items = await visit.apis.get(TRACKER, f"/v1/plans/{plan_id}/items", state=state, after=after, limit=SAMPLE)
    acts = await visit.apis.get(TRACKER, "/v1/acts", plan_id=plan_id, limit=SHOWN_MAX)
    return visit.render(
        "plan.html",
        plan=plan,
        items=items["items"],
        next_after=items["next_after"],
        total=sum(plan["counts"].values()),
        state=state,
        acts=acts["acts"],
        is_second=not plan["act"].startswith("RESOLVE") or plan["planned_by"] != visit.session.subject,
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


@page(LOOK)
async def logged(visit: Visit) -> Response:
    """What operators did, the latest first."""
    given = {name: visit.request.query_params.get(name, "").strip() for name in ("saga_id", "plan_id")}
    for name, value in given.items():
        if value and ID.fullmatch(value) is None:
            raise HTTPException(422, f"{name} is no id.")
    found = await visit.apis.get(TRACKER, "/v1/acts", **given, limit=SHOWN_MAX)
    return visit.render("log.html", acts=found["acts"], given=given, shown_max=SHOWN_MAX)
