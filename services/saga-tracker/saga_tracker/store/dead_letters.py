"""The dead letters that the tracker has read, each with its owner: its saga, a redrive, or an operator.

A dead letter of a saga that is under way or parked belongs to that saga. One that no saga owns is open: its saga is
unknown; or has ended, and its service may still keep the message, with others behind it: the step is unknown, or the
service also reacts to the saga. It stays open until an operator redrives or closes it, so none is lost and none blocks
for ever.
"""

from __future__ import annotations

import base64
import binascii
import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from chassis.postgres.columns import SQLALCHEMY, Columns
from saga_tracker.store.schema import DEAD_LETTERS

REDRIVEN = "REDRIVEN"


class LetterState(enum.StrEnum):
    """Which letters a list has."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"
    REDRIVEN = "REDRIVEN"
    OWNED = "OWNED"
    """Its saga is responsible for it: it is under way, or parked for it."""
    ALL = "ALL"


class InvalidCursor(ValueError):
    """No page has returned this cursor; send ``next_cursor`` unchanged, or none for the first page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterRow:
    """One dead letter as it is stored. If ``is_open``, an operator has to redrive or close it."""

    topic: str
    partition: int
    offset: int
    letter_id: str
    message_id: str
    saga_id: str
    service: str
    step: str | None
    type: str
    reason: str
    redrive: int
    is_open: bool
    headers: str | None = None
    """JSON: the headers of the record, by name."""
    body: str | None = None
    """JSON: the message, masked."""


COLUMNS = Columns.of(
    DEAD_LETTERS,
    without=["recorded_at", "resolution", "resolved_by", "resolved_why", "resolved_at"],
    sources={"open": "is_open"},
    parameter=SQLALCHEMY,
)

SAVE = text(f"""
    INSERT INTO dead_letters ({COLUMNS.names}, recorded_at)
    SELECT {COLUMNS.values}, :now
    FROM {COLUMNS.rows}
    ON CONFLICT DO NOTHING
""")

OPEN = text("""
    UPDATE dead_letters SET open = true, step = NULL
    WHERE saga_id = ANY(CAST(:saga_ids AS text[])) AND resolution IS NULL
      AND (step IS NULL OR topic = service || '.dlq' AND (saga_id, service) IN (
        SELECT * FROM unnest(CAST(:reacting_sagas AS text[]), CAST(:reacting AS text[]))
      ))
      AND (saga_id, service) NOT IN (SELECT * FROM unnest(CAST(:fenced_sagas AS text[]), CAST(:fenced AS text[])))
""")

RESOLVE = text("""
    UPDATE dead_letters
    SET open = false, resolution = :resolution, resolved_by = row.actor, resolved_why = row.reason, resolved_at = :now
    FROM unnest(CAST(:saga_ids AS text[]), CAST(:actors AS text[]), CAST(:reasons AS text[]))
         AS row (saga_id, actor, reason)
    WHERE dead_letters.saga_id = row.saga_id AND resolution IS NULL
""")

UNCLEAR = text("""
    SELECT saga_id, service,
           1 + greatest(max(redrive), count(DISTINCT resolved_at) FILTER (WHERE resolution = 'REDRIVEN')) AS number
    FROM dead_letters
    WHERE saga_id = ANY(CAST(:saga_ids AS text[])) AND step IS NULL
    GROUP BY saga_id, service
    HAVING bool_or(resolution IS NULL)
    ORDER BY saga_id, service
""")

_LETTER = """
    SELECT letter.*, sagas.state AS saga_state
    FROM dead_letters AS letter LEFT JOIN sagas USING (saga_id)
"""
_STATES = {
    LetterState.OPEN: "letter.open",
    LetterState.CLOSED: "letter.resolution = 'CLOSED'",
    LetterState.REDRIVEN: "letter.resolution = 'REDRIVEN'",
    LetterState.OWNED: "NOT letter.open AND letter.resolution IS NULL",
    LetterState.ALL: "true",
}
_KEY = 'letter.recorded_at, letter.topic, letter.partition, letter."offset"'


def _listing(state: LetterState) -> str:
    """Return the query of one state: open letters from the oldest on, the others from the latest."""
    order, after = ("", ">") if state is LetterState.OPEN else (" DESC", "<")
    return f"""
        {_LETTER}
        WHERE {_STATES[state]} AND (CAST(:saga_id AS text) IS NULL OR letter.saga_id = :saga_id)
          AND (CAST(:service AS text) IS NULL OR letter.service = :service)
          AND (CAST(:step AS text) IS NULL OR letter.step = :step)
          AND (CAST(:after_at AS timestamptz) IS NULL
               OR ({_KEY}) {after} (:after_at, :after_topic, CAST(:after_partition AS smallint),
                                    CAST(:after_offset AS bigint)))
        ORDER BY {", ".join(f"{each}{order}" for each in _KEY.split(", "))}
        LIMIT :limit
    """


LISTINGS = {state: text(_listing(state)) for state in LetterState}

SHOWN = text(f"{_LETTER} WHERE letter.letter_id = :letter_id ORDER BY {_KEY} LIMIT 1")
"""Copies of a letter have one id, and show the same."""

