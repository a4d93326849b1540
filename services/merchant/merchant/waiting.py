"""Lets requests wait for the outcome of their payments (``Prefer: wait``): all of a process with one query at a time.

A request that waits holds neither a connection nor a thread.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from merchant import tables

WAIT_MAX_S: Final = 10
POLL_S: Final = 0.05
"""How often the payments that are waited for are queried; the steps of a payment take some tens of milliseconds."""
WAITING_MAX: Final = 1_000
"""Requests that wait at a time; later ones are answered at once, as the preference allows."""
WAIT: Final = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?([0-9]{1,6})\"?\s*(?=$|[,;])", re.IGNORECASE)


def seconds_of(prefer: str | None) -> int:
    """Return how long a request prefers to wait (RFC 7240), at most WAIT_MAX_S; 0 without such a preference."""
    found = WAIT.search(prefer or "")
    return 0 if found is None else min(int(found[1]), WAIT_MAX_S)


class OutcomeWaiter:
    """Waits for the outcomes of payments. It belongs to the event loop of the application."""

    def __init__(self, look: Callable[[Collection[int]], set[int]]) -> None:
        self._look = look
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, engine: Engine) -> OutcomeWaiter:
        """Return the waiter on a database."""

        def look(ids: Collection[int]) -> set[int]:
            with engine.begin() as tx:
                return tables.ended(tx, ids)

        return cls(look)

    async def wait(self, payment_id: int, within_s: float) -> bool:
        """Return whether the payment has its outcome within so many seconds."""
        if within_s <= 0 or len(self._waiting) >= WAITING_MAX:
            return False
        ended = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(payment_id, []).append(ended)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            async with asyncio.timeout(within_s):
                await ended
        except TimeoutError:
            return False
        finally:
            self._remove(payment_id, ended)
        return True

    def _remove(self, payment_id: int, ended: asyncio.Future[None]) -> None:
        others = [each for each in self._waiting.get(payment_id, []) if each is not ended]
        if others:
            self._waiting[payment_id] = others
        else:
            self._waiting.pop(payment_id, None)

    async def _poll(self) -> None:
        """Query as long as some request waits. While the database is unavailable they wait on."""
        while self._waiting:
            await asyncio.sleep(POLL_S)
            try:
                found = await asyncio.to_thread(self._look, list(self._waiting))
            except SQLAlchemyError:
                continue
            for payment_id in found:
                for ended in self._waiting.pop(payment_id, []):
                    if not ended.done():
                        ended.set_result(None)
