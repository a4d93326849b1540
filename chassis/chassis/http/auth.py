"""Authenticates callers: bearer tokens (JWT) are verified against the issuer's published keys (JWKS).

It must never log a token or a claim, and never wait for the issuer on the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Protocol, TypeAlias

import jwt
import structlog
import urllib3
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from chassis.http.admission import Guard
from chassis.http.problem import Problem

log = structlog.get_logger(__name__)

LEEWAY_S = 5
"""Synchronized clocks differ by less."""
KEYS_LIFESPAN_S = 300.0
"""A key that the issuer has withdrawn is refused after this long."""
KEYS_AGE_MAX_S = 86_400.0
"""While the issuer does not answer, its last good keys are used for a day; then every token is refused."""
REFRESH_INTERVAL_MIN_S = 10.0
"""Invented key ids must not make us flood the issuer with requests."""
FETCH_TIMEOUT_S = 3.0
JWKS_BYTES_MAX = 262_144
TOKEN_LENGTH_MAX = 8_192
"""Longer than any token with these claims; the time to verify a token grows with its length."""
RSA_KEY_BITS_MIN = 2_048
KEYS_RETRY_AFTER_S = 5
SUBJECT_LENGTH_MAX = 128
ROLES_MAX = 32
VERIFIED_MAX = 10_000
"""Tokens that are kept as verified; beyond this number the cache is cleared, and all are verified again."""

TOKEN_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
REQUIRED_CLAIMS = ["exp", "iat", "iss", "aud", "sub"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakGlass:
    """Why a caller has a token that no identity provider issued, and until when it is good."""

    token_id: str
    reason: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The caller that a verified token identifies. A customer's subject is the customer id.

    ``issuer`` is the one that a log names beside the subject; None where there is only one, or it needs no name.
    """

    subject: str
    roles: frozenset[str]
    issuer: str | None = None
    break_glass: BreakGlass | None = None

    @property
    def actor(self) -> str:
        """The caller as logs name it: two issuers may use one subject for two people."""
        return self.subject if self.issuer is None else f"{self.issuer}|{self.subject}"


class Authenticator(Protocol):
    """What finds out who sent a bearer token."""

    async def authenticate(self, token: str) -> Principal:
        """Return the caller that the token identifies. Raises InvalidToken or KeysUnavailable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verified:
    """A verified token. It is valid until it expires, and as long as ``keys`` are the issuer's."""

    principal: Principal
    expires_at_s: float
    keys: Mapping[str, jwt.PyJWK]


class InvalidToken(Exception):
    """The token is not valid. The message may be shown to the caller, and contains nothing of the token."""


class KeysUnavailable(Exception):
    """The issuer's keys were never fetched, or too long ago, so no token can be verified now."""


