"""Two issuers as an enterprise has them, customers' and staff's: their settings, their keys, and tokens of theirs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from chassis.http.auth import keys_of
from chassis.http.issuers import Issuers
from chassis.settings import TrustedIssuer
from merchant.roles import MERCHANT_ROLES
from stack import issuers as stack_issuers

AUDIENCE: Final = "baraza"
TTL_S: Final = 600
CUSTOMERS: Final = TrustedIssuer(
    issuer="https://customers.test/oauth2/default",
    jwks_url="http://127.0.0.1:1/customers",
    audience=AUDIENCE,
    always=("customer",),
    may_be=stack_issuers.CUSTOMERS_ROLES,
)
STAFF: Final = TrustedIssuer(
    issuer="https://staff.test/v2.0",
    jwks_url="http://127.0.0.1:1/staff",
    audience=AUDIENCE,
    may_be=stack_issuers.STAFF_ROLES,
)
FORGED_ROLES: Final = (*stack_issuers.STAFF_ROLES, *sorted(MERCHANT_ROLES))
"""What a customers' token may claim in vain: every role of staff, and those of a merchant."""
CUSTOMERS_OWN: Final = frozenset(
    {
        ("POST", "/v1/orders"),
        ("GET", "/v1/orders/{order_id}"),
        ("POST", "/v1/orders/{order_id}/cancel"),
        ("POST", "/v1/orders/{order_id}/returns"),
        ("GET", "/v1/orders/{order_id}/returns"),
        ("GET", "/v1/returns/{return_id}"),
        ("POST", "/v1/returns/{return_id}/cancel"),
        ("GET", "/v1/catalogue"),
        ("GET", "/v1/accounts/{customer_id}"),
    }
)
"""What a customer may call. Everything else is for staff, for members, or for the systems of shops and merchants."""
OPEN: Final = frozenset({"/livez", "/readyz", "/metrics", "/openapi.json", "/.well-known/jwks.json"})
"""What needs no token."""
_KEYS: Final = {each.issuer: ec.generate_private_key(ec.SECP256R1()) for each in (CUSTOMERS, STAFF)}


def issuers(*trusted: TrustedIssuer) -> Issuers:
    """Return the verifier of these issuers, with the keys of the two here."""
    return Issuers(trusted, fetches={each.issuer: keys_published_by(each.issuer) for each in trusted})


def keys_published_by(issuer: str) -> Callable[[], Mapping[str, jwt.PyJWK]]:
    """Return the function that fetches the keys of an issuer; one that has none here publishes the staff's."""
    key = _KEYS.get(issuer, _KEYS[STAFF.issuer])
    return lambda: keys_of({"keys": [{**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": "1"}]})


def customers_token(subject: str, **claims: Any) -> str:
    """Return a token that the customers' issuer signed, with these claims more or instead."""
    return _signed(CUSTOMERS.issuer, subject, claims)


def staff_token(subject: str, **claims: Any) -> str:
    """Return a token that the staff's issuer signed, with these claims more or instead."""
    return _signed(STAFF.issuer, subject, claims)


def _signed(issuer: str, subject: str, claims: Mapping[str, Any]) -> str:
    now = int(time.time())
    usual = {"iss": issuer, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + TTL_S}
    payload = {**usual, **claims}
    header = {"typ": "JWT", "alg": "ES256", "kid": "1"}
    # PyJWT refuses to sign claims of a wrong type; a forger's library does not.
    return jwt.PyJWS().encode(json.dumps(payload).encode(), _KEYS[issuer], "ES256", headers=header)
