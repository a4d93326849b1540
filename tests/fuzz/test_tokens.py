"""Forged, expired and stolen tokens at every protected operation of every API, over HTTP: all are refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chassis.http.problem import MEDIA_TYPE
from simulators.keys import private_key, public_jwk
from support.shop import Shop

APIS = ("checkout", "inventory", "loyalty", "payment", "shipping", "ledger", "saga-tracker-api")
OPEN = frozenset({"/livez", "/readyz"})
"""Operations that need no token."""
SAGA_ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forgeries(shop: Shop) -> Iterator[tuple[str, str]]:
    """Yield invalid tokens by their fault; without it each would be an operator's."""
    environment = shop.stack.environment("issuer")
    keys = Path(environment["BARAZA_ISSUER_KEYS"])
    key, kid = private_key(keys, "RS256"), str(public_jwk(private_key(keys, "RS256"), "RS256")["kid"])
    now, roles = int(time.time()), ["operator", "support", "storefront", "catalogue"]
    issuer = environment["BARAZA_ISSUER"]
    good = {"iss": issuer, "aud": "baraza", "sub": "staff", "iat": now, "exp": now + 600, "roles": roles}

    def signed(header: dict[str, Any] | None = None, by: Any = key, **changes: Any) -> str:
        claims = {name: value for name, value in {**good, **changes}.items() if value is not ...}
        return jwt.encode(claims, by, "RS256", headers={"kid": kid, **(header or {})})

    whole, body = signed(), part(good)
    yield "unsigned", f"{part({'alg': 'none', 'kid': kid})}.{body}."
    yield "unsigned, with a signature", f"{part({'alg': 'none', 'kid': kid})}.{body}.{whole.rpartition('.')[2]}"
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    text = f"{part({'alg': 'HS256', 'kid': kid})}.{body}"
    mac = base64.urlsafe_b64encode(hmac.new(public, text.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()
    yield "the public key as a secret", f"{text}.{mac}"
    yield "signed by a stranger", signed(by=STRANGER)
    yield "a stranger's key in its header", signed({"jwk": public_jwk(STRANGER, "RS256")}, by=STRANGER)
    yield "a path as the key's id", signed({"kid": "../../../../dev/null"})
    yield "a query as the key's id", signed({"kid": "x' OR '1'='1"})
    yield "the other key's id", signed({"kid": str(public_jwk(private_key(keys, "ES256"), "ES256")["kid"])})
    yield "expired", signed(exp=now - 60)
    yield "not valid yet", signed(nbf=now + 600)
    yield "issued tomorrow", signed(iat=now + 86_400)
    yield "of another issuer", signed(iss="http://elsewhere.test")
    yield "for another audience", signed(aud="another")
    for name in ("sub", "exp", "iss", "aud", "iat"):
        yield f"without {name}", signed(**{name: ...})
    yield "roles as a text", signed(roles="operator")
    yield "cut off", whole[:-40]
    yield "changed", f"{whole.split('.')[0]}.{part({**good, 'sub': 'root'})}.{whole.split('.')[2]}"
    yield "huge", signed(padding="x" * 20_000)
    yield "two dots", ".."
    yield "no token", "letmein"


def protected(shop: Shop) -> list[tuple[str, str, str]]:
    """Return every operation that needs a token, from the APIs' own descriptions: service, method, path."""
    found = []
    for service in APIS:
        description = shop.http.get(f"{shop.stack.endpoints.url(service)}/openapi.json").json()
        for path, operations in description["paths"].items():
            found += [(service, method.upper(), path) for method in operations if path not in OPEN]
            assert path in OPEN or all(operation.get("security") for operation in operations.values()), path
    return found


def concrete(path: str) -> str:
    """Return a path with an id for each of its parameters."""
    for name in ("saga_id", "order_id", "return_id", "sku", "customer_id", "name"):
        path = path.replace(f"{{{name}}}", SAGA_ID)
    return path


def test_no_forged_token_is_accepted_anywhere(besieged: Shop) -> None:
    """The response is 401 before anything else is checked, and repeats nothing of the request."""
    operations, forged = protected(besieged), dict(forgeries(besieged))
    assert len(operations) >= len(APIS)
    for service, method, path in operations:
        url = f"{besieged.stack.endpoints.url(service)}{concrete(path)}"
        for what, token in forged.items():
            answer = besieged.http.request(method, url, headers={"Authorization": f"Bearer {token}"})
            said = f"{method} {path} of {service}, {what}: {answer.status_code} {answer.text[:200]}"
            assert answer.status_code == 401, said
            assert answer.headers["content-type"] == MEDIA_TYPE, said
            assert answer.headers["WWW-Authenticate"].startswith("Bearer"), said


def test_a_customer_sees_only_what_is_its_own(besieged: Shop) -> None:
    """For a customer, another's order does not exist; what is for staff is forbidden."""
    order_id = besieged.place(points=50).order_id
    besieged.outcome(order_id)
    token = besieged.customers_token("another customer", "customer")
    statuses = {
        ("checkout", "GET", f"/v1/orders/{order_id}"): 404,
        ("checkout", "POST", f"/v1/orders/{order_id}/cancel"): 404,
        ("checkout", "GET", f"/v1/orders/{order_id}/returns"): 404,
        ("shipping", "GET", f"/v1/collections/{order_id}"): 403,
        ("payment", "GET", f"/v1/payments/{order_id}"): 403,
        ("shipping", "GET", f"/v1/shipments/{order_id}"): 403,
        ("ledger", "GET", f"/v1/entries/{order_id}"): 403,
        ("saga-tracker-api", "GET", f"/v1/sagas/{order_id}/timeline"): 403,
        ("saga-tracker-api", "GET", "/v1/sagas"): 403,
        ("loyalty", "GET", "/v1/accounts/customer"): 403,
    }
    for (service, method, path), status in statuses.items():
        url = f"{besieged.stack.endpoints.url(service)}{path}"
        answer = besieged.http.request(method, url, headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE), path


@pytest.fixture
def issuer_down(besieged: Shop) -> Iterator[None]:
    """The issuer is down, and a service without any key is started."""
    good = besieged.token()
    assert good
    besieged.stack.stop("issuer")
    besieged.stack.restart("ledger")
    try:
        yield
    finally:
        besieged.stack.start("issuer")


@pytest.mark.usefixtures("issuer_down")
def test_without_the_issuers_keys_it_is_503_and_not_the_callers_fault(besieged: Shop) -> None:
    url = f"{besieged.stack.endpoints.url('ledger')}/v1/entries/{SAGA_ID}"
    answer = besieged.http.get(url, headers={"Authorization": f"Bearer {besieged.token()}"})
    assert (answer.status_code, answer.headers["content-type"]) == (503, MEDIA_TYPE)
    assert int(answer.headers["Retry-After"]) > 0
