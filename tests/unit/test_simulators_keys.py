"""The development issuer: tokens that any JWKS client accepts, and keys that are created once and kept private."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest
import urllib3

from simulators.keys import ALGORITHMS, Algorithm, key_set, mint
from simulators.testing import SimulatorProcess, running

ISSUER = "http://issuer.test"


def read(token: str, keys: dict[str, list[dict[str, str]]], algorithm: str) -> dict[str, object]:
    """Verify a token as a service does: its key from the set by kid, one algorithm, every claim required."""
    kid = jwt.get_unverified_header(token)["kid"]
    key = jwt.PyJWKSet.from_dict(dict(keys))[kid]
    required = {"require": ["iss", "aud", "sub", "exp", "iat"]}
    return jwt.decode(token, key, algorithms=[algorithm], audience="baraza", issuer=ISSUER, options=required)  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_minted_token_verifies_against_the_key_set(tmp_path: Path, algorithm: Algorithm) -> None:
    token = mint(tmp_path, ISSUER, "baraza", "customer-1", ["customer"], 60, algorithm=algorithm)

    claims = read(token, key_set(tmp_path), algorithm)

    assert (claims["sub"], claims["roles"]) == ("customer-1", ["customer"])
    assert int(str(claims["exp"])) - int(str(claims["iat"])) == 60


def test_concurrent_creators_agree_on_the_keys_and_keep_them_private(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    with ThreadPoolExecutor(8) as threads:
        sets = list(threads.map(lambda _: key_set(folder), range(8)))

    assert all(keys == sets[0] for keys in sets)
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "rs256.pem": 0o600,
        "es256.pem": 0o600,
    }


@pytest.mark.parametrize("ttl_s", [0, -1, 86_401])
def test_a_token_with_an_invalid_lifetime_is_not_minted(tmp_path: Path, ttl_s: int) -> None:
    with pytest.raises(ValueError, match="ttl_s"):
        mint(tmp_path, ISSUER, "baraza", "customer-1", ["customer"], ttl_s)


def _issuer(folder: Path) -> dict[str, str]:
    return {"BARAZA_ISSUER": ISSUER, "BARAZA_ISSUER_KEYS": str(folder)}


def _token(issuer: SimulatorProcess, body: dict[str, object]) -> urllib3.BaseHTTPResponse:
    return urllib3.request("POST", f"{issuer.url}/token", json=body, retries=False)


def test_the_issuer_serves_tokens_and_the_keys_that_verify_them(tmp_path: Path) -> None:
    with running("issuer", _issuer(tmp_path)) as issuer:
        answer = _token(issuer, {"sub": "agent-1", "roles": ["support"], "ttl_s": 60})
        keys = urllib3.request("GET", f"{issuer.url}/.well-known/jwks.json").json()
        refused = _token(issuer, {"sub": "", "roles": ["support"]})

    assert answer.status == 200
    assert read(answer.json()["access_token"], keys, "RS256")["roles"] == ["support"]
    assert all("d" not in key for key in keys["keys"])
    assert (refused.status, refused.headers["content-type"]) == (400, "application/problem+json")


def test_a_minted_token_verifies_like_a_served_one(tmp_path: Path) -> None:
    token = mint(tmp_path, ISSUER, "baraza", "operator-1", ["operator"], 60)
    with running("issuer", _issuer(tmp_path)) as issuer:
        keys = urllib3.request("GET", f"{issuer.url}/.well-known/jwks.json").json()

    assert read(token, keys, "RS256")["sub"] == "operator-1"
