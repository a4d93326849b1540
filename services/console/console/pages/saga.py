"""One saga: what it waits for, its steps, its timeline, its money, its acts and letters, and its evidence sheet."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx
import structlog
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from chassis.values.remark import remark
from console import showing
from console.access import Visit, act, data, page
from console.apis import LEDGER, PAYMENT, SHIPPING, TRACKER, ApiProblem
from console.evidence import evidence
from console.pages.ids import id_of, reason_of
from console.rights import CANCEL, LOOK, MONEY, OPERATE, REVEAL
from console.sessions import Session
from console.store import StoreUnavailable
from console.tickets.store import Known

Json = Any
ENTRIES_MAX = 1_000
"""As many as the tracker returns at once."""
SESSION_CHECK_S = 5.0
"""A stream ends this long after its session has ended."""
STREAM_HEADERS = {"X-Accel-Buffering": "no"}

log = structlog.get_logger(__name__)


def routes() -> list[Route]:
    """Return the routes."""
    return [
        Route("/sagas/{saga_id}", show, methods=["GET"]),
        Route("/sagas/{saga_id}/reveal", reveal, methods=["POST"]),
        Route("/sagas/{saga_id}/head", head, methods=["GET"]),
        Route("/sagas/{saga_id}/timeline.json", export, methods=["GET"]),
        Route("/sagas/{saga_id}/stream", stream, methods=["GET"]),
        Route("/sagas/{saga_id}/evidence", evidence_sheet, methods=["GET"]),
        Route("/definitions/{name}", definition, methods=["GET"]),
    ]


@page(LOOK)
async def show(visit: Visit) -> Response:
    """The page of one saga."""
    detail = await visit.apis.get(TRACKER, f"/v1/sagas/{id_of(visit)}")
    return await _show(visit, detail, is_revealed=False)


@act(REVEAL)
async def reveal(visit: Visit) -> Response:
    """The same page, once, with whom the saga is about: who reveals it, and why, is stored before anything is shown."""
    try:
        reason = remark(reason_of(visit))
    except ValueError as error:
        raise HTTPException(422, f"The reason: {error}.") from error
    detail = await visit.apis.get(TRACKER, f"/v1/sagas/{id_of(visit)}")
    saga_id = detail["saga"]["saga_id"]
    try:
        await visit.console.store.store_reveal(visit.person, saga_id=saga_id, reason=reason)
    except StoreUnavailable as error:
        raise HTTPException(503, f"Nothing was revealed, because it must be stored who reveals it. {error}") from error
    actor = f"{visit.session.issuer}|{visit.session.subject}"
    log.warning("Personal data was revealed.", actor=actor, saga_id=saga_id, reason=reason)
    return await _show(visit, detail, is_revealed=True)


async def _show(visit: Visit, detail: Json, *, is_revealed: bool) -> Response:
    saga = detail["saga"]
    timeline, acts, letters, outline, *money = await visit.apis.each(
        (TRACKER, f"/v1/sagas/{saga['saga_id']}/timeline"),
        (TRACKER, f"/v1/acts?saga_id={saga['saga_id']}"),
        (TRACKER, f"/v1/dead-letters?saga_id={saga['saga_id']}"),
        (TRACKER, f"/v1/definitions/{saga['type']}"),
        *_money_calls(visit, saga),
    )
    shown = saga if is_revealed else {**saga, "subject": showing.masked(saga["subject"])}
    return visit.render(
        "saga.html",
        saga=shown,
        steps=detail["steps"],
        freshness=detail["freshness"],
        is_revealed=is_revealed,
        is_ended=saga["state"] in showing.ENDED,
        timeline=timeline,
        drawn=drawn(saga, detail["steps"], timeline["entries"], outline) if isinstance(timeline, dict) else None,
        acts=acts,
        letters=letters,
        money=dict(zip(("payment", "shipment", "entries"), money, strict=False)),
        offers=offers(visit, saga),
        incidents=await _incidents(visit, saga, letters),
        trace_url=visit.console.settings.console_trace_url.replace("{saga_id}", saga["saga_id"]),
        done=visit.request.query_params.get("done", ""),
        entries_max=ENTRIES_MAX,
        is_problem=lambda found: isinstance(found, ApiProblem),
    )


async def _incidents(visit: Visit, saga: Json, letters: Json | ApiProblem) -> list[Known] | None:
    """Return the open tickets of alarms that the saga is among; None where no ITSM is configured."""
    tickets = visit.console.tickets
    if tickets is None:
        return None
    return await tickets.about(saga, [] if isinstance(letters, ApiProblem) else letters["letters"])


def _money_calls(visit: Visit, saga: Json) -> list[tuple[str, str]]:
    if not visit.rights.has(MONEY):
        return []
    saga_id = saga["saga_id"]
    return [
        (PAYMENT, f"/v1/payments/{saga_id}"),
        (SHIPPING, f"/v1/shipments/{saga_id}"),
        (LEDGER, f"/v1/entries/{saga_id}"),
    ]


def drawn(saga: Json, steps: Sequence[Json], entries: Sequence[Json], outline: Json) -> Json:
    """Return what the timeline's picture is drawn from: its lanes, its entries, and what each type means.

    They are in the order of their times: topics are read independently, so an effect may be recorded before its cause.
    What comes while the page is open stands at the end.
    """
    ordered = sorted(entries, key=lambda entry: (str(entry["occurred_at"]), int(entry["seq"])))
    # The service that began it stands first, whatever the clocks of the others show.
    roots = [entry for entry in ordered if entry["kind"] == "event" and entry["causation_id"] is None]
    known = isinstance(outline, dict) and outline["version"] == saga["version"]
    outlines = outline["steps"] if known else []
    lanes = [*dict.fromkeys([*(each["service"] for each in roots[:1]), *(step["service"] for step in steps)])]
    tracker = "saga-tracker"
    return {
        "saga_id": saga["saga_id"],
        "lanes": [*(lane for lane in lanes if lane != tracker), tracker],
        "rejections": [_bare(step["rejected_with"]) for step in outlines if step["rejected_with"]],
        "tracker": tracker,
        "entries": ordered,
        "is_live": saga["state"] not in showing.ENDED,
    }


def _bare(full_name: str) -> str:
    return full_name.rpartition(".")[2]


def offers(visit: Visit, saga: Json) -> list[Mapping[str, str]]:
    """Return the acts of the page in their order: each with why it cannot be done now, empty where it can."""
    rights, state = visit.rights, saga["state"]
    ended = "It has ended." if state in showing.ENDED else ""
    parked = ended or ("" if state == "NEEDS_REVIEW" else "It is not parked.")
    forward = parked or ("" if saga["phase"] == "RUNNING" else "It is being undone already.")
    open_ = saga["contradicted_at"] and not saga["settled_at"]
    found = [
        ("cancel", "Cancel…", rights.why_not(CANCEL) or ended),
        ("redrive", "Redrive…", rights.why_not(OPERATE) or parked),
        ("compensate", "Compensate…", rights.why_not(OPERATE) or forward),
        ("annotate", "Remark…", rights.why_not(OPERATE)),
    ]
    if open_:
        found.append(("settle", "Settle…", rights.why_not(OPERATE)))
    return [{"name": name, "words": words, "why_not": why_not} for name, words, why_not in found]


@data(LOOK)
async def head(visit: Visit) -> Response:
    """The part of the page above the timeline, for its script when the saga has changed."""
    detail = await visit.apis.get(TRACKER, f"/v1/sagas/{id_of(visit)}")
    saga = detail["saga"]
    return visit.render(
        "saga_head.html",
        saga={**saga, "subject": showing.masked(saga["subject"])},
        steps=detail["steps"],
        freshness=detail["freshness"],
        is_revealed=False,
        offers=offers(visit, saga),
        is_ended=saga["state"] in showing.ENDED,
        trace_url=visit.console.settings.console_trace_url.replace("{saga_id}", saga["saga_id"]),
    )


@data(LOOK)
async def export(visit: Visit) -> Response:
    """The timeline as the API has it, without whom it is about; with ``after`` only what was recorded after that."""
    saga_id, after = id_of(visit), visit.request.query_params.get("after", "0")
    found = await visit.apis.get(TRACKER, f"/v1/sagas/{saga_id}/timeline", after=after if after.isdigit() else "0")
    hidden = {name: showing.masked(found["saga"][name]) for name in ("subject", "customer") if name in found["saga"]}
    disposition = {"Content-Disposition": f'attachment; filename="saga-{saga_id}.json"'}
    return JSONResponse({**found, "saga": {**found["saga"], **hidden}}, headers=disposition)


@data(LOOK)
async def stream(visit: Visit) -> Response:
    """The live timeline: the tracker's own stream, as long as the session lasts."""
    path = f"/v1/sagas/{id_of(visit)}/timeline/stream"
    after = visit.request.headers.get("last-event-id") or visit.request.query_params.get("after", "")
    if not after.isdigit():
        after = ""
    # It is opened before the answer begins, so that a refusal is one.
    opened = AsyncExitStack()
    response: httpx.Response = await opened.enter_async_context(visit.apis.stream(TRACKER, path, after))

    async def relay() -> AsyncIterator[bytes]:
        async with opened:
            checked_at_s = time.monotonic()
            try:
                async for chunk in response.aiter_raw():
                    yield chunk
                    if time.monotonic() - checked_at_s >= SESSION_CHECK_S:
                        checked_at_s = time.monotonic()
                        if not await _is_open(visit, visit.session):
                            return
            except httpx.HTTPError:
                return  # The browser opens it again, behind the last entry that it has.

    return StreamingResponse(relay(), media_type="text/event-stream", headers=STREAM_HEADERS)


