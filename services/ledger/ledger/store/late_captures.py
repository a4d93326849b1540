"""What is known of captures that merchants request later: the request, its acceptance and its failure, in any order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from chassis.postgres.statement import Statement

RECORD = Statement("""
    INSERT INTO late_captures AS known (saga_id, request, accepted_by, has_failed)
    SELECT saga_id, request, accepted_by, has_failed
    FROM unnest(
        CAST(%(saga_ids)s AS text[]), CAST(%(requests)s AS text[]), CAST(%(accepted_by)s AS text[]),
        CAST(%(has_failed)s AS boolean[])
    ) AS row (saga_id, request, accepted_by, has_failed)
    ORDER BY saga_id
    ON CONFLICT (saga_id) DO UPDATE
    SET request = coalesce(known.request, excluded.request),
        accepted_by = coalesce(known.accepted_by, excluded.accepted_by),
        has_failed = known.has_failed OR excluded.has_failed
    RETURNING saga_id, request, accepted_by, has_failed
""")
"""The events of one saga come from three topics. The process that reads the last one finds the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateCapture:
    """What one event adds, or what is known by now. ``request`` is what the ledger needs of the request."""

    saga_id: str
    request: Mapping[str, Any] | None = None
    accepted_by: str | None = None
    has_failed: bool = False


def record(facts: Mapping[str, LateCapture], tx: Connection) -> list[LateCapture]:
    """Add facts by saga, and return all that is known of these captures."""
    if not facts:
        return []
    found = list(facts.values())
    values = {
        "saga_ids": [each.saga_id for each in found],
        "requests": [None if each.request is None else json.dumps(each.request) for each in found],
        "accepted_by": [each.accepted_by for each in found],
        "has_failed": [each.has_failed for each in found],
    }
    return [
        LateCapture(
            saga_id=row.saga_id,
            request=None if row.request is None else json.loads(row.request),
            accepted_by=row.accepted_by,
            has_failed=row.has_failed,
        )
        for row in RECORD.rows(tx, values)
    ]
