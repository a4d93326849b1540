"""Keeps two replicas from calling the gateway with one key at the same time. It must never decide what is true."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from chassis.http.breaker import CircuitBreaker, CircuitOpen
from chassis.http.downstream import NotTried, Unavailable
from chassis.http.timed_connections import remaining_s
from chassis.wire.redis import RedisLogin

LEASE_TTL_S = 5.0
"""Longer than any call, so the lease outlasts it. It ends with the call's time where that leaves less: the lease of a
killed replica must be over when the call is repeated, at its deadline."""

REDIS_TIMEOUT_S = 0.2
"""Redis answers in a millisecond. The library's default of five seconds would take all of the call's time."""

REDIS_OPEN_S = 1.0
"""How long calls continue without Redis before one of them tries it again."""

PREFIX = "payment:call:"

RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"
"""Compare and delete in one step: an expired lease may belong to another replica by now."""


class CallLease:
    """A lease on one external call: SET NX with a time to live.

    It prevents two concurrent calls for one effect, for example after a rebalance. The call is safe without it: the
    gateway honours the idempotency key. So payments continue while Redis is unavailable: calls are made without a
    lease, and the log records the beginning and the end of the outage.
    """

    def __init__(self, redis: Redis, *, ttl_s: float = LEASE_TTL_S) -> None:
        self.ttl_s = ttl_s
        self._redis = redis
        self._release_script = redis.register_script(RELEASE)
        self._breaker = CircuitBreaker("redis (call lease)", failures_max=1, open_s=REDIS_OPEN_S, clock=time.monotonic)

    @classmethod
    def at(cls, url: str, login: RedisLogin | None = None) -> CallLease:
        """Return a lease in the Redis at ``url``. Nothing connects before the first call."""
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
        """Hold the lease of an idempotency key. Raises Unavailable when another call holds it."""
        name = PREFIX + key
        token = secrets.token_hex(16)
        is_acquired = self._acquire(name, token)
        try:
            yield
        finally:
            if is_acquired:
                self._release(name, token)

    def _acquire(self, name: str, token: str) -> bool:
        """Return whether the lease is held: False when Redis does not answer. Raises Unavailable."""
        ttl_s = min(self.ttl_s, remaining_s())
        if ttl_s <= 0:
            raise NotTried("no time is left for a call and its lease")
        try:
            with self._breaker.call(RedisError):
                is_acquired = self._redis.set(name, token, nx=True, px=math.ceil(ttl_s * 1000))
                remaining_ms = 0 if is_acquired else self._redis.pttl(name)
        except (CircuitOpen, RedisError):
            return False
        if not is_acquired:
            # The other call has the same key, so its effect may still happen: the outcome is unknown.
            raise Unavailable("call under way elsewhere", retry_after_s=max(int(remaining_ms), 0) / 1000)
        return True

    def _release(self, name: str, token: str) -> None:
        # Without Redis the lease expires by itself.
        with suppress(CircuitOpen, RedisError), self._breaker.call(RedisError):
            self._release_script(keys=[name], args=[token])