class Verifier:
    """Verifies tokens of one issuer for one audience, and caches the issuer's keys. Any thread may use it.

    ``fetch`` returns the keys by kid where they are not at ``jwks_url``: an issuer knows its own. ``read`` returns the
    caller that verified claims name. Without it the subject is ``sub`` and the roles are those of ``roles``.
    """

    def __init__(
        self,
        jwks_url: str,
        issuer: str,
        audience: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        fetch: Callable[[], Mapping[str, jwt.PyJWK]] | None = None,
        read: Callable[[Mapping[str, Any]], Principal] | None = None,
    ) -> None:
        self._jwks_url = jwks_url
        self._fetch = fetch or self._request_keys
        self._read = read or _principal
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._http = urllib3.PoolManager(retries=False, timeout=FETCH_TIMEOUT_S)
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at_s: float | None = None
        self._tried_at_s: float | None = None
        self._failing = False
        self._refreshing = threading.Lock()
        self._verified: dict[bytes, _Verified] = {}

    async def authenticate(self, token: str) -> Principal:
        """Return the caller that the token identifies. Keys are fetched on another thread.

        Raises InvalidToken, or KeysUnavailable where there are no keys to verify it.
        """
        known = self.recall(token)
        if known is not None:
            return known
        kid = kid_of(token)
        if self._must_wait_for_keys(kid):
            await asyncio.to_thread(self._refresh, kid)
        elif self._is_stale():
            asyncio.get_running_loop().run_in_executor(None, self._refresh, None)
        return self._verify(token, kid)

    def verify(self, token: str) -> Principal:
        """As :meth:`authenticate`, for callers without an event loop; it may block while keys are fetched."""
        known = self.recall(token)
        if known is not None:
            return known
        kid = kid_of(token)
        if self._must_wait_for_keys(kid) or self._is_stale():
            self._refresh(kid)
        return self._verify(token, kid)

    def recall(self, token: str) -> Principal | None:
        """Return the caller of a token that was verified before with the present keys, and has not expired."""
        known = self._verified.get(_digest(token))
        if (
            known is None
            or known.keys is not self._keys
            or self._lifespan_is_over()
            or time.time() > known.expires_at_s
        ):
            return None
        return known.principal

    def _verify(self, token: str, kid: str) -> Principal:
        if self._fetched_at_s is None or self._clock() - self._fetched_at_s > KEYS_AGE_MAX_S:
            raise KeysUnavailable("The issuer's keys are not available.")
        keys = self._keys
        key = keys.get(kid)
        if key is None:
            raise InvalidToken("The token names a key that the issuer does not publish.")
        claims = self._claims(token, key)
        principal = self._read(claims)
        if len(self._verified) >= VERIFIED_MAX:
            self._verified.clear()
        expires_at_s = float(min(int(claims["exp"]), 2**53)) + LEEWAY_S
        self._verified[_digest(token)] = _Verified(principal=principal, expires_at_s=expires_at_s, keys=keys)
        return principal

    def _claims(self, token: str, key: jwt.PyJWK) -> Mapping[str, Any]:
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": REQUIRED_CLAIMS},
            )
        except jwt.ExpiredSignatureError as error:
            raise InvalidToken("The token has expired.") from error
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError) as error:
            raise InvalidToken(f"The token is not acceptable: {type(error).__name__}.") from error
        return claims

    def _must_wait_for_keys(self, kid: str) -> bool:
        return kid not in self._keys and (self._refreshing.locked() or self._may_try())

    def _is_stale(self) -> bool:
        age_s = KEYS_LIFESPAN_S if self._fetched_at_s is None else self._clock() - self._fetched_at_s
        return age_s >= KEYS_LIFESPAN_S and self._may_try() and not self._refreshing.locked()

    def _may_try(self) -> bool:
        return self._tried_at_s is None or self._clock() - self._tried_at_s >= REFRESH_INTERVAL_MIN_S

    def _refresh(self, kid: str | None) -> None:
        """Fetch the keys, one thread at a time; keep the last good ones if the issuer does not answer."""
        with self._refreshing:
            if kid in self._keys and not self._lifespan_is_over():
                return
            if not self._may_try():
                return
            self._tried_at_s = self._clock()
            try:
                keys = self._fetch()
            except (urllib3.exceptions.HTTPError, ValueError) as error:
                if not self._failing:
                    log.warning("The issuer's keys cannot be fetched; the last good ones are used.",
                                error=type(error).__name__, kept=len(self._keys))  # fmt: skip
                self._failing = True
                return
            if self._failing:
                log.info("The issuer's keys can be fetched again.", keys=len(keys))
            self._failing = False
            self._keys, self._fetched_at_s = keys, self._clock()

    def _lifespan_is_over(self) -> bool:
        return self._fetched_at_s is None or self._clock() - self._fetched_at_s >= KEYS_LIFESPAN_S

    def _request_keys(self) -> Mapping[str, jwt.PyJWK]:
        response = self._http.request("GET", self._jwks_url, preload_content=False, redirect=False)
        try:
            body = response.read(JWKS_BYTES_MAX + 1, decode_content=True)
        finally:
            response.release_conn()
        if response.status != 200 or len(body) > JWKS_BYTES_MAX:
            raise ValueError(f"The issuer answered {response.status} with {len(body)} bytes.")
        keys = keys_of(json.loads(body))
        if not keys:
            raise ValueError("The issuer publishes no key of ours: RS256 from 2048 bits, or ES256, each with a kid.")
        return keys


def kid_of(token: str) -> str:
    """Return the key id that the token names. Raises InvalidToken for no token, or another algorithm."""
    if len(token) > TOKEN_LENGTH_MAX or TOKEN_SHAPE.fullmatch(token) is None:
        raise InvalidToken("This is not a signed JWT.")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
        raise InvalidToken("The token's header cannot be read.") from error
    if header.get("alg") not in ("RS256", "ES256"):
        raise InvalidToken("The token must be signed with RS256 or ES256.")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise InvalidToken("The token names no key (kid).")
    return kid


