"""An act on one saga in three steps: a reason, then what exactly will be sent, then apply. Nothing happens before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from console.access import Endpoint, Visit, act, page
from console.apis import TRACKER
from console.pages.ids import id_of, reason_of
from console.pages.saga import back_to, offers
from console.rights import CANCEL, LOOK, OPERATE

Json = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of act. A ``planned`` one is frozen by the tracker and applied as a plan."""

    title: str
    right: str
    effect: str
    planned: str = ""


KINDS: Mapping[str, Kind] = {
    "cancel": Kind(
        title="Cancel",
        right=CANCEL,
        effect="The saga is stopped: steps that ran are undone, the others never run. It cannot be undone itself.",
    ),
    "redrive": Kind(
        title="Redrive", right=OPERATE, planned="REDRIVE", effect="What it is parked for is sent once more."
    ),
    "compensate": Kind(
        title="Compensate",
        right=OPERATE,
        planned="COMPENSATE",
        effect="The saga is stopped instead of redriven: what ran is undone.",
    ),
    "annotate": Kind(
        title="Remark", right=OPERATE, effect="The remark stands on the timeline for good. Nothing else changes."
    ),
    "settle": Kind(
        title="Settle",
        right=OPERATE,
        effect="The contradiction is closed as settled outside of Baraza. The saga's state stays as it is.",
    ),
}


def routes() -> list[Route]:
    """Return the routes."""
    found = []
    for name, kind in KINDS.items():
        path = f"/sagas/{{saga_id}}/{name}"
        found += [
            Route(path, _reason_page(name), methods=["GET"]),
            Route(path, act(kind.right)(_previewing(name)), methods=["POST"]),
            Route(f"{path}/apply", act(kind.right)(_applying(name)), methods=["POST"]),
        ]
    return found


def _reason_page(name: str) -> Endpoint:
    @page(LOOK)
    async def ask_reason(visit: Visit) -> Response:
        """The first step: why."""
        saga = await _saga(visit, name)
        return visit.render("act_reason.html", saga=saga, name=name, kind=KINDS[name])

    return ask_reason


def _previewing(name: str) -> Any:
    async def preview(visit: Visit) -> Response:
        """The second step: what will be sent. A planned act is frozen by the tracker, and is not applied yet."""
        kind, reason = KINDS[name], reason_of(visit)
        saga = await _saga(visit, name)
        detail, tag = await visit.apis.tagged(TRACKER, f"/v1/sagas/{saga['saga_id']}")
        plan_id, sent, why_not = "", _sent(name, detail, reason), ""
        if kind.planned:
            body = {"act": kind.planned, "selection": {"saga_ids": [saga["saga_id"]]}}
            plan_id = (await visit.apis.post(TRACKER, "/v1/plans", body))["plan_id"]
            (item,) = (await visit.apis.get(TRACKER, f"/v1/plans/{plan_id}/items"))["items"]
            sent = [each.strip() for each in (item["runs"] or "").split(",") if each.strip()]
            why_not = "" if item["state"] == "PLANNED" else (item["detail"] or "It is not possible now.")
        return visit.render(
            "act_preview.html", saga=saga, name=name, kind=kind, reason=reason, sent=sent, plan_id=plan_id, tag=tag,
            why_not=why_not,
        )  # fmt: skip

    return preview


def _applying(name: str) -> Any:
    async def apply(visit: Visit) -> Response:
        """The third step: apply. The API refuses it where the saga has changed since the preview."""
        saga_id, reason = id_of(visit), reason_of(visit)
        if KINDS[name].planned:
            await visit.apis.post(TRACKER, f"/v1/plans/{_plan_id(visit)}/apply", {"reason": reason})
        else:
            tag = "" if name == "cancel" else visit.form.get("tag", "")
            await visit.apis.post(TRACKER, f"/v1/sagas/{saga_id}/{name}", {"reason": reason}, if_match=tag)
        return back_to(saga_id, name)

    return apply


async def _saga(visit: Visit, name: str) -> Json:
    """Return the saga of an act, or answer 409 where the act is not possible now."""
    saga = (await visit.apis.get(TRACKER, f"/v1/sagas/{id_of(visit)}"))["saga"]
    offered = {each["name"]: each["why_not"] for each in offers(visit, saga)}
    if why_not := offered.get(name, "There is nothing to settle."):
        status = 403 if visit.rights.why_not(KINDS[name].right) else 409
        raise HTTPException(status, why_not)
    return saga


def _plan_id(visit: Visit) -> str:
    found = visit.form.get("plan_id", "")
    if not found.isalnum():
        raise HTTPException(422, "The preview is missing; begin anew.")
    return found


def _sent(name: str, detail: Json, reason: str) -> list[str]:
    """Return what an act without a plan sends, in words."""
    if name == "cancel":
        ran = [step for step in reversed(detail["steps"]) if step["outcome"] in ("ran", "awaited", "waiting")]
        fences = [f"Fence {service}" for service in dict.fromkeys(step["service"] for step in detail["steps"])]
        undone = [f"Undo {step['name']}, if it ran, in {step['service']}" for step in ran]
        return ["CancelSaga to the tracker, which then sends:", *fences, *undone]
    if name == "annotate":
        return [f"An entry on the timeline: {reason}"]
    return ["An entry on the timeline and in the log; no message to a service"]
