"""What a provider's statement does not show: how a service hands in its cover for attempts that are open.

The statement is stored as evidence of each of these attempts, with what it covers. The owner of the partition decides,
by :func:`chassis.saga.awaited.on_missing`: whether the attempt never arrived depends on when it was sent last, which
only a transaction that holds the step's rows knows. This module must never decide that itself.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from chassis.saga import evidence
from chassis.saga.attempts import Outcome, Statement
from chassis.saga.evidence import Claim, Received, Source
from chassis.values.json_text import compact
from chassis.wire.envelope import derived_id


def hand_in(
    tx: Connection, keys: Collection[str], statement: Statement, *, provider: str, statement_id: str, now: datetime
) -> None:
    """Store that this statement does not show the attempts with these keys. The same statement again changes nothing.

    ``statement_id`` names what was imported. The caller has found no row of them in it, and no gap.
    """
    cover = cover_to_text(statement)
    evidence.store(
        tx,
        [
            Received(
                id=derived_id("missing", provider, statement_id, key),
                provider=provider,
                source=Source.STATEMENT,
                received_at=now,
                headers=(),
                body=cover.encode(),
                claim=Claim(outcome=Outcome.ABSENT, key=key, detail=cover),
            )
            for key in sorted(set(keys))
        ],
    )


def cover_to_text(statement: Statement) -> str:
    """Return what a statement covers as compact JSON."""
    return compact(
        {
            "covers_from": statement.covers_from.isoformat(),
            "covers_until": statement.covers_until.isoformat(),
            "read_at": statement.read_at.isoformat(),
        }
    )


def cover_of(detail: str | None) -> Statement | None:
    """Return what :func:`cover_to_text` was given; None for any other text, which covers nothing."""
    try:
        read: Any = json.loads(detail or "")
        names = ("covers_from", "covers_until", "read_at")
        return Statement(**{name: datetime.fromisoformat(read[name]) for name in names})
    except (KeyError, TypeError, ValueError):
        return None
