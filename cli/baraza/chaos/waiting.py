"""The sagas that wait for an outcome which comes later: for which, since when, and when it is queried for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from baraza.audit.sources import TRACKER, Row
from saga_tracker.definitions import DEFINITIONS

SERVICES = sorted(
    {step.service for definition in DEFINITIONS.values() for step in definition.steps if step.awaited is not None}
)
"""The services with awaited steps."""
OVERDUE_AFTER = timedelta(seconds=120)
"""A query that is due this long ago is not made any more."""
POLL_S = 1.0
AWAITING = """
    SELECT saga_id, step, awaits_since, saga_type FROM sagas
    WHERE awaits_since IS NOT NULL AND state IN ('PENDING', 'IN_DOUBT') ORDER BY awaits_since, saga_id
"""
NEXT_QUERIES = "SELECT saga_id, min(query_at) FROM awaited_steps WHERE query_at IS NOT NULL GROUP BY saga_id"


class Databases(Protocol):
    """The services' databases."""

    def query(self, query: str, *arguments: object, service: str = TRACKER) -> list[Row]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A saga that waits for the outcome of its step. Without ``query_at`` nothing queries for it."""

    saga_id: str
    saga_type: str
    step: str
    since: datetime
    query_at: datetime | None

    @property
    def what(self) -> str:
        """What it waits for, since when, and when it looks next."""
        query = "no query is due" if self.query_at is None else f"the next query is due at {_time(self.query_at)}"
        return f"({self.saga_type}) waits for the outcome of {self.step} since {_time(self.since)}; {query}"

    def is_stuck(self, now: datetime) -> bool:
        """Return whether nothing will query for the outcome."""
        return self.query_at is None or now - self.query_at > OVERDUE_AFTER

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that --json prints."""
        return {
            "saga_id": self.saga_id,
            "saga_type": self.saga_type,
            "step": self.step,
            "since": self.since,
            "query_at": self.query_at,
        }


def waiting_of(target: Databases) -> list[Waiting]:
    """Return the sagas that wait, the one that waits longest first."""
    # In this order, so that a saga whose outcome comes meanwhile does not wait any more when the tracker is read.
    queries = [target.query(NEXT_QUERIES, service=service) for service in SERVICES]
    return joined(target.query(AWAITING), *queries)


def joined(awaiting: Iterable[Row], *queries: Iterable[Row]) -> list[Waiting]:
    """Return the sagas (id, step, since, type), each with the earliest of its next queries (id, time)."""
    times = [(saga_id, query_at) for rows in queries for saga_id, query_at in rows]
    earliest: Mapping[str, datetime] = dict(sorted(times, key=lambda each: each[1], reverse=True))
    return [
        Waiting(saga_id=saga_id, saga_type=saga_type, step=step, since=since, query_at=earliest.get(saga_id))
        for saga_id, step, since, saga_type in awaiting
    ]


def wait_for_outcomes(
    find: Callable[[], Sequence[Waiting]], timeout_s: float, on_wait: Callable[[int], None]
) -> Sequence[Waiting]:
    """Wait until no saga waits for an outcome, or ``timeout_s`` has passed; return those that still do."""
    deadline_s = time.monotonic() + timeout_s
    while (found := find()) and time.monotonic() < deadline_s:
        on_wait(len(found))
        time.sleep(POLL_S)
    return found


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")
