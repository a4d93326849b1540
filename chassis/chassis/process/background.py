"""Work that a service does without a message: one thread of its process, one replica at a time for each task.

A task that fails is logged and comes again at its next time. It must never end the process, whose worker goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection, Engine, text

log = structlog.get_logger()

LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Something that is done again and again, each time in one transaction.

    ``run`` returns whether there is more to do, and is then called again at once. ``lock`` is the advisory lock of
    the service's database that the transaction holds, so that another replica leaves the task alone meanwhile.
    """

    name: str
    run: Callable[[Connection], bool]
    every_s: float
    lock: int


def run_once(engine: Engine, task: Task) -> bool:
    """Run a task once, and return whether there is more to do; False where another replica is at it."""
    with engine.begin() as tx:
        return bool(tx.execute(LOCK, {"key": task.lock}).scalar_one()) and task.run(tx)


class Background:
    """Runs tasks on a thread of its own, from :meth:`start` to :meth:`stop`."""

    def __init__(self, engine: Engine, tasks: Sequence[Task], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._due = {task.name: (task, 0.0) for task in tasks}
        self._clock = clock
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin, unless there is no task."""
        if self._due:
            threading.Thread(target=self._loop, name="background", daemon=True).start()

    def stop(self) -> None:
        """End after the transaction under way. What it does not finish another process finishes."""
        self._stopping.set()

    def _loop(self) -> None:
        while not self._stopping.wait(self.run_due()):
            pass

    def run_due(self) -> float:
        """Run every task that is due, and return for how many seconds none is."""
        for task, due in list(self._due.values()):
            if due <= self._clock() and not self._stopping.is_set():
                self._due[task.name] = (task, self._clock() + (0.0 if self._has_more(task) else task.every_s))
        return max(0.0, min(due for _, due in self._due.values()) - self._clock())

    def _has_more(self, task: Task) -> bool:
        try:
            return run_once(self._engine, task)
        except Exception:  # a lost connection and a defect alike: the next time shows which
            log.exception("The task %s failed; it comes again.", task.name, task=task.name)
            return False
