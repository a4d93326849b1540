"""The dead letters that the tracker has read, each with its owner: its saga, a redrive, or an operator.

A dead letter of a saga that is under way or parked belongs to that saga. One that no saga owns is open: its saga is
unknown; or has ended, and its service may still keep the message, with others behind it: the step is unknown, or the
service also reacts to the saga. It stays open until an operator redrives or closes it, so none is lost and none blocks
for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from chassis.postgres.columns import SQLALCHEMY, Columns
from saga_tracker.store.schema import DEAD_LETTERS

REDRIVEN = "REDRIVEN"


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

LIST_OPEN = text("""
    SELECT dead_letters.*, sagas.state AS saga_state
    FROM dead_letters LEFT JOIN sagas USING (saga_id)
    WHERE open AND (CAST(:saga_id AS text) IS NULL OR saga_id = :saga_id)
    ORDER BY recorded_at, topic, dead_letters.partition, "offset"
    LIMIT :limit
""")

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
class OpenLetter:
    """A dead letter that no saga owns. ``saga_state`` is None where the tracker has no such saga."""

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


def list_open(tx: Connection, *, saga_id: str | None, limit: int) -> list[OpenLetter]:
    """Return the open letters, the oldest first."""
    rows = tx.execute(LIST_OPEN, {"saga_id": saga_id, "limit": limit})
    return [OpenLetter(**{name: row._mapping[name] for name in OpenLetter.__slots__}) for row in rows]


def close(tx: Connection, letter_ids: Collection[str], *, actor: str, reason: str, now: datetime) -> list[Closed]:
    """Close these letters, and return those that were not resolved before."""
    rows = tx.execute(CLOSE, {"letter_ids": sorted(letter_ids), "actor": actor, "reason": reason, "now": now})
    return [Closed(**row._mapping) for row in rows]
