"""A merchant reaches no route of the services that serve staff alone: every route of theirs, as the apps declare them.

The routes that serve merchants have a matrix of their own, derived as well, in tests/integration/merchants and
tests/integration/notifying. Here no route touches a database: a caller is refused before that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import ledger.api
import notifier.api
import payment.api
import reconciliation.api
import risk.api
from chassis.http.auth import Verifier
from chassis.process import service
from chassis.process.service import Dependencies
from notifier.endpoint_api import Resources
from support.issuer import token, verifying

UNUSED = cast(Any, None)
RESOURCES = Resources(engine=UNUSED, codec=UNUSED, caller=UNUSED, sealing=UNUSED, clock=UNUSED)
PARAMETER = re.compile(r"\{[^}]+\}")
APPS: Mapping[str, Callable[[Dependencies], FastAPI]] = {
    "ledger": ledger.api.application,
    "payment": payment.api.application,
    "reconciliation": reconciliation.api.application,
    "risk": lambda made: risk.api.application(made, UNUSED),
    "notifier, for staff": lambda made: service.api("Notifier", made, notifier.api.routers(RESOURCES)[1]),
}
EXAMPLE = "1"
"""What stands for a parameter of a path. A caller is refused before it is read."""


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with verifying() as verifier:
        yield verifier


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """Return the method and the path of every route that an app declares."""
    return [(method.upper(), path) for path, item in app.openapi()["paths"].items() for method in item]


@pytest.mark.parametrize("roles", [("merchant", "test"), ("merchant", "live"), ("customer",)], ids="-".join)
@pytest.mark.parametrize("name", APPS)
def test_a_merchant_has_access_to_no_route_for_staff(name: str, roles: tuple[str, ...], verifier: Verifier) -> None:
    app = APPS[name](Dependencies(settings=UNUSED, engine=UNUSED, codec=UNUSED, verifier=verifier))
    client, routes = TestClient(app), routes_of(app)
    assert len(routes) >= 4, "the routes are derived from the app"
    headers = {"Authorization": f"Bearer {token('shop', *roles)}"}
    for method, path in routes:
        sent: dict[str, str] | None = None if method in ("GET", "DELETE") else {}
        answer = client.request(method, PARAMETER.sub(EXAMPLE, path), json=sent, headers=headers)
        assert answer.status_code == 403, (method, path, answer.text)
