"""The sealed key of break-glass: made once, kept encrypted, opened for one token at a time.

It must never be written without its passphrase, and no token outlives :data:`LIFESPAN_MAX_S`.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm

from baraza.terminal import Refusal
from chassis.http.break_glass import LIFESPAN_MAX_S
from chassis.settings import BREAK_GLASS_ISSUER, BREAK_GLASS_ROLES, TrustedIssuer

PASSPHRASE_BYTES: Final = 24
"""192 random bits: no derivation of a key has to make up for a phrase that a person chose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A new key: encrypted in PEM (PKCS 8), the passphrase that opens it, and its public part."""

    pem: bytes
    passphrase: str
    public: Mapping[str, str]


def seal() -> Sealed:
    """Return a new key of P-256 under a new passphrase."""
    key, passphrase = generate_private_key(SECP256R1()), secrets.token_urlsafe(PASSPHRASE_BYTES)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode()))
    return Sealed(pem=pem, passphrase=passphrase, public=public_part(key))


def opened(pem: bytes, passphrase: str) -> EllipticCurvePrivateKey:
    """Return the key. Raises Refusal for another passphrase, or what is no sealed key."""
    try:
        key = load_pem_private_key(pem, passphrase.encode())
    except (ValueError, TypeError) as error:
        raise Refusal(
            "This passphrase does not open this key; take the one that was shown when it was sealed."
        ) from error
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise Refusal("This is no key of break-glass; make one with ./baraza break-glass seal.")
    return key


def public_part(key: EllipticCurvePrivateKey) -> Mapping[str, str]:
    """Return the public key as a JWK, named by its thumbprint (RFC 7638)."""
    whole = json.loads(ECAlgorithm.to_jwk(key.public_key()))
    members = {name: str(whole[name]) for name in ("crv", "kty", "x", "y")}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
    return {**members, "kid": urlsafe_b64encode(digest).rstrip(b"=").decode(), "alg": "ES256", "use": "sig"}


def issuer_of(keys: Sequence[Mapping[str, str]], audience: str) -> TrustedIssuer:
    """Return the entry of ``BARAZA_ISSUERS`` with these public keys."""
    return TrustedIssuer(
        issuer=BREAK_GLASS_ISSUER,
        audience=audience,
        jwks={"keys": [dict(each) for each in keys]},
        may_be=tuple(sorted(BREAK_GLASS_ROLES)),
    )


def token(
    key: EllipticCurvePrivateKey, *, audience: str, by: str, reason: str, now: datetime, lifespan: timedelta
) -> str:
    """Return a token for the person who opened the key. Raises ValueError for one that would be refused."""
    if not timedelta(0) < lifespan <= timedelta(seconds=LIFESPAN_MAX_S):
        raise ValueError(f"A token of break-glass is good for {LIFESPAN_MAX_S} s at most, and for a while.")
    claims: dict[str, Any] = {
        "iss": BREAK_GLASS_ISSUER, "aud": audience, "sub": by, "roles": sorted(BREAK_GLASS_ROLES), "reason": reason,
        "jti": secrets.token_urlsafe(16), "iat": int(now.timestamp()), "exp": int((now + lifespan).timestamp()),
    }  # fmt: skip
    return jwt.encode(claims, key, "ES256", headers={"kid": public_part(key)["kid"]})
