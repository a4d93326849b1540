"""Every route of every service decides about the token and the rate limit before it reads anything of the body."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest
from fastapi import FastAPI

import checkout.api
from chassis.http.auth import Principal
from chassis.http.problem import Problem
from chassis.http.rate_limits import RateLimits
from chassis.process import service
from saga_tracker.http.routers import ROUTERS
from stack import contract
from support.issuer import bearer, verifying
from support.services import built, dependencies

OPEN = {"/livez", "/readyz", "/metrics", "/openapi.json"}
"""They need no token, and read no body."""
ANY_ROLE = {("GET", "/v1/catalogue"), ("GET", "/v1/accounts/x")}
"""Reading needs a token alone."""
HUGE_BYTES = 10**9
ROLES = ("customer", "storefront", "support", "operator", "catalogue")
PARAMETERS = {"order_id": "0" * 26, "return_id": "0" * 26, "saga_id": "0" * 26}
ATTEMPTS_MAX = 200


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request with a huge body that is no JSON. What is sent of it is only what the app reads."""

    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    query: bytes = b""
    reads: int = 0
    sent: list[dict[str, Any]] = field(default_factory=list)

    async def run(self, app: FastAPI) -> int:
        """Let the app respond, and return the status."""
        declared = [(b"content-type", b"application/json"), (b"content-length", str(HUGE_BYTES).encode())]
        scope = {
            "type": "http", "http_version": "1.1", "method": self.method, "scheme": "http", "path": self.path,
            "raw_path": self.path.encode(), "root_path": "", "query_string": self.query, "server": ("test", 80),
            "client": ("test", 1), "headers": [*declared, *self.headers], "state": {},
        }  # fmt: skip
        await app(scope, self._receive, self._send)
        return int(self.sent[0]["status"])

    async def _receive(self) -> dict[str, Any]:
        self.reads += 1
        return {"type": "http.request", "body": b"{" * 65_536, "more_body": True}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)


Applications: TypeAlias = Mapping[str, FastAPI]
Walked: TypeAlias = list[tuple[FastAPI, str, str]]


@pytest.fixture(scope="module")
def applications() -> Iterator[Applications]:
    with verifying() as verifier:
        made = {name: app for name in contract.services() if (app := built(name, verifier).app) is not None}
        made["checkout"] = checkout.api.application(dependencies("checkout", verifier), dict.fromkeys(ROLES, 1), {})
        made["checkout"].state.resources = None
        tracker = dependencies("saga-tracker", verifier)
        made["saga-tracker"] = service.api("saga-tracker", tracker, *ROUTERS)
        yield made


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Yield the methods and paths of an API, with an id for each parameter."""
    for path, item in app.openapi()["paths"].items():
        for method in item:
            yield method.upper(), path.format_map({**dict.fromkeys(_names(path), "x"), **PARAMETERS})


def _names(path: str) -> list[str]:
    return [part.partition("}")[0] for part in path.split("{")[1:]]


def test_every_service_is_here(applications: Applications) -> None:
    assert set(applications) == {*contract.services(), "saga-tracker"}


@pytest.fixture(scope="module")
def walked(applications: Applications) -> Walked:
    """Every route that needs a token: the application, the method, the path."""
    found = [(app, *route) for app in applications.values() for route in routes(app) if route[1] not in OPEN]
    assert len(found) > 30
    return found


def test_every_route_without_a_token_answers_401_and_reads_no_body(walked: Walked) -> None:
    async def walk() -> list[tuple[str, str, int, int]]:
        exchanges = [Exchange(method=method, path=path) for _, method, path in walked]
        statuses = [await each.run(app) for each, (app, _, _) in zip(exchanges, walked, strict=True)]
        return found_wrong(exchanges, statuses, 401)

    assert not asyncio.run(walk())


def test_every_route_without_the_role_answers_403_and_reads_no_body(walked: Walked) -> None:
    async def walk() -> list[tuple[str, str, int, int]]:
        exchanges, statuses = [], []
        for app, method, path in walked:
            exchange = Exchange(method=method, path=path, headers=(bearer("nobody", ()),))
            status = await exchange.run(app)
            if (method, path) not in ANY_ROLE:
                exchanges.append(exchange)
                statuses.append(status)
        return found_wrong(exchanges, statuses, 403)

    assert not asyncio.run(walk())


def test_every_route_of_checkout_beyond_the_limit_answers_429_and_reads_no_body(applications: Applications) -> None:
    async def walk() -> list[tuple[str, str, int, int]]:
        app = applications["checkout"]
        exchanges, statuses = [], []
        for method, path in routes(app):
            caller = (bearer(f"{method} {path}", ROLES),)
            status = 0
            for _ in range(ATTEMPTS_MAX):
                reading = Exchange(method="GET", path="/v1/catalogue", query=b"limit=0", headers=caller)
                if await reading.run(app) != 429:
                    continue
                exchange = Exchange(method=method, path=path, headers=caller)
                status = await exchange.run(app)
                if status == 429:
                    break
            exchanges.append(exchange)
            statuses.append(status)
        return found_wrong(exchanges, statuses, 429)

    assert not asyncio.run(walk())


def test_a_bulk_request_counts_as_many_orders_as_it_holds() -> None:
    async def count() -> None:
        limits = RateLimits("redis://127.0.0.1:1/0", None, {"storefront": 100}, service="checkout")
        caller = Principal(subject="storefront-1", roles=frozenset({"storefront"}))
        assert await limits.admit_bulk(caller) == 0, "nothing is known of the caller"
        hit = limits.hit_of_orders(caller, 100, 0)
        limits.settle(hit, await limits.count_alone(hit))
        with pytest.raises(Problem, match="More than 100 requests"):
            await limits.admit_bulk(caller)
        with pytest.raises(Problem, match="101 orders; your limit is 100 in 1 s"):
            limits.hit_of_orders(caller, 101, 0)

    asyncio.run(count())


def found_wrong(
    exchanges: Sequence[Exchange], statuses: Sequence[int], expected: int
) -> list[tuple[str, str, int, int]]:
    """Return the exchanges with another status, or of which the body was read."""
    return [
        (each.method, each.path, status, each.reads)
        for each, status in zip(exchanges, statuses, strict=True)
        if (status, each.reads) != (expected, 0)
    ]
