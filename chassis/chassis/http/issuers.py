"""Accepts tokens of two issuers: the one of staff and customers, and the service that issues merchants' short tokens.

The second one must never make a token of staff: of its tokens only the roles of merchants are believed.
"""

from __future__ import annotations

from typing import Final

import jwt

from chassis.http.auth import InvalidToken, Principal, Verifier, kid_of
from chassis.settings import Settings

MERCHANT_ISSUER: Final = "baraza-merchant"
MERCHANT, LIVE, TEST = "merchant", "live", "test"
"""The roles of a merchant's token. It has the first one and exactly one of the modes; its subject is the merchant."""
MERCHANT_ROLES: Final = frozenset({MERCHANT, LIVE, TEST})


class TwoIssuers:
    """Verifies tokens as a :class:`Verifier` does, with the verifier of the issuer that a token names."""

    def __init__(self, general: Verifier, merchants: Verifier) -> None:
        self._general = general
        self._merchants = merchants

    async def authenticate(self, token: str) -> Principal:
        """Return the caller that the token identifies. Raises InvalidToken or KeysUnavailable."""
        if not _is_merchants(token):
            return await self._general.authenticate(token)
        return _limited(await self._merchants.authenticate(token))

    def verify(self, token: str) -> Principal:
        """As :meth:`authenticate`, for callers without an event loop."""
        if not _is_merchants(token):
            return self._general.verify(token)
        return _limited(self._merchants.verify(token))


def verifier_of(settings: Settings, general: Verifier | None = None) -> Verifier | TwoIssuers:
    """Return the verifier of a service that merchants may call.

    ``general`` verifies the tokens of the issuer; without it one is made by the settings.
    """
    general = general or Verifier(settings.jwks_url, settings.issuer, settings.audience)
    if not settings.merchant_jwks_url:
        return general
    return TwoIssuers(general, Verifier(settings.merchant_jwks_url, MERCHANT_ISSUER, settings.audience))


def _is_merchants(token: str) -> bool:
    """Return whether the token names the issuer of merchants' tokens. Nothing of it is verified here."""
    kid_of(token)
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
        raise InvalidToken("The token's claims cannot be read.") from error
    return claims.get("iss") == MERCHANT_ISSUER


def _limited(caller: Principal) -> Principal:
    return Principal(subject=caller.subject, roles=caller.roles & MERCHANT_ROLES)
