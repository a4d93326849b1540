"""The evidence that matches no attempt, as operators read it, and close it with a reason.

What is closed is matched no more. Its body stays, with who closed it, when and why.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from chassis.postgres.statement import Statement

BODY_LENGTH_MAX = 4_000
"""Characters of a body that are shown; a body of a callback is far shorter."""

SHOWN = """id, provider, source, received_at, outcome, key, provider_id, reference, body, matches,
           closed_at, closed_by, closed_reason"""

UNMATCHED = Statement(f"""
    SELECT {SHOWN}
    FROM evidence
    WHERE match_at IS NOT NULL
    ORDER BY received_at, id
    LIMIT %(limit)s
""")

CLOSED = Statement(f"""
    SELECT {SHOWN}
    FROM evidence
    WHERE closed_at IS NOT NULL
    ORDER BY closed_at DESC, id
    LIMIT %(limit)s
""")

CLOSE = Statement("""
    UPDATE evidence
    SET match_at = NULL, closed_at = %(now)s, closed_by = %(by)s, closed_reason = %(reason)s
    WHERE id = ANY(CAST(%(ids)s AS text[])) AND match_at IS NOT NULL
    RETURNING id
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmatched:
    """A piece of evidence without an attempt. ``outcome`` is None where its adapter cannot read the body."""

    id: str
    provider: str
    source: str
    received_at: datetime
    outcome: str | None
    key: str | None
    provider_id: str | None
    reference: str | None
    body: str
    matches: int
    closed_at: datetime | None
    closed_by: str | None
    closed_reason: str | None


def list_unmatched(tx: Connection, *, limit: int) -> list[Unmatched]:
    """Return evidence that matches no attempt and is not closed, the oldest first."""
    return [_unmatched(row) for row in UNMATCHED.rows(tx, {"limit": limit})]


def list_closed(tx: Connection, *, limit: int) -> list[Unmatched]:
    """Return evidence that operators have closed, the last one first."""
    return [_unmatched(row) for row in CLOSED.rows(tx, {"limit": limit})]


def close(tx: Connection, ids: Collection[str], *, by: str, reason: str, now: datetime) -> list[str]:
    """Close these pieces of evidence, and return the ids of those that matched no attempt and were not closed yet."""
    rows = CLOSE.rows(tx, {"ids": sorted(ids), "by": by, "reason": reason, "now": now})
    return sorted(row.id for row in rows)


def _unmatched(row: Row[Any]) -> Unmatched:
    body = bytes(row.body).decode("utf-8", "backslashreplace")[:BODY_LENGTH_MAX]
    return Unmatched(**{**row._asdict(), "body": body})
