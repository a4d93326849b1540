"""What providers say about attempts, as it came: stored raw first, matched then or later, and decided about once.

A callback comes to any process of the service, which only stores it. The owner of the partition decides about it,
through the same effects as everything else. What matches no attempt is an orphan: it has an age, and is matched again,
because evidence may come before its attempt's id is known.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, DateTime, Index, LargeBinary, MetaData, Row, SmallInteger, Table, Text

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.saga.attempt_rows import FoundAttempt, find, may_be
from chassis.saga.attempts import Outcome
from chassis.values.text import is_storable

MATCH_AGAIN = (timedelta(seconds=2), timedelta(seconds=30), timedelta(minutes=5), timedelta(hours=1))
"""How long an orphan waits before it is matched again; the last wait repeats."""
MATCHED_MAX = 500
"""Orphans that one transaction matches again; the next continues."""


class Source(enum.StrEnum):
    """How a piece of evidence came."""

    CALLBACK = "callback"
    QUERY = "query"
    STATEMENT = "statement"
    CLERK = "clerk"
    """A person with proof, which another one has approved."""


class Fate(enum.StrEnum):
    """What became of a piece of evidence."""

    SETTLED = "SETTLED"
    REPEATED = "REPEATED"
    """It changed nothing: the same was known before."""
    CONTRADICTED = "CONTRADICTED"
    """It contradicts what was recorded. StepContradicted was published for it, once for the attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What an adapter read in a body: an outcome of the attempt with this key, or with the provider's own id of it.

    Ids of two providers must differ: an adapter puts its provider's name before them. ``reference`` is for people.
    """

    outcome: Outcome
    key: str | None = None
    provider_id: str | None = None
    reference: str | None = None
    detail: str | None = None

    @property
    def is_storable(self) -> bool:
        """Whether PostgreSQL can hold all of its texts."""
        texts = (self.key, self.provider_id, self.reference, self.detail)
        return all(each is None or is_storable(each) for each in texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A body as it came. ``claim`` is None where it cannot be read or stored; then it stays an orphan."""

    id: str
    provider: str
    source: Source
    received_at: datetime
    headers: Sequence[tuple[str, str]]
    body: bytes
    claim: Claim | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvidence:
    """A piece of evidence that is matched to an attempt and that nothing was decided about yet."""

    id: str
    saga_id: str
    step: str
    number: int
    outcome: Outcome
    source: Source
    reference: str | None
    provider_id: str | None
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A piece of evidence that matches no attempt yet."""

    id: str
    provider: str
    received_at: datetime
    headers: Sequence[tuple[str, str]]
    body: bytes
    claim: Claim | None
    matches: int


def evidence_table(metadata: MetaData) -> Table:
    """Return the evidence in a service's database."""
    table = Table(
        "evidence",
        metadata,
        Column("id", Text, primary_key=True),
        Column("provider", Text, nullable=False),
        Column("source", Text, nullable=False),
        Column("received_at", DateTime(timezone=True), nullable=False),
        Column("headers", Text, nullable=False, comment="JSON pairs"),
        Column("body", LargeBinary, nullable=False, comment="as it came"),
        Column("outcome", Text, comment="null: the adapter cannot read it"),
        Column("key", Text),
        Column("provider_id", Text),
        Column("reference", Text, comment="for people"),
        Column("detail", Text, comment="what else it says, in a form of the adapter's"),
        Column("saga_id", Text, comment="null: it matches no attempt yet"),
        Column("step", Text),
        Column("number", SmallInteger),
        Column("partition", SmallInteger),
        Column("matches", SmallInteger, nullable=False, comment="how often it was matched in vain"),
        Column("match_at", DateTime(timezone=True), comment="null: it is matched"),
        Column("due_at", DateTime(timezone=True), nullable=False, comment="when to decide about it"),
        Column("handled_at", DateTime(timezone=True)),
        Column("fate", Text, comment="SETTLED, REPEATED, CONTRADICTED"),
        Column("closed_at", DateTime(timezone=True), comment="when an operator closed it unmatched"),
        Column("closed_by", Text),
        Column("closed_reason", Text),
        Index("evidence_by_saga", "saga_id"),
    )
    is_waiting = table.c.handled_at.is_(None)
    Index("evidence_waiting", table.c.partition, table.c.due_at, postgresql_where=is_waiting)
    Index("evidence_orphans", table.c.match_at, postgresql_where=table.c.match_at.is_not(None))
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewRow:
    received: Received
    found: FoundAttempt | None
    match_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Matched:
    id: str
    claim: Claim | None
    found: FoundAttempt | None
    matches: int
    match_at: datetime | None


