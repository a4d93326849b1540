"""Rate limits by client. Redis counts for all replicas; while it is unavailable each replica counts alone.

A request is counted before its body is read. A bulk request counts as the orders that it holds, in the round trip of
its cached responses (``Hit.count_in``). Of a caller that may be beyond its limit, one of them is counted before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from fastapi import Request, Response
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.storage import RedisStorage as SynchronousRedisStorage
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import RedisError

from chassis.http.auth import Principal, RoleGuard, Token, caller_of
from chassis.http.breaker import CircuitBreaker, CircuitOpen
from chassis.http.problem import FieldError, Problem, invalid
from chassis.wire.redis import RedisLogin

WINDOW_S = 1
LIMIT: Final = "limit"
"""The member of a request's scope that holds the headers which state its caller's limit."""
TIMEOUT_S = 0.25
CONNECTIONS_MAX = 64
SCRIPT = SynchronousRedisStorage.SCRIPT_ACQUIRE_SLIDING_WINDOW.decode()
"""Shifts the window where it has passed, and counts a request that is within the limit."""
OPEN_S = 1.0
"""An unavailable Redis costs one request its timeout this often. Meanwhile each replica counts alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A request, or the orders of a bulk request, that count against the limit of their caller."""

    limit: RateLimitItemPerSecond
    subject: str
    key_prefix: str
    count: int = 1

    @property
    def headers(self) -> dict[str, str]:
        """The headers that state the limit."""
        return {"RateLimit-Policy": f'"{self.limit.namespace}";q={self.limit.amount};w={WINDOW_S}'}

    def count_in(self, pipeline: Pipeline) -> None:
        """Add the command that counts it to a pipeline; its result is 1 within the limit, else None.

        It is the script of ``limits`` on the same keys, so both ways count together. The whole script is sent: its
        digest alone would take another round trip where Redis does not know it yet.
        """
        key = f"{self.key_prefix}:{{{self.limit.key_for(self.subject)}}}"
        pipeline.eval(SCRIPT, 2, f"{key}/-1", key, self.limit.amount, self.limit.get_expiry(), self.count)

    def check(self, is_within: bool) -> None:
        """Raise Problem (429) unless the hit is within the limit."""
        if is_within:
            return
        raise Problem(
            status=429,
            title="Too many requests",
            detail=f"More than {self.limit.amount} requests in {WINDOW_S} s, each order of a bulk request counted; "
            "send this one again after Retry-After seconds.",
            headers={
                **self.headers,
                "Retry-After": str(WINDOW_S),
                "RateLimit": f'"{self.limit.namespace}";r=0;t={WINDOW_S}',
            },
        )


class RecentHits:
    """What this replica has counted in this second and the one before, by subject. Any thread may use it.

    A caller whose count is below its limit here, and who was not refused here, may be beyond it only by what other
    replicas have counted.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._window = 0
        self._now: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def add(self, subject: str, count: int) -> None:
        """Take note of so many hits."""
        with self._lock:
            self._shift()
            self._now[subject] = self._now.get(subject, 0) + count

    def count(self, subject: str) -> int:
        """Return the hits of the last one to two windows."""
        with self._lock:
            self._shift()
            return self._now.get(subject, 0) + self._before.get(subject, 0)

    def _shift(self) -> None:
        window = int(self._clock() / WINDOW_S)
        if window != self._window:
            self._before = self._now if window == self._window + 1 else {}
            self._now, self._window = {}, window


