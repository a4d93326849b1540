"""What merchants and staff read: events, deliveries and attempts, the newest first, and counts for the metrics."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from notifier.domain import Owner

EVENT = """
    SELECT event_id, position, type, payment_id, occurred_at, created_at, body
    FROM events
    WHERE merchant_id = :merchant_id AND is_live = :is_live
"""
DELIVERY = """
    SELECT delivery_id, deliveries.position, deliveries.event_id, endpoint_id, events.type, cause, state, attempt_count,
           CASE state WHEN 'DUE' THEN due_at END AS next_attempt_at, last_outcome, last_status, deliveries.created_at,
           ended_at
    FROM deliveries JOIN events USING (event_id)
    WHERE deliveries.merchant_id = :merchant_id AND deliveries.is_live = :is_live
"""

FIND_EVENT = text(f"{EVENT} AND event_id = :event_id")
LIST_EVENTS = text(f"""
    {EVENT} AND position < :before AND (CAST(:type AS text) IS NULL OR type = :type)
      AND (CAST(:payment_id AS bigint) IS NULL OR payment_id = :payment_id)
    ORDER BY position DESC LIMIT :count
""")
FIND_DELIVERY = text(f"{DELIVERY} AND delivery_id = :delivery_id")
LIST_DELIVERIES = text(f"""
    {DELIVERY} AND deliveries.position < :before
      AND (CAST(:state AS text) IS NULL OR state = :state)
      AND (CAST(:endpoint_id AS text) IS NULL OR endpoint_id = :endpoint_id)
      AND (CAST(:event_id AS text) IS NULL OR deliveries.event_id = :event_id)
    ORDER BY deliveries.position DESC LIMIT :count
""")
LIST_ATTEMPTS = text("""
    SELECT attempts.position, delivery_id, number, deliveries.event_id, attempts.endpoint_id, began_at, duration_ms,
           outcome, status
    FROM attempts JOIN deliveries USING (delivery_id)
    WHERE merchant_id = :merchant_id AND is_live = :is_live AND attempts.position < :before
      AND (CAST(:endpoint_id AS text) IS NULL OR attempts.endpoint_id = :endpoint_id)
      AND (CAST(:delivery_id AS text) IS NULL OR attempts.delivery_id = :delivery_id)
      AND (NOT :only_failed OR outcome <> 'SUCCEEDED')
    ORDER BY attempts.position DESC LIMIT :count
""")

OLDEST_DUE_S = text("""
    SELECT coalesce(extract(epoch FROM now() - min(due_at)), 0)
    FROM deliveries JOIN endpoints USING (endpoint_id)
    WHERE deliveries.state = 'DUE' AND due_at <= now() AND endpoints.state = 'ENABLED'
      AND (slow_until IS NULL OR slow_until <= now())
      AND NOT EXISTS (SELECT FROM deliveries AS leased
                      WHERE leased.endpoint_id = endpoints.endpoint_id AND leased.state = 'DUE'
                        AND leased.lease IS NOT NULL AND leased.due_at > now())
""")
DISABLED_COUNTS = text("""
    SELECT disabled_because, count(*) FROM endpoints WHERE state = 'DISABLED' GROUP BY disabled_because
""")

NEWEST = 2**63 - 1
"""The cursor of the first page."""


def find_event(event_id: str, owner: Owner, tx: Connection) -> Any:
    """Return an event of this merchant, or None."""
    return tx.execute(FIND_EVENT, _of(owner) | {"event_id": event_id}).one_or_none()


def list_events(
    owner: Owner, tx: Connection, *, before: int, count: int, type_: str | None, payment_id: int | None
) -> list[Any]:
    """Return events of this merchant, the newest first."""
    values = {"before": before, "count": count, "type": type_, "payment_id": payment_id}
    return list(tx.execute(LIST_EVENTS, _of(owner) | values).all())


def find_delivery(delivery_id: str, owner: Owner, tx: Connection) -> Any:
    """Return a delivery of this merchant, or None."""
    return tx.execute(FIND_DELIVERY, _of(owner) | {"delivery_id": delivery_id}).one_or_none()


def list_deliveries(
    owner: Owner,
    tx: Connection,
    *,
    before: int,
    count: int,
    state: str | None,
    endpoint_id: str | None,
    event_id: str | None,
) -> list[Any]:
    """Return deliveries of this merchant, the newest first."""
    values = {
        "before": before, "count": count, "state": state, "endpoint_id": endpoint_id, "event_id": event_id,
    }  # fmt: skip
    return list(tx.execute(LIST_DELIVERIES, _of(owner) | values).all())


def list_attempts(
    owner: Owner,
    tx: Connection,
    *,
    before: int,
    count: int,
    endpoint_id: str | None,
    delivery_id: str | None,
    only_failed: bool,
) -> list[Any]:
    """Return attempts of this merchant's deliveries, the newest first."""
    values = {
        "before": before, "count": count, "endpoint_id": endpoint_id, "delivery_id": delivery_id,
        "only_failed": only_failed,
    }  # fmt: skip
    return list(tx.execute(LIST_ATTEMPTS, _of(owner) | values).all())


def _of(owner: Owner) -> dict[str, Any]:
    merchant_id, is_live = owner
    return {"merchant_id": merchant_id, "is_live": is_live}