def _of_claim(name: str) -> Callable[[Any], Any]:
    return lambda each: None if each.claim is None else getattr(each.claim, name)


def _of_received_claim(name: str) -> Callable[[Any], Any]:
    return lambda each: None if each.received.claim is None else getattr(each.received.claim, name)


def _of_found(name: str) -> Callable[[Any], Any]:
    return lambda each: None if each.found is None else getattr(each.found, name)


_CLAIM = ("outcome", "key", "provider_id", "reference", "detail")
_CLOSING = ("closed_at", "closed_by", "closed_reason")
_FOUND = ("saga_id", "step", "number", "partition")
TABLE = evidence_table(MetaData())
COLUMNS = Columns.of(
    TABLE,
    without=["matches", "handled_at", "fate", *_CLOSING],
    sources={
        **{name: f"received.{name}" for name in ("id", "provider", "source", "received_at", "body")},
        "headers": lambda each: json.dumps(list(each.received.headers)),
        "due_at": "received.received_at",
        **{name: _of_received_claim(name) for name in _CLAIM},
        **{name: _of_found(name) for name in _FOUND},
    },
)
MATCHED = Columns.of(
    TABLE,
    without=["provider", "source", "received_at", "headers", "body", "due_at", "handled_at", "fate", *_CLOSING],
    sources={**{name: _of_claim(name) for name in _CLAIM}, **{name: _of_found(name) for name in _FOUND}},
)

STORE = Statement(f"""
    INSERT INTO evidence ({COLUMNS.names}, matches)
    SELECT {COLUMNS.values}, 0
    FROM {COLUMNS.rows}
    ON CONFLICT (id) DO NOTHING
""")

ORPHANS = Statement("""
    SELECT id, provider, received_at, headers, body, outcome, key, provider_id, reference, detail, matches
    FROM evidence
    WHERE match_at <= %(now)s
    ORDER BY match_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
""")

MATCH = Statement(f"""
    UPDATE evidence
    SET {MATCHED.assignments}
    FROM {MATCHED.rows}
    WHERE evidence.id = row.id
""")

WAITING = Statement("""
    SELECT id, saga_id, step, number, outcome, source, reference, provider_id, detail
    FROM evidence
    WHERE handled_at IS NULL AND partition = ANY(CAST(%(partitions)s AS smallint[])) AND due_at <= %(now)s
    ORDER BY due_at, id
    LIMIT %(limit)s
""")

LOCK = Statement("""
    SELECT id, saga_id, step, number, outcome, source, reference, provider_id, detail
    FROM evidence
    WHERE id = ANY(CAST(%(ids)s AS text[])) AND handled_at IS NULL
    ORDER BY id
    FOR UPDATE
""")

HANDLE = Statement("""
    UPDATE evidence
    SET handled_at = %(now)s, fate = row.fate
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(fates)s AS text[])) AS row (id, fate)
    WHERE evidence.id = row.id
""")

UNMATCH = Statement("""
    UPDATE evidence
    SET saga_id = NULL, step = NULL, number = NULL, partition = NULL, match_at = %(match_at)s
    WHERE id = ANY(CAST(%(ids)s AS text[])) AND handled_at IS NULL
""")

POSTPONE = Statement("""
    UPDATE evidence SET due_at = %(until)s WHERE id = ANY(CAST(%(ids)s AS text[])) AND handled_at IS NULL
""")


def store(tx: Connection, received: Sequence[Received]) -> None:
    """Store these bodies as they came, each matched to its attempt where that is known already."""
    found = _attempts_of(tx, [each.claim for each in received])
    rows = [
        _NewRow(
            received=each,
            found=(attempt := attempt_of(each.claim, found)),
            match_at=each.received_at + MATCH_AGAIN[0] if attempt is None else None,
        )
        for each in sorted(received, key=lambda each: each.id)
    ]
    if rows:
        STORE.run(tx, COLUMNS.parameters(rows))


