"""The live timelines of one process: a single poller queries all of them, and hands each what is new of its saga.

A hundred viewers of one order cost one query every ``POLL_EVERY_S``. It must never wait for a viewer: who does not read
is dropped, reconnects with the last id that it has seen, and misses nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from anyio import CapacityLimiter, to_thread
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from saga_tracker.store import queries, watching
from saga_tracker.store.queries import SagaView
from saga_tracker.store.watching import News

POLL_EVERY_S = 0.3
"""How often new entries are queried: a person sees no delay, and the load on the database is small."""
FRESHNESS_EVERY_S = 5.0
STREAMS_MAX = 100
THREADS_MAX = 8
"""Fewer than the database's connections, so that live timelines cannot starve the other requests."""
PENDING_MAX = 200
"""Updates that a viewer has not read. More come only to one that does not read any more."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What is new of a saga. ``saga`` is the saga where it has changed; ``until`` where the freshness is due."""

    news: News
    saga: SagaView | None
    until: datetime | None


@dataclass(slots=True, kw_only=True, eq=False)
class _Watch:
    """A saga that is watched: the last entry and the revision that all its viewers were handed."""

    partition: int
    seq: int
    revision: int = -1
    viewers: set[Viewer] = field(default_factory=set)


class Viewer:
    """One open timeline: the updates that it has not read yet. None ends it."""

    def __init__(self) -> None:
        self._pending: asyncio.Queue[Update | None] = asyncio.Queue()
        self._is_dropped = False

    def put(self, update: Update | None) -> None:
        """Hand it an update; one that does not read is dropped instead."""
        if self._pending.qsize() >= PENDING_MAX:
            self._is_dropped = True
        if not self._is_dropped:
            self._pending.put_nowait(update)

    async def next(self, timeout_s: float) -> Update | None:
        """Return the next update; None where the stream ends: after this time, or since updates were lost."""
        if self._is_dropped and self._pending.empty():
            return None
        try:
            return await asyncio.wait_for(self._pending.get(), timeout_s)
        except TimeoutError:
            return None


class Streams:
    """The live timelines of this process: a limited number at once, and one poller while there are any."""

    def __init__(self) -> None:
        self.threads = CapacityLimiter(THREADS_MAX)
        self.open_count = 0
        self.queries_count = 0
        """How often the poller has asked for news."""
        self._watches: dict[str, _Watch] = {}
        self._poller: asyncio.Task[None] | None = None
        self._freshness_at_s = 0.0

    @contextmanager
    def viewing(self, engine: Engine, saga: SagaView, seen: int) -> Iterator[Viewer]:
        """Watch a saga while the block runs, behind the entry ``seen`` at the latest."""
        saga_id, viewer = saga.summary.saga_id, Viewer()
        watch = self._watches.setdefault(saga_id, _Watch(partition=saga.partition, seq=seen))
        watch.viewers.add(viewer)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.get_running_loop().create_task(self._poll(engine))
        try:
            yield viewer
        finally:
            watch.viewers.discard(viewer)
            if not watch.viewers and self._watches.get(saga_id) is watch:
                del self._watches[saga_id]

    async def _poll(self, engine: Engine) -> None:
        while self._watches:
            await asyncio.sleep(POLL_EVERY_S)
            watches = dict(self._watches)
            try:
                await self._hand_out(engine, watches)
            except SQLAlchemyError as error:
                log.warning("Live timelines end: their news cannot be queried.", error=type(error).__name__)
                for viewer in [each for watch in watches.values() for each in watch.viewers]:
                    viewer.put(None)

    async def _hand_out(self, engine: Engine, watches: dict[str, _Watch]) -> None:
        is_due = time.monotonic() >= self._freshness_at_s
        known = {saga_id: (watch.seq, watch.revision) for saga_id, watch in watches.items()}
        found, changed, until = await to_thread.run_sync(_read, engine, known, is_due, limiter=self.threads)
        self.queries_count += 1
        if is_due:
            self._freshness_at_s = time.monotonic() + FRESHNESS_EVERY_S
        for saga_id, news in found.items():
            watch = watches[saga_id]
            if not news.entries and saga_id not in changed and not is_due:
                continue
            update = Update(news=news, saga=changed.get(saga_id), until=until.get(watch.partition) if is_due else None)
            for viewer in tuple(watch.viewers):
                viewer.put(update)
            watch.revision = news.revision
            watch.seq = news.entries[-1].seq if news.entries else watch.seq


def _read(
    engine: Engine, known: dict[str, tuple[int, int]], with_freshness: bool
) -> tuple[dict[str, News], dict[str, SagaView], dict[int, datetime]]:
    """Return what is new of these sagas behind a ``seq`` and a revision each, and those that have changed."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as tx:
        found = watching.news(tx, {saga_id: seq for saga_id, (seq, _) in known.items()})
        ids = [saga_id for saga_id, news in found.items() if news.revision != known[saga_id][1]]
        changed = queries.sagas(tx, ids) if ids else {}
        until = watching.recorded_until(tx) if with_freshness else {}
    return found, changed, until
