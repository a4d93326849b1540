"""Providers' callbacks as they came: stored before anything else, each with what became of it.

A callback that matches nothing yet is an orphan with an age, and is matched again. Nothing is ever deleted here.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Column, Connection, DateTime, Index, LargeBinary, SmallInteger, Table, Text

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from mobile_money.tables import metadata

DECIDED_MAX: Final = 200
MATCH_AGAIN: Final = (
    timedelta(seconds=1),
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=5),
    timedelta(hours=1),
)
"""How long an orphan waits before it is matched again; the last wait repeats."""
MATCHES_COUNTED: Final = 1_000


class CallbackFate(enum.StrEnum):
    """What became of a callback."""

    APPLIED = "APPLIED"
    DUPLICATE = "DUPLICATE"
    """The same was known before."""
    ORPHAN = "ORPHAN"
    """It matches nothing yet."""
    REFUSED = "REFUSED"
    """It does not fit what we know, or cannot be read. It credits nothing, and is listed with its reason."""
    LATE = "LATE"
    """Its prompt or payout had ended otherwise before. What it brings counts all the same."""


raw_callbacks = Table(
    "raw_callbacks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, comment="of the short code"),
    Column("kind", Text, nullable=False),
    Column("remote", Text, nullable=False, comment="the address it came from"),
    Column("headers", Text, nullable=False, comment="JSON pairs; none with a credential"),
    Column("body", LargeBinary, nullable=False, comment="as it came"),
    Column("body_sha256", Text, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("fate", Text, comment="null: nothing is decided yet"),
    Column("reason", Text),
    Column("saga_id", Text, comment="that it is about"),
    Column("receipt", Text, comment="that it names"),
    Column("matches", SmallInteger, nullable=False, comment="how often it was matched in vain"),
    Column("decide_at", DateTime(timezone=True), comment="null: it is decided"),
    Column("decided_at", DateTime(timezone=True)),
    Index("raw_callbacks_by_body", "body_sha256"),
    Index("raw_callbacks_by_saga", "saga_id"),
)
Index("raw_callbacks_waiting", raw_callbacks.c.decide_at, postgresql_where=raw_callbacks.c.decide_at.is_not(None))
Index(
    "raw_callbacks_listed",
    raw_callbacks.c.fate,
    raw_callbacks.c.received_at,
    postgresql_where=raw_callbacks.c.fate.in_(["ORPHAN", "REFUSED"]),
)
COLUMNS = Columns.of(
    raw_callbacks,
    without=["fate", "reason", "saga_id", "receipt", "matches", "decided_at"],
    sources={"decide_at": "received_at"},
)
DECIDED = Columns.of(
    raw_callbacks,
    without=["name", "kind", "remote", "headers", "body", "body_sha256", "received_at"],
    sources={"fate": "fate.value"},
)

STORE: Final = Statement(f"""
    INSERT INTO raw_callbacks ({COLUMNS.names}, matches)
    SELECT {COLUMNS.values}, 0 FROM {COLUMNS.rows}
    ON CONFLICT (id) DO NOTHING
""")
TAKE: Final = Statement("""
    SELECT id, name, kind, remote, headers, body, body_sha256, received_at, matches
    FROM raw_callbacks
    WHERE decide_at <= %(now)s
    ORDER BY decide_at, id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
""")
KNOWN_BODIES: Final = Statement("""
    SELECT DISTINCT body_sha256 FROM raw_callbacks
    WHERE body_sha256 = ANY(CAST(%(hashes)s AS text[])) AND fate IN ('APPLIED', 'LATE')
""")
DECIDE: Final = Statement(f"""
    UPDATE raw_callbacks SET {DECIDED.assignments} FROM {DECIDED.rows} WHERE raw_callbacks.id = row.id
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawCallback:
    """A callback as it came."""

    id: str
    name: str
    kind: str
    remote: str
    headers: str
    body: bytes
    body_sha256: str
    received_at: datetime
    matches: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What is decided about a callback. ``decide_at`` is when an orphan is matched again."""

    id: str
    fate: CallbackFate
    reason: str | None = None
    saga_id: str | None = None
    receipt: str | None = None
    matches: int = 0
    decide_at: datetime | None = None
    decided_at: datetime | None = None


def store(tx: Connection, callbacks: Sequence[RawCallback]) -> None:
    """Store callbacks as they came."""
    if callbacks:
        STORE.run(tx, COLUMNS.parameters(callbacks))


def take(tx: Connection, *, now: datetime, limit: int = DECIDED_MAX) -> list[RawCallback]:
    """Lock callbacks that are to be decided about, the oldest first; another process takes others."""
    return [_callback(row) for row in TAKE.rows(tx, {"now": now, "limit": limit})]


def known_bodies(tx: Connection, callbacks: Sequence[RawCallback]) -> set[str]:
    """Return the hashes of those bodies that were applied before."""
    hashes = sorted({each.body_sha256 for each in callbacks})
    return {row.body_sha256 for row in KNOWN_BODIES.rows(tx, {"hashes": hashes})}


def decide(tx: Connection, fates: Sequence[Fate]) -> None:
    """Record what became of callbacks."""
    if fates:
        DECIDE.run(tx, DECIDED.parameters(sorted(fates, key=lambda each: each.id)))


def orphan(callback: RawCallback, reason: str, *, now: datetime) -> Fate:
    """Return the fate of a callback that matches nothing yet."""
    matches = min(callback.matches + 1, MATCHES_COUNTED)
    wait = MATCH_AGAIN[min(callback.matches, len(MATCH_AGAIN) - 1)]
    return Fate(id=callback.id, fate=CallbackFate.ORPHAN, reason=reason, matches=matches, decide_at=now + wait)


def _callback(row: Any) -> RawCallback:
    return RawCallback(**{**row._asdict(), "body": bytes(row.body)})
