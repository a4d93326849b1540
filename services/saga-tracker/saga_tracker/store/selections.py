"""Selects sagas for operators: the groups of parked sagas, and the candidates of a plan. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

GROUPS_MAX = 500

STABLE = r"""regexp_replace(regexp_replace(coalesce(reason, ''), '[0-9A-HJKMNP-TV-Z]{26}', '<id>', 'g'),
                            '[0-9]+(\.[0-9]+)?', '<n>', 'g')"""
"""A reason without the ids and numbers that differ from saga to saga."""
GROUP = f"left(md5(concat_ws(' ', saga_type, phase, step, {STABLE})), 8)"

GROUPS = text(f"""
    SELECT {GROUP} AS group, saga_type AS type, phase, step, {STABLE} AS reason, count(*) AS count,
           min(coalesce(parked_at, updated_at)) AS oldest_at, min(saga_id) AS example
    FROM sagas
    WHERE state = 'NEEDS_REVIEW'
    GROUP BY 1, 2, 3, 4, 5
    ORDER BY count DESC, 1
    LIMIT :limit
""")

CANDIDATES = text(f"""
    SELECT saga_id, saga_type, saga_version, partition, version, phase, step, progress
    FROM sagas
    WHERE (CAST(:saga_ids AS text[]) IS NOT NULL OR state = 'NEEDS_REVIEW')
      AND (CAST(:saga_ids AS text[]) IS NULL OR saga_id = ANY(CAST(:saga_ids AS text[])))
      AND (CAST(:group AS text) IS NULL OR {GROUP} = :group)
      AND (CAST(:step AS text) IS NULL OR step = :step)
      AND (CAST(:started_after AS timestamptz) IS NULL OR started_at > :started_after)
      AND (CAST(:started_before AS timestamptz) IS NULL OR started_at < :started_before)
    ORDER BY saga_id
    LIMIT :limit
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parked sagas with one cause. ``group`` selects them; ``reason`` omits the ids and numbers that differ."""

    group: str
    type: str
    phase: str
    step: str
    reason: str
    count: int
    oldest_at: datetime
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which sagas are selected: all given conditions must hold. Without ``saga_ids`` only parked ones are."""

    saga_ids: Sequence[str] | None = None
    group: str | None = None
    step: str | None = None
    started_after: datetime | None = None
    started_before: datetime | None = None


def groups(tx: Connection, *, limit: int = GROUPS_MAX) -> list[Group]:
    """Return the groups of parked sagas, the largest first and so many at most."""
    return [Group(**row._mapping) for row in tx.execute(GROUPS, {"limit": limit})]


def candidates(tx: Connection, selection: Selection, *, limit: int) -> Sequence[Row[Any]]:
    """Return the selected sagas in the order of their ids."""
    values: dict[str, Any] = {name: getattr(selection, name) for name in Selection.__slots__}
    if selection.saga_ids is not None:
        values["saga_ids"] = sorted(set(selection.saga_ids))
    return tx.execute(CANDIDATES, values | {"limit": limit}).all()
