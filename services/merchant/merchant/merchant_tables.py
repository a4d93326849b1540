"""Every statement on merchants and their API keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from chassis.postgres.columns import SQLALCHEMY, Columns
from chassis.postgres.statement import Statement
from merchant.domain import Price
from merchant.tables import api_keys, merchants

KeyRow: TypeAlias = Row[tuple[Any, ...]]
"""A row of ``api_keys`` without the digest."""

REGISTERED, ACTIVE, FAILED, CLOSED = "REGISTERED", "ACTIVE", "FAILED", "CLOSED"
"""The states of a merchant. Its payments are taken while it is ACTIVE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantRow:
    """A merchant. The price and the limits are by currency, where they differ from none."""

    merchant_id: str
    saga_id: str
    name: str
    currencies: Sequence[str]
    basis_points: int
    fixed_minor: Mapping[str, int]
    amount_max_minor: Mapping[str, int]
    state: str
    failure_reason: str | None
    registered_at: datetime
    onboarded_at: datetime | None
    closed_at: datetime | None

    def price(self, currency: str) -> Price:
        """Return the price of a payment in this currency."""
        return Price(basis_points=self.basis_points, fixed_minor=self.fixed_minor.get(currency, 0))


COLUMNS = Columns.of(merchants, parameter=SQLALCHEMY)
KEY_COLUMNS = Columns.of(api_keys, parameter=SQLALCHEMY)
SHOWN_KEYS = KEY_COLUMNS.without("digest")

MERCHANTS = Statement(f"SELECT {COLUMNS.names} FROM merchants WHERE merchant_id = ANY(CAST(%(ids)s AS text[]))")

INSERT = text("""
    INSERT INTO merchants (merchant_id, saga_id, name, currencies, basis_points, fixed_minor, amount_max_minor, state,
                           registered_at)
    VALUES (:merchant_id, :saga_id, :name, :currencies, :basis_points, :fixed_minor, :amount_max_minor, 'REGISTERED',
            :now)
    ON CONFLICT (merchant_id) DO NOTHING
""").bindparams(
    bindparam("currencies", type_=JSONB), bindparam("fixed_minor", type_=JSONB),
    bindparam("amount_max_minor", type_=JSONB),
)  # fmt: skip

PAGE = text(f"SELECT {COLUMNS.names} FROM merchants WHERE merchant_id > :after ORDER BY merchant_id LIMIT :limit")

ONBOARD = text("""
    UPDATE merchants SET state = CASE WHEN state = 'CLOSED' THEN state ELSE 'ACTIVE' END, onboarded_at = :at
    WHERE saga_id = :saga_id AND onboarded_at IS NULL
""")

FAIL = text("""
    UPDATE merchants SET state = 'FAILED', failure_reason = :reason WHERE saga_id = :saga_id AND state = 'REGISTERED'
""")

CLOSE = text("""
    UPDATE merchants SET state = 'CLOSED', closed_at = :now WHERE merchant_id = :merchant_id AND closed_at IS NULL
""")

LOCK = text("SELECT merchant_id FROM merchants WHERE merchant_id = :merchant_id FOR UPDATE")

INSERT_KEY = text("""
    INSERT INTO api_keys (key_id, merchant_id, is_live, digest, hint, created_at)
    VALUES (:key_id, :merchant_id, :is_live, :digest, :hint, :now)
""")

VALID_KEY = text("""
    SELECT key_id, merchant_id, is_live, expires_at FROM api_keys
    WHERE digest = :digest AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
""")

KEYS = text(f"SELECT {SHOWN_KEYS.names} FROM api_keys WHERE merchant_id = :merchant_id ORDER BY key_id")

EXPIRE_KEY = text("""
    UPDATE api_keys SET expires_at = least(expires_at, :at)
    WHERE key_id = :key_id AND merchant_id = :merchant_id AND revoked_at IS NULL
      AND (expires_at IS NULL OR expires_at > now())
""")

REVOKE_KEY = text("""
    UPDATE api_keys SET revoked_at = :now WHERE key_id = :key_id AND merchant_id = :merchant_id AND revoked_at IS NULL
""")


def load(tx: Connection, ids: Collection[str]) -> dict[str, MerchantRow]:
    """Return these merchants by id; unknown ones are missing."""
    return {row.merchant_id: _merchant(row) for row in MERCHANTS.rows(tx, {"ids": sorted(ids)})}


def insert(tx: Connection, new: Mapping[str, object], *, now: datetime) -> bool:
    """Store a merchant. Return False where there is one with this id."""
    return tx.execute(INSERT, {**new, "now": now}).rowcount == 1


def page(tx: Connection, *, after: str, limit: int) -> list[MerchantRow]:
    """Return merchants whose id comes after ``after``, in the order of their ids."""
    return [_merchant(row) for row in tx.execute(PAGE, {"after": after, "limit": limit})]


def onboard(tx: Connection, saga_ids: Mapping[str, datetime]) -> None:
    """Note that the accounts of the merchants of these sagas are open."""
    for saga_id, at in sorted(saga_ids.items()):
        tx.execute(ONBOARD, {"saga_id": saga_id, "at": at})


def fail(tx: Connection, reasons: Mapping[str, str]) -> None:
    """Note that the accounts of the merchants of these sagas could not be opened."""
    for saga_id, reason in sorted(reasons.items()):
        tx.execute(FAIL, {"saga_id": saga_id, "reason": reason})


def close(tx: Connection, merchant_id: str, *, now: datetime) -> None:
    """Close a merchant; a closed one does not change."""
    tx.execute(CLOSE, {"merchant_id": merchant_id, "now": now})


def lock(tx: Connection, merchant_id: str) -> bool:
    """Lock a merchant's row. Return False where there is none."""
    return tx.execute(LOCK, {"merchant_id": merchant_id}).one_or_none() is not None


def insert_key(
    tx: Connection, *, key_id: str, merchant_id: str, is_live: bool, digest: bytes, hint: str, now: datetime
) -> None:
    """Store an API key by its digest."""
    values = {"key_id": key_id, "merchant_id": merchant_id, "is_live": is_live, "digest": digest, "hint": hint}
    tx.execute(INSERT_KEY, {**values, "now": now})


def valid_key(tx: Connection, digest: bytes) -> KeyRow | None:
    """Return the key with this digest, None where it is unknown, expired or revoked."""
    return tx.execute(VALID_KEY, {"digest": digest}).one_or_none()


def keys(tx: Connection, merchant_id: str) -> list[KeyRow]:
    """Return a merchant's keys of both modes, the oldest first."""
    return list(tx.execute(KEYS, {"merchant_id": merchant_id}))


def expire_key(tx: Connection, merchant_id: str, key_id: str, *, at: datetime) -> bool:
    """Let a key end. Return False where there is none that is valid."""
    return tx.execute(EXPIRE_KEY, {"merchant_id": merchant_id, "key_id": key_id, "at": at}).rowcount == 1


def revoke_key(tx: Connection, merchant_id: str, key_id: str, *, now: datetime) -> bool:
    """End a key at once. Return False where there is none, or it was revoked before."""
    return tx.execute(REVOKE_KEY, {"merchant_id": merchant_id, "key_id": key_id, "now": now}).rowcount == 1


def _merchant(row: Any) -> MerchantRow:
    return MerchantRow(**{name: getattr(row, name) for name in COLUMNS})
