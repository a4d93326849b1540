"""Leases due deliveries for a process, and records what came of their attempts. Each takes a whole batch.

A leased row is due again when its lease ends: what a killed process had under way is then sent again by any process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from notifier.tables import attempts

LEASE: Final = timedelta(seconds=60)
"""A call takes 15 s at most. Then its result is recorded, for which the database may be slow."""

LEASE_DUE = Statement("""
    WITH RECURSIVE pending AS (
        (SELECT endpoint_id FROM deliveries WHERE state = 'DUE' ORDER BY endpoint_id LIMIT 1)
        UNION ALL
        SELECT (SELECT later.endpoint_id FROM deliveries AS later
                WHERE later.state = 'DUE' AND later.endpoint_id > pending.endpoint_id
                ORDER BY later.endpoint_id LIMIT 1)
        FROM pending WHERE pending.endpoint_id IS NOT NULL
    ), picked AS (
        SELECT due.delivery_id
        FROM pending
        JOIN endpoints ON endpoints.endpoint_id = pending.endpoint_id AND endpoints.state = 'ENABLED'
        LEFT JOIN unnest(CAST(%(limited)s AS text[]), CAST(%(limits)s AS integer[])) AS limited (endpoint_id, further)
          ON limited.endpoint_id = pending.endpoint_id
        CROSS JOIN LATERAL (
            SELECT delivery_id, due_at FROM deliveries
            WHERE deliveries.endpoint_id = endpoints.endpoint_id AND state = 'DUE'
              AND due_at <= CAST(%(now)s AS timestamptz)
            ORDER BY due_at LIMIT coalesce(limited.further, %(endpoint_max)s)
            FOR UPDATE SKIP LOCKED
        ) AS due
        WHERE (slow_until IS NULL OR slow_until <= CAST(%(now)s AS timestamptz))
          AND (endpoints.endpoint_id = ANY(CAST(%(slow)s AS text[]))) = CAST(%(is_slow)s AS boolean)
        ORDER BY due.due_at LIMIT %(count)s
    )
    UPDATE deliveries
    SET lease = CAST(%(lease)s AS text), due_at = CAST(%(ends_at)s AS timestamptz)
    FROM picked
    WHERE deliveries.delivery_id = picked.delivery_id
    RETURNING deliveries.delivery_id, event_id, endpoint_id
""")
"""From one endpoint to the next by the index, so that a backlog of one endpoint is not read for the others."""

CONTENT = Statement("""
    SELECT delivery_id, deliveries.event_id, deliveries.endpoint_id, url, endpoints.is_live, body,
           ARRAY(SELECT sealed FROM endpoint_secrets
                 WHERE endpoint_secrets.endpoint_id = deliveries.endpoint_id
                   AND (expires_at IS NULL OR expires_at > CAST(%(now)s AS timestamptz))
                 ORDER BY number DESC) AS sealed
    FROM deliveries JOIN events USING (event_id) JOIN endpoints ON endpoints.endpoint_id = deliveries.endpoint_id
    WHERE delivery_id = ANY(CAST(%(ids)s AS text[]))
    ORDER BY deliveries.position
""")

LOCK_ENDPOINTS = Statement("""
    SELECT endpoint_id, merchant_id, is_live, state, failing_since, slow_until
    FROM endpoints
    WHERE endpoint_id = ANY(CAST(%(ids)s AS text[]))
    ORDER BY endpoint_id FOR UPDATE
""")

NUMBERS = Statement("""
    SELECT delivery_id, attempt_count FROM deliveries
    WHERE delivery_id = ANY(CAST(%(ids)s AS text[])) AND lease = CAST(%(lease)s AS text)
    ORDER BY delivery_id FOR UPDATE
""")

SETTLE = Statement("""
    UPDATE deliveries
    SET state = row.state, attempt_count = row.number, due_at = coalesce(row.due_at, deliveries.due_at), lease = NULL,
        last_outcome = row.outcome, last_status = row.status,
        ended_at = CASE WHEN row.state = 'DUE' THEN NULL ELSE CAST(%(now)s AS timestamptz) END
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(states)s AS text[]), CAST(%(numbers)s AS smallint[]),
                CAST(%(due)s AS timestamptz[]), CAST(%(outcomes)s AS text[]), CAST(%(statuses)s AS smallint[]))
        AS row (id, state, number, due_at, outcome, status)
    WHERE delivery_id = row.id
""")

ATTEMPTS = Columns.of(attempts, without=["position"])
RECORD = Statement(f"""
    INSERT INTO attempts ({ATTEMPTS.names})
    SELECT {ATTEMPTS.values}
    FROM {ATTEMPTS.ordered_rows}
    ORDER BY ordinal
    ON CONFLICT (delivery_id, number) DO NOTHING
