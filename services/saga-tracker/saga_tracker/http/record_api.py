"""What is on record: dead letters, open and resolved, and the operators' log. Only closing letters changes anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from pydantic import Field

from chassis.http.fields import CANONICAL, Time
from chassis.http.json_body import JsonRoute
from chassis.http.problem import FieldError, Problem, invalid
from chassis.wire.envelope import derived_id
from saga_tracker.http.api import SEQ_MAX, TEXT, Reader, Reason, engine_of, responses
from saga_tracker.http.operator_api import Operator
from saga_tracker.http.plan_api import ID, Id, Limit
from saga_tracker.model.saga import SERVICE
from saga_tracker.store import dead_letters, operator_log, timeline
from saga_tracker.store.dead_letters import Closed, InvalidCursor, Letter, LetterFilters, LetterState, ShownLetter
from saga_tracker.store.operator_log import LogEntry, LogFilters
from saga_tracker.store.timeline import Entry

LETTERS_MAX: Final = 1_000

router = APIRouter(route_class=JsonRoute, prefix="/v1")


class Closure(Reason):
    """Which dead letters are closed, and why they need no action."""

    letter_ids: list[Id] = Field(min_length=1, max_length=LETTERS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letters:
    """Dead letters: open ones, the oldest first, or resolved ones, the latest first.

    Request the next ones with ``cursor=next_cursor``.
    """

    letters: list[Letter]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLetters:
    """The letters that were closed now. One that was closed or redriven before stays as it was."""

    closed: list[Closed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What operators did, the latest first; request the next ones with ``cursor=next_cursor``."""

    acts: list[LogEntry]
    next_cursor: int | None


@router.get("/dead-letters", responses=responses())
def list_letters(
    request: Request,
    _reader: Reader,
    state: LetterState = LetterState.OPEN,
    saga_id: Annotated[str | None, CANONICAL, Query(pattern=ID)] = None,
    service: Annotated[str | None, Query(max_length=64, pattern=TEXT)] = None,
    step: Annotated[str | None, Query(pattern=r"^[a-z0-9_]{1,64}$")] = None,
    cursor: Annotated[str | None, Query(max_length=512, pattern=r"^[0-9A-Za-z_-]+$")] = None,
    limit: Limit = 200,
) -> Letters:
    """Return dead letters. Of an open one no saga is responsible, and an operator redrives or closes it.

    ``state``: OPEN, CLOSED or REDRIVEN (the resolved ones), OWNED (a saga is responsible for it), or ALL.
    """
    filters = LetterFilters(state=state, saga_id=saga_id, service=service, step=step)
    with engine_of(request).connect() as tx:
        try:
            found = dead_letters.listed(tx, filters, cursor=cursor, limit=limit + 1)
        except InvalidCursor as error:
            raise invalid([FieldError(pointer="query:cursor", detail=str(error))]) from error
    page = found[:limit]
    return Letters(letters=page, next_cursor=dead_letters.cursor_of(page[-1]) if len(found) > limit else None)


@router.get("/dead-letters/{letter_id}", responses=responses(404))
def get_letter(request: Request, _reader: Reader, letter_id: Id) -> ShownLetter:
    """Return a dead letter with its headers, and its body where values that may be personal are masked."""
    with engine_of(request).connect() as tx:
        found = dead_letters.shown(tx, letter_id)
    if found is None:
        raise Problem(status=404, detail="There is no dead letter with that id.")
    return found


@router.post("/dead-letters/close", responses=responses(400, 413, 415))
def close_letters(request: Request, operator: Operator, closure: Closure) -> ClosedLetters:
    """Close dead letters that need no action."""
    now, who = datetime.now(UTC), operator.actor
    with engine_of(request).begin() as tx:
        closed = dead_letters.close(tx, closure.letter_ids, actor=who, reason=closure.reason, now=now)
        timeline.insert(tx, [_closing(each, who, closure.reason, now) for each in closed], now=now)
        log = [
            LogEntry(
                act_id=derived_id("close", each.letter_id),
                at=now,
                actor=who,
                act="CLOSE",
                reason=closure.reason,
                saga_id=each.saga_id,
                detail=f"{each.type} of {each.service}",
            )
            for each in closed
        ]
        operator_log.log(tx, log)
    return ClosedLetters(closed=closed)


@router.get("/acts", responses=responses())
def list_acts(
    request: Request,
    _reader: Reader,
    saga_id: Annotated[str | None, CANONICAL, Query(pattern=ID)] = None,
    plan_id: Annotated[str | None, CANONICAL, Query(pattern=ID)] = None,
    actor: Annotated[str | None, Query(min_length=1, max_length=512, pattern=TEXT)] = None,
    act: Annotated[str | None, Query(pattern=r"^[A-Z_]{1,64}$")] = None,
    since: Time | None = None,
    until: Time | None = None,
    cursor: Annotated[int | None, Query(ge=0, le=SEQ_MAX)] = None,
    limit: Limit = 200,
) -> Log:
    """Return what operators did: who, when, what and why. ``since`` is in it, ``until`` is not."""
    filters = LogFilters(
        saga_id=saga_id, plan_id=plan_id, actor=actor, act=act, since=since, until=until, before=cursor
    )
    with engine_of(request).connect() as tx:
        found = operator_log.logged(tx, filters, limit=limit + 1)
    page = found[:limit]
    return Log(acts=[each for _, each in page], next_cursor=page[-1][0] if len(found) > limit else None)


def _closing(closed: Closed, actor: str, reason: str, now: datetime) -> Entry:
    return Entry(
        saga_id=closed.saga_id,
        message_id=derived_id("close", closed.letter_id),
        occurred_at=now,
        kind="act",
        type="CloseDeadLetter",
        service=SERVICE,
        step=closed.step,
        causation_id=closed.letter_id,
        detail=f"{actor}: {reason}",
        partition=closed.partition,
    )
