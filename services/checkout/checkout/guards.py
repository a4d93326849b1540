"""Decides about checkout's callers before a body is read: the token, the role and the rate limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import Request, Response

from chassis.http.auth import Principal, RoleGuard, Token, caller_of
from chassis.http.rate_limits import RateLimits

LIMIT: Final = "limit"
"""The member of a request's scope that holds the headers which state its caller's limit."""
COUNTED: Final = "counted"
"""The member of a bulk request's scope that holds how many of its orders were counted before it was read."""


class LimitedGuard(RoleGuard):
    """Admits callers with one of the roles, within their rate limit."""

    async def admit(self, request: Request) -> None:
        """Count the request, and note the caller and the limit in its scope. Raises Problem."""
        await super().admit(request)
        limits: RateLimits = request.app.state.rate_limits
        request.scope[LIMIT] = await limits.admit(caller_of(request))

    async def limited_caller(self, request: Request, response: Response, _token: Token) -> Principal:
        """Return the caller; the response states the limit."""
        response.headers.update(request.scope[LIMIT])
        return caller_of(request)


class BulkGuard(RoleGuard):
    """Admits callers of bulk requests that are not known to be beyond their limit."""

    async def admit(self, request: Request) -> None:
        """Note the caller and how many orders were counted in the request's scope. Raises Problem."""
        await super().admit(request)
        limits: RateLimits = request.app.state.rate_limits
        request.scope[COUNTED] = await limits.admit_bulk(caller_of(request))


def admitted(*roles: str) -> Callable[..., Awaitable[Principal]]:
    """Return a dependency: a caller with one of ``roles``, within its rate limit."""
    return LimitedGuard(*roles).limited_caller
