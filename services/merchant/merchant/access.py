"""Who calls merchant: a merchant with an API key or a short token, or staff. The same caller comes of either.

A merchant's caller has the merchant's id as subject, the role ``merchant``, and the role of one mode. It must never see
another merchant, nor the other mode: to it they do not exist.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends
from sqlalchemy import Engine

from chassis.http.auth import InvalidToken, Principal, Verifier
from chassis.http.issuers import Issuers, TwoIssuers
from chassis.http.problem import Problem
from chassis.http.rate_limits import admitted
from merchant import keys, merchant_tables
from merchant.roles import LIVE, MERCHANT, TEST

STAFF: Final = frozenset({"support", "finance", "operator"})
"""Roles that read any merchant. Only an operator changes one."""
KNOWN_S: Final = 5.0
"""A revoked key is refused after this long, also where it was used just before."""
KNOWN_MAX: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    caller: Principal
    until_s: float


class KeysAndTokens:
    """Verifies what a caller sends as bearer: an API key of ours, or a token."""

    def __init__(
        self, engine: Engine, tokens: Verifier | Issuers | TwoIssuers, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._tokens = tokens
        self._clock = clock
        self._known: dict[bytes, _Known] = {}
        self._lock = threading.Lock()

    async def authenticate(self, token: str) -> Principal:
        """Return the caller. Raises InvalidToken or KeysUnavailable, or what an unavailable PostgreSQL raises."""
        if not token.startswith(keys.PREFIX):
            return await self._tokens.authenticate(token)
        if not keys.is_well_formed(token):
            raise InvalidToken("This is not an API key of ours; check that it is whole.")
        digest = keys.digest_of(token)
        known = self._known.get(digest)
        if known is not None and self._clock() < known.until_s:
            return known.caller
        return await asyncio.to_thread(self._look_up, digest)

    def _look_up(self, digest: bytes) -> Principal:
        asked_at_s = self._clock()
        with self._engine.begin() as tx:
            row = merchant_tables.valid_key(tx, digest)
        with self._lock:
            if row is None:
                self._known.pop(digest, None)
                raise InvalidToken("The API key is unknown, expired or revoked.")
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            caller = Principal(subject=row.merchant_id, roles=frozenset({MERCHANT, LIVE if row.is_live else TEST}))
            # A key that is being replaced expires while it is known, at most KNOWN_S late.
            self._known[digest] = _Known(caller=caller, until_s=asked_at_s + KNOWN_S)
        return caller


def is_merchant(caller: Principal) -> bool:
    """Return whether the caller is a merchant and no staff."""
    return MERCHANT in caller.roles and caller.roles.isdisjoint(STAFF)


def mode_of(caller: Principal) -> bool:
    """Return whether a merchant's caller is in live mode. Raises Problem (403) for a token without exactly one mode."""
    modes = caller.roles & {LIVE, TEST}
    if len(modes) != 1:
        raise Problem(
            status=403,
            detail="The token has no mode, or both; use one with the role live or the role test.",
            headers={"WWW-Authenticate": 'Bearer realm="baraza", error="insufficient_scope"'},
        )
    return LIVE in modes


def may_see(caller: Principal, merchant_id: str, *, is_live: bool | None = None) -> bool:
    """Return whether the caller may know of what belongs to this merchant, in this mode (None: in either)."""
    if not is_merchant(caller):
        return not caller.roles.isdisjoint(STAFF)
    return caller.subject == merchant_id and (is_live is None or mode_of(caller) == is_live)


Merchant = Annotated[Principal, Depends(admitted(MERCHANT))]
Reader = Annotated[Principal, Depends(admitted(MERCHANT, *sorted(STAFF)))]
Operator = Annotated[Principal, Depends(admitted("operator"))]
StaffMember = Annotated[Principal, Depends(admitted(*sorted(STAFF)))]
MerchantOrOperator = Annotated[Principal, Depends(admitted(MERCHANT, "operator"))]
