"""Whose endpoints a request is about: a merchant's own, by its token, or those of the merchant that staff name.

Everything behind these guards is given an owner, and finds nothing of another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

from fastapi import Path, Request

from chassis.http.auth import RoleGuard, Token, caller_of
from chassis.http.problem import Problem
from notifier.domain import Owner

MERCHANT, LIVE, TEST = "merchant", "live", "test"
"""The roles of a merchant's token. It has the first one and exactly one of the modes; its subject is the merchant."""
MERCHANT_ROLES: Final = frozenset({MERCHANT, LIVE, TEST})
Mode: TypeAlias = Literal["live", "test"]
MerchantId: TypeAlias = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose endpoints a request is about, and whether a merchant sent it or staff."""

    owner: Owner
    is_staff: bool


class MerchantGuard(RoleGuard):
    """Admits merchants. Their token has the role of one mode, live or test, and its subject is the merchant."""

    def __init__(self) -> None:
        super().__init__(MERCHANT)

    async def admit(self, request: Request) -> None:
        """Note the caller. Raises Problem."""
        await super().admit(request)
        if len(caller_of(request).roles & {LIVE, TEST}) != 1:
            raise Problem(
                status=403,
                detail="This needs the role live or test beside merchant, and not both; the token has another one.",
                headers={"WWW-Authenticate": 'Bearer realm="baraza", error="insufficient_scope"'},
            )

    async def scope(self, request: Request, _token: Token) -> Scope:
        """Return the caller's own scope: the FastAPI dependency of an endpoint on a JsonRoute."""
        caller = caller_of(request)
        return Scope(owner=(caller.subject, LIVE in caller.roles), is_staff=False)


class StaffGuard(RoleGuard):
    """Admits staff, for the merchant and the mode in the path."""

    async def scope(self, _token: Token, merchant_id: MerchantId, mode: Mode) -> Scope:
        """Return the scope that the path names: the FastAPI dependency of an endpoint on a JsonRoute."""
        return Scope(owner=(merchant_id, mode == LIVE), is_staff=True)
