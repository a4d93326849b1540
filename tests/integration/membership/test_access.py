"""A member reaches its own routes and no route of staff, and each caller has a limit, for every route of the app."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from support.checkouts import Api
from support.members import MembersStack, Office

PARAMETER = re.compile(r"\{[^}]+\}")
OF_MEMBERS = {
    ("POST", "/v1/collections"),
    ("POST", "/v1/withdrawals"),
    ("POST", "/v1/repayments"),
    ("POST", "/v1/withdrawals/{request_id}/cancellation"),
    ("POST", "/v1/loans"),
    *(("GET", f"/v1/{kind}/{{request_id}}") for kind in ("collections", "withdrawals", "repayments")),
    *(("GET", f"/v1/members/{{member_id}}/{kind}") for kind in ("collections", "withdrawals", "repayments")),
    *(("GET", f"/v1/{path}") for path in ("members/{member_id}", "loans", "loans/{loan_id}")),
    *(("GET", f"/v1/{path}") for path in ("receipts", "receipts/{receipt}", "tariffs", "policies", "short-codes")),
}
READING_ALONE = ("treasury", "support")


@pytest.fixture(scope="module")
def routes(api: Api) -> list[tuple[str, str]]:
    described: dict[str, Any] = httpx.get(f"{api.url}/openapi.json").json()
    found = [(method.upper(), path) for path, item in described["paths"].items() for method in item]
    return [route for route in found if route[1].startswith("/v1/")]


def test_a_member_is_refused_by_every_route_that_is_not_its_own(office: Office, routes: list[tuple[str, str]]) -> None:
    assert set(routes) >= OF_MEMBERS
    with office.client("member", subject="M123") as client:
        for method, path in routes:
            status = client.request(method, PARAMETER.sub("LN1", path)).status_code
            assert (status == 403) is ((method, path) not in OF_MEMBERS), (method, path, status)


def test_who_only_reads_changes_nothing(office: Office, routes: list[tuple[str, str]]) -> None:
    for role in READING_ALONE:
        with office.client(role) as client:
            for method, path in routes:
                status = client.request(method, PARAMETER.sub("LN1", path)).status_code
                assert (status == 403) is (method != "GET"), (role, method, path, status)


def test_no_one_who_proposes_also_approves_by_role(office: Office, routes: list[tuple[str, str]]) -> None:
    approving = [path for method, path in routes if method == "POST" and path.endswith("/approval")]
    assert len(approving) == 4
    for role in ("teller", "finance", "operator"):
        with office.client(role) as client:
            assert {client.post(PARAMETER.sub("LN1", path)).status_code for path in approving} == {403}


def test_a_caller_beyond_its_limit_is_refused_and_others_are_not(members_stack: MembersStack) -> None:
    limited = Office(stack=members_stack, api=members_stack.start(REQUESTS_PER_S_MEMBER="2"))
    with limited.client("member", subject="M777") as client, limited.client("member", subject="M778") as other:
        answers = [client.get("/v1/loans") for _ in range(20)]
        assert 429 in {answer.status_code for answer in answers}
        assert other.get("/v1/loans").status_code == 200
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["Retry-After"] == "1"


def test_the_work_list_is_measured(office: Office) -> None:

    exported = httpx.get(f"{office.api.url}/metrics").text
    names = ("baraza_suspense_receipts", "baraza_suspense_oldest_seconds", 'baraza_sagas_overdue{saga="withdrawal"}')
    for name in names:
        assert name in exported, name