def keys_of(jwks: Any) -> dict[str, jwt.PyJWK]:
    """Return the usable keys by kid, each bound to its one algorithm; secret, weak and unknown keys are skipped.

    Raises ValueError where it is no key set.
    """
    listed = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(listed, list):
        raise ValueError("Not a JSON Web Key Set: it has no list of keys.")
    keys: dict[str, jwt.PyJWK] = {}
    for entry in listed:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or not isinstance(entry.get("kid"), str):
            continue
        algorithm = {"RSA": "RS256", "EC": "ES256"}.get(str(entry.get("kty")))
        if algorithm is None or entry.get("alg", algorithm) != algorithm:
            continue
        try:
            key = jwt.PyJWK({name: value for name, value in entry.items() if name != "d"}, algorithm=algorithm)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if _is_strong(key.key):
            keys[entry["kid"]] = key
    return keys


def _is_strong(key: object) -> bool:
    if isinstance(key, RSAPublicKey):
        return key.key_size >= RSA_KEY_BITS_MIN
    return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _principal(claims: Mapping[str, Any]) -> Principal:
    return Principal(subject=checked_subject(claims["sub"], "sub"), roles=checked_roles(claims.get("roles", [])))


def checked_subject(subject: object, claim: str) -> str:
    """Return a subject that a token may have. Raises InvalidToken, which names the claim."""
    if not isinstance(subject, str) or not subject or len(subject) > SUBJECT_LENGTH_MAX:
        raise InvalidToken(f"The token's subject ({claim}) must be a text of 1 to {SUBJECT_LENGTH_MAX} characters.")
    return subject


def checked_roles(roles: object) -> frozenset[str]:
    """Return the roles that a token lists. Raises InvalidToken."""
    if not isinstance(roles, list) or len(roles) > ROLES_MAX or not all(isinstance(role, str) for role in roles):
        raise InvalidToken("The token's roles must be a list of texts.")
    return frozenset(roles)


class _DescribedBearer(HTTPBearer):
    """Describes the token in the API's description. The guard has read it before."""

    async def __call__(self, request: Request) -> None:  # type: ignore[override]
        return None


_bearer = _DescribedBearer(
    bearerFormat="JWT", scheme_name="HTTPBearer", description="A token of the configured issuer."
)
Token: TypeAlias = Annotated[None, Depends(_bearer)]
CALLER = "caller"
"""The member of a request's scope that holds the caller whom a guard has admitted."""


def caller_of(request: Request) -> Principal:
    """Return the caller of a request that was admitted."""
    found: Principal = request.scope[CALLER]
    return found


class RoleGuard(Guard):
    """Admits callers with one of these roles (without roles: any caller with a valid token).

    The application holds its :class:`Authenticator` as ``app.state.verifier``. Answers 401 without a valid token, 403
    without the role, 503 while no key of the issuer is known.
    """

    def __init__(self, *roles: str) -> None:
        self._roles = roles

    async def admit(self, request: Request) -> None:
        """Note the caller in the request's scope. Raises Problem."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("Send a bearer token: Authorization: Bearer <JWT>.", error=None)
        verifier: Authenticator = request.app.state.verifier
        try:
            caller = await verifier.authenticate(token.strip())
        except InvalidToken as error:
            raise _unauthorized(str(error), error="invalid_token") from error
        except KeysUnavailable as error:
            raise Problem(
                status=503,
                detail="Tokens cannot be verified: the issuer's keys are not available. Try again shortly.",
                headers={"Retry-After": str(KEYS_RETRY_AFTER_S)},
            ) from error
        if self._roles and caller.roles.isdisjoint(self._roles):
            raise Problem(
                status=403,
                detail=f"This needs the role {' or '.join(self._roles)}; the token does not have it.",
                headers={"WWW-Authenticate": 'Bearer realm="baraza", error="insufficient_scope"'},
            )
        request.scope[CALLER] = caller

    async def caller(self, request: Request, _token: Token) -> Principal:
        """Return the caller: the FastAPI dependency of an endpoint on a JsonRoute."""
        return caller_of(request)


def require(*roles: str) -> Callable[..., Awaitable[Principal]]:
    """Return the dependency of a :class:`RoleGuard`: ``caller: Annotated[Principal, Depends(require("operator"))]``."""
    return RoleGuard(*roles).caller


def _unauthorized(detail: str, *, error: str | None) -> Problem:
    challenge = 'Bearer realm="baraza"'
    if error is not None:
        challenge += f', error="{error}", error_description="{detail}"'
    return Problem(status=401, detail=detail, headers={"WWW-Authenticate": challenge})