CLOSE = text("""
    UPDATE dead_letters
    SET open = false, resolution = 'CLOSED', resolved_by = :actor, resolved_why = :reason, resolved_at = :now
    WHERE letter_id = ANY(CAST(:letter_ids AS text[])) AND resolution IS NULL
    RETURNING letter_id, saga_id, service, step, type, partition
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedSaga:
    """A saga that has ended with dead letters: the services that react to it, and those that it has fenced."""

    saga_id: str
    reacting: Collection[str]
    fenced: Collection[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter. ``saga_state`` is None where the tracker has no such saga; ``resolution`` while it has none.

    If ``open``, no saga is responsible for it.
    """

    letter_id: str
    saga_id: str
    saga_state: str | None
    service: str
    step: str | None
    type: str
    reason: str
    redrive: int
    recorded_at: datetime
    topic: str
    partition: int
    offset: int
    message_id: str
    open: bool
    resolution: str | None
    resolved_by: str | None
    resolved_why: str | None
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownLetter:
    """A dead letter with the headers of its record by name, and its message where what may be personal is masked.

    Both are None where a release without them recorded it, ``body`` also where the message cannot be decoded.
    """

    letter: Letter
    headers: list[tuple[str, str]] | None
    body: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilters:
    """Which letters are wanted; all conditions hold."""

    state: LetterState = LetterState.OPEN
    saga_id: str | None = None
    service: str | None = None
    step: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A dead letter that this request closed."""

    letter_id: str
    saga_id: str
    service: str
    step: str | None
    type: str
    partition: int


def save(tx: Connection, rows: Sequence[LetterRow], *, now: datetime) -> None:
    """Store these dead letters, in one statement; one that is stored already is passed over."""
    if rows:
        tx.execute(SAVE, COLUMNS.parameters(rows) | {"now": now})


def open_unowned(tx: Connection, ended: Sequence[EndedSaga]) -> None:
    """Open the unresolved letters of these sagas whose messages are kept still: the sagas own them no longer.

    A step's message that its service cannot read is a second copy where the saga has ended; the step needs it no more,
    but a reaction may wait behind it. A fence has discarded what its service kept.
    """
    if ended:
        reacting = [(each.saga_id, service) for each in ended for service in sorted(each.reacting)]
        fenced = [(each.saga_id, service) for each in ended for service in sorted(each.fenced)]
        values = {
            "saga_ids": [each.saga_id for each in ended],
            "reacting_sagas": [saga_id for saga_id, _ in reacting],
            "reacting": [service for _, service in reacting],
            "fenced_sagas": [saga_id for saga_id, _ in fenced],
            "fenced": [service for _, service in fenced],
        }
        tx.execute(OPEN, values)


def resolve(tx: Connection, acts: Sequence[tuple[str, str, str]], resolution: str, *, now: datetime) -> None:
    """Resolve the unresolved letters of these sagas, in one statement. An act is (saga id, actor, reason)."""
    if acts:
        tx.execute(
            RESOLVE,
            {
                "saga_ids": [saga_id for saga_id, _, _ in acts],
                "actors": [actor for _, actor, _ in acts],
                "reasons": [reason for _, _, reason in acts],
                "resolution": resolution,
                "now": now,
            },
        )


def services_without_step(tx: Connection, saga_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """Return by saga the services with unresolved letters of no known step, and the number of their next redrive."""
    found: dict[str, dict[str, int]] = {}
    for row in tx.execute(UNCLEAR, {"saga_ids": sorted(saga_ids)}):
        found.setdefault(row.saga_id, {})[row.service] = row.number
    return found


def listed(tx: Connection, filters: LetterFilters, *, cursor: str | None = None, limit: int) -> list[Letter]:
    """Return letters: open ones, the oldest first; of another state the latest first. Raises InvalidCursor."""
    at, topic, partition, offset = (None, None, None, None) if cursor is None else _read_cursor(cursor)
    values = {"saga_id": filters.saga_id, "service": filters.service, "step": filters.step, "limit": limit}
    after = {"after_at": at, "after_topic": topic, "after_partition": partition, "after_offset": offset}
    return [_letter(row._mapping) for row in tx.execute(LISTINGS[filters.state], values | after)]


def shown(tx: Connection, letter_id: str) -> ShownLetter | None:
    """Return a letter with its headers and its body, or None where none has that id."""
    row = tx.execute(SHOWN, {"letter_id": letter_id}).first()
    if row is None:
        return None
    headers = None if row.headers is None else [(name, value) for name, value in row.headers]
    return ShownLetter(letter=_letter(row._mapping), headers=headers, body=row.body)


def cursor_of(letter: Letter) -> str:
    """Return the cursor of the letters behind this one."""
    stated = f"{letter.recorded_at.isoformat()} {letter.partition} {letter.offset} {letter.topic}"
    return base64.urlsafe_b64encode(stated.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, str, int, int]:
    try:
        at, partition, offset, topic = (
            base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split(" ", 3)
        )
        found = datetime.fromisoformat(at), topic, int(partition), int(offset)
    except (binascii.Error, ValueError) as error:
        raise InvalidCursor("No page has returned this cursor; send next_cursor unchanged.") from error
    is_in_range = 0 <= found[2] < 2**15 and 0 <= found[3] < 2**63 and "\x00" not in topic
    if found[0].tzinfo is None or not is_in_range:
        raise InvalidCursor("No page has returned this cursor; send next_cursor unchanged.")
    return found


def _letter(columns: Mapping[Any, Any]) -> Letter:
    return Letter(**{name: columns[name] for name in Letter.__slots__})


def close(tx: Connection, letter_ids: Collection[str], *, actor: str, reason: str, now: datetime) -> list[Closed]:
    """Close these letters, and return those that were not resolved before."""
    rows = tx.execute(CLOSE, {"letter_ids": sorted(letter_ids), "actor": actor, "reason": reason, "now": now})
    return [Closed(**row._mapping) for row in rows]
