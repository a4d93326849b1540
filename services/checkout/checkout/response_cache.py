"""Redis caches the stored responses by idempotency key. PostgreSQL is the source of truth, Redis may be unavailable."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from chassis.http.breaker import CircuitBreaker, CircuitOpen
from chassis.http.rate_limits import Hit
from chassis.wire.redis import RedisLogin
from checkout.tables import StoredResponse

LIFESPAN = timedelta(hours=1)
"""Clients repeat a request within minutes. PostgreSQL keeps the key for good."""
TIMEOUT_S = 0.25
"""Redis answers in well under a millisecond. Waiting longer costs more than the cache saves."""
OPEN_S = 1.0
"""An unavailable Redis costs one request its timeout this often. All other requests continue without it."""
DIGEST_BYTES = 32
STATUS_DIGITS = 3
ORDER_ID_LENGTH = 26


class ResponseCache:
    """The cache. It holds only responses whose transaction was committed."""

    def __init__(self, url: str, login: RedisLogin | None) -> None:
        self._redis = redis.Redis.from_url(
            url,
            credential_provider=login,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._breaker = CircuitBreaker("redis (cached responses)", failures_max=1, open_s=OPEN_S, clock=time.monotonic)

    def get(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], StoredResponse]:
        """Return the cached responses of these (client id, key)s. Without Redis the result is empty."""
        if not keys:
            return {}
        try:
            with self._breaker.call(redis.RedisError):
                values = cast("list[bytes | None]", self._redis.mget([_name(key) for key in keys]))
        except (CircuitOpen, redis.RedisError):
            return {}
        return _read_all(keys, values)

    def get_counting(
        self, keys: Sequence[tuple[str, str]], hit: Hit
    ) -> tuple[bool | None, dict[tuple[str, str], StoredResponse]]:
        """Count the hit and read as :meth:`get` does, in one round trip.

        Return whether the hit is within its limit, None where Redis does not answer, and the cached responses.
        """
        pipeline = self._redis.pipeline(transaction=False)
        hit.count_in(pipeline)
        if keys:
            pipeline.mget([_name(key) for key in keys])
        try:
            with self._breaker.call(redis.RedisError):
                counted, *values = pipeline.execute()
        except (CircuitOpen, redis.RedisError):
            return None, {}
        return bool(counted), _read_all(keys, values[0]) if keys else {}

    def put(self, responses: Mapping[tuple[str, str], StoredResponse]) -> None:
        """Cache committed responses."""
        if not responses:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for key, response in responses.items():
            value = response.fingerprint + f"{response.status:03}{response.order_id}{response.body}".encode()
            pipeline.set(_name(key), value, ex=LIFESPAN)
        with suppress(CircuitOpen, redis.RedisError), self._breaker.call(redis.RedisError):
            pipeline.execute()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


def _name(key: tuple[str, str]) -> str:
    digest = hashlib.blake2b("\x00".join(key).encode(), digest_size=16)
    return f"checkout:answer:{digest.hexdigest()}"


def _read_all(keys: Sequence[tuple[str, str]], values: Sequence[bytes | None]) -> dict[tuple[str, str], StoredResponse]:
    return {key: _read(value) for key, value in zip(keys, values, strict=True) if value is not None}


def _read(value: bytes) -> StoredResponse:
    order_id_at = DIGEST_BYTES + STATUS_DIGITS
    body_at = order_id_at + ORDER_ID_LENGTH
    return StoredResponse(
        order_id=value[order_id_at:body_at].decode(),
        fingerprint=value[:DIGEST_BYTES],
        status=int(value[DIGEST_BYTES:order_id_at]),
        body=value[body_at:].decode(),
    )
