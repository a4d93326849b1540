"""Tokens that are accepted, and every forgery that is refused. The issuer is a real HTTP server of the test."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from chassis.http.auth import (
    KEYS_AGE_MAX_S,
    KEYS_LIFESPAN_S,
    REFRESH_INTERVAL_MIN_S,
    InvalidToken,
    KeysUnavailable,
    Verifier,
)

ISSUER, AUDIENCE = "https://issuer.test", "baraza"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def rsa_jwk(key: rsa.RSAPrivateKey, kid: str, **members: str) -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", **members}


class Issuer:
    """A JWKS endpoint whose keys, status and speed the test sets; it counts its requests."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [
            rsa_jwk(RSA_KEY, "rsa"),
            rsa_jwk(WEAK_KEY, "weak"),
            {**ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True), "kid": "ec"},
            {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"},
        ]
        self.status = 200
        self.asked = 0
        self.answering = threading.Event()
        self.answering.set()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                issuer.answering.wait(5)
                body = json.dumps({"keys": issuer.keys}).encode()
                self.send_response(issuer.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks.json"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    server = Issuer()
    yield server
    server.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(issuer: Issuer, clock: Clock) -> Verifier:
    return Verifier(issuer.url, ISSUER, AUDIENCE, clock=clock)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    all_claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "customer-1",
        "iat": now,
        "exp": now + 60,
        "roles": ["customer"],
    }
    return {name: value for name, value in (all_claims | changes).items() if value is not ...}


def token(key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = "rsa", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm, headers={"kid": kid} if kid is not None else {})


def encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA_KEY, "RS256", "rsa"), (EC_KEY, "ES256", "ec")])
def test_a_valid_token_identifies_its_caller(verifier: Verifier, key: Any, algorithm: str, kid: str) -> None:
    principal = verifier.verify(token(key, algorithm, kid))
    assert (principal.subject, principal.roles) == ("customer-1", frozenset({"customer"}))


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": ...},
        {"exp": "soon"},
        {"iss": "https://elsewhere.test"},
        {"iss": ...},
        {"aud": "another"},
        {"aud": ...},
        {"sub": ...},
        {"sub": ""},
        {"sub": "s" * 129},
        {"roles": "operator"},
        {"roles": [1]},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_token_with_a_wrong_claim_is_refused(verifier: Verifier, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        verifier.verify(token(**changes))


@pytest.mark.parametrize(("claim", "from_now_s"), [("exp", -60), ("iat", 3_600), ("nbf", 3_600)])
def test_a_token_of_another_time_is_refused(verifier: Verifier, claim: str, from_now_s: int) -> None:
    with pytest.raises(InvalidToken):
        verifier.verify(token(**{claim: int(time.time()) + from_now_s}))


def test_a_token_signed_by_another_key_is_refused(verifier: Verifier) -> None:
    with pytest.raises(InvalidToken):
        verifier.verify(token(OTHER_KEY))


def test_a_changed_claim_breaks_the_signature(verifier: Verifier) -> None:
    header, _, signature = token().split(".")
    with pytest.raises(InvalidToken):
        verifier.verify(f"{header}.{encoded(claims(roles=['operator']))}.{signature}")


def test_an_unsigned_token_is_refused(verifier: Verifier) -> None:
    body = encoded(claims())
    for header in ({"alg": "none", "kid": "rsa"}, {"alg": "None", "kid": "rsa"}, {"kid": "rsa"}):
        for signature in ("", "AA"):
            with pytest.raises(InvalidToken):
                verifier.verify(f"{encoded(header)}.{body}.{signature}")


def test_a_public_key_is_never_used_as_a_shared_secret(verifier: Verifier) -> None:
    public = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for kid in ("rsa", "secret"):
        signed = f"{encoded({'alg': 'HS256', 'kid': kid})}.{encoded(claims())}"
        mac = hmac.new(public, signed.encode(), hashlib.sha256).digest()
        with pytest.raises(InvalidToken):
            verifier.verify(f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}")


def test_a_key_is_used_only_with_its_own_algorithm(verifier: Verifier) -> None:
    for forged in (
        token(RSA_KEY, "RS256", "ec"),
        token(EC_KEY, "ES256", "rsa"),
        token(RSA_KEY, "RS512"),
        token(RSA_KEY, "PS256"),
    ):
        with pytest.raises(InvalidToken):
            verifier.verify(forged)


def test_weak_and_symmetric_keys_of_the_issuer_are_skipped(verifier: Verifier) -> None:
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        weak = token(WEAK_KEY, "RS256", "weak")
    with pytest.raises(InvalidToken):
        verifier.verify(weak)


def test_a_token_must_name_its_key(verifier: Verifier) -> None:
    with pytest.raises(InvalidToken, match="names no key"):
        verifier.verify(token(kid=None))


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c", "....", "é.é.é", "A" * 9_000, f"{'A' * 4_000}.A.A", " . . "])
def test_what_is_no_token_is_refused_without_a_request_to_the_issuer(
    verifier: Verifier, issuer: Issuer, text: str
) -> None:
    with pytest.raises(InvalidToken):
        verifier.verify(text)
    assert issuer.asked == 0


def test_a_new_key_of_the_issuer_is_fetched_when_a_token_names_it(
    verifier: Verifier, issuer: Issuer, clock: Clock
) -> None:
    verifier.verify(token())
    issuer.keys.append(rsa_jwk(OTHER_KEY, "new"))
    clock.now_s += REFRESH_INTERVAL_MIN_S
    assert verifier.verify(token(OTHER_KEY, kid="new")).subject == "customer-1"
    assert issuer.asked == 2


def test_invented_key_ids_do_not_flood_the_issuer(verifier: Verifier, issuer: Issuer) -> None:
    for number in range(20):
        with pytest.raises(InvalidToken):
            verifier.verify(token(kid=f"made-up-{number}"))
    assert issuer.asked == 1


def test_a_withdrawn_key_is_refused_after_the_lifespan(verifier: Verifier, issuer: Issuer, clock: Clock) -> None:
    verifier.verify(token())
    issuer.keys = [rsa_jwk(OTHER_KEY, "new")]
    clock.now_s += KEYS_LIFESPAN_S
    with pytest.raises(InvalidToken):
        verifier.verify(token())


def test_a_verified_token_is_refused_once_it_has_expired(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = Verifier(issuer.url, ISSUER, AUDIENCE)
    good = token()
    verifier.verify(good)
    later_s = time.time() + 120
    monkeypatch.setattr("chassis.http.auth.time.time", lambda: later_s)
    assert verifier.recall(good) is None


def test_the_last_good_keys_are_used_while_the_issuer_is_down_but_not_for_ever(
    verifier: Verifier, issuer: Issuer, clock: Clock
) -> None:
    verifier.verify(token())
    issuer.status = 500
    clock.now_s += KEYS_LIFESPAN_S
    assert verifier.verify(token()).subject == "customer-1"
    clock.now_s += KEYS_AGE_MAX_S
    with pytest.raises(KeysUnavailable):
        verifier.verify(token())


def test_without_any_key_every_token_is_refused_and_it_is_not_the_callers_fault(
    verifier: Verifier, issuer: Issuer
) -> None:
    issuer.status = 503
    with pytest.raises(KeysUnavailable):
        verifier.verify(token())


def test_a_slow_issuer_does_not_stop_the_event_loop(verifier: Verifier, issuer: Issuer) -> None:
    async def turns_of_the_loop_while_the_issuer_is_silent() -> int:
        issuer.answering.clear()
        waiting = asyncio.create_task(verifier.authenticate(token()))
        turns = 0
        while issuer.asked == 0 or turns < 100:
            turns += 1
            await asyncio.sleep(0)
        assert not waiting.done()
        issuer.answering.set()
        assert (await waiting).subject == "customer-1"
        return turns

    assert asyncio.run(turns_of_the_loop_while_the_issuer_is_silent()) >= 100


def test_concurrent_requests_share_one_fetch(verifier: Verifier, issuer: Issuer) -> None:
    async def together() -> None:
        await asyncio.gather(*(verifier.authenticate(token()) for _ in range(20)))

    asyncio.run(together())
    assert issuer.asked == 1
