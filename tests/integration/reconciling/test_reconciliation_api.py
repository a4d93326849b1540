"""What finance reads and decides over HTTP and on the command line; a merchant has no access."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient

from baraza import divergences
from chassis.process.service import Dependencies
from reconciliation import api
from support.issuer import token, verifying
from support.reconciling import LATER, NOON, Feed, Reconciled, both, capture

PAYMENT_ID = 9_007_199_254_740_993_001


@pytest.fixture
def client(books: Reconciled) -> Iterator[TestClient]:
    with verifying() as verifier:
        unused = cast(Any, None)
        dependencies = Dependencies(settings=unused, engine=books.engine, codec=unused, verifier=verifier)
        yield TestClient(api.application(dependencies))


def call(client: TestClient, method: str, path: str, *, role: str = "finance", status: int = 200, **body: Any) -> Any:
    headers = {"Authorization": f"Bearer {token('fin-1', role)}"}
    answer = client.request(method, path, headers=headers, json=body or None)
    assert answer.status_code == status, answer.text
    return answer.json()


class Finance:
    """The API as the command line calls it."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Any:
        return call(self._client, "GET", f"{path}?{urlencode(params or {})}")


ROUTES = (
    ("GET", "/v1/reconciliation-runs"), ("GET", "/v1/reconciliation-runs/1"), ("GET", "/v1/divergences"),
    ("GET", "/v1/reconciliation-runs/1/lines"), ("GET", "/v1/reconciliation-runs/1/changes"), ("GET", "/v1/feeds"),
    ("GET", "/v1/divergences/01JCZ3K8T0ABCDEFGHJKMNPQRS"),
    ("GET", "/v1/reconciliation-requests/01JCZ3K8T0ABCDEFGHJKMNPQRS"), ("POST", "/v1/reconciliation-requests"),
    ("POST", "/v1/divergences/01JCZ3K8T0ABCDEFGHJKMNPQRS/closure"),
)  # fmt: skip


def test_a_merchant_and_every_other_role_has_no_access(client: TestClient) -> None:
    for role in ("merchant", "customer", "support", "operator", "bookkeeper"):
        for method, path in ROUTES:
            call(client, method, path, role=role, status=403, reason="x")
    described = client.get("/openapi.json").json()["paths"]
    assert sum(len(methods) for path, methods in described.items() if path.startswith("/v1/")) == len(ROUTES)


def test_a_requested_run_is_made_read_and_its_divergence_closed_with_a_reason(
    books: Reconciled, client: TestClient
) -> None:
    account, feed = books.account("stripe"), Feed("stripe")
    books.record(*both(capture(account, PAYMENT_ID, 500)), *both(capture(account, PAYMENT_ID + 1, 700)))
    feed.add("charge", 700, payment_id=PAYMENT_ID + 1, pspid="x", reference="c")
    books.deliver(account, "a.csv", feed.to_csv())
    body = {"account": account.name, "as_of": (NOON + timedelta(days=30)).isoformat()}
    requested = call(client, "POST", "/v1/reconciliation-requests", status=202, **body)
    assert requested["run"] is None
    with books.engine.begin() as tx:
        assert books.service.run_requested(tx)
    request = call(client, "GET", f"/v1/reconciliation-requests/{requested['request_id']}")
    run = call(client, "GET", f"/v1/reconciliation-runs/{request['run']}")
    assert (run["counts"], run["is_clean"]) == ({"MATCHED": 1, "MISSING_AT_GATEWAY": 1}, False)
    (line,) = call(client, "GET", f"/v1/reconciliation-runs/{run['run']}/lines?state=MISSING_AT_GATEWAY")["lines"]
    assert (line["payment_id"], line["ledger"], line["feed"]) == (str(PAYMENT_ID), "500", None)
    (change,) = call(client, "GET", f"/v1/reconciliation-runs/{run['run']}/changes")
    assert (change["change"], change["kind_after"]) == ("OPENED", "MISSING_AT_GATEWAY")
    (found,) = call(client, "GET", f"/v1/divergences?state=OPEN&payment_id={PAYMENT_ID}")["divergences"]
    path = f"/v1/divergences/{found['divergence_id']}/closure"
    call(client, "POST", path, status=422, reason="")
    closed = call(client, "POST", path, reason="refunded by hand")
    assert (closed["state"], closed["closed_by"], closed["reason"]) == ("EXPLAINED", "fin-1", "refunded by hand")
    problem = call(client, "POST", path, status=409, reason="again")
    assert problem["type"] == "urn:baraza:problem:divergence-not-open"
    books.now = LATER
    assert books.run(account).open_count == 0
    (file,) = call(client, "GET", "/v1/feeds")["feeds"]
    assert (file["name"], file["line_count"], file["refusal"]) == ("a.csv", 1, None)


def test_the_timeline_of_a_payment_has_its_divergences(books: Reconciled, client: TestClient) -> None:
    account = books.account("stripe")
    books.record(*both(capture(account, PAYMENT_ID, 500)), *both(capture(account, PAYMENT_ID + 1, 700)))
    run = books.run(account, as_of=NOON + timedelta(days=30))
    finance = Finance(client)
    (found,) = divergences.of_payment(finance, str(PAYMENT_ID))
    shown = divergences.line(found)
    assert f"MISSING_AT_GATEWAY of CAPTURE at {account.name}, run {run.run}" in shown
    assert shown.endswith(f"OPEN ({found['divergence_id']})")
    call(client, "POST", f"/v1/divergences/{found['divergence_id']}/closure", reason="refunded by hand")
    (explained,) = divergences.of_payment(finance, str(PAYMENT_ID))
    assert "by fin-1: refunded by hand" in divergences.line(explained)
    assert divergences.of_payment(finance, "1") == []


def test_only_the_number_of_a_merchants_payment_has_divergences() -> None:
    payment, order = [{"saga_id": "a", "type": "refund"}, {"saga_id": "b", "type": "payment"}], [{"type": "order"}]
    assert divergences.may_have(str(PAYMENT_ID), payment)
    assert not divergences.may_have(str(PAYMENT_ID), order)
    assert not any(divergences.may_have(each, payment) for each in ("pay-1", str(2**63), "", "01JCZ3K8T0"))


def test_a_run_of_an_account_that_is_not_there_fails_with_the_reason(books: Reconciled, client: TestClient) -> None:
    requested = call(client, "POST", "/v1/reconciliation-requests", status=202, account="nowhere")
    with books.engine.begin() as tx:
        books.service.run_requested(tx)
    found = call(client, "GET", f"/v1/reconciliation-requests/{requested['request_id']}")
    assert "There is no gateway account 'nowhere'" in found["failure"]
    with books.engine.begin() as tx:
        assert not books.service.run_requested(tx)


def test_pages_hold_every_line_once(books: Reconciled, client: TestClient) -> None:
    account = books.account("stripe")
    books.record(*(each for number in range(7) for each in both(capture(account, number + 1, 500))))
    run = books.run(account, as_of=LATER)
    seen: list[str] = []
    cursor: str | None = "0"
    while cursor is not None:
        page = call(client, "GET", f"/v1/reconciliation-runs/{run.run}/lines?limit=3&cursor={cursor}")
        seen += [line["payment_id"] for line in page["lines"]]
        cursor = page["next_cursor"]
    assert sorted(seen) == [str(number + 1) for number in range(7)]
