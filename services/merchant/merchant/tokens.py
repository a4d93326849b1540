"""Exchanges an API key for a token of a few minutes, which other services verify by the keys that are published here.

An API key so reaches merchant alone. The token has what the key has and no more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm

from chassis.http.auth import Principal, Verifier, keys_of
from chassis.http.issuers import MERCHANT_ISSUER
from merchant.roles import MERCHANT_ROLES

TTL_S: Final = 300
ALGORITHM: Final = "ES256"
END: Final = b"-----END"


class InvalidTokenKey(ValueError):
    """The file with the keys of merchants' tokens cannot be used; the text names the file and what to do."""


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Issues tokens with the first key, and publishes all of them, so that a key can be replaced without a gap."""

    keys: Sequence[EllipticCurvePrivateKey]
    audience: str

    def issue(self, caller: Principal, now: datetime) -> str:
        """Return a token of the caller, a merchant in one mode."""
        claims = {
            "iss": MERCHANT_ISSUER,
            "aud": self.audience,
            "sub": caller.subject,
            "iat": now,
            "exp": now + timedelta(seconds=TTL_S),
            "roles": sorted(caller.roles & MERCHANT_ROLES),
        }
        return jwt.encode(claims, self.keys[0], ALGORITHM, headers={"kid": _public(self.keys[0])["kid"]})

    def published(self) -> dict[str, Any]:
        """Return the public keys as a JSON Web Key Set."""
        return {"keys": [_public(key) for key in self.keys]}

    def verifier(self) -> Verifier:
        """Return what verifies these tokens here, without a request."""
        return Verifier("", MERCHANT_ISSUER, self.audience, fetch=self._known)

    def _known(self) -> Mapping[str, jwt.PyJWK]:
        return keys_of(self.published())


def read(file: Path | None, audience: str) -> TokenIssuer | None:
    """Return the issuer with the keys of a file in PEM, None without a file. Raises InvalidTokenKey."""
    if file is None:
        return None
    try:
        blocks = file.read_bytes().split(END)
        texts = [block[block.index(b"-----BEGIN") :] + END + b" PRIVATE KEY-----\n" for block in blocks[:-1]]
        found = [load_pem_private_key(text, None) for text in texts]
    except (OSError, ValueError, TypeError) as error:
        raise InvalidTokenKey(f"The token keys' file {file} cannot be read: {type(error).__name__}.") from error
    keys = [key for key in found if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)]
    if not keys or len(keys) != len(found):
        raise InvalidTokenKey(
            f"The token keys' file {file} must hold EC keys of P-256 in PEM (PKCS 8), and only those."
        )
    return TokenIssuer(keys, audience)


def _public(key: EllipticCurvePrivateKey) -> dict[str, Any]:
    """Return the public key as a JSON Web Key. Its id is its thumbprint (RFC 7638)."""
    jwk: dict[str, Any] = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    thumbprint = hashlib.sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).hexdigest()
    return {**members, "use": "sig", "alg": ALGORITHM, "kid": thumbprint[:32]}
