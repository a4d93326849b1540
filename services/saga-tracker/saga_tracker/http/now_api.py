"""What is going on, in one answer: how many sagas are where, how they end, and what waits for people.

Every viewer gets the same answer, which is read once in ``KEPT_S`` at most. So a wall of screens costs what one does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from sqlalchemy import Connection, Engine

from chassis.http.json_body import JsonRoute
from saga_tracker.http.api import Freshness, Reader, engine_of, freshness_of, responses
from saga_tracker.store import now as store
from saga_tracker.store import queries, saga_lists, selections
from saga_tracker.store.now import Minute, Outcome, PlanTally, StepCount, Tally
from saga_tracker.store.selections import Group

KEPT_S: Final = 2.0
KEPT_MAX: Final = 100
"""Different answers that are kept: windows and types."""
WINDOW_S: Final = 3_600
WINDOW_S_MAX: Final = 86_400
CAUSES_MAX: Final = 20

Window = Annotated[int, Query(ge=60, le=WINDOW_S_MAX, description="How far back ends count, in seconds.")]

router = APIRouter(route_class=JsonRoute, prefix="/v1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What is going on. ``at`` is when it was read; ``sagas`` are those that have not ended.

    ``parked`` has the most frequent causes. ``in_doubt`` counts sagas that were stopped while an outcome is still to
    come, ``awaiting`` all that wait for an outcome that comes later, ``contradicted`` those that people have to settle.
    """

    at: datetime
    window_s: int
    sagas: list[StepCount]
    ended: list[Outcome]
    parked: list[Group]
    in_doubt: int
    awaiting: Tally
    contradicted: Tally
    letters: Tally
    plans: list[PlanTally]
    freshness: Freshness


@dataclass(frozen=True, slots=True, kw_only=True)
class Minutes:
    """How many sagas ended in each minute, by type and state; a minute without any is missing."""

    since: datetime
    minutes: list[Minute]


class Answers:
    """The last answers, by what was requested. Any thread may use it; one reads, the others wait for what it reads."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[tuple[Any, ...], tuple[float, Any]] = {}

    def get(self, key: tuple[Any, ...], read: Callable[[], Any]) -> Any:
        """Return the answer to this, at most ``KEPT_S`` old."""
        with self._lock:
            read_at_s, answer = self._kept.get(key, (None, None))
            if read_at_s is None or self._clock() - read_at_s >= KEPT_S:
                if len(self._kept) >= KEPT_MAX:
                    self._kept.clear()
                answer = read()
                self._kept[key] = self._clock(), answer
            return answer


@router.get("/now", responses=responses())
def get_now(request: Request, _reader: Reader, window_s: Window = WINDOW_S) -> Now:
    """Return how many sagas are where, how those of the last ``window_s`` ended, and what waits for people."""
    answers: Answers = request.app.state.answers
    found: Now = answers.get(("now", window_s), lambda: _now(engine_of(request), window_s))
    return found


@router.get("/minutes", responses=responses())
def get_minutes(
    request: Request,
    _reader: Reader,
    window_s: Window = WINDOW_S,
    type: Annotated[str | None, Query(pattern=r"^[a-z0-9_]{1,64}$")] = None,  # noqa: A002 - the API's word
) -> Minutes:
    """Return how many sagas ended in each minute of the last ``window_s``."""
    answers: Answers = request.app.state.answers
    found: Minutes = answers.get(("minutes", window_s, type), lambda: _minutes(engine_of(request), window_s, type))
    return found


def _now(engine: Engine, window_s: int) -> Now:
    now = datetime.now(UTC)
    with engine.begin() as tx:
        saga_lists.bound(tx)
        counts, tallies = store.step_counts(tx), store.tallies(tx)
        return Now(
            at=now,
            window_s=window_s,
            sagas=counts,
            ended=store.outcomes(tx, since=_since(now, window_s)),
            parked=selections.groups(tx, limit=CAUSES_MAX),
            in_doubt=sum(each.count for each in counts if each.state == "IN_DOUBT"),
            plans=store.plans(tx, now=now),
            freshness=_freshness(tx, now),
            **tallies,
        )


def _minutes(engine: Engine, window_s: int, type_: str | None) -> Minutes:
    since = _since(datetime.now(UTC), window_s)
    with engine.begin() as tx:
        saga_lists.bound(tx)
        return Minutes(since=since, minutes=store.minutes(tx, since=since, type_=type_))


def _freshness(tx: Connection, now: datetime) -> Freshness:
    return freshness_of(queries.recorded_until(tx), now)


def _since(now: datetime, window_s: int) -> datetime:
    """Return the first whole minute of the window, since a minute is the least that is counted."""
    return (now - timedelta(seconds=window_s)).replace(second=0, microsecond=0)
