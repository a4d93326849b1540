"""Deliveries that people ask for: a test event, one that is repeated, and a range that is repeated."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from notifier.domain import Cause, Owner

REPLAY_MAX: Final = 10_000
"""Deliveries of one range. A longer one is repeated in pieces; the answer says where the next one begins."""

REPEAT = text("""
    INSERT INTO deliveries (delivery_id, event_id, endpoint_id, merchant_id, is_live, cause, due_at)
    SELECT :new_id, event_id, endpoint_id, merchant_id, is_live, CAST(:cause AS text), :now
    FROM deliveries
    WHERE delivery_id = :delivery_id AND merchant_id = :merchant_id AND is_live = :is_live
    ON CONFLICT (event_id, endpoint_id) WHERE state = 'DUE' DO NOTHING
    RETURNING delivery_id
""")
OPEN = text("""
    SELECT delivery_id FROM deliveries
    WHERE state = 'DUE' AND (event_id, endpoint_id) = (
        SELECT event_id, endpoint_id FROM deliveries
        WHERE delivery_id = :delivery_id AND merchant_id = :merchant_id AND is_live = :is_live)
""")
SEND_NOW = text("UPDATE deliveries SET due_at = :now WHERE delivery_id = :delivery_id AND lease IS NULL")
REPEAT_RANGE = text("""
    WITH chosen AS (
        SELECT event_id, occurred_at, position FROM events
        WHERE merchant_id = :merchant_id AND is_live = :is_live AND type <> 'ping'
          AND occurred_at >= :since AND occurred_at < :until AND position > :after
          AND (CAST(:types AS text[]) = '{}' OR type = ANY(:types))
          AND (NOT :only_failed OR NOT EXISTS (
              SELECT FROM deliveries
              WHERE deliveries.event_id = events.event_id AND endpoint_id = :endpoint_id AND state = 'DELIVERED'))
        ORDER BY position LIMIT :count
    ), repeated AS (
        INSERT INTO deliveries (delivery_id, event_id, endpoint_id, merchant_id, is_live, cause, due_at)
        SELECT CAST(:new_id AS text) || '-' || chosen.position, event_id, :endpoint_id, :merchant_id, :is_live,
               CAST(:cause AS text), :now
        FROM chosen
        ORDER BY chosen.position
        ON CONFLICT (event_id, endpoint_id) WHERE state = 'DUE' DO NOTHING
        RETURNING delivery_id
    )
    SELECT (SELECT count(*) FROM chosen) AS chosen, (SELECT count(*) FROM repeated) AS repeated,
           (SELECT max(position) FROM chosen) AS last
""")


def repeat(delivery_id: str, new_id: str, owner: Owner, tx: Connection, *, now: datetime) -> str | None:
    """Deliver again at once, and return the delivery's id; None where this merchant has none like it.

    Where the same event is due at the same endpoint already, that delivery is made at once.
    """
    values = _of(owner) | {
        "delivery_id": delivery_id, "new_id": new_id, "cause": Cause.REPLAY.value, "now": now,
    }  # fmt: skip
    made: str | None = tx.execute(REPEAT, values).scalar_one_or_none()
    if made is not None:
        return made
    due: str | None = tx.execute(OPEN, _of(owner) | {"delivery_id": delivery_id}).scalar_one_or_none()
    if due is not None:
        tx.execute(SEND_NOW, {"delivery_id": due, "now": now})
    return due


def repeat_range(
    endpoint_id: str,
    types: list[str],
    new_id: str,
    owner: Owner,
    tx: Connection,
    *,
    since: datetime,
    until: datetime,
    after: int,
    only_failed: bool,
    now: datetime,
) -> Any:
    """Deliver events again to an endpoint that occurred in a range of time, ``until`` excluded.

    The row has how many were chosen, how many are new deliveries, and the position of the last one.
    """
    values = _of(owner) | {
        "endpoint_id": endpoint_id, "types": types, "new_id": new_id, "since": since, "until": until, "after": after,
        "only_failed": only_failed, "count": REPLAY_MAX, "cause": Cause.REPLAY.value, "now": now,
    }  # fmt: skip
    return tx.execute(REPEAT_RANGE, values).one()


def _of(owner: Owner) -> dict[str, Any]:
    merchant_id, is_live = owner
    return {"merchant_id": merchant_id, "is_live": is_live}
