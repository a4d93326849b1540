"""A process's turn, which may stand still in the middle of a transaction while others go on, and end late.

So two owners of one partition meet in PostgreSQL as they would for real: with locks held, and rows read before the
other's commit. A turn is a coroutine of its own; where a statement meets another turn's lock it waits in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
from greenlet import getcurrent, greenlet
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, event

from proof.schedule import Schedule

STATEMENTS_MAX = 8
"""A transaction stands still or fails at one of its first statements; few have more."""
ASK_AGAIN_S = 0.5
"""How often a statement that waits for a lock looks again, in virtual time."""
ASKS_MAX = 60
"""Then two transactions wait for each other, and PostgreSQL would end one."""
TURN = "proof_turn"


class Crash(Exception):
    """The process ends here."""


@dataclass(slots=True, eq=False)
class Turn:
    """What one process does just now, and what is to go wrong with its transaction."""

    schedule: Schedule
    connection: Connection
    _inner: greenlet | None = None
    _stops_in: int = 0
    _stops_for_s: float = 0.0
    _fails_in: int = 0

    def __post_init__(self) -> None:
        self.connection.info[TURN] = self

    @property
    def is_open(self) -> bool:
        """Say whether it stands still in the middle of something."""
        return self._inner is not None

    def run(self, step: Callable[[], object]) -> None:
        """Do a step; it may stand still on the way and go on later."""
        self._resume(greenlet(step))

    def kill(self) -> None:
        """Let the process crash where it stands; an open transaction is rolled back."""
        inner, self._inner = self._inner, None
        self.schedule.open_turns.discard(self)
        if inner is not None:
            inner.throw(Crash)

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

    def execute(self, execute: Callable[..., object], statement: Any, parameters: Any) -> None:
        """Execute a statement, unless something is in its way."""
        if getcurrent().parent is None:
            execute(statement, parameters)  # the schedule itself, which waits for nobody
            return
        if self._fails_in:
            self._fails_in -= 1
            if not self._fails_in:
                raise psycopg.OperationalError("the connection was lost")
        if self._stops_in:
            self._stops_in -= 1
            if not self._stops_in:
                self.sleep(self._stops_for_s)
        if self.schedule.open_turns:
            self._execute_among_others(execute, statement, parameters)
        else:
            execute(statement, parameters)

    def _execute_among_others(self, execute: Callable[..., object], statement: Any, parameters: Any) -> None:
        """Wait for locks as PostgreSQL would, but in virtual time: try, and try again."""
        for _ in range(ASKS_MAX):
            execute("SAVEPOINT before")
            try:
                execute(statement, parameters)
            except LockNotAvailable:
                execute("ROLLBACK TO SAVEPOINT before")
                self.schedule.faults["waited for a lock"] += 1
                self.sleep(ASK_AGAIN_S)
            else:
                return
        raise LockNotAvailable("two transactions waited for each other")

    def _resume(self, inner: greenlet) -> None:
        if self._inner not in (None, inner) or _is_over(inner):
            return
        wait_s = inner.switch()
        if _is_over(inner):
            self._inner = None
            self.schedule.open_turns.discard(self)
        else:
            self._inner = inner
            self.schedule.open_turns.add(self)
            self.schedule.at(self.schedule.now + timedelta(seconds=wait_s), lambda: self._resume(inner))


def _is_over(inner: greenlet) -> bool:
    return inner.dead


class _Cursor(psycopg.Cursor[Any]):
    """A cursor whose statements go through the turn that its connection belongs to."""

    def __init__(self, *arguments: Any, info: dict[str, Any], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._info = info

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Execute it when its turn lets it."""
        turn: Turn | None = self._info.get(TURN)
        if turn is None:
            return super().execute(query, params, **options)
        turn.execute(super().execute, query, params)
        return self


def listen(engine: Engine) -> None:
    """Let every statement of an engine's connections go through the turn that it is part of."""

    @event.listens_for(engine, "connect")
    def listen_to(connection: Any, record: Any) -> None:
        connection.cursor_factory = partial(_Cursor, info=record.info)
