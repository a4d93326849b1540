"""Alarms become tickets: one report at a time for each alarm, and what the ITSM did not take is tried again.

A report that fails is answered with 503, and Alertmanager repeats it with its own backoff. It does not repeat an alarm
that ended before any report of it succeeded. So that too is kept, and tried from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import structlog
from redis.exceptions import RedisError

from console.tickets.alarms import Alarm
from console.tickets.itsm import Applied, Itsm, Unavailable
from console.tickets.store import Known, TicketStore
from console.tickets.ticket_metrics import BUSY, FAILED, LEFT_S, REPORTS

REPORTED_AGAIN_S: Final = 600
"""Within this time Alertmanager reports an alarm again by itself, unless it has ended: twice its usual interval."""
POLL_S: Final = 15.0
REDIS_WITHIN_S: Final = 3.0
"""Its client alone would try several times, and Alertmanager waits meanwhile."""
NOT_REPORTED_AGAIN: Final = (
    "Alertmanager has not reported this alarm again since the ticket could first be opened: it may have ended. "
    "If it has, resolve this ticket by hand."
)

Json = Any
T = TypeVar("T")

log = structlog.get_logger(__name__)


class Tickets:
    """The tickets of alarms. ``clock`` returns Unix seconds."""

    def __init__(self, itsm: Itsm, store: TicketStore, clock: Callable[[], float]) -> None:
        self._itsm = itsm
        self._store = store
        self._clock = clock

    async def report(self, alarm: Alarm) -> Applied:
        """Make the alarm's ticket fit it. Raises Unavailable: report the alarm again.

        1. Take the alarm's lock. 2. Let the ITSM act. 3. Store the result. 4. Release the lock. It stays where a ticket
        may have been opened without our knowledge, until the ITSM must be done; then the ticket is found.
        """
        # 1.
        if not await self._tried(self._store.lock(alarm.correlation_id), otherwise=True):
            REPORTS.labels(BUSY).inc()
            raise Unavailable("Another report of this alarm is under way, or its outcome is not known yet.")
        # 2.
        try:
            applied = await self._itsm.apply(alarm, datetime.fromtimestamp(self._clock(), UTC))
        except Unavailable as error:
            await self._failed(alarm, error)
            raise
        # 3.
        REPORTS.labels(applied.outcome.value).inc()
        log.info("An alarm was reported.", alarm=alarm.name, outcome=applied.outcome.value)
        await self._tried(self._keep(alarm, applied), otherwise=None)
        # 4.
        await self._tried(self._store.unlock(alarm.correlation_id), otherwise=None)
        return applied

    async def about(self, saga: Json, letters: Sequence[Json]) -> list[Known]:
        """Return the open tickets of alarms that a saga is among. Raises RedisError."""
        return [each for each in await self._store.known(self._clock()) if each.alarm.concerns(saga, letters)]

    async def retry(self) -> None:
        """Try what is left over and is not reported by Alertmanager any more. Raises RedisError."""
        now_s = self._clock()
        left = await self._store.left()
        LEFT_S.set(max((now_s - each.since_s for each in left), default=0.0))
        for each in left:
            if now_s >= each.due_at_s:
                with suppress(Unavailable):
                    await self.report(each.alarm.with_note(NOT_REPORTED_AGAIN))

    async def keep_retrying(self) -> None:
        """Call :meth:`retry` until it is cancelled. Every replica does; the alarm's lock lets one of them act."""
        while True:
            try:
                await self.retry()
            except RedisError as error:
                log.warning("Alarms without a ticket cannot be read.", error=type(error).__name__)
            await asyncio.sleep(POLL_S)

    async def _keep(self, alarm: Alarm, applied: Applied) -> None:
        if not alarm.is_firing:
            await self._store.drop(alarm.correlation_id)
        elif applied.ticket is not None:
            await self._store.know(alarm, applied.ticket, self._clock())

    async def _failed(self, alarm: Alarm, error: Unavailable) -> None:
        REPORTS.labels(FAILED).inc()
        log.warning("An alarm has no ticket yet.", alarm=alarm.name, why=str(error))
        if alarm.is_firing:
            now_s = self._clock()
            await self._tried(self._store.leave(alarm, now_s=now_s, due_at_s=now_s + REPORTED_AGAIN_S), otherwise=None)
        if not error.is_uncertain:
            await self._tried(self._store.unlock(alarm.correlation_id), otherwise=None)

    async def _tried(self, call: Awaitable[T], *, otherwise: T) -> T:
        """Return what Redis answers; without Redis the report goes on, since the ITSM has the ticket itself."""
        try:
            async with asyncio.timeout(REDIS_WITHIN_S):
                return await call
        except (RedisError, TimeoutError) as error:
            log.warning("Redis does not answer; the report goes on without it.", error=type(error).__name__)
            return otherwise
