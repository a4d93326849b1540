"""Keeps two replicas from calling the gateway with one key at the same time. It must never decide what is true."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

from chassis.http.breaker import CircuitBreaker, CircuitOpen
from chassis.http.downstream import Unavailable
from chassis.wire.redis import RedisLogin
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

FENCE_TTL_S = 5.0
"""Longer than any call takes, so the fence outlasts the call; short, so a killed replica's fence is soon gone."""

REDIS_TIMEOUT_S = 0.2
"""Redis answers in a millisecond; the library's own five seconds would stretch the call beyond the fence."""

REDIS_OPEN_S = 1.0
"""How long calls go without Redis before one of them tries it again."""

PREFIX = "payment:call:"

RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"
"""Compare and delete in one step: a fence that has expired may be another replica's by now."""


class CallLease:
    """SET NX with a time to live around one external call.

    It spares the gateway two calls at once for one effect, for example after a rebalance. It is not what makes the call
    safe: that is the idempotency key, which the gateway honours. Therefore a Redis that cannot be reached is no reason
    to stop payments: the call goes on without the fence, and the log says so once, when it begins and when it ends.
    """

    def __init__(self, redis: Redis, *, ttl_s: float = FENCE_TTL_S) -> None:
        self.ttl_s = ttl_s
        self._redis = redis
        self._release = redis.register_script(RELEASE)
        self._breaker = CircuitBreaker(
            "redis (gateway fence)", failures_max=1, open_s=REDIS_OPEN_S, clock=time.monotonic
        )

    @classmethod
    def at(cls, url: str, login: RedisLogin | None = None) -> CallLease:
        """Return a fence in the Redis at ``url``; nothing connects before the first call."""
        retry = Retry(NoBackoff(), 0)
        return cls(
            Redis.from_url(
                url,
                credential_provider=login,
                socket_timeout=REDIS_TIMEOUT_S,
                socket_connect_timeout=REDIS_TIMEOUT_S,
                retry=retry,
            )
        )

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Hold the fence of an idempotency key; raise Unavailable where another call holds it."""
        name = PREFIX + key
        token = secrets.token_hex(16)
        is_parked = self._take(name, token)
        try:
            yield
        finally:
            if is_parked:
                self._give_back(name, token)

    def _take(self, name: str, token: str) -> bool:
        """Return True when the fence is ours, False when Redis does not answer."""
        try:
            permit = self._breaker.enter()
        except CircuitOpen:
            return False
        try:
            taken = self._redis.set(name, token, nx=True, px=round(self.ttl_s * 1000))
            remaining_ms = 0 if taken else self._redis.pttl(name)
        except RedisError:
            self._breaker.failed(permit)
            return False
        self._breaker.succeeded(permit)
        if not taken:
            # The call elsewhere bears the same key, so its effect may well happen: nothing is certain.
            raise Unavailable("call under way elsewhere", retry_after_s=max(int(remaining_ms), 0) / 1000)
        return True

    def _give_back(self, name: str, token: str) -> None:
        try:
            permit = self._breaker.enter()
        except CircuitOpen:
            return  # It expires by itself.
        try:
            self._release(keys=[name], args=[token])
        except RedisError:
            self._breaker.failed(permit)
            return
        self._breaker.succeeded(permit)
