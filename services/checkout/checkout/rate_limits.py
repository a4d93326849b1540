"""Rate limits by client. Redis counts for all replicas; while it is unavailable each replica counts alone.

A request is counted in a round trip of its own, or a bulk request in that of its cached responses (``Hit.count_in``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.storage import RedisStorage as SynchronousRedisStorage
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import RedisError

from chassis.http.auth import Principal
from chassis.http.breaker import CircuitBreaker, CircuitOpen
from chassis.http.problem import Problem
from chassis.wire.redis import RedisLogin

WINDOW_S = 1
KEY_PREFIX = "checkout:limits"
"""A service's Redis login reaches only keys with the service's name as prefix."""
TIMEOUT_S = 0.25
CONNECTIONS_MAX = 64
SCRIPT = SynchronousRedisStorage.SCRIPT_ACQUIRE_SLIDING_WINDOW.decode()
"""Shifts the window where it has passed, and counts a request that is within the limit."""
OPEN_S = 1.0
"""An unavailable Redis costs one request its timeout this often. Meanwhile each replica counts alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A request that counts against the limit of its caller."""

    limit: RateLimitItemPerSecond
    subject: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers that state the limit."""
        return {"RateLimit-Policy": f'"{self.limit.namespace}";q={self.limit.amount};w={WINDOW_S}'}

    def count_in(self, pipeline: Pipeline) -> None:
        """Add the command that counts it to a pipeline; its result is 1 within the limit, else None.

        It is the script of ``limits`` on the same keys, so both ways count together. The whole script is sent: its
        digest alone would take another round trip where Redis does not know it yet.
        """
        key = f"{KEY_PREFIX}:{{{self.limit.key_for(self.subject)}}}"
        pipeline.eval(SCRIPT, 2, f"{key}/-1", key, self.limit.amount, self.limit.get_expiry(), 1)

    def check(self, is_within: bool) -> None:
        """Raise Problem (429) unless the hit is within the limit."""
        if is_within:
            return
        raise Problem(
            status=429,
            title="Too many requests",
            detail=f"More than {self.limit.amount} requests in {WINDOW_S} s; "
            "send this one again after Retry-After seconds.",
            headers={
                **self.headers,
                "Retry-After": str(WINDOW_S),
                "RateLimit": f'"{self.limit.namespace}";r=0;t={WINDOW_S}',
            },
        )


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
        hit = self.hit_of(caller)
        hit.check(await self._count(hit))
        return hit.headers

    def hit_of(self, caller: Principal) -> Hit:
        """Return the hit of a request of the caller."""
        limit = max(
            (self._limits[role] for role in caller.roles if role in self._limits),
            key=lambda each: each.amount,
            default=self._lowest,
        )
        return Hit(limit=limit, subject=caller.subject)

    async def count_alone(self, hit: Hit) -> bool:
        """Count a hit in this replica, because Redis is unavailable; return whether it is within the limit."""
        return await self._own.hit(hit.limit, hit.subject)

    async def _count(self, hit: Hit) -> bool:
        with suppress(CircuitOpen, RedisError), self._breaker.call(RedisError):
            return await self._shared.hit(hit.limit, hit.subject)
        return await self.count_alone(hit)
