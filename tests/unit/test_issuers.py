"""Tokens of two issuers: merchants' short tokens count, and make no staff."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from chassis.http.auth import InvalidToken, Verifier, keys_of
from chassis.http.issuers import MERCHANT_ISSUER, TwoIssuers
from support.issuer import AUDIENCE, token, verifying

OWN_KEY = ec.generate_private_key(ec.SECP256R1())


def own_keys() -> dict[str, jwt.PyJWK]:
    return keys_of({"keys": [{**json.loads(ECAlgorithm.to_jwk(OWN_KEY.public_key())), "kid": "own"}]})


def merchant_token(*roles: str, issuer: str = MERCHANT_ISSUER, ttl_s: int = 60) -> str:
    now = int(time.time())
    claims = {"iss": issuer, "aud": AUDIENCE, "sub": "duka", "iat": now, "exp": now + ttl_s, "roles": roles}
    return jwt.encode(claims, OWN_KEY, "ES256", headers={"kid": "own"})


@pytest.fixture(scope="module")
def verifier() -> Iterator[TwoIssuers]:
    with verifying() as general:
        yield TwoIssuers(
            general,
            Verifier("", MERCHANT_ISSUER, AUDIENCE, fetch=own_keys),
            believed=frozenset({"merchant", "live", "test"}),
        )


def test_tokens_of_both_issuers_identify_their_callers(verifier: TwoIssuers) -> None:
    staff, merchant = verifier.verify(token("s", "support")), verifier.verify(merchant_token("merchant", "live"))
    assert (staff.subject, sorted(staff.roles)) == ("s", ["support"])
    assert (merchant.subject, sorted(merchant.roles)) == ("duka", ["live", "merchant"])


def test_the_issuer_of_merchants_makes_no_staff(verifier: TwoIssuers) -> None:
    assert verifier.verify(merchant_token("merchant", "test", "operator", "finance")).roles == {"merchant", "test"}


def test_a_token_of_merchants_that_names_the_other_issuer_is_refused(verifier: TwoIssuers) -> None:
    with pytest.raises(InvalidToken):
        verifier.verify(merchant_token("operator", issuer="https://issuer.test"))


def test_an_expired_token_of_merchants_is_refused(verifier: TwoIssuers) -> None:
    with pytest.raises(InvalidToken, match="expired"):
        verifier.verify(merchant_token("merchant", "live", ttl_s=-60))
