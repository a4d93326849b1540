"""Every statement on terms: policies, tariffs and our short codes, all of them few and dated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from chassis.postgres.statement import Statement
from members.terms import Policies, Policy, PolicyTarget, Tariff, Tariffs

POLICIES = Statement("SELECT name, version, valid_from, loan_order, targets FROM policies ORDER BY name, version")
TARIFFS = Statement("SELECT valid_from, terms FROM tariffs ORDER BY valid_from")
SHORT_CODES = Statement("SELECT short_code, provider, currency, is_open, rank FROM short_codes ORDER BY rank")

INSERT_POLICY = text("""
    INSERT INTO policies (name, version, valid_from, loan_order, targets, entered_by)
    SELECT :name, coalesce(max(version), 0) + 1, :valid_from, :loan_order, :targets, :entered_by
    FROM policies WHERE name = :name
    RETURNING version
""").bindparams(bindparam("loan_order", type_=JSONB), bindparam("targets", type_=JSONB))

INSERT_TARIFF = text("""
    INSERT INTO tariffs (valid_from, terms, entered_by) VALUES (:valid_from, :terms, :entered_by)
    ON CONFLICT (valid_from) DO NOTHING
""").bindparams(bindparam("terms", type_=JSONB))

PUT_SHORT_CODE = text("""
    INSERT INTO short_codes (short_code, provider, currency, is_open, rank)
    VALUES (:short_code, :provider, :currency, :is_open, :rank)
    ON CONFLICT (short_code) DO UPDATE
    SET provider = excluded.provider, currency = excluded.currency, is_open = excluded.is_open, rank = excluded.rank
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortCode:
    """One of our short codes at a provider. The lowest rank of the open ones is used by default."""

    short_code: str
    provider: str
    currency: str
    is_open: bool
    rank: int


def load_policies(tx: Connection) -> Policies:
    """Return every version of every policy."""
    return Policies(
        versions=tuple(
            Policy(
                name=row.name,
                version=row.version,
                valid_from=row.valid_from,
                loan_order=tuple(row.loan_order),
                targets=tuple(PolicyTarget(**each) for each in row.targets),
            )
            for row in POLICIES.rows(tx, {})
        )
    )


def load_tariffs(tx: Connection) -> Tariffs:
    """Return every tariff."""
    return Tariffs(versions=tuple(Tariff.of(row.valid_from, row.terms) for row in TARIFFS.rows(tx, {})))


def load_short_codes(tx: Connection) -> Sequence[ShortCode]:
    """Return our short codes, the preferred one first."""
    return [ShortCode(**row._asdict()) for row in SHORT_CODES.rows(tx, {})]


def insert_policy(tx: Connection, **policy: Any) -> int:
    """Store another version of a policy, and return its number."""
    return int(tx.execute(INSERT_POLICY, policy).scalar_one())


def insert_tariff(tx: Connection, *, valid_from: datetime, terms: Any, entered_by: str) -> bool:
    """Store a tariff. Return False where another one begins at that time."""
    values = {"valid_from": valid_from, "terms": terms, "entered_by": entered_by}
    return tx.execute(INSERT_TARIFF, values).rowcount == 1


def put_short_code(tx: Connection, short_code: ShortCode) -> None:
    """Store a short code, or change it."""
    tx.execute(PUT_SHORT_CODE, {name: getattr(short_code, name) for name in ShortCode.__dataclass_fields__})
