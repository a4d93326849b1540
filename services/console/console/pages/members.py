"""A SACCO's members: money whose outcome is not known, and receipts of which it is not known whose they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console import showing
from console.access import Handler, Visit, act, page
from console.apis import MEMBERS as API
from console.apis import MOBILE_MONEY, ApiProblem
from console.pages.ids import id_of, reason_of
from console.rights import APPROVE, DECIDE, LOOK, MEMBERS, PROPOSE

LISTED_MAX: Final = 200
RECEIPT = re.compile(r"[A-Z0-9]{6,36}")
PROPOSALS: Final[Mapping[str, str]] = {"assignments": "Assign", "returns": "Return"}
DECISIONS: Final[Mapping[str, str]] = {"approval": APPROVE, "refusal": DECIDE}
"""What is decided about a proposal, and the right that it needs."""

Json = Any


def routes() -> list[Route]:
    """Return the routes."""
    found = [
        Route("/money", in_doubt, methods=["GET"]),
        Route("/money/{saga_id}", evidence, methods=["GET"]),
        Route("/unallocated", unallocated, methods=["GET"]),
        Route("/unallocated/{receipt}", receipt, methods=["GET"]),
    ]
    for kind in PROPOSALS:
        found.append(Route(f"/unallocated/{{receipt}}/{kind}", act(PROPOSE)(_proposing(kind)), methods=["POST"]))
        for decision, right in DECISIONS.items():
            path = f"/proposals/{kind}/{{proposal_id}}/{decision}"
            found.append(Route(path, act(right)(_deciding(kind, decision)), methods=["POST"]))
    return found


@page(MEMBERS)
async def in_doubt(visit: Visit) -> Response:
    """Money whose outcome is not known: whose, how much, since when, and when it is looked for next."""
    paths = (f"/v1/money/in-doubt?limit={LISTED_MAX}", "/v1/floats", "/v1/lanes")
    listed, floats, lanes = await visit.apis.each(*((MOBILE_MONEY, path) for path in paths))
    if isinstance(listed, ApiProblem):
        raise listed
    return visit.render(
        "money.html",
        in_doubt=[{**each, "phone": showing.masked(each["phone"])} for each in listed["in_doubt"]],
        floats=floats,
        lanes=lanes,
        listed_max=LISTED_MAX,
        may_look=visit.rights.has(LOOK),
        now=datetime.now(UTC),
        is_problem=lambda each: isinstance(each, ApiProblem),
    )


@page(MEMBERS)
async def evidence(visit: Visit) -> Response:
    """What proves the outcome of one saga's money: the provider's callbacks, our queries, and rows of statements."""
    saga_id = id_of(visit)
    found = await visit.apis.get(MOBILE_MONEY, f"/v1/money/{saga_id}/evidence")
    return visit.render("money_evidence.html", saga_id=saga_id, found=found, may_look=visit.rights.has(LOOK))


@page(MEMBERS)
async def unallocated(visit: Visit) -> Response:
    """The work list: receipts that wait for persons, the oldest first, and what is proposed about them."""
    listed, *proposed = await visit.apis.each(
        (API, f"/v1/receipts?state=SUSPENSE&limit={LISTED_MAX}"),
        *((API, f"/v1/{kind}?state=PROPOSED&limit={LISTED_MAX}") for kind in PROPOSALS),
    )
    if isinstance(listed, ApiProblem):
        raise listed
    return visit.render(
        "unallocated.html",
        receipts=listed["receipts"],
        has_more=listed["next"] is not None,
        proposals=dict(zip(PROPOSALS, proposed, strict=True)),
        words=PROPOSALS,
        done=visit.request.query_params.get("done", "") == "1",
        now=datetime.now(UTC),
        is_problem=lambda each: isinstance(each, ApiProblem),
    )


@page(MEMBERS)
async def receipt(visit: Visit) -> Response:
    """One receipt: what is known of it, the doors that it came through, and what can be proposed."""
    number = _receipt_of(visit)
    found = await visit.apis.get(API, f"/v1/receipts/{number}")
    (books,) = await visit.apis.each((MOBILE_MONEY, f"/v1/receipts?receipt={number}"))
    doors = [] if isinstance(books, ApiProblem) else [door for row in books["rows"] for door in row["doors"]]
    return visit.render("receipt.html", receipt=found, doors=doors, may_look=visit.rights.has(LOOK))


def _proposing(kind: str) -> Handler:
    async def propose(visit: Visit) -> Response:
        """Propose whose a receipt is, or that it goes back. Nothing is booked until another person agrees."""
        number, body = _receipt_of(visit), {"reason": reason_of(visit)}
        if kind == "assignments":
            body |= {"member_id": visit.form.get("member_id", "").strip().upper()}
            if target := visit.form.get("target", "").strip():
                body |= {"target": target}
        await visit.apis.post(API, f"/v1/receipts/{number}/{kind}", body)
        return RedirectResponse("/unallocated?done=1", 303)

    return propose


def _deciding(kind: str, decision: str) -> Handler:
    async def decide(visit: Visit) -> Response:
        """Approve what another person proposed, or refuse it."""
        await visit.apis.post(API, f"/v1/{kind}/{id_of(visit, 'proposal_id')}/{decision}", {"reason": reason_of(visit)})
        return RedirectResponse("/unallocated?done=1", 303)

    return decide


def _receipt_of(visit: Visit) -> str:
    found = str(visit.request.path_params["receipt"])
    if RECEIPT.fullmatch(found) is None:
        raise HTTPException(404, "This is no receipt's number: it has 6 to 36 capital letters and digits.")
    return found
