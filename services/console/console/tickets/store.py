"""Alarms and tickets in Redis: which report is under way, which ticket an alarm has, and which alarm has none yet.

A lost Redis loses no alarm that still fires, because Alertmanager reports it again, and the ITSM finds its ticket.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from redis.asyncio import Redis

from console.tickets.alarms import Alarm
from console.tickets.itsm import Ticket

LOCK_S: Final = 120
"""Longer than an ITSM goes on with a request whose answer was lost: until then no second ticket is opened."""
SHOWN_S: Final = 86_400
"""A ticket of which nothing was reported for this long is not shown; Alertmanager repeats a firing alarm sooner."""
TICKETS, LEFT = "console:tickets", "console:tickets:left"

Json = Any
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A firing alarm with its ticket. ``reported_at_s`` is in Unix seconds."""

    alarm: Alarm
    ticket: Ticket
    reported_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A firing alarm without a ticket: since when there should be one, and when it is tried here. Unix seconds."""

    alarm: Alarm
    since_s: float
    due_at_s: float


class TicketStore:
    """The keys of tickets, below the console's own prefix. Each call raises RedisError."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def lock(self, correlation_id: str) -> bool:
        """Return whether this is the one report of the alarm that is under way."""
        return bool(await self._redis.set(_lock(correlation_id), b"1", ex=LOCK_S, nx=True))

    async def unlock(self, correlation_id: str) -> None:
        """End a report whose outcome is certain."""
        await self._redis.delete(_lock(correlation_id))

    async def know(self, alarm: Alarm, ticket: Ticket, now_s: float) -> None:
        """Store the ticket of a firing alarm; nothing of it is left over."""
        stored = {"alarm": alarm.to_json(), "number": ticket.number, "url": ticket.url, "reported_at_s": now_s}
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(TICKETS, alarm.correlation_id, json.dumps(stored))
            pipeline.hdel(LEFT, alarm.correlation_id)
            await pipeline.execute()

    async def drop(self, correlation_id: str) -> None:
        """Delete what is known of an alarm that has ended, and what is left over of it."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hdel(TICKETS, correlation_id)
            pipeline.hdel(LEFT, correlation_id)
            await pipeline.execute()

    async def known(self, now_s: float) -> list[Known]:
        """Return the tickets of firing alarms, those of the longest first. Old ones are deleted."""
        found = _readable(_known, await self._redis.hgetall(TICKETS))
        old = [each.alarm.correlation_id for each in found if now_s - each.reported_at_s > SHOWN_S]
        if old:
            await self._redis.hdel(TICKETS, *old)
        shown = [each for each in found if each.alarm.correlation_id not in old]
        return sorted(shown, key=lambda each: each.alarm.began_at)

    async def leave(self, alarm: Alarm, *, now_s: float, due_at_s: float) -> None:
        """Store that a firing alarm has no ticket; since when stays what it is."""
        before = await self._redis.hget(LEFT, alarm.correlation_id)
        earlier = _readable(_left, {} if before is None else {alarm.correlation_id: before})
        since_s = min((each.since_s for each in earlier), default=now_s)
        stored = {"alarm": alarm.to_json(), "since_s": since_s, "due_at_s": due_at_s}
        await self._redis.hset(LEFT, alarm.correlation_id, json.dumps(stored))

    async def left(self) -> list[Left]:
        """Return the firing alarms without a ticket."""
        return _readable(_left, await self._redis.hgetall(LEFT))


def _readable(read: Callable[[bytes | str], T], stored: Mapping[Any, bytes | str]) -> list[T]:
    """Return what can be read; what another release stored in its own way is left out until it is stored again."""
    found = []
    for text in stored.values():
        with suppress(KeyError, TypeError, ValueError):
            found.append(read(text))
    return found


def _lock(correlation_id: str) -> str:
    return f"{TICKETS}:lock:{correlation_id}"


def _known(text: bytes | str) -> Known:
    stored: Json = json.loads(text)
    ticket = Ticket(number=stored["number"], url=stored["url"])
    return Known(alarm=Alarm.from_json(stored["alarm"]), ticket=ticket, reported_at_s=stored["reported_at_s"])


def _left(text: bytes | str) -> Left:
    stored: Json = json.loads(text)
    alarm = Alarm.from_json(stored["alarm"])
    return Left(alarm=alarm, since_s=stored["since_s"], due_at_s=stored["due_at_s"])
