"""The identity provider: OpenID Connect's authorization code flow with PKCE, refresh, and logout tokens.

It must never log a token or a claim. What a provider's token says is believed only when its signature, its issuer, its
audience and its times are right.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx
import jwt

from chassis.http.auth import InvalidToken, keys_of, kid_of

TIMEOUT_S = 5.0
LEEWAY_S = 5
DISCOVERY_S = 3_600.0
"""A provider's endpoints change rarely; its keys are fetched anew for an unknown kid besides."""
KEYS_S = 300.0
REFETCH_MIN_S = 10.0
"""Invented key ids must not make us flood the provider."""
LOGOUT_AGE_MAX_S = 300
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


class ProviderUnavailable(Exception):
    """The identity provider does not answer, or answers with nothing that can be used. Try again shortly."""


class Rejected(Exception):
    """The provider rejected a code or a refresh token, or a token of it is not acceptable: sign in again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What the token endpoint returned. ``id_token`` is empty where a refresh brought none."""

    access_token: str
    refresh_token: str
    id_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a sign-in begins with: three random values, and the verifier's challenge (RFC 7636, S256)."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> Proof:
        """Return new random values."""
        return cls(state=secrets.token_urlsafe(32), nonce=secrets.token_urlsafe(32), verifier=secrets.token_urlsafe(48))

    @property
    def challenge(self) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """How the console is registered at the provider."""

    issuer: str
    discovery_url: str
    client_id: str
    client_secret: str
    redirect_uri: str
    scope: str


class Provider:
    """One provider. The event loop's thread uses it."""

    def __init__(self, registration: Registration, http: httpx.AsyncClient) -> None:
        self._registration = registration
        self._http = http
        self._configuration: Mapping[str, Any] = {}
        self._configured_at_s = -DISCOVERY_S
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at_s = -KEYS_S
        self._fetching = asyncio.Lock()

    @property
    def issuer(self) -> str:
        """The provider's name in its tokens."""
        return self._registration.issuer

    async def authorize_url(self, proof: Proof) -> str:
        """Return where the browser signs in. Raises ProviderUnavailable."""
        query = {
            "response_type": "code",
            "client_id": self._registration.client_id,
            "redirect_uri": self._registration.redirect_uri,
            "scope": self._registration.scope,
            "state": proof.state,
            "nonce": proof.nonce,
            "code_challenge": proof.challenge,
            "code_challenge_method": "S256",
        }
        return f"{(await self._discovered())['authorization_endpoint']}?{urlencode(query)}"

    async def announces_issuer(self) -> bool:
        """Return whether the provider names itself in its answers (RFC 9207): then one without is foreign."""
        return bool((await self._discovered()).get("authorization_response_iss_parameter_supported"))

    async def end_session_url(self, id_token: str, target: str) -> str | None:
        """Return where the browser signs out at the provider; None where it has no such page."""
        endpoint = (await self._discovered()).get("end_session_endpoint")
        if not endpoint:
            return None
        query = {
            "post_logout_redirect_uri": target,
            "client_id": self._registration.client_id,
            "id_token_hint": id_token,
        }
        return f"{endpoint}?{urlencode({name: value for name, value in query.items() if value})}"

    async def exchange(self, code: str, verifier: str) -> Tokens:
        """Return the tokens of a code. Raises Rejected or ProviderUnavailable."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._registration.redirect_uri,
            "code_verifier": verifier,
        }
        return await self._tokens(form, "")

    async def refresh(self, refresh_token: str) -> Tokens:
        """Return new tokens. Raises Rejected where the person is disabled or the grant is withdrawn."""
        return await self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token}, refresh_token)

    async def identify(self, id_token: str, nonce: str | None) -> Mapping[str, Any]:
        """Return the claims of an ID token; with a nonce it must have that. Raises Rejected, ProviderUnavailable."""
        claims = await self._verified(id_token, ["exp", "iat", "iss", "aud", "sub"])
        if "azp" in claims and claims["azp"] != self._registration.client_id:
            raise Rejected("The ID token was issued for another application.")
        if nonce is not None and not secrets.compare_digest(str(claims.get("nonce", "")), nonce):
            raise Rejected("The ID token belongs to another sign-in.")
        return claims

    async def logged_out(self, logout_token: str) -> Mapping[str, Any]:
        """Return the claims of a logout token (Back-Channel Logout 1.0, section 2.6). Raises Rejected."""
        claims = await self._verified(logout_token, ["iat", "iss", "aud", "jti", "events"])
        if "nonce" in claims or LOGOUT_EVENT not in dict(claims["events"] or {}):
            raise Rejected("This is no logout token.")
        if not (claims.get("sid") or claims.get("sub")):
            raise Rejected("The logout token names neither a session nor a person.")
        if abs(time.time() - float(claims["iat"])) > LOGOUT_AGE_MAX_S:
            raise Rejected("The logout token is too old.")
        return claims

    async def _verified(self, token: str, required: list[str]) -> Mapping[str, Any]:
        try:
            key = await self._key(kid_of(token))
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._registration.issuer,
                audience=self._registration.client_id,
                leeway=LEEWAY_S,
                options={"require": required},
            )
        except (InvalidToken, jwt.InvalidTokenError, ValueError, TypeError) as error:
            raise Rejected(f"The provider's token is not acceptable: {type(error).__name__}.") from error
        return claims

    async def _key(self, kid: str) -> jwt.PyJWK:
        async with self._fetching:
            age_s = time.monotonic() - self._fetched_at_s
            if age_s >= KEYS_S or (kid not in self._keys and age_s >= REFETCH_MIN_S):
                self._keys = keys_of(await self._get(str((await self._discovered())["jwks_uri"])))
                self._fetched_at_s = time.monotonic()
        key = self._keys.get(kid)
        if key is None:
            raise Rejected("The token names a key that the provider does not publish.")
        return key

    async def _discovered(self) -> Mapping[str, Any]:
        if time.monotonic() - self._configured_at_s < DISCOVERY_S:
            return self._configuration
        found = await self._get(self._registration.discovery_url)
        if not isinstance(found, dict) or found.get("issuer") != self._registration.issuer:
            raise ProviderUnavailable(f"{self._registration.discovery_url} describes another issuer.")
        self._configuration, self._configured_at_s = found, time.monotonic()
        return found

    async def _get(self, url: str) -> Any:
        try:
            response = await self._http.get(url, timeout=TIMEOUT_S)
            response.raise_for_status()
            return response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderUnavailable(f"The provider did not answer: {type(error).__name__}.") from error

    async def _tokens(self, form: Mapping[str, str], refresh_token: str) -> Tokens:
        endpoint = str((await self._discovered())["token_endpoint"])
        # RFC 6749, section 2.3.1: both are encoded as in a form.
        login = (quote_plus(self._registration.client_id), quote_plus(self._registration.client_secret))
        try:
            response = await self._http.post(endpoint, data=dict(form), auth=login, timeout=TIMEOUT_S)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderUnavailable(f"The provider did not answer: {type(error).__name__}.") from error
        if response.status_code == 400 and isinstance(answer, dict) and answer.get("error") == "invalid_grant":
            raise Rejected("The provider rejected the grant.")
        if response.status_code != 200 or not isinstance(answer, dict) or "access_token" not in answer:
            raise ProviderUnavailable(f"The provider answered {response.status_code}.")
        return Tokens(
            access_token=str(answer["access_token"]),
            refresh_token=str(answer.get("refresh_token") or refresh_token),
            id_token=str(answer.get("id_token") or ""),
        )
