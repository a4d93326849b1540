"""Stores the callbacks that come at the same time in one transaction, on one thread.

A burst of callbacks, each in a transaction on a thread of its own, left the worker neither a connection nor its
interpreter: providers got no answer in time and sent again.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from typing import TypeAlias

import structlog
from sqlalchemy import Engine

from chassis.process.callbacks import Callback, take

TOGETHER_MAX = 100
STOP_WITHIN_S = 3.0

Waiting: TypeAlias = tuple[Callback, asyncio.AbstractEventLoop, "asyncio.Future[None]"]

log = structlog.get_logger()


class CallbackInbox:
    """The callbacks of one process, stored in the order in which they came."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="callbacks", daemon=True)

    def start(self) -> None:
        """Begin to store."""
        self._thread.start()

    def stop(self) -> None:
        """Store what waits, and end. A callback that is not stored gets no answer, and its provider sends it again."""
        self._waiting.put(None)
        self._thread.join(STOP_WITHIN_S)

    async def put(self, callback: Callback) -> None:
        """Return once a callback is stored and committed. Raises Problem, or the database's error."""
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[None] = loop.create_future()
        self._waiting.put((callback, loop, stored))
        await stored

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            together = [first]
            while len(together) < TOGETHER_MAX and not self._waiting.empty():
                if (following := self._waiting.get()) is None:
                    self._waiting.put(None)  # and the loop ends after these
                    break
                together.append(following)
            self._store(together)

    def _store(self, together: Sequence[Waiting]) -> None:
        """Store callbacks together; where that fails, each by itself, so that it harms no other one."""
        try:
            take(self._engine, [callback for callback, _, _ in together])
        except Exception as error:  # of a body, of an adapter, of the database: its request gets it
            if len(together) == 1:
                _answer(together[0], error)
                return
            log.warning("Callbacks are stored one by one.", count=len(together), error=repr(error))
            for each in together:
                self._store([each])
            return
        for each in together:
            _answer(each, None)


def _answer(waiting: Waiting, error: Exception | None) -> None:
    _, loop, stored = waiting

    def answer() -> None:
        if stored.done():  # its caller has gone
            return
        if error is None:
            stored.set_result(None)
        else:
            stored.set_exception(error)

    try:
        loop.call_soon_threadsafe(answer)
    except RuntimeError:
        log.info("A callback was stored for a server that has stopped.")
