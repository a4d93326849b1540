"""Rate limits by client. Redis counts for all replicas; while it is unavailable each replica counts alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress

from chassis.http.auth import Principal
from chassis.http.breaker import CircuitBreaker, CircuitOpen
from chassis.http.problem import Problem
from chassis.wire.redis import RedisLogin
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

WINDOW_S = 1
KEY_PREFIX = "checkout:limits"
"""A service's Redis login reaches only keys with the service's name as prefix."""
TIMEOUT_S = 0.25
CONNECTIONS_MAX = 64
OPEN_S = 1.0
"""An unavailable Redis costs one request its timeout this often. Meanwhile each replica counts alone."""


class RateLimits:
    """Limits in requests a second by role. A caller with several roles has the highest of their limits."""

    def __init__(self, redis_url: str, login: RedisLogin | None, per_second: Mapping[str, int]) -> None:
        self._limits = {role: RateLimitItemPerSecond(number, WINDOW_S, role) for role, number in per_second.items()}
        self._lowest = min(self._limits.values(), key=lambda limit: limit.amount)
        self._shared = SlidingWindowCounterRateLimiter(
            RedisStorage(
                f"async+{redis_url}",
                implementation="redispy",
                key_prefix=KEY_PREFIX,
                credential_provider=login,  # type: ignore[arg-type]  # limits passes every option to redis-py
                retry=Retry(NoBackoff(), 0),  # type: ignore[arg-type]
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                max_connections=CONNECTIONS_MAX,
            )
        )
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._breaker = CircuitBreaker("redis (rate limits)", failures_max=1, open_s=OPEN_S, clock=time.monotonic)

    async def admit(self, caller: Principal) -> dict[str, str]:
        """Count a request of the caller and return the headers that state its limit.

        Raises Problem (429) when the caller exceeds the limit.
        """
        limit = max(
            (self._limits[role] for role in caller.roles if role in self._limits),
            key=lambda each: each.amount,
            default=self._lowest,
        )
        policy = f'"{limit.namespace}";q={limit.amount};w={WINDOW_S}'
        if await self._hit(limit, caller.subject):
            return {"RateLimit-Policy": policy}
        raise Problem(
            status=429,
            title="Too many requests",
            detail=f"More than {limit.amount} requests in {WINDOW_S} s; send this one again after Retry-After seconds.",
            headers={
                "Retry-After": str(WINDOW_S),
                "RateLimit-Policy": policy,
                "RateLimit": f'"{limit.namespace}";r=0;t={WINDOW_S}',
            },
        )

    async def _hit(self, limit: RateLimitItemPerSecond, subject: str) -> bool:
        with suppress(CircuitOpen, RedisError), self._breaker.call(RedisError):
            return await self._shared.hit(limit, subject)
        return await self._own.hit(limit, subject)
