"""The task of a simulated process. It may be suspended inside a transaction while others go on, and finish late.

So two owners of one partition meet in PostgreSQL as they really would: with locks held, and with rows read before the
other's commit. A task is a coroutine. Where a statement needs a lock of another task, it waits in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import psycopg
from greenlet import GreenletExit, getcurrent, greenlet

from proof.schedule import Schedule

STATEMENTS_MAX = 8
"""A transaction is suspended or fails at one of its first statements; few have more."""
LOCK_RETRY_S = 0.5
"""The interval, in virtual time, at which a statement tries again to get a lock."""
LOCK_ATTEMPTS_MAX = 60
"""After so many, two transactions wait for each other, and PostgreSQL would end one."""


ZOMBIE_S = 8.0
"""How long a process that lost its partitions may go on before it notices, or be suspended in a transaction."""


class Crash(BaseException):
    """The process ends here. It is no Exception, so that no error handling of the product catches it."""


@dataclass(slots=True, eq=False)
class SimulatedTask:
    """What one process does now, and the faults that are planned for its transaction."""

    schedule: Schedule
    _greenlet: greenlet | None = None
    _stops_in: int = 0
    _stops_for_s: float = 0.0
    _fails_in: int = 0

    @property
    def is_suspended(self) -> bool:
        """Whether it stands still in the middle of something."""
        return self._greenlet is not None

    def run(self, step: Callable[[], object]) -> None:
        """Run a step. It may be suspended on the way and resume later."""
        self._resume(greenlet(step))

    def kill(self) -> None:
        """Crash the process where it stands: an open transaction is rolled back, and the process starts again."""
        if self._greenlet is not None:
            self._update(self._greenlet, self._greenlet.throw(Crash))

    def abandon(self) -> None:
        """End it where it stands, for good; an open transaction is rolled back."""
        if self._greenlet is not None:
            self._update(self._greenlet, self._greenlet.throw(GreenletExit))

    def plan_faults(self, *, stops_for_s: float = 0.0, fails: bool = False) -> None:
        """Plan that the transaction which begins stands still for so long (0: not) at a statement, or fails at one.

        This replaces what was planned for the transaction before.
        """
        chance = self.schedule.chance
        self._stops_in = chance.randint(1, STATEMENTS_MAX) if stops_for_s else 0
        self._stops_for_s = stops_for_s
        self._fails_in = chance.randint(1, STATEMENTS_MAX) if fails else 0

    def sleep(self, seconds: float) -> None:
        """Suspend this task for some virtual time, while others go on."""
        outer = getcurrent().parent
        assert outer is not None, "the schedule runs every task"
        outer.switch(seconds)

    def before_statement(self, send: Callable[[], object]) -> None:
        """Carry out what is planned for the next statement: raise an error, or suspend the task.

        ``send`` sends everything before it to PostgreSQL, so that its locks are held meanwhile.
        """
        if getcurrent().parent is None:
            return  # the schedule itself, which is never suspended
        if self._fails_in:
            self._fails_in -= 1
            if not self._fails_in:
                raise psycopg.OperationalError("the connection was lost")
        if self._stops_in:
            self._stops_in -= 1
            if not self._stops_in:
                send()
                self.sleep(self._stops_for_s)

    @property
    def has_suspended_others(self) -> bool:
        """Whether another task is suspended, and may hold a lock that a statement needs."""
        return bool(self.schedule.suspended_tasks) and getcurrent().parent is not None

    def lock_attempts(self) -> Iterator[None]:
        """Yield once for each attempt of a statement to get a lock; in between virtual time passes."""
        for _ in range(LOCK_ATTEMPTS_MAX):
            yield
            self.schedule.faults["waited for a lock"] += 1
            self.sleep(LOCK_RETRY_S)

    def _resume(self, resumed: greenlet) -> None:
        if self._greenlet not in (None, resumed) or _is_over(resumed):
            return
        self._update(resumed, resumed.switch())

    def _update(self, switched: greenlet, wait_s: float) -> None:
        """Record that it is over, or that it is suspended; then plan when it resumes."""
        if _is_over(switched):
            self._greenlet = None
            self.schedule.suspended_tasks.discard(self)
        else:
            self._greenlet = switched
            self.schedule.suspended_tasks.add(self)
            self.schedule.at(self.schedule.now + timedelta(seconds=wait_s), lambda: self._resume(switched))


def _is_over(task: greenlet) -> bool:
    return task.dead
