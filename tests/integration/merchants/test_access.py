"""Who may do what: API keys, tokens and staff; and a merchant sees nothing of another one, on no route."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from chassis.http.auth import Verifier
from chassis.http.issuers import MERCHANT_ISSUER, TwoIssuers
from support.checkouts import Api, token, until
from support.merchants import (
    MerchantStack,
    Shopkeeper,
    merchant_body,
    new_key,
    onboard,
    operate,
    pay,
    payment_body,
    registered,
    staff,
)

KEY_ID = "0" * 26


def requests_about(payment: str, merchant_id: str, key_id: str) -> list[tuple[str, str, Any]]:
    """Return a good request for every route that names a payment, a merchant or a key."""
    own, keys = f"/v1/merchants/{merchant_id}", f"/v1/merchants/{merchant_id}/api-keys"
    return [
        ("GET", f"/v1/payments/{payment}", None),
        ("GET", f"/v1/payments/{payment}/refunds", None),
        ("GET", f"/v1/payments?merchant_id={merchant_id}&is_live=false", None),
        ("POST", f"/v1/payments/{payment}/capture", {}),
        ("POST", f"/v1/payments/{payment}/cancel", {}),
        ("POST", f"/v1/payments/{payment}/refunds", {}),
        ("GET", own, None),
        ("GET", keys, None),
        ("POST", keys, {"is_live": False}),
        ("POST", f"{keys}/{key_id}/rotate", {}),
        ("DELETE", f"{keys}/{key_id}", None),
    ]


def send(client: httpx.Client, method: str, path: str, body: Any) -> httpx.Response:
    return client.request(method, path, json=body, headers={"Idempotency-Key": new_key()})


def templates_of(path: str, described: dict[str, Any]) -> list[str]:
    """Return the paths of the description with a parameter that a path is of, the one with the fewest parameters."""
    found = [each for each in described if "{" in each and re.fullmatch(re.sub(r"\{[^}]+\}", "[^/?]+", each), path)]
    return sorted(found, key=lambda each: each.count("{"))[:1]


@pytest.fixture(scope="module")
def other(merchant_stack: MerchantStack, api: Api) -> Shopkeeper:
    return registered(merchant_stack, api)


def first_key(api: Api, merchant_id: str) -> str:
    with staff(api, "operator") as operator:
        return str(operator.get(f"/v1/merchants/{merchant_id}/api-keys").json()[0]["key_id"])


def test_a_merchant_sees_nothing_of_another_one_on_any_route(shop: Shopkeeper, other: Shopkeeper, api: Api) -> None:
    payment = shop.captured()
    about = requests_about(payment["id"], shop.merchant_id, first_key(api, shop.merchant_id))
    described = httpx.get(f"{api.url}/openapi.json").json()["paths"]
    own = {(method.upper(), path) for path, item in described.items() for method in item if "{" in path}
    operators = {("POST", "/v1/merchants/{merchant_id}/close")}
    walked = {(method, template) for method, path, _ in about for template in templates_of(path, described)}
    assert walked == own - operators, "a new route needs a request here"
    foreign = [other.client(), other.client(is_live=True), other.token_client("merchant", "test")]
    for client in foreign:
        with client:
            answers = [(method, path, send(client, method, path, body)) for method, path, body in about]
            for method, path, answer in answers:
                assert answer.status_code == 404, (method, path, answer.text)
                for shown in ("duka la", payment["reference"], "captured_minor"):
                    assert shown not in answer.text.lower()
            unknown = [send(client, *each) for each in requests_about("12345", "unknown-one", KEY_ID)]
            assert {answer.status_code for answer in unknown} == {404}
    with shop.client() as client:
        assert client.get(f"/v1/payments/{payment['id']}").json()["operations"] == []


def test_one_mode_sees_nothing_of_the_other(shop: Shopkeeper, api: Api) -> None:
    payment = shop.captured()
    test_key = first_key(api, shop.merchant_id)
    with shop.client(is_live=True) as live:
        for method, path, body in requests_about(payment["id"], shop.merchant_id, test_key):
            if path.endswith(("/api-keys", f"/v1/merchants/{shop.merchant_id}")):
                continue
            assert send(live, method, path, body).status_code == 404, (method, path)
        assert live.post(f"/v1/merchants/{shop.merchant_id}/api-keys", json={"is_live": False}).status_code == 403
        listed = live.get(f"/v1/merchants/{shop.merchant_id}/api-keys").json()
        assert {each["is_live"] for each in listed} == {True}
        assert payment["id"] not in live.get("/v1/payments").text


@pytest.mark.parametrize("role", ["support", "finance", "operator"])
def test_staff_reads_any_merchant_and_does_nothing_in_its_name(shop: Shopkeeper, api: Api, role: str) -> None:
    payment = shop.captured()
    with staff(api, role) as client:
        assert client.get(f"/v1/payments/{payment['id']}").json()["merchant_id"] == shop.merchant_id
        listed = client.get(f"/v1/payments?merchant_id={shop.merchant_id}&is_live=false").json()["payments"]
        assert payment["id"] in {each["id"] for each in listed}
        assert client.get("/v1/payments").status_code == 422
        assert client.get(f"/v1/merchants/{shop.merchant_id}").status_code == 200
        assert pay(client).status_code == 403
        assert operate(client, payment["id"], "refunds").status_code == 403
        keys = client.get(f"/v1/merchants/{shop.merchant_id}/api-keys").status_code
        registering = client.post("/v1/merchants", json=merchant_body(merchant_id="UPPER")).status_code
        assert (keys, registering) == ((200, 422) if role == "operator" else (403, 403))


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer x", "Basic eDp5", "Bearer sk_test_" + "0" * 46, "Bearer sk_"])
def test_without_a_valid_key_there_is_a_401(api: Api, sent: str) -> None:
    answer = httpx.get(f"{api.url}/v1/payments", headers={"Authorization": sent} if sent else {})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_token_of_the_issuer_is_a_merchants_with_exactly_one_mode(shop: Shopkeeper) -> None:
    for roles, status in (
        (("merchant", "test"), 202), (("merchant", "live"), 202), (("merchant",), 403),
        (("merchant", "live", "test"), 403), (("test",), 403), (("customer",), 403),
    ):  # fmt: skip
        with shop.token_client(*roles) as client:
            assert pay(client).status_code == status, roles


def test_only_a_digest_of_a_key_is_stored(shop: Shopkeeper, merchant_stack: MerchantStack) -> None:
    with merchant_stack.engine.connect() as tx:
        rows = tx.execute(text("SELECT CAST(api_keys AS text) FROM api_keys")).scalars().all()
    assert rows
    for key in shop.keys.values():
        assert not any(key in row or key[8:20] in row for row in rows)


def test_a_replaced_key_works_through_its_overlap_and_a_revoked_one_no_more(
    merchant_stack: MerchantStack, api: Api, operator: httpx.Client
) -> None:
    shop = registered(merchant_stack, api)
    keys = f"/v1/merchants/{shop.merchant_id}/api-keys"
    old = first_key(api, shop.merchant_id)
    with shop.client() as client:
        rotated = client.post(f"{keys}/{old}/rotate", json={"overlap_s": 3600})
        assert rotated.status_code == 201, rotated.text
        assert rotated.headers["cache-control"] == "no-store"
        new = Shopkeeper(
            stack=merchant_stack, api=api, merchant_id=shop.merchant_id, keys={False: rotated.json()["api_key"]}
        )
        with new.client() as changed:
            assert (client.get("/v1/payments").status_code, changed.get("/v1/payments").status_code) == (200, 200)
            assert changed.delete(f"{keys}/{old}").json()["revoked_at"] is not None
            until(lambda: client.get("/v1/payments").status_code == 401, "the revoked key is refused")
            assert changed.get("/v1/payments").status_code == 200
    assert operator.post(f"{keys}/{old}/rotate", json={}).status_code == 409


def test_a_key_whose_overlap_is_over_is_refused(merchant_stack: MerchantStack, api: Api) -> None:
    shop = registered(merchant_stack, api)
    old = first_key(api, shop.merchant_id)
    with staff(api, "operator") as operator:
        rotated = operator.post(f"/v1/merchants/{shop.merchant_id}/api-keys/{old}/rotate", json={"overlap_s": 0})
        assert rotated.status_code == 201
    with shop.client() as client:
        assert client.get("/v1/payments").status_code == 401


def test_a_merchant_has_no_more_keys_than_it_may(
    merchant_stack: MerchantStack, api: Api, operator: httpx.Client
) -> None:
    shop = registered(merchant_stack, api)
    path = f"/v1/merchants/{shop.merchant_id}/api-keys"
    made = [operator.post(path, json={"is_live": False}).status_code for _ in range(10)]
    assert made == [201] * 9 + [409]


def test_registering_again_is_the_same_merchant_or_a_conflict(
    operator: httpx.Client, merchant_stack: MerchantStack
) -> None:
    body = merchant_body(merchant_id=f"soko-{new_key()[:8]}")
    first, again = operator.post("/v1/merchants", json=body), operator.post("/v1/merchants", json=body)
    assert (first.status_code, again.status_code, again.json()) == (202, 200, first.json())
    assert operator.post("/v1/merchants", json={**body, "name": "Another"}).status_code == 409
    assert first.json()["state"] == "REGISTERED"
    with merchant_stack.engine.connect() as tx:
        query = text("SELECT saga_id FROM merchants WHERE merchant_id = :id")
        saga_id = tx.execute(query, {"id": body["merchant_id"]}).scalar_one()
    assert merchant_stack.published(str(saga_id)) == ["MerchantRegistered"]


@pytest.mark.parametrize(
    "changes",
    [
        {"merchant_id": "duka-test"}, {"merchant_id": "Duka"}, {"merchant_id": "-duka"}, {"merchant_id": "a" * 41},
        {"currencies": []}, {"currencies": ["USD", "USD"]}, {"currencies": ["XXX"]},
        {"price": {"basis_points": 10_001}}, {"price": {"basis_points": -1}},
        {"price": {"basis_points": 1, "fixed_minor": {"EUR": 1}}}, {"amount_max_minor": {"EUR": 1}},
    ],
)  # fmt: skip
def test_a_merchant_that_is_not_valid_is_refused(operator: httpx.Client, changes: dict[str, Any]) -> None:
    answer = operator.post("/v1/merchants", json=merchant_body(**changes))
    assert answer.status_code == 422, answer.text


def test_payments_are_taken_from_the_opening_of_the_accounts_to_the_close(
    merchant_stack: MerchantStack, api: Api, operator: httpx.Client
) -> None:
    shop = registered(merchant_stack, api, onboarded=False)
    with shop.client() as client:
        early = pay(client)
        assert (early.status_code, early.json()["type"]) == (403, "urn:baraza:problem:merchant-not-active")
        onboard(merchant_stack, shop.merchant_id)
        payment = shop.captured(100)
        assert operator.post(f"/v1/merchants/{shop.merchant_id}/close").json()["state"] == "CLOSED"
        assert pay(client).status_code == 403
        assert operate(client, payment["id"], "refunds").status_code == 202
        onboard(merchant_stack, shop.merchant_id)
        assert pay(client).status_code == 403, "a late redelivery opens nothing"


def test_a_key_is_exchanged_for_a_token_that_other_services_verify(shop: Shopkeeper, api: Api) -> None:
    with shop.client() as client:
        answer = client.post("/v1/tokens")
    assert answer.status_code == 200, answer.text
    issued = answer.json()
    assert (issued["token_type"], issued["expires_in"]) == ("Bearer", 300)
    assert answer.headers["cache-control"] == "no-store"
    elsewhere = TwoIssuers(
        Verifier(f"{api.url}/nowhere", "x", "baraza"),
        Verifier(f"{api.url}/.well-known/jwks.json", MERCHANT_ISSUER, "baraza"),
        believed=frozenset({"merchant", "live", "test"}),
    )
    caller = elsewhere.verify(issued["access_token"])
    assert caller.subject == shop.merchant_id
    assert caller.roles == {"merchant", "test"}
    headers = {"Authorization": f"Bearer {issued['access_token']}"}
    with httpx.Client(base_url=api.url, headers=headers) as client:
        assert pay(client).status_code == 202
        assert client.post("/v1/tokens").status_code == 403, "a token does not make itself live longer"
    published = httpx.get(f"{api.url}/.well-known/jwks.json").json()
    assert all("d" not in key for key in published["keys"])


def test_a_list_has_filters_and_pages(merchant_stack: MerchantStack, api: Api) -> None:
    shop = registered(merchant_stack, api)
    with shop.client() as client:
        made = [pay(client, payment_body(reference=f"r-{number % 2}")).json()["id"] for number in range(5)]
        found: list[str] = []
        cursor = ""
        while True:
            page = client.get(f"/v1/payments?limit=2{cursor}").json()
            found += [each["id"] for each in page["payments"]]
            if page["next"] is None:
                break
            cursor = f"&before={page['next']}"
        assert found == sorted(made, key=int, reverse=True)

        def count(**filters: str) -> int:
            return len(client.get("/v1/payments", params=filters).json()["payments"])

        assert count(reference="r-1") == 2
        assert (count(status="PENDING"), count(status="CAPTURED")) == (5, 0)
        assert (count(currency="USD"), count(currency="KES")) == (5, 0)
        assert count(created_from="2030-01-01T00:00:00Z") == count(created_to="2026-01-01T00:00:00Z") == 0
        assert client.get("/v1/payments?status=x").status_code == 422
        assert client.get("/v1/payments?limit=101").status_code == 422


def test_a_caller_beyond_its_limit_is_refused(merchant_stack: MerchantStack) -> None:
    limited = merchant_stack.start(REQUESTS_PER_S_MERCHANT="1")
    with httpx.Client(
        base_url=limited.url, headers={"Authorization": f"Bearer {token('duka', ['merchant', 'test'])}"}
    ) as client:
        answers = [client.get("/v1/payments") for _ in range(5)]
    refused = [each for each in answers if each.status_code == 429]
    assert refused
    assert refused[0].headers["retry-after"] == "1"
    limited.kill()


def test_a_service_without_the_keys_says_what_is_missing(shop: Shopkeeper, merchant_stack: MerchantStack) -> None:
    bare = merchant_stack.start(
        PAYER_KEY_FILE=str(merchant_stack.file("empty", "")),
        MERCHANT_TOKEN_KEY_FILE=str(merchant_stack.file("token-key", "")),
    )
    with shop.client(api=bare) as client:
        answer = pay(client)
        assert (answer.status_code, "BARAZA_PAYER_KEY_FILE" in answer.text) == (503, True)
        assert client.get("/v1/payments").status_code == 200
    bare.kill()
