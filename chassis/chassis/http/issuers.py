"""Accepts tokens of two issuers: the one of staff and customers, and the service that issues merchants' short tokens.

The second one must never make a token of staff: of its tokens only the roles that a service names are believed.
"""

from __future__ import annotations

from typing import Final

import jwt

from chassis.http.auth import InvalidToken, Principal, Verifier, kid_of
from chassis.settings import Settings

MERCHANT_ISSUER: Final = "baraza-merchant"


class TwoIssuers:
    """Verifies tokens as a :class:`Verifier` does, with the verifier of the issuer that a token names."""

    def __init__(self, general: Verifier, merchants: Verifier, *, believed: frozenset[str]) -> None:
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


def verifier_of(settings: Settings, general: Verifier, *, believed: frozenset[str]) -> Verifier | TwoIssuers:
    """Return the verifier of a service that merchants may call, which believes these roles of their tokens.

    ``general`` verifies the tokens of the issuer of staff and customers.
    """
    if not settings.merchant_jwks_url:
        return general
    merchants = Verifier(settings.merchant_jwks_url, MERCHANT_ISSUER, settings.audience)
    return TwoIssuers(general, merchants, believed=believed)


def _is_merchants(token: str) -> bool:
    """Return whether the token names the issuer of merchants' tokens. Nothing of it is verified here."""
    kid_of(token)
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
        raise InvalidToken("The token's claims cannot be read.") from error
    return claims.get("iss") == MERCHANT_ISSUER
