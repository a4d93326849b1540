"""Merchants: who they are, their payments, their endpoints, and what was not delivered to these."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console.access import Visit, act, page
from console.apis import MERCHANT, NOTIFIER, ApiProblem
from console.pages.ids import id_of
from console.rights import LOOK, MERCHANTS, OPERATE

MERCHANT_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
PAYMENT_ID = re.compile(r"[0-9]{1,19}")
MODES: Final = ("live", "test")
PAGE_SIZE: Final = 50
FAILED_MAX: Final = 20

Json = Any


def routes() -> list[Route]:
    """Return the routes."""
    return [
        Route("/merchants", listed, methods=["GET"]),
        Route("/merchants/{merchant_id}", show, methods=["GET"]),
        Route("/merchants/{merchant_id}/{mode}/replay/{delivery_id}", replay, methods=["POST"]),
        Route("/payments/{payment_id}", payment, methods=["GET"]),
    ]


@page(MERCHANTS)
async def listed(visit: Visit) -> Response:
    """All merchants, by their ids."""
    after = visit.request.query_params.get("after")
    found = await visit.apis.get(MERCHANT, "/v1/merchants", after=after, limit=PAGE_SIZE)
    following = found["next"]
    return visit.render(
        "merchants.html",
        merchants=found["merchants"],
        next_url=f"/merchants?{urlencode({'after': following})}" if following else None,
    )


@page(MERCHANTS)
async def show(visit: Visit) -> Response:
    """One merchant in one mode: its latest payments, its endpoints and what was not delivered."""
    merchant_id, mode = _merchant_of(visit), _mode_of(visit.request.query_params.get("mode", MODES[0]))
    before = visit.request.query_params.get("before")
    found = await visit.apis.get(MERCHANT, f"/v1/merchants/{merchant_id}")
    query = {"merchant_id": merchant_id, "is_live": str(mode == MODES[0]).lower(), "limit": PAGE_SIZE}
    query |= {"before": before} if before and PAYMENT_ID.fullmatch(before) else {}
    staff = f"/v1/merchants/{merchant_id}/{mode}"
    payments, endpoints, failed = await visit.apis.each(
        (MERCHANT, f"/v1/payments?{urlencode(query)}"),
        (NOTIFIER, f"{staff}/webhook-endpoints?limit={PAGE_SIZE}"),
        (NOTIFIER, f"{staff}/webhook-deliveries?state=FAILED&limit={FAILED_MAX}"),
    )
    return visit.render(
        "merchant.html",
        merchant=found,
        mode=mode,
        modes=MODES,
        payments=payments,
        endpoints=endpoints,
        failed=failed,
        failed_max=FAILED_MAX,
        is_later=before is not None,
        done=visit.request.query_params.get("done", "") == "1",
        is_problem=lambda each: isinstance(each, ApiProblem),
    )


@page(MERCHANTS)
async def payment(visit: Visit) -> Response:
    """One payment as its merchant sees it, with what was requested of it later."""
    payment_id = str(visit.request.path_params["payment_id"])
    if PAYMENT_ID.fullmatch(payment_id) is None:
        raise HTTPException(404, "This is no payment's number: it has digits alone.")
    found = await visit.apis.get(MERCHANT, f"/v1/payments/{payment_id}")
    return visit.render("payment.html", payment=found, may_look=visit.rights.has(LOOK))


@act(OPERATE)
async def replay(visit: Visit) -> Response:
    """Deliver an event again, under the same webhook-id and with the whole schedule."""
    merchant_id, mode = _merchant_of(visit), _mode_of(str(visit.request.path_params["mode"]))
    delivery_id = id_of(visit, "delivery_id")
    path = f"/v1/merchants/{merchant_id}/{mode}/webhook-deliveries/{delivery_id}/replay"
    await visit.apis.post(NOTIFIER, path, {})
    return RedirectResponse(f"/merchants/{merchant_id}?mode={mode}&done=1", 303)


def _merchant_of(visit: Visit) -> str:
    found = str(visit.request.path_params["merchant_id"])
    if MERCHANT_ID.fullmatch(found) is None:
        raise HTTPException(404, "This is no merchant's id: it has small letters, digits and -, 40 at most.")
    return found


def _mode_of(text: str) -> str:
    if text not in MODES:
        raise HTTPException(422, f"Choose a mode: {' or '.join(MODES)}.")
    return text