async def _is_open(visit: Visit, session: Session) -> bool:
    console = visit.console
    cookie = visit.request.cookies.get("__Host-session", "")
    found = await console.sessions.find(cookie, now_s=console.clock(), is_use=False)
    return found is not None and found.digest == session.digest


@page(MONEY)
async def evidence_sheet(visit: Visit) -> Response:
    """The sheet that proves which steps ran, what undid each, and for which amounts; it is made to be printed."""
    saga_id = id_of(visit)
    detail = await visit.apis.get(TRACKER, f"/v1/sagas/{saga_id}")
    saga = detail["saga"]
    timeline, outline, acts = await visit.apis.each(
        (TRACKER, f"/v1/sagas/{saga['saga_id']}/timeline"),
        (TRACKER, f"/v1/definitions/{saga['type']}"),
        (TRACKER, f"/v1/acts?saga_id={saga['saga_id']}"),
    )
    for found in (timeline, acts):
        if isinstance(found, ApiProblem):
            raise found  # A sheet with a gap proves nothing.
    payment, shipment, entries = await visit.apis.each(*_money_calls(visit, saga))
    known = isinstance(outline, dict) and outline["version"] == saga["version"]
    return visit.render(
        "evidence.html",
        saga={**saga, "subject": showing.masked(saga["subject"])},
        rows=evidence(detail["steps"], outline["steps"] if known else [], timeline["entries"]),
        is_known=known,
        freshness=detail["freshness"],
        payment=payment,
        shipment=shipment,
        entries=entries,
        acts=acts["acts"],
        entry_count=len(timeline["entries"]),
        is_problem=lambda each: isinstance(each, ApiProblem),
    )


@page(LOOK)
async def definition(visit: Visit) -> Response:
    """The newest definition of a saga, with the sagas that are at each step now."""
    name = visit.request.path_params["name"]
    if not name.replace("_", "").isalnum() or not name.isascii():
        raise HTTPException(404, "No saga has that name.")
    outline = await visit.apis.get(TRACKER, f"/v1/definitions/{name}")
    under_way = await visit.apis.get(TRACKER, "/v1/sagas", type=name, state="PENDING", limit=200)
    at: dict[str, int] = {}
    for saga in under_way["sagas"]:
        at[saga["step"]] = at.get(saga["step"], 0) + 1
    return visit.render("definition.html", outline=outline, at=at, is_capped=under_way["next_cursor"] is not None)


def back_to(saga_id: str, done: str) -> Response:
    """Lead back to a saga's page after an act."""
    return RedirectResponse(f"/sagas/{saga_id}?done={done}", 303)