""")

CHANGE_ENDPOINTS = Statement("""
    UPDATE endpoints
    SET failing_since = row.failing_since, slow_until = row.slow_until,
        state = CASE WHEN row.disabled IS NULL THEN endpoints.state ELSE 'DISABLED' END,
        disabled_because = coalesce(row.disabled, disabled_because),
        disabled_at = CASE WHEN row.disabled IS NULL THEN disabled_at ELSE CAST(%(now)s AS timestamptz) END
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(failing)s AS timestamptz[]), CAST(%(slow)s AS timestamptz[]),
                CAST(%(disabled)s AS text[])) AS row (id, failing_since, slow_until, disabled)
    WHERE endpoint_id = row.id
""")

RELEASE = Statement("""
    UPDATE deliveries SET lease = NULL, due_at = CAST(%(due_at)s AS timestamptz)
    WHERE delivery_id = ANY(CAST(%(ids)s AS text[])) AND lease = CAST(%(lease)s AS text)
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """A delivery that is to be attempted now, with what is sent."""

    delivery_id: str
    event_id: str
    endpoint_id: str
    url: str
    is_live: bool
    body: str
    sealed: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which deliveries are leased: ``count`` at most, of endpoints that are slow, or of those that are not.

    ``limits`` has how many further calls an endpoint may have, where that is not ``endpoint_max``.
    """

    count: int
    is_slow: bool
    slow: Collection[str]
    limits: Mapping[str, int]
    endpoint_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """An attempt as it is stored, and what becomes of its delivery."""

    delivery_id: str
    endpoint_id: str
    number: int
    began_at: datetime
    duration_ms: int
    outcome: str
    status: int | None
    state: str
    due_at: datetime | None


@dataclass(slots=True, kw_only=True)
class EndpointHealth:
    """How an endpoint does, while its row is locked. ``disabled`` is set where it gets nothing any more."""

    endpoint_id: str
    merchant_id: str
    is_live: bool
    is_enabled: bool
    failing_since: datetime | None
    slow_until: datetime | None
    disabled: str | None = None


def lease_due(wanted: Wanted, lease: str, tx: Connection, *, now: datetime) -> list[Leased]:
    """Lease deliveries that are due, the ones first that are due for the longest time."""
    if wanted.count <= 0:
        return []
    parameters = {
        "limited": list(wanted.limits),
        "limits": list(wanted.limits.values()),
        "slow": list(wanted.slow),
        "is_slow": wanted.is_slow,
        "endpoint_max": wanted.endpoint_max,
        "count": wanted.count,
        "lease": lease,
        "now": now,
        "ends_at": now + LEASE,
    }
    ids = [row.delivery_id for row in LEASE_DUE.rows(tx, parameters)]
    return [_leased(row) for row in CONTENT.rows(tx, {"ids": ids, "now": now})] if ids else []


def _leased(row: Any) -> Leased:
    return Leased(
        delivery_id=row.delivery_id,
        event_id=row.event_id,
        endpoint_id=row.endpoint_id,
        url=row.url,
        is_live=row.is_live,
        body=row.body,
        sealed=tuple(bytes(each) for each in row.sealed),
    )


def lock_endpoints(ids: Collection[str], tx: Connection) -> dict[str, EndpointHealth]:
    """Lock these endpoints in one order, and return how they do."""
    return {
        row.endpoint_id: EndpointHealth(
            endpoint_id=row.endpoint_id,
            merchant_id=row.merchant_id,
            is_live=row.is_live,
            is_enabled=row.state == "ENABLED",
            failing_since=row.failing_since,
            slow_until=row.slow_until,
        )
        for row in LOCK_ENDPOINTS.rows(tx, {"ids": sorted(ids)})
    }


def attempt_counts(ids: Collection[str], lease: str, tx: Connection) -> dict[str, int]:
    """Lock those of these deliveries that are still leased by this process, and return their attempts so far."""
    rows = NUMBERS.rows(tx, {"ids": sorted(ids), "lease": lease})
    return {row.delivery_id: row.attempt_count for row in rows}


def settle(settled: Sequence[Settled], tx: Connection, *, now: datetime) -> None:
    """Store attempts and what becomes of their deliveries. Their rows are locked."""
    if settled:
        parameters = {
            "ids": [each.delivery_id for each in settled],
            "states": [each.state for each in settled],
            "numbers": [each.number for each in settled],
            "due": [each.due_at for each in settled],
            "outcomes": [each.outcome for each in settled],
            "statuses": [each.status for each in settled],
            "now": now,
        }
        SETTLE.run(tx, parameters)
        RECORD.run(tx, ATTEMPTS.parameters(settled))


def change_endpoints(changed: Sequence[EndpointHealth], tx: Connection, *, now: datetime) -> None:
    """Store how endpoints do. Their rows are locked."""
    if changed:
        parameters = {
            "ids": [each.endpoint_id for each in changed],
            "failing": [each.failing_since for each in changed],
            "slow": [each.slow_until for each in changed],
            "disabled": [each.disabled for each in changed],
            "now": now,
        }
        CHANGE_ENDPOINTS.run(tx, parameters)


def release(ids: Collection[str], lease: str, tx: Connection, *, due_at: datetime) -> None:
    """Give back leases whose attempts were not made; they count for nothing."""
    if ids:
        RELEASE.run(tx, {"ids": sorted(ids), "lease": lease, "due_at": due_at})