def orphans(tx: Connection, *, now: datetime, limit: int = MATCHED_MAX) -> list[Orphan]:
    """Lock orphans that are to be matched again; pass them to :func:`match`, read anew."""
    return [_orphan(row) for row in ORPHANS.rows(tx, {"now": now, "limit": limit})]


def match(tx: Connection, read_again: Iterable[tuple[Orphan, Claim | None]], *, now: datetime) -> int:
    """Match orphans with what their adapter reads in them now, and return how many are none any more."""
    pairs = list(read_again)
    found = _attempts_of(tx, [claim for _, claim in pairs])
    rows = []
    for orphan, claim in sorted(pairs, key=lambda pair: pair[0].id):
        attempt, matches = attempt_of(claim, found), orphan.matches + 1
        again_at = None if attempt else now + MATCH_AGAIN[min(matches, len(MATCH_AGAIN) - 1)]
        rows.append(_Matched(id=orphan.id, claim=claim, found=attempt, matches=matches, match_at=again_at))
    if rows:
        MATCH.run(tx, MATCHED.parameters(rows))
    return sum(row.found is not None for row in rows)


def waiting(tx: Connection, partitions: Collection[int], *, now: datetime, limit: int) -> list[StoredEvidence]:
    """Return matched evidence of these partitions that nothing was decided about, unlocked, in the order it came."""
    rows = WAITING.rows(tx, {"partitions": list(partitions), "now": now, "limit": limit})
    return [_stored(row) for row in rows]


def lock(tx: Connection, ids: Collection[str]) -> list[StoredEvidence]:
    """Lock these pieces of evidence, and return those that nothing was decided about yet."""
    return [_stored(row) for row in LOCK.rows(tx, {"ids": sorted(ids)})]


def handle(tx: Connection, fates: Sequence[tuple[str, Fate]], *, now: datetime) -> None:
    """Record what became of these pieces of evidence."""
    if fates:
        ordered = sorted(fates)
        values = {"ids": [each for each, _ in ordered], "fates": [fate.value for _, fate in ordered], "now": now}
        HANDLE.run(tx, values)


def unmatch(tx: Connection, ids: Collection[str], *, now: datetime) -> None:
    """Make orphans of these pieces of evidence: they are about another attempt than they were matched to."""
    if ids:
        UNMATCH.run(tx, {"ids": sorted(ids), "match_at": now + MATCH_AGAIN[0]})


def postpone(tx: Connection, ids: Collection[str], *, until: datetime) -> None:
    """Decide about these pieces of evidence later: a handler of ours failed at them."""
    POSTPONE.run(tx, {"ids": sorted(ids), "until": until})


def _attempts_of(tx: Connection, claims: Iterable[Claim | None]) -> list[FoundAttempt]:
    known = [claim for claim in claims if claim is not None]
    keys = {claim.key for claim in known if claim.key is not None}
    provider_ids = {claim.provider_id for claim in known if claim.provider_id is not None}
    return find(tx, keys=keys, provider_ids=provider_ids) if keys or provider_ids else []


def attempt_of(claim: Claim | None, found: Iterable[FoundAttempt]) -> FoundAttempt | None:
    """Return the attempt that a claim is about: by our key if it has one, otherwise by the provider's id.

    A claim with our key and another id than the attempt is known to have contradicts itself, and is about neither.
    """
    if claim is None:
        return None
    if claim.key is not None:
        about = (each for each in found if each.key == claim.key)
        return next((each for each in about if may_be(each.provider_id, claim.provider_id)), None)
    return next(
        (each for each in found if each.provider_id is not None and each.provider_id == claim.provider_id), None
    )


def _stored(row: Row[Any]) -> StoredEvidence:
    columns = row._asdict()
    columns |= {"outcome": Outcome(row.outcome), "source": Source(row.source)}
    return StoredEvidence(**columns)


def _orphan(row: Row[Any]) -> Orphan:
    claim = None
    if row.outcome is not None:
        claim = Claim(
            outcome=Outcome(row.outcome),
            key=row.key,
            provider_id=row.provider_id,
            reference=row.reference,
            detail=row.detail,
        )
    return Orphan(
        id=row.id,
        provider=row.provider,
        received_at=row.received_at,
        headers=[(name, value) for name, value in json.loads(row.headers)],
        body=bytes(row.body),
        claim=claim,
        matches=row.matches,
    )
