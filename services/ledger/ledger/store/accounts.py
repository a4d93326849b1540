"""Opens and closes accounts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from ledger.model.charts import account_of
from ledger.store.schema import accounts

ACCOUNTS = Columns.of(accounts, without=("id",))

OPEN = Statement(f"""
    WITH opened AS (
        INSERT INTO accounts ({ACCOUNTS.names})
        SELECT {ACCOUNTS.values} FROM {ACCOUNTS.rows}
        ON CONFLICT (path) DO NOTHING
        RETURNING id, path, lanes, opened_at
    )
    INSERT INTO balances (account_id, lane, floor_minor, ceiling_minor, booked_at)
    SELECT opened.id, lane, limits.floor_minor, limits.ceiling_minor, opened.opened_at
    FROM opened
    JOIN unnest(CAST(%(limited)s AS text[]), CAST(%(floors)s AS bigint[]), CAST(%(ceilings)s AS bigint[]))
        AS limits (path, floor_minor, ceiling_minor) ON limits.path = opened.path
    CROSS JOIN LATERAL generate_series(0, opened.lanes - 1) AS lane
""")
LOCK_LANES = Statement("""
    SELECT debits, credits, held_debits, held_credits
    FROM balances
    WHERE account_id = (SELECT id FROM accounts WHERE path = %(path)s)
    ORDER BY lane FOR NO KEY UPDATE
""")
CLOSE = Statement("""
    UPDATE balances SET is_closed = true WHERE account_id = (SELECT id FROM accounts WHERE path = %(path)s)
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAccount:
    """An account to open."""

    path: str
    chart: str
    code: str
    owner: str | None
    kind: str
    currency: str
    lanes: int
    floor_minor: int | None
    ceiling_minor: int | None
    opened_at: datetime


class NotInChart(ValueError):
    """No chart has an account of this path; the message names it."""


def new_account(
    path: str, *, at: datetime, floor_minor: int | None = None, ceiling_minor: int | None = None
) -> NewAccount:
    """Return an account as its chart has it, with limits of its own where they are given. Raises NotInChart."""
    found = account_of(path)
    if found is None:
        raise NotInChart(f"No chart has an account {path}; it is chart:code:currency, with the owner before currency.")
    chart, code, owner, currency = found
    entry = chart.accounts[code]
    floor_minor = entry.floor_minor if floor_minor is None else floor_minor
    is_limited = floor_minor is not None or ceiling_minor is not None
    return NewAccount(
        path=path,
        chart=chart.name,
        code=code,
        owner=owner,
        kind=entry.kind.value,
        currency=currency,
        lanes=1 if is_limited else entry.lanes,
        floor_minor=floor_minor,
        ceiling_minor=ceiling_minor,
        opened_at=at,
    )


def open_accounts(new: Iterable[NewAccount], tx: Connection) -> None:
    """Open accounts; those that are open already stay as they are."""
    listed = sorted({account.path: account for account in new}.values(), key=lambda account: account.path)
    if listed:
        limits = {
            "limited": [account.path for account in listed],
            "floors": [account.floor_minor for account in listed],
            "ceilings": [account.ceiling_minor for account in listed],
        }
        OPEN.run(tx, ACCOUNTS.parameters(listed) | limits)


def close_account(path: str, tx: Connection) -> bool:
    """Close an account, and return whether it is: its balance must be zero, and nothing held."""
    lanes = LOCK_LANES.rows(tx, {"path": path})
    is_empty = sum(row.debits - row.credits for row in lanes) == 0
    is_hold = any(sum(held) for held in ([row.held_debits for row in lanes], [row.held_credits for row in lanes]))
    if not lanes or not is_empty or is_hold:
        return False
    CLOSE.run(tx, {"path": path})
    return True
