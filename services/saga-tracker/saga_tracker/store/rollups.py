"""How many sagas are where: counts that are kept in the transaction which moves a saga, so that no list is counted.

A saga is counted once, under its type, state, step and a minute: in which it ended, was parked, or else began. One that
has ended is counted under how long it took as well. The partition is part of the key: its one owner updates its rows
alone, so that no two workers wait for one another.

Each saga knows under which key it is counted (``SagaRow.counted``), and a batch adds the differences in one statement.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from sqlalchemy import Connection, text

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from saga_tracker.store.schema import ROLLUPS

ENDED: Final = ("CONFIRMED", "CANCELLED_COMPENSATED")
LIVE: Final = ("PENDING", "NEEDS_REVIEW", "IN_DOUBT", "INCIDENT")
PARKED: Final = "NEEDS_REVIEW"
BOUNDS_S: Final = (
    0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120,
    180, 300, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400, 172_800, 345_600, 604_800, 1_209_600, 2_592_000,
)  # fmt: skip
"""Between two of them durations are not distinguished: from the fastest saga to one that waits for a month."""


class Counted(NamedTuple):
    """The key under which a saga is counted. ``bucket`` is 0 until it has ended, then 1 and more (``BOUNDS_S``)."""

    minute: datetime
    partition: int
    saga_type: str
    state: str
    step: str
    bucket: int


class Countable(Protocol):
    """A saga as it is counted."""

    saga_type: str
    state: str
    step: str
    partition: int
    started_at: datetime
    parked_at: datetime | None
    finished_at: datetime | None
    counted: Counted | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollup:
    """A key, and by how much its count changes."""

    minute: datetime
    partition: int
    saga_type: str
    state: str
    step: str
    bucket: int
    count: int


COLUMNS = Columns.of(ROLLUPS)
KEY = COLUMNS.without("count").names

ADD = Statement(f"""
    INSERT INTO rollups ({COLUMNS.names})
    SELECT {COLUMNS.values}
    FROM {COLUMNS.rows}
    ORDER BY {KEY}
    ON CONFLICT ({KEY}) DO UPDATE SET count = rollups.count + excluded.count
""")

REMOVE_EMPTY = text("""
    DELETE FROM rollups
    WHERE state = ANY(CAST(:live AS text[])) AND count = 0
      AND partition = ANY(CAST(:partitions AS smallint[]))
""")
"""Of those that are live, nearly none has a count of 0 for long, so the index by state leads to few rows."""

REMOVE = text("""
    DELETE FROM rollups
    WHERE state = ANY(CAST(:states AS text[])) AND partition = ANY(CAST(:partitions AS smallint[]))
""")

COUNTED = f"""
    SELECT date_trunc('minute', CASE WHEN state = ANY(CAST(:ended AS text[])) THEN coalesce(finished_at, started_at)
                                     WHEN state = '{PARKED}' THEN coalesce(parked_at, started_at)
                                     ELSE started_at END, 'UTC') AS minute,
           partition, saga_type, state, step,
           CASE WHEN state = ANY(CAST(:ended AS text[])) AND finished_at IS NOT NULL
                THEN 1 + width_bucket(CAST(extract(epoch FROM finished_at - started_at) AS double precision),
                                      CAST(:bounds AS double precision[]))
                ELSE 0 END AS bucket,
           count(*) AS count
    FROM sagas
    WHERE state = ANY(CAST(:states AS text[])) AND partition = ANY(CAST(:partitions AS smallint[]))
    GROUP BY 1, 2, 3, 4, 5, 6
"""

COUNT_AGAIN = text(f"""
    INSERT INTO rollups ({COLUMNS.names})
    {COUNTED}
    ON CONFLICT ({KEY}) DO UPDATE SET count = excluded.count
""")
"""The last owner may commit a batch in between; what it added to a new key is in the count already."""

DIFFERENT = text(f"""
    SELECT {KEY}, coalesce(kept.count, 0) AS kept, coalesce(found.count, 0) AS found
    FROM (SELECT * FROM rollups WHERE state = ANY(CAST(:states AS text[])) AND count <> 0
            AND partition = ANY(CAST(:partitions AS smallint[]))) AS kept
    FULL JOIN ({COUNTED}) AS found USING ({KEY})
    WHERE coalesce(kept.count, 0) <> coalesce(found.count, 0)
    LIMIT :limit
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A key whose count is another one than a count of its sagas."""

    key: Counted
    kept: int
    found: int


def counted_of(row: Countable) -> Counted:
    """Return the key under which a saga is counted as it is now."""
    state, since, bucket = row.state, row.started_at, 0
    if state in ENDED:
        if row.finished_at is not None:
            since = row.finished_at
            bucket = 1 + bisect_right(BOUNDS_S, (since - row.started_at).total_seconds())
    elif state == PARKED:
        since = row.parked_at or since
    minute = since.replace(second=0, microsecond=0)
    return Counted(minute, row.partition, row.saga_type, state, row.step, bucket)


def moves(rows: Iterable[Countable]) -> list[Rollup]:
    """Return by how much each count changes, and note in each saga under which key it is counted from now on."""
    changes: dict[Counted, int] = {}
    for row in rows:
        before, now = row.counted, counted_of(row)
        if now == before:
            continue
        if before is not None:
            changes[before] = changes.get(before, 0) - 1
        changes[now] = changes.get(now, 0) + 1
        row.counted = now
    return [Rollup(**key._asdict(), count=change) for key, change in changes.items() if change]


def add(tx: Connection, changes: Sequence[Rollup]) -> None:
    """Add these changes, in one statement without waiting for it."""
    if changes:
        ADD.run(tx, COLUMNS.parameters(changes))


def remove_empty(tx: Connection, partitions: Collection[int]) -> None:
    """Delete the counts of 0 that sagas leave behind on their way."""
    tx.execute(REMOVE_EMPTY, {"live": list(LIVE), "partitions": list(partitions)})


def count_again(tx: Connection, partitions: Collection[int], states: Sequence[str] = LIVE) -> None:
    """Replace the counts of these partitions by a count. A process of a release without rollups keeps none."""
    values = {"states": list(states), "partitions": list(partitions)}
    tx.execute(REMOVE, values)
    tx.execute(COUNT_AGAIN, {**values, **_constants()})


def differences(
    tx: Connection, partitions: Collection[int], states: Sequence[str] = (*LIVE, *ENDED), *, limit: int = 20
) -> list[Difference]:
    """Return where the counts differ from a count of all sagas, which reads each of them: for an audit."""
    values = {"states": list(states), "partitions": list(partitions), "limit": limit, **_constants()}
    return [
        Difference(key=Counted(*(getattr(row, name) for name in Counted._fields)), kept=row.kept, found=row.found)
        for row in tx.execute(DIFFERENT, values)
    ]


def _constants() -> dict[str, object]:
    return {"ended": list(ENDED), "bounds": [float(each) for each in BOUNDS_S]}
