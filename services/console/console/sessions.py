"""Who is signed in: sessions in Redis. A lost Redis means signing in again, and nothing else.

The key of a session is the SHA-256 of its cookie, and its content is encrypted: a copy of Redis opens nothing. Below
``console:sid:`` and ``console:sub:`` are the sessions of a provider's session and of a person, so that they can be
ended from outside.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from redis.asyncio import Redis

IDLE_S = 1_800
"""Half an hour without a request ends a session."""
ABSOLUTE_S = 36_000
"""Ten hours after the sign-in it ends in any case."""
SIGNING_IN_S = 600
"""From the first redirect to the provider's answer."""
LOCK_S = 20
"""Longer than a refresh takes, with the time limits of its requests."""
FAILED_S = 15
"""How long no request tries a refresh after one that failed, so that pages do not wait for a provider that is away."""
COOKIE_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One person's session in one browser. Times are Unix seconds. ``digest`` is its key."""

    digest: str
    issuer: str
    subject: str
    name: str
    sid: str
    roles: tuple[str, ...]
    csrf: str
    access_token: str
    refresh_token: str
    id_token: str
    refreshed_at_s: float
    ends_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningIn:
    """A sign-in under way: what the provider's answer has to fit, and where the person goes afterwards."""

    state: str
    nonce: str
    verifier: str
    target: str


def digest_of(cookie: str) -> str:
    """Return the key of a cookie."""
    return hashlib.sha256(cookie.encode()).hexdigest()


class Sessions:
    """The sessions and the sign-ins under way."""

    def __init__(self, redis: Redis, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("The file of BARAZA_CONSOLE_KEY_FILE is empty; it needs a key of 32 random bytes.")
        self._redis = redis
        self._box = MultiFernet([Fernet(urlsafe_b64encode(hashlib.sha256(key.encode()).digest())) for key in keys])

    async def begin_sign_in(self, signing_in: SigningIn) -> str:
        """Store a sign-in under way and return its handle, which is a cookie for ten minutes."""
        handle = secrets.token_urlsafe(COOKIE_BYTES)
        await self._redis.set(_signing_in(digest_of(handle)), self._seal(asdict(signing_in)), ex=SIGNING_IN_S)
        return handle

    async def take_sign_in(self, handle: str) -> SigningIn | None:
        """Return a sign-in under way, once: a second answer finds nothing."""
        found = self._open(await self._redis.getdel(_signing_in(digest_of(handle))))
        return None if found is None else SigningIn(**found)

    async def begin(self, session: Session, *, now_s: float) -> str:
        """Store a new session and return its cookie, which is new at every sign-in."""
        cookie = secrets.token_urlsafe(COOKIE_BYTES)
        await self.save(replace(session, digest=digest_of(cookie)), now_s=now_s)
        return cookie

    async def save(self, session: Session, *, now_s: float) -> None:
        """Store a session, and where it is found when it is ended from outside."""
        left_s = max(1, int(session.ends_at_s - now_s))
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.set(_session(session.digest), self._seal(asdict(session)), ex=min(IDLE_S, left_s))
            for key in _indexes(session):
                pipeline.sadd(key, session.digest)
                pipeline.expire(key, left_s)
            await pipeline.execute()

    async def replace_tokens(self, session: Session, *, now_s: float) -> bool:
        """Store a refreshed session unless it was ended meanwhile; return whether it is there."""
        left_s = max(1, int(session.ends_at_s - now_s))
        stored = await self._redis.set(
            _session(session.digest), self._seal(asdict(session)), ex=min(IDLE_S, left_s), xx=True
        )
        return bool(stored)

    async def find(self, cookie: str, *, now_s: float, is_use: bool = True) -> Session | None:
        """Return the session of a cookie, and put its idle end off where this is a use of it."""
        key = _session(digest_of(cookie))
        found = self._open(await self._redis.get(key))
        if found is None:
            return None
        session = Session(**{**found, "roles": tuple(found["roles"])})
        if now_s >= session.ends_at_s:
            await self.end(session)
            return None
        if is_use:
            await self._redis.expire(key, min(IDLE_S, max(1, int(session.ends_at_s - now_s))))
        return session

    async def end(self, session: Session) -> None:
        """End one session."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(_session(session.digest))
            for key in _indexes(session):
                pipeline.srem(key, session.digest)
            await pipeline.execute()

    async def end_all(self, issuer: str, *, sid: str = "", subject: str = "") -> int:
        """End the sessions of a provider's session, or without one those of a person; return how many there were."""
        index = _of_sid(issuer, sid) if sid else _of_subject(issuer, subject)
        found = await self._redis.smembers(index)
        digests = [each if isinstance(each, str) else each.decode() for each in found]
        if not digests:
            return 0
        ended: int = await self._redis.delete(*map(_session, digests))
        await self._redis.delete(index)
        return ended

    async def is_first(self, token_id: str, *, within_s: int) -> bool:
        """Return whether a token that is good once comes for the first time."""
        return bool(await self._redis.set(f"console:once:{digest_of(token_id)}", b"1", ex=within_s, nx=True))

    async def lock(self, session: Session) -> bool:
        """Return whether this request is the one that refreshes the session's tokens."""
        return bool(await self._redis.set(f"console:refreshing:{session.digest}", b"1", ex=LOCK_S, nx=True))

    async def unlock(self, session: Session) -> None:
        """End the refresh of a session's tokens."""
        await self._redis.delete(f"console:refreshing:{session.digest}")

    async def note_failure(self, session: Session) -> None:
        """Note that the provider did not answer."""
        await self._redis.set(f"console:failed:{session.digest}", b"1", ex=FAILED_S)

    async def has_failed_lately(self, session: Session) -> bool:
        """Return whether a refresh of the session has just failed."""
        return bool(await self._redis.exists(f"console:failed:{session.digest}"))

    def _seal(self, content: dict[str, Any]) -> bytes:
        return self._box.encrypt(json.dumps(content).encode())

    def _open(self, sealed: bytes | str | None) -> dict[str, Any] | None:
        """Return the content; None for nothing, and for what an unknown key has encrypted."""
        if sealed is None:
            return None
        try:
            opened: dict[str, Any] = json.loads(self._box.decrypt(sealed))
        except InvalidToken:
            return None
        return opened


def _session(digest: str) -> str:
    return f"console:session:{digest}"


def _signing_in(digest: str) -> str:
    return f"console:signing-in:{digest}"


def _of_sid(issuer: str, sid: str) -> str:
    return f"console:sid:{digest_of(f'{issuer}|{sid}')}"


def _of_subject(issuer: str, subject: str) -> str:
    return f"console:sub:{digest_of(f'{issuer}|{subject}')}"


def _indexes(session: Session) -> list[str]:
    found = [_of_subject(session.issuer, session.subject)]
    return [*found, _of_sid(session.issuer, session.sid)] if session.sid else found