class RateLimits:
    """Limits in requests a second by role. A caller with several roles has the highest of their limits.

    ``service`` is the prefix of the keys: a service's Redis login reaches only keys with its name.
    """

    def __init__(
        self, redis_url: str, login: RedisLogin | None, per_second: Mapping[str, int], *, service: str
    ) -> None:
        self._key_prefix = f"{service}:limits"
        self._limits = {role: RateLimitItemPerSecond(number, WINDOW_S, role) for role, number in per_second.items()}
        self._lowest = min(self._limits.values(), key=lambda limit: limit.amount)
        self._shared = SlidingWindowCounterRateLimiter(
            RedisStorage(
                f"async+{redis_url}",
                implementation="redispy",
                key_prefix=self._key_prefix,
                credential_provider=login,  # type: ignore[arg-type]  # limits passes every option to redis-py
                retry=Retry(NoBackoff(), 0),  # type: ignore[arg-type]
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                max_connections=CONNECTIONS_MAX,
            )
        )
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._recent = RecentHits()
        self._breaker = CircuitBreaker("redis (rate limits)", failures_max=1, open_s=OPEN_S, clock=time.monotonic)

    async def admit(self, caller: Principal) -> dict[str, str]:
        """Count a request of the caller and return the headers that state its limit.

        Raises Problem (429) when the caller exceeds the limit.
        """
        hit = self.hit_of(caller)
        self.settle(hit, await self._count(hit))
        return hit.headers

    async def admit_bulk(self, caller: Principal) -> int:
        """Count one order of a bulk request, where its caller may be beyond the limit; return how many were counted.

        Raises Problem (429) when the caller exceeds the limit.
        """
        hit = self.hit_of(caller)
        if self._recent.count(hit.subject) < hit.limit.amount:
            return 0
        self.settle(hit, await self._count(hit))
        return 1

    def hit_of_orders(self, caller: Principal, orders: int, counted: int) -> Hit:
        """Return the hit of a bulk request of which so many orders were counted.

        Raises Problem (422) for more orders than the caller may ever send in one request.
        """
        hit = self.hit_of(caller)
        if orders > hit.limit.amount:
            self._recent.add(hit.subject, orders)
            detail = f"{orders} orders; your limit is {hit.limit.amount} in {WINDOW_S} s, so send at most as many."
            raise invalid([FieldError(pointer="#", detail=detail)])
        return replace(hit, count=orders - counted)

    def settle(self, hit: Hit, is_within: bool) -> None:
        """Take note of a hit that was counted. Raises Problem (429) unless it is within the limit."""
        self._recent.add(hit.subject, hit.count if is_within else hit.limit.amount)
        hit.check(is_within)

    def hit_of(self, caller: Principal) -> Hit:
        """Return the hit of a request of the caller."""
        limit = max(
            (self._limits[role] for role in caller.roles if role in self._limits),
            key=lambda each: each.amount,
            default=self._lowest,
        )
        return Hit(limit=limit, subject=caller.subject, key_prefix=self._key_prefix)

    async def count_alone(self, hit: Hit) -> bool:
        """Count a hit in this replica, because Redis is unavailable; return whether it is within the limit."""
        return await self._own.hit(hit.limit, hit.subject, cost=hit.count)

    async def _count(self, hit: Hit) -> bool:
        with suppress(CircuitOpen, RedisError), self._breaker.call(RedisError):
            return await self._shared.hit(hit.limit, hit.subject, cost=hit.count)
        return await self.count_alone(hit)


class LimitedGuard(RoleGuard):
    """Admits callers with one of the roles, within their rate limit.

    The application holds its :class:`RateLimits` as ``app.state.rate_limits``.
    """

    async def admit(self, request: Request) -> None:
        """Count the request, and note the caller and the limit in its scope. Raises Problem."""
        await super().admit(request)
        limits: RateLimits = request.app.state.rate_limits
        request.scope[LIMIT] = await limits.admit(caller_of(request))

    async def limited_caller(self, request: Request, response: Response, _token: Token) -> Principal:
        """Return the caller; the response states the limit."""
        response.headers.update(request.scope[LIMIT])
        return caller_of(request)


def admitted(*roles: str) -> Callable[..., Awaitable[Principal]]:
    """Return a dependency: a caller with one of ``roles``, within its rate limit."""
    return LimitedGuard(*roles).limited_caller
