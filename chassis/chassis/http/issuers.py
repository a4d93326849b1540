"""Accepts tokens of several issuers: those of customers and staff, and the service that issues merchants' short tokens.

Each is confined to the roles that it may ever give. The issuer of merchants must never make a token of staff: of its
tokens only the roles that a service names are believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

import jwt

from chassis.http.auth import InvalidToken, Principal, Verifier, keys_of, kid_of
from chassis.http.trusted_issuers import check_together, named_issuer, read
from chassis.settings import Settings, TrustedIssuer

MERCHANT_ISSUER: Final = "baraza-merchant"
Fetch = Callable[[], Mapping[str, jwt.PyJWK]]


class IssuerSettings(Protocol):
    """The settings that name the issuers of tokens of staff and customers."""

    @property
    def jwks_url(self) -> str: ...
    @property
    def issuer(self) -> str: ...
    @property
    def audience(self) -> str: ...
    @property
    def issuers(self) -> tuple[TrustedIssuer, ...]: ...


class Issuers:
    """Verifies tokens as a :class:`Verifier` does, each by what its issuer is trusted with. Raises ValueError.

    ``fetches`` has the functions that fetch the keys of issuers, where they are not at their ``jwks_url``.
    """

    def __init__(self, trusted: Sequence[TrustedIssuer], *, fetches: Mapping[str, Fetch] | None = None) -> None:
        check_together(trusted, reserved=MERCHANT_ISSUER)
        fetched = fetches or {}
        self._verifiers = {
            each.issuer: Verifier(
                each.jwks_url,
                each.issuer,
                each.audience,
                fetch=fetched.get(each.issuer) if each.jwks is None else partial(keys_of, each.jwks),
                read=partial(read, each),
            )
            for each in trusted
        }

    async def authenticate(self, token: str) -> Principal:
        """Return the caller that the token identifies. Raises InvalidToken or KeysUnavailable."""
        known = self._recall(token)
        return known if known is not None else await self._verifier(token).authenticate(token)

    def verify(self, token: str) -> Principal:
        """As :meth:`authenticate`, for callers without an event loop."""
        known = self._recall(token)
        return known if known is not None else self._verifier(token).verify(token)

    def _recall(self, token: str) -> Principal | None:
        found = (each.recall(token) for each in self._verifiers.values())
        return next((each for each in found if each is not None), None)

    def _verifier(self, token: str) -> Verifier:
        verifier = self._verifiers.get(named_issuer(_unverified(token)))
        if verifier is None:
            raise InvalidToken("The token names an issuer that is not trusted here.")
        return verifier


class TwoIssuers:
    """Verifies tokens as a :class:`Verifier` does, with the verifier of the issuer that a token names."""

    def __init__(self, general: Verifier | Issuers, merchants: Verifier, *, believed: frozenset[str]) -> None:
        self._general = general
        self._merchants = merchants
        self._believed = believed

    async def authenticate(self, token: str) -> Principal:
        """Return the caller that the token identifies. Raises InvalidToken or KeysUnavailable."""
        if not _is_merchants(token):
            return await self._general.authenticate(token)
        return self._limited(await self._merchants.authenticate(token))

    def verify(self, token: str) -> Principal:
        """As :meth:`authenticate`, for callers without an event loop."""
        if not _is_merchants(token):
            return self._general.verify(token)
        return self._limited(self._merchants.verify(token))

    def _limited(self, caller: Principal) -> Principal:
        return Principal(subject=caller.subject, roles=caller.roles & self._believed)


def general_verifier(settings: IssuerSettings) -> Verifier | Issuers:
    """Return the verifier of the tokens of staff and customers. Raises ValueError for issuers that do not fit.

    Without a list of issuers there is the one of ``BARAZA_ISSUER``, and what its tokens claim as roles counts.
    """
    if settings.issuers:
        return Issuers(settings.issuers)
    return Verifier(settings.jwks_url, settings.issuer, settings.audience)


def verifier_of(
    settings: Settings, general: Verifier | Issuers, *, believed: frozenset[str]
) -> Verifier | Issuers | TwoIssuers:
    """Return the verifier of a service that merchants may call, which believes these roles of their tokens.

    ``general`` verifies the tokens of the issuers of staff and customers.
    """
    if not settings.merchant_jwks_url:
        return general
    merchants = Verifier(settings.merchant_jwks_url, MERCHANT_ISSUER, settings.audience)
    return TwoIssuers(general, merchants, believed=believed)


def _is_merchants(token: str) -> bool:
    """Return whether the token names the issuer of merchants' tokens. Nothing of it is verified here."""
    return _unverified(token).get("iss") == MERCHANT_ISSUER


def _unverified(token: str) -> Mapping[str, Any]:
    """Return the claims of a token whose signature is not checked: they choose who checks it, and nothing else."""
    kid_of(token)
    try:
        claims: Mapping[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
        raise InvalidToken("The token's claims cannot be read.") from error
    return claims
