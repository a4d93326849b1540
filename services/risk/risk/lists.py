"""The statements of the staff's API: block lists, and what was decided about a payment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from risk.domain import BlockKind

PAGE_MAX = 500

FIND = text("""
    SELECT id, kind, value, reason, added_by, added_at, removed_by, removed_at, removal_reason FROM blocks
    WHERE (CAST(:kind AS text) IS NULL OR kind = :kind) AND (:with_removed OR removed_at IS NULL) AND id < :before
    ORDER BY id DESC LIMIT :limit
""")

ADD = text("""
    INSERT INTO blocks (kind, value, reason, added_by) VALUES (:kind, :value, :reason, :added_by)
    ON CONFLICT (kind, value) WHERE removed_at IS NULL DO NOTHING
    RETURNING id
""")

REMOVE = text("""
    UPDATE blocks SET removed_by = :removed_by, removed_at = now(), removal_reason = :reason
    WHERE kind = :kind AND value = :value AND removed_at IS NULL
    RETURNING id
""")

BY_ID = text("""
    SELECT id, kind, value, reason, added_by, added_at, removed_by, removed_at, removal_reason FROM blocks
    WHERE id = :id
""")

ACTIVE = text("""
    SELECT id, kind, value, reason, added_by, added_at, removed_by, removed_at, removal_reason FROM blocks
    WHERE kind = :kind AND value = :value AND removed_at IS NULL
""")

DECISION = text("""
    SELECT saga_id, payment_id, merchant_id, is_live, currency, amount_minor, submitted_at, state, reason, detail,
           score, signals, rules_version
    FROM validations WHERE payment_id = :payment_id
""")


def page(tx: Connection, *, kind: BlockKind | None, with_removed: bool, before: int, limit: int) -> Sequence[Row[Any]]:
    """Return the newest entries whose id is below ``before``."""
    found = {"kind": kind, "with_removed": with_removed, "before": before, "limit": limit}
    return tx.execute(FIND, found).all()


def add(tx: Connection, *, kind: BlockKind, value: str, reason: str, added_by: str) -> tuple[Row[Any], bool]:
    """Block a value, and return its entry and whether it is new."""
    row = {"kind": kind.value, "value": value, "reason": reason, "added_by": added_by}
    made = tx.execute(ADD, row).scalar_one_or_none()
    found = tx.execute(ACTIVE, row).one() if made is None else tx.execute(BY_ID, {"id": made}).one()
    return found, made is not None


def remove(tx: Connection, *, kind: BlockKind, value: str, reason: str, removed_by: str) -> Row[Any] | None:
    """Remove a value from its list, and return its entry, or None where it is on none."""
    row = {"kind": kind.value, "value": value, "reason": reason, "removed_by": removed_by}
    removed = tx.execute(REMOVE, row).scalar_one_or_none()
    return None if removed is None else tx.execute(BY_ID, {"id": removed}).one()


def decision(tx: Connection, payment_id: int) -> Row[Any] | None:
    """Return what was decided about a payment, or None."""
    return tx.execute(DECISION, {"payment_id": payment_id}).one_or_none()
