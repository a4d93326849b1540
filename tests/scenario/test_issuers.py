"""Both issuers of the whole system: at every API that runs, a customers' token is a customer's, whatever it claims."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from chassis.wire.envelope import new_id
from simulators.keys import signed
from simulators.people import CUSTOMERS
from stack import contract, issuers
from support.apps import App
from support.shop import Shop
from support.two_issuers import CUSTOMERS_OWN, FORGED_ROLES, OPEN

FORGER = CUSTOMERS[-1].sub
PARAMETER = re.compile(r"\{[^}]+\}")
APIS = (*contract.services(), contract.TRACKER_API)
THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route of a service's API, as the service describes it."""

    service: str
    method: str
    path: str


@pytest.fixture(scope="module")
def routes(open_shop: Shop) -> list[Route]:
    return list(_routes(open_shop))


def _routes(shop: Shop) -> Iterator[Route]:
    for service in APIS:
        answer = shop.http.get(f"{shop.stack.endpoints.url(service)}/openapi.json")
        assert answer.status_code == 200, service
        for path, item in answer.json()["paths"].items():
            yield from (Route(service=service, method=each.upper(), path=path) for each in item if path not in OPEN)


def statuses(shop: Shop, routes: list[Route], token: str) -> Mapping[Route, int]:
    """Return what each route answers to a request with this token."""

    def status(route: Route) -> int:
        url = f"{shop.stack.endpoints.url(route.service)}{PARAMETER.sub('0' * 26, route.path)}"
        body: dict[str, str] | None = None if route.method in ("GET", "DELETE") else {}
        headers = {"Authorization": f"Bearer {token}"}
        with shop.http.stream(route.method, url, json=body, headers=headers) as answer:
            return answer.status_code

    with ThreadPoolExecutor(THREADS) as threads:
        return dict(zip(routes, threads.map(status, routes), strict=True))


def test_a_customers_token_that_claims_every_role_is_refused_at_every_route_for_others(
    open_shop: Shop, routes: list[Route]
) -> None:
    assert len(routes) > 100, "the routes are those that the running services describe"
    for_others = [each for each in routes if (each.method, each.path) not in CUSTOMERS_OWN]
    forged = open_shop.customers_token(f"customer-{new_id()}", *FORGED_ROLES)
    found = statuses(open_shop, for_others, forged)
    assert {route: status for route, status in found.items() if status != 403} == {}


def test_it_is_a_customers_where_customers_have_their_own(open_shop: Shop) -> None:
    own, other = f"customer-{new_id()}", f"customer-{new_id()}"
    open_shop.call("loyalty", "PUT", "/v1/accounts", [{"customer_id": each, "points": 3} for each in (own, other)])
    forged = open_shop.customers_token(own, *FORGED_ROLES)
    url = open_shop.stack.endpoints.url("loyalty")
    headers = {"Authorization": f"Bearer {forged}"}
    found = [open_shop.http.get(f"{url}/v1/accounts/{each}", headers=headers).status_code for each in (own, other)]
    assert found == [200, 403]
    order = open_shop.place()
    open_shop.outcome(order.order_id)
    url = f"{open_shop.stack.endpoints.url('checkout')}/v1/orders/{order.order_id}"
    assert open_shop.http.get(url, headers=headers).status_code == 404, "another customer's order"


def test_the_same_roles_of_the_staffs_issuer_are_admitted_by_every_api(open_shop: Shop, routes: list[Route]) -> None:
    reading = [each for each in routes if each.method == "GET"]
    admitted: dict[str, bool] = defaultdict(bool)
    for route, status in statuses(open_shop, reading, open_shop.token()).items():
        admitted[route.service] |= status not in (401, 403)
    assert admitted == dict.fromkeys({each.service for each in routes}, True)


def test_a_token_that_the_customers_keys_sign_in_the_name_of_the_staffs_issuer_is_refused_everywhere(
    open_shop: Shop, routes: list[Route]
) -> None:
    now = int(time.time())
    claims = {
        "iss": open_shop.stack.endpoints.url("issuer"), "aud": issuers.AUDIENCE, "sub": "opal.okafor", "iat": now,
        "exp": now + 600, "roles": list(FORGED_ROLES),
    }  # fmt: skip
    folder = open_shop.stack.home / "simulators" / "issuer-keys" / issuers.CUSTOMERS_PATH.strip("/")
    assert folder.is_dir()
    found = statuses(open_shop, routes, signed(folder, claims))
    assert set(found.values()) == {401}


def test_who_signs_in_as_a_customer_whose_account_claims_to_be_staff_sees_nothing_of_staff(
    open_shop: Shop, routes: list[Route]
) -> None:
    app = App(http=open_shop.http, issuer=issuers.customers_of(open_shop.stack.endpoints.url("issuer")))
    token = app.sign_in(FORGER)["access_token"]
    lists = [each for each in routes if each.path in ("/v1/sagas", "/v1/plans", "/v1/now", "/v1/divergences")]
    assert len(lists) >= 4
    assert set(statuses(open_shop, lists, token).values()) == {403}
