"""The development issuer's signing keys, and the tokens that they sign.

For development only: a reader of the key folder can impersonate anyone.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

Algorithm = Literal["RS256", "ES256"]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

ALGORITHMS: tuple[Algorithm, ...] = ("RS256", "ES256")
RSA_BITS = 2048
TTL_S_MAX = 86_400
"""A day: long enough for any development session."""

THUMBPRINT_MEMBERS = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y")}
"""The members that RFC 7638 hashes, in its order."""


def mint(
    key_folder: Path,
    issuer: str,
    audience: str,
    subject: str,
    roles: Sequence[str],
    ttl_s: int,
    *,
    algorithm: Algorithm = "RS256",
) -> str:
    """Return a signed token for ``subject``, valid from now for ``ttl_s`` seconds; creates the keys where missing."""
    if not 0 < ttl_s <= TTL_S_MAX:
        raise ValueError(f"ttl_s is {ttl_s}; it must be from 1 to {TTL_S_MAX}.")
    now_s = int(time.time())
    claims = {"iss": issuer, "aud": audience, "sub": subject, "iat": now_s, "exp": now_s + ttl_s, "roles": list(roles)}
    return signed(key_folder, claims, algorithm=algorithm)


def signed(key_folder: Path, claims: Mapping[str, Any], *, algorithm: Algorithm = "RS256") -> str:
    """Return these claims as a signed token; creates the keys where missing."""
    key = private_key(key_folder, algorithm)
    return jwt.encode(dict(claims), key, algorithm=algorithm, headers={"kid": str(public_jwk(key, algorithm)["kid"])})


def key_set(key_folder: Path) -> dict[str, list[dict[str, str]]]:
    """Return the public keys as a JSON Web Key Set (RFC 7517)."""
    return {"keys": [public_jwk(private_key(key_folder, algorithm), algorithm) for algorithm in ALGORITHMS]}


def public_jwk(key: PrivateKey, algorithm: Algorithm) -> dict[str, str]:
    """Return the key's public part as a JWK whose ``kid`` is its thumbprint (RFC 7638)."""
    public = key.public_key()
    text = RSAAlgorithm.to_jwk(public) if isinstance(public, rsa.RSAPublicKey) else ECAlgorithm.to_jwk(public)
    whole = json.loads(text)
    members = {name: str(whole[name]) for name in THUMBPRINT_MEMBERS[whole["kty"]]}
    canonical = json.dumps(members, separators=(",", ":")).encode()
    thumbprint = urlsafe_b64encode(sha256(canonical).digest()).rstrip(b"=").decode()
    return {**members, "kid": thumbprint, "alg": algorithm, "use": "sig"}


def private_key(key_folder: Path, algorithm: Algorithm) -> PrivateKey:
    """Return the key of an algorithm, created at the first call; two concurrent calls return the same key."""
    path = key_folder / f"{algorithm.lower()}.pem"
    if not path.exists():
        _create(path, algorithm)
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise TypeError(
            f"{path} holds a {type(key).__name__}, not a key for {algorithm}. Delete it, and it is created again."
        )
    return key


def _create(path: Path, algorithm: Algorithm) -> None:
    key: PrivateKey
    if algorithm == "RS256":
        key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp makes the file readable by its owner only; the link appears whole and never replaces another key.
    descriptor, draft = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(draft)
