"""What people read: balances at any time, statements, transfers.

A balance at a booked time is read off the totals that the last entry before it carries, one for each lane. A balance
at an effective time is that, and the entries whose value date and booking are on different sides of it. Few entries
are booked more than NEAR before or after their value date; those have indexes of their own, and so have the others
that are not booked at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from chassis.postgres.bounds import SERVING
from ledger.store.booking import CLOSING_LOCK

NEAR = timedelta(seconds=5)
"""As in the indexes ``entries_late`` and ``entries_ahead``. What a service books for its trigger is seldom later."""

SETTLING = timedelta(seconds=SERVING.transaction_s + 10)
"""A booking's time is read before its first statement, on another machine, by a clock that differs a little."""

FIND_ACCOUNT = text("""
    SELECT id, path, chart, code, owner, kind, currency, opened_at, bool_or(is_closed) AS is_closed,
           min(floor_minor) AS floor_minor, min(ceiling_minor) AS ceiling_minor
    FROM accounts JOIN balances ON account_id = id WHERE path = :path GROUP BY id
""")
LIST_ACCOUNTS = text("""
    SELECT listed.*, is_closed, floor_minor, ceiling_minor
    FROM (
        SELECT id, path, chart, code, owner, kind, currency, opened_at FROM accounts
        WHERE id > :after AND (CAST(:chart AS text) IS NULL OR chart = :chart)
          AND (CAST(:owner AS text) IS NULL OR owner = :owner)
        ORDER BY id LIMIT :count
    ) AS listed
    JOIN balances ON account_id = id AND lane = 0
    ORDER BY id
""")
BALANCE_NOW = text("""
    SELECT coalesce(sum(debits), 0) AS debits, coalesce(sum(credits), 0) AS credits,
           coalesce(sum(held_debits), 0) AS held_debits, coalesce(sum(held_credits), 0) AS held_credits
    FROM balances WHERE account_id = :id
""")
FIND_TRANSFER = text("""
    SELECT transfers.id, transfers.reference, transfers.kind, named.reference AS of, transfers.booked_at,
           transfers.effective_at, transfers.expires_at, transfers.exchange_rate, transfers.is_late, transfers.saga_id,
           transfers.step, transfers.message_id,
           (SELECT reference FROM transfers AS other
            WHERE other.of_id = transfers.id AND other.kind IN ('POST', 'VOID')) AS resolved_by
    FROM transfers LEFT JOIN transfers AS named ON named.id = transfers.of_id
    WHERE transfers.reference = :reference
""")
ENTRIES_OF = text("""
    SELECT ordinal, path AS account, amount_minor, currency, is_hold
    FROM transfer_entries JOIN accounts ON accounts.id = account_id WHERE transfer_id = :id ORDER BY ordinal
""")
SETTLED_UNTIL = text("""
    SELECT least(clock_timestamp(), min(xact_start)) - CAST(:margin AS interval)
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND mode = 'ShareLock' AND objsubid = 1
      AND (CAST(classid AS bigint) << 32) + CAST(objid AS bigint) = :lock
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")
BALANCE_BOOKED = text("""
    SELECT coalesce(sum(debits_after), 0) AS debits, coalesce(sum(credits_after), 0) AS credits
    FROM balances
    CROSS JOIN LATERAL (
        SELECT debits_after, credits_after FROM transfer_entries AS entry
        WHERE entry.account_id = balances.account_id AND entry.lane = balances.lane AND entry.booked_at <= :at
        ORDER BY entry.booked_at DESC, entry.transfer_id DESC, entry.ordinal DESC LIMIT 1
    ) AS latest
    WHERE balances.account_id = :id
""")
CROSSING = text("""
    SELECT coalesce(sum(times * greatest(amount_minor, 0)), 0) AS debits,
           coalesce(sum(times * greatest(-amount_minor, 0)), 0) AS credits
    FROM (
        SELECT amount_minor, CASE WHEN booked_at > :at THEN 1 ELSE -1 END AS times FROM transfer_entries
        WHERE account_id = :id AND booked_at > :since AND booked_at <= :until
        AND effective_at <> booked_at AND NOT is_hold
        AND ((effective_at <= :at AND booked_at > :at AND booked_at - effective_at <= interval '5 seconds')
             OR (effective_at > :at AND booked_at <= :at AND effective_at - booked_at <= interval '5 seconds'))
        UNION ALL
        SELECT amount_minor, 1 FROM transfer_entries
        WHERE account_id = :id AND booked_at > :at AND effective_at <= :at AND NOT is_hold
        AND booked_at - effective_at > interval '5 seconds'
        UNION ALL
        SELECT amount_minor, -1 FROM transfer_entries
        WHERE account_id = :id AND effective_at > :at AND booked_at <= :at AND NOT is_hold
        AND effective_at - booked_at > interval '5 seconds'
    ) AS crossing
""")
STATEMENT = text("""
    SELECT line.*, reference, transfers.kind, saga_id, step, message_id, is_late
    FROM (
        SELECT entry.* FROM balances
        LEFT JOIN unnest(
            CAST(:lanes AS smallint[]), CAST(:times AS timestamptz[]), CAST(:transfer_ids AS bigint[]),
            CAST(:ordinals AS smallint[])
        ) AS after (lane, booked_at, transfer_id, ordinal) ON after.lane = balances.lane
        CROSS JOIN LATERAL (
            SELECT entry.lane, entry.transfer_id, entry.ordinal, amount_minor, is_hold, entry.booked_at, effective_at
            FROM transfer_entries AS entry
            WHERE entry.account_id = balances.account_id AND entry.lane = balances.lane
            AND (entry.booked_at, entry.transfer_id, entry.ordinal)
                > (coalesce(after.booked_at, '-infinity'), coalesce(after.transfer_id, 0), coalesce(after.ordinal, 0))
            ORDER BY entry.booked_at, entry.transfer_id, entry.ordinal LIMIT :count
        ) AS entry
        WHERE balances.account_id = :id
        ORDER BY booked_at, transfer_id, ordinal LIMIT :count
    ) AS line
    JOIN transfers ON transfers.id = transfer_id
    ORDER BY line.booked_at, transfer_id, ordinal
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a page of a statement begins in one lane: after this entry."""

    booked_at: datetime
    transfer_id: int
    ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountTotals:
    """The posted totals of an account at a time."""

    debits: int
    credits: int


def find_account(path: str, tx: Connection) -> Any:
    """Return an account's row, or None."""
    return tx.execute(FIND_ACCOUNT, {"path": path}).one_or_none()


def list_accounts(*, chart: str | None, owner: str | None, after: int, count: int, tx: Connection) -> list[Any]:
    """Return up to ``count`` accounts after the one with this id, in the order in which they were opened."""
    values = {"chart": chart, "owner": owner, "after": after, "count": count}
    return list(tx.execute(LIST_ACCOUNTS, values).all())


def balance_now(account_id: int, tx: Connection) -> Any:
    """Return the totals of an account as they are, posted and held."""
    return tx.execute(BALANCE_NOW, {"id": account_id}).one()


def find_transfer(reference: str, tx: Connection) -> tuple[Any, list[Any]] | None:
    """Return a transfer's row and those of its entries, or None."""
    row = tx.execute(FIND_TRANSFER, {"reference": reference}).one_or_none()
    return None if row is None else (row, list(tx.execute(ENTRIES_OF, {"id": row.id}).all()))


def settled_until(tx: Connection) -> datetime:
    """Return a time up to which no booking is under way any more: what was booked by then stays as it is.

    Every booking shares a lock until it is committed. What is read afterwards must be in a later snapshot.
    """
    found: datetime = tx.execute(SETTLED_UNTIL, {"lock": CLOSING_LOCK, "margin": SETTLING}).scalar_one()
    return found


def balance_booked(account_id: int, at: datetime, tx: Connection) -> AccountTotals:
    """Return the totals of what was booked at or before this time."""
    row = tx.execute(BALANCE_BOOKED, {"id": account_id, "at": at}).one()
    return AccountTotals(debits=int(row.debits), credits=int(row.credits))


def balance_effective(account_id: int, at: datetime, tx: Connection) -> AccountTotals:
    """Return the totals of what has a value date at or before this time, whenever it was booked."""
    booked = balance_booked(account_id, at, tx)
    values = {"id": account_id, "at": at, "since": at - NEAR, "until": at + NEAR}
    row = tx.execute(CROSSING, values).one()
    return AccountTotals(debits=booked.debits + int(row.debits), credits=booked.credits + int(row.credits))


def statement(account_id: int, after: Mapping[int, Position], count: int, tx: Connection) -> list[Any]:
    """Return up to ``count`` entries of an account after a position in each lane, in the order of booking.

    Within a lane bookings commit in that order, as each holds the lane's row. Between lanes they need not: after one
    position for all lanes, an earlier booking that commits later would never be found.
    """
    values = {
        "lanes": list(after),
        "times": [each.booked_at for each in after.values()],
        "transfer_ids": [each.transfer_id for each in after.values()],
        "ordinals": [each.ordinal for each in after.values()],
    }
    return list(tx.execute(STATEMENT, {"id": account_id, "count": count, **values}).all())
