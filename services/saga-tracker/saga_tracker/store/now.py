"""What is going on, from the counts that are kept and from indexes of what is open. It only reads, and never lists.

The exact age of the oldest saga is not known here: a count has the minute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

from saga_tracker.store.rollups import BOUNDS_S, ENDED, LIVE

COUNT_MAX: Final = 10_000
MINUTES_MAX: Final = 1_440
QUANTILES: Final = (0.5, 0.99)

STEP_COUNTS = text("""
    SELECT saga_type AS type, state, step, CAST(sum(count) AS bigint) AS count, min(minute) AS oldest_at
    FROM rollups
    WHERE state = ANY(CAST(:live AS text[])) AND count > 0
    GROUP BY 1, 2, 3
    ORDER BY 1, 2, 3
""")

OUTCOMES = text("""
    SELECT saga_type AS type, state, bucket, CAST(sum(count) AS bigint) AS count
    FROM rollups
    WHERE minute >= :since AND state = ANY(CAST(:ended AS text[])) AND count > 0
    GROUP BY 1, 2, 3
    ORDER BY 1, 2, 3
""")

MINUTES = text("""
    SELECT minute, saga_type AS type, state, CAST(sum(count) AS bigint) AS count
    FROM rollups
    WHERE minute >= :since AND state = ANY(CAST(:ended AS text[])) AND count > 0
      AND (CAST(:type AS text) IS NULL OR saga_type = :type)
    GROUP BY 1, 2, 3
    ORDER BY 1, 2, 3
""")

OPEN = text("""
    SELECT (SELECT count(*) FROM (SELECT FROM sagas WHERE awaits_since IS NOT NULL LIMIT :limit) AS few) AS awaiting,
           (SELECT min(awaits_since) FROM sagas WHERE awaits_since IS NOT NULL) AS awaiting_since,
           (SELECT count(*) FROM (SELECT FROM sagas WHERE contradicted_at IS NOT NULL AND settled_at IS NULL
                                  LIMIT :limit) AS few) AS contradicted,
           (SELECT min(contradicted_at) FROM sagas
            WHERE contradicted_at IS NOT NULL AND settled_at IS NULL) AS contradicted_since,
           (SELECT count(*) FROM (SELECT FROM dead_letters WHERE open LIMIT :limit) AS few) AS letters,
           (SELECT min(recorded_at) FROM dead_letters WHERE open) AS letters_since
""")

PLANS = text("""
    SELECT state, count(*) AS count, min(planned_at) AS oldest_at
    FROM plans
    WHERE state IN ('APPLYING', 'PAUSED') OR (state = 'PLANNED' AND planned_at >= :since)
    GROUP BY 1
    ORDER BY 1
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCount:
    """Sagas of one type that are in one state at one step. The oldest began, or was parked, in that minute."""

    type: str
    state: str
    step: str
    count: int
    oldest_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the sagas of one type ended within the window, and within which time half and 99 of 100 of them did."""

    type: str
    confirmed: int
    compensated: int
    success_rate: float
    compensation_rate: float
    p50_s: float
    p99_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """How many sagas of a type ended in a minute, in a state."""

    minute: datetime
    type: str
    state: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many there are, and since when the oldest is. If it ``is_capped``, there are more than ``count``."""

    count: int
    is_capped: bool
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTally:
    """How many plans are in a state: under way, paused, or not applied and of the last day."""

    state: str
    count: int
    oldest_at: datetime


def step_counts(tx: Connection) -> list[StepCount]:
    """Return where the sagas are that have not ended."""
    return [StepCount(**row._mapping) for row in tx.execute(STEP_COUNTS, {"live": list(LIVE)})]


def outcomes(tx: Connection, *, since: datetime) -> list[Outcome]:
    """Return by type how the sagas ended since then."""
    by_type: dict[str, dict[str, dict[int, int]]] = {}
    for row in tx.execute(OUTCOMES, {"since": since, "ended": list(ENDED)}):
        by_type.setdefault(row.type, {}).setdefault(row.state, {})[row.bucket] = row._mapping["count"]
    return [_outcome(type_, states) for type_, states in by_type.items()]


def minutes(tx: Connection, *, since: datetime, type_: str | None) -> list[Minute]:
    """Return how many sagas ended in each minute since then; a minute without any is missing."""
    rows = tx.execute(MINUTES, {"since": since, "type": type_, "ended": list(ENDED)})
    return [Minute(**row._mapping) for row in rows]


def tallies(tx: Connection) -> dict[str, Tally]:
    """Return how many sagas await an outcome, how many are contradicted, and how many letters are open."""
    row = tx.execute(OPEN, {"limit": COUNT_MAX + 1}).one()
    found = {
        "awaiting": (row.awaiting, row.awaiting_since),
        "contradicted": (row.contradicted, row.contradicted_since),
        "letters": (row.letters, row.letters_since),
    }
    return {
        name: Tally(count=min(count, COUNT_MAX), is_capped=count > COUNT_MAX, oldest_at=oldest)
        for name, (count, oldest) in found.items()
    }


def plans(tx: Connection, *, now: datetime) -> list[PlanTally]:
    """Return how many plans wait for a person, or are under way."""
    return [PlanTally(**row._mapping) for row in tx.execute(PLANS, {"since": now - timedelta(days=1)})]


def _outcome(type_: str, states: Mapping[str, Mapping[int, int]]) -> Outcome:
    counts = {state: sum(buckets.values()) for state, buckets in states.items()}
    confirmed, compensated = (counts.get(state, 0) for state in ENDED)
    merged: dict[int, int] = {}
    for buckets in states.values():
        for bucket, count in buckets.items():
            merged[bucket] = merged.get(bucket, 0) + count
    p50_s, p99_s = (quantile_s(merged, share) for share in QUANTILES)
    total = confirmed + compensated
    return Outcome(
        type=type_,
        confirmed=confirmed,
        compensated=compensated,
        success_rate=confirmed / total,
        compensation_rate=compensated / total,
        p50_s=p50_s,
        p99_s=p99_s,
    )


def quantile_s(buckets: Mapping[int, int], share: float) -> float:
    """Return within which time this share of sagas ended, as exactly as the buckets are: a straight line within one."""
    wanted, seen = share * sum(buckets.values()), 0
    for bucket, count in sorted(buckets.items()):
        if seen + count >= wanted:
            lower_s, upper_s = _edges(bucket)
            return round(lower_s + (upper_s - lower_s) * (wanted - seen) / count, 3)
        seen += count
    return 0.0


def _edges(bucket: int) -> Sequence[float]:
    lower_s = BOUNDS_S[bucket - 2] if bucket >= 2 else 0.0
    upper_s = BOUNDS_S[bucket - 1] if 1 <= bucket <= len(BOUNDS_S) else lower_s
    return lower_s, upper_s
