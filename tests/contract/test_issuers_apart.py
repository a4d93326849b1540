"""A customers' token that claims every role of staff is refused by every route for staff, of every service's API.

The routes are those that the apps declare, and customers' own are listed in two_issuers.py. No route touches a
database: a caller is refused before that.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, TypeAlias

import pytest
from fastapi import FastAPI

import checkout.api
from chassis.process import service
from merchant.roles import MERCHANT_ROLES
from saga_tracker.http.routers import ROUTERS
from stack import contract
from support.services import built, dependencies
from support.two_issuers import (
    CUSTOMERS,
    CUSTOMERS_OWN,
    FORGED_ROLES,
    OPEN,
    STAFF,
    customers_token,
    issuers,
    staff_token,
)

NEEDED = re.compile(r"needs the role ([\w ]+);")
Route: TypeAlias = tuple[FastAPI, str, str]


@pytest.fixture(scope="module")
def routes() -> list[Route]:
    """Every route that needs a token: the application, the method, the path."""
    verifier = issuers(CUSTOMERS, STAFF)
    made = {name: app for name in contract.services() if (app := built(name, verifier).app) is not None}
    made["checkout"] = checkout.api.application(dependencies("checkout", verifier), dict.fromkeys(FORGED_ROLES, 1), {})
    made["checkout"].state.resources = None
    made["saga-tracker"] = service.api("saga-tracker", dependencies("saga-tracker", verifier), *ROUTERS)
    return [
        (app, method.upper(), path)
        for app in made.values()
        for path, item in app.openapi()["paths"].items()
        if path not in OPEN
        for method in item
    ]


async def status_of(app: FastAPI, method: str, path: str, token: str) -> int:
    return (await answer_of(app, method, path, token))[0]


async def answer_of(app: FastAPI, method: str, path: str, token: str) -> tuple[int, str]:
    """Return the status and the body of an answer."""
    filled = "/".join("0" * 26 if part.startswith("{") else part for part in path.split("/"))
    headers = [(b"authorization", f"Bearer {token}".encode()), (b"content-type", b"application/json")]
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": filled,
        "raw_path": filled.encode(), "root_path": "", "query_string": b"", "server": ("test", 80),
        "client": ("test", 1), "headers": headers, "state": {},
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return int(sent[0]["status"]), b"".join(each.get("body", b"") for each in sent[1:]).decode()


def test_a_customers_token_with_every_role_of_staff_reaches_no_route_for_staff(routes: list[Route]) -> None:
    forged = customers_token("wanjiru", roles=list(FORGED_ROLES))

    async def walk() -> list[tuple[str, str, int]]:
        for_staff = [each for each in routes if (each[1], each[2]) not in CUSTOMERS_OWN]
        assert len(for_staff) > 60, "the routes are derived from the apps"
        return [(method, path, await status_of(app, method, path, forged)) for app, method, path in for_staff]

    assert [each for each in asyncio.run(walk()) if each[2] != 403] == []


def test_the_same_role_of_the_staffs_issuer_is_admitted(routes: list[Route]) -> None:
    """The counterpart: the refusals above are due to the issuer alone. There is no database here, so it answers 5xx."""
    genuine = staff_token("amina", roles=["operator"])

    async def walk() -> set[int]:
        lists = [each for each in routes if each[1:] in {("GET", "/v1/plans"), ("GET", "/v1/now")}]
        assert len(lists) == 2
        return {await status_of(*each, genuine) for each in lists}

    assert asyncio.run(walk()).isdisjoint({401, 403})


def test_every_role_that_a_route_needs_is_given_by_one_issuer_and_by_no_other(routes: list[Route]) -> None:
    roleless = staff_token("amina", roles=[])

    async def walk() -> list[str]:
        return [detail for each in routes if (detail := (await answer_of(*each, roleless))[1])]

    found = [NEEDED.search(detail) for detail in asyncio.run(walk())]
    needed = {role for each in found if each is not None for role in each[1].split(" or ")}
    assert {"operator", "customer", "member", "merchant"} <= needed, "the roles are those of the refusals"
    for role in sorted(needed):
        givers = [each for each in (CUSTOMERS.may_be, STAFF.may_be, MERCHANT_ROLES) if role in each]
        assert len(givers) == 1, role
