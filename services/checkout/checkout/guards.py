"""Decides about the callers of bulk requests before a body is read: the token, the role and the rate limit."""

from __future__ import annotations

from typing import Final

from fastapi import Request

from chassis.http.auth import RoleGuard, caller_of
from chassis.http.rate_limits import RateLimits

COUNTED: Final = "counted"
"""The member of a bulk request's scope that holds how many of its orders were counted before it was read."""


class BulkGuard(RoleGuard):
    """Admits callers of bulk requests that are not known to be beyond their limit."""

    async def admit(self, request: Request) -> None:
        """Note the caller and how many orders were counted in the request's scope. Raises Problem."""
        await super().admit(request)
        limits: RateLimits = request.app.state.rate_limits
        request.scope[COUNTED] = await limits.admit_bulk(caller_of(request))
