"""A process's turn, which may stand still in the middle of a transaction while others go on, and end late.

So two owners of one partition meet in PostgreSQL as they would for real: with locks held, and rows read before the
other's commit. A turn is a coroutine of its own; where a statement meets another turn's lock it waits in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import psycopg
from greenlet import GreenletExit, getcurrent, greenlet

from proof.schedule import Schedule

STATEMENTS_MAX = 8
"""A transaction stands still or fails at one of its first statements; few have more."""
ASK_AGAIN_S = 0.5
"""How often a statement that waits for a lock looks again, in virtual time."""
ASKS_MAX = 60
"""Then two transactions wait for each other, and PostgreSQL would end one."""


class Crash(Exception):
    """The process ends here."""


@dataclass(slots=True, eq=False)
class SimulatedTask:
    """What one process does just now, and what is to go wrong with its transaction."""

    schedule: Schedule
    _inner: greenlet | None = None
    _stops_in: int = 0
    _stops_for_s: float = 0.0
    _fails_in: int = 0

    @property
    def is_open(self) -> bool:
        """Say whether it stands still in the middle of something."""
        return self._inner is not None

    def run(self, step: Callable[[], object]) -> None:
        """Do a step; it may stand still on the way and go on later."""
        self._resume(greenlet(step))

    def kill(self) -> None:
        """Let the process crash where it stands: an open transaction is rolled back, and it begins again."""
        if self._inner is not None:
            self._note(self._inner, self._inner.throw(Crash))

    def end(self) -> None:
        """Leave it where it stands for good; an open transaction is rolled back."""
        if self._inner is not None:
            self._note(self._inner, self._inner.throw(GreenletExit))

    def expect(self, *, stops_for_s: float = 0.0, fails: bool = False) -> None:
        """Let the transaction that begins stand still that long (0: not) at some statement, or fail at one.

        What was expected of the last one and has not come is forgotten.
        """
        chance = self.schedule.chance
        self._stops_in = chance.randint(1, STATEMENTS_MAX) if stops_for_s else 0
        self._stops_for_s = stops_for_s
        self._fails_in = chance.randint(1, STATEMENTS_MAX) if fails else 0

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass here, while others go on."""
        outer = getcurrent().parent
        assert outer is not None, "a turn has been begun by the schedule"
        outer.switch(seconds)

    def meet(self, send: Callable[[], object]) -> None:
        """Let happen what is expected of the statement that comes: it fails, or the process stands still before it.

        ``send`` lets everything before it arrive at PostgreSQL, so that its locks are held meanwhile.
        """
        if getcurrent().parent is None:
            return  # the schedule itself, which waits for nobody
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
    def is_among_others(self) -> bool:
        """Say whether another turn stands still, and may hold what a statement needs."""
        return bool(self.schedule.open_turns) and getcurrent().parent is not None

    def tries(self) -> Iterator[None]:
        """Yield as often as a statement may try to get a lock; in between virtual time passes."""
        for _ in range(ASKS_MAX):
            yield
            self.schedule.faults["waited for a lock"] += 1
            self.sleep(ASK_AGAIN_S)

    def _resume(self, inner: greenlet) -> None:
        if self._inner not in (None, inner) or _is_over(inner):
            return
        self._note(inner, inner.switch())

    def _note(self, inner: greenlet, wait_s: float) -> None:
        """Remember that it is over, or that it stands still, and let it go on later."""
        if _is_over(inner):
            self._inner = None
            self.schedule.open_turns.discard(self)
        else:
            self._inner = inner
            self.schedule.open_turns.add(self)
            self.schedule.at(self.schedule.now + timedelta(seconds=wait_s), lambda: self._resume(inner))


def _is_over(inner: greenlet) -> bool:
    return inner.dead
