"""The console's own database for pages, which are asynchronous: each transaction runs on a thread of its own pool.

Pages work without it. While it is away each call fails at once, so that no page waits for what it can do without.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from chassis.http.breaker import CircuitBreaker, CircuitOpen
from chassis.postgres.bounds import Bounds
from console import tables
from console.tables import Person

BOUNDS: Final = Bounds(lock_s=2, statement_s=2, idle_s=5, transaction_s=5, answer_s=5)
"""Every statement is about some rows, and a person waits for it."""
THREADS_MAX: Final = 4
VIEWS_WITHIN_S: Final = 1.0
"""The list of sagas is wanted with or without the views at its head."""
WITHIN_S: Final = 5.0
TRIED_AGAIN_AFTER_S: Final = 2.0
NUMBER_MAX: Final = 2**63 - 1

Found = TypeVar("Found")
Rows = list[Any]

log = structlog.get_logger(__name__)


class StoreUnavailable(Exception):
    """The console's own database does not answer; saved views and reveals are there. Try again shortly."""

    def __init__(self) -> None:
        super().__init__("The console's own database does not answer. Try again shortly.")


class Store:
    """Saved views and reveals."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="store")
        self._circuit = CircuitBreaker(
            "the console's database", failures_max=1, open_s=TRIED_AGAIN_AFTER_S, clock=time.monotonic
        )

    def close(self) -> None:
        """Close its connections. What runs goes on to its end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()

    async def views(self, person: Person) -> Rows:
        """Return the views that a person may use. Raises StoreUnavailable."""
        return await self._run(lambda tx: tables.visible_views(tx, person), within_s=VIEWS_WITHIN_S)

    async def save_view(self, person: Person, *, name: str, query: str, is_shared: bool) -> None:
        """Save a view. Raises ViewRefused, StoreUnavailable."""
        await self._run(lambda tx: tables.save_view(tx, person, name=name, query=query, is_shared=is_shared))

    async def delete_view(self, person: Person, view_id: int, *, may_delete_shared: bool) -> str | None:
        """Delete a view, and return its name, or None. Raises StoreUnavailable."""
        return await self._run(lambda tx: tables.delete_view(tx, person, view_id, may_delete_shared=may_delete_shared))

    async def store_reveal(self, person: Person, *, saga_id: str, reason: str) -> None:
        """Store a reveal; it is committed when this returns. Raises StoreUnavailable."""
        await self._run(lambda tx: tables.store_reveal(tx, person, saga_id=saga_id, reason=reason))

    async def revealed(self, *, before: int | None, saga_id: str | None, subject: str | None, limit: int) -> Rows:
        """Return the latest reveals before that number. Raises StoreUnavailable."""
        number = NUMBER_MAX if before is None else before
        return await self._run(
            lambda tx: tables.revealed(tx, before=number, saga_id=saga_id, subject=subject, limit=limit)
        )

    async def _run(self, work: Callable[[Connection], Found], *, within_s: float = WITHIN_S) -> Found:
        """Run a transaction. Raises StoreUnavailable where it does not end in time; it may be committed then."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._transaction, work)
        try:
            return await asyncio.wait_for(running, within_s)
        except (SQLAlchemyError, OSError, CircuitOpen, TimeoutError) as error:
            if isinstance(error, SQLAlchemyError):
                log.warning("The console's database failed.", error=type(error).__name__, detail=str(error))
            raise StoreUnavailable from error

    def _transaction(self, work: Callable[[Connection], Found]) -> Found:
        # The password's file is read at each connection, so a missing one is an error of the system.
        with self._circuit.call(SQLAlchemyError, OSError), self._engine.begin() as tx:
            return work(tx)
