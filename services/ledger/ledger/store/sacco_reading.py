"""What people read of a SACCO's receipts, payouts and members."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from ledger.model.sacco_books import OWNED_BY_MEMBERS, ReceiptKey

RECEIPT = """
    SELECT saga_id, provider, short_code, receipt, currency, amount_minor, completed_at, recorded_at, state, member_id,
           allocated_by, policy, policy_version, inputs, returned_by
    FROM receipt_books
"""
FIND_RECEIPT = text(f"{RECEIPT} WHERE provider = :provider AND short_code = :short_code AND receipt = :receipt")
LIST_RECEIPTS = text(f"""
    {RECEIPT}
    WHERE short_code = :short_code AND state = :state AND (completed_at, saga_id) > (:after_at, :after_id)
    ORDER BY completed_at, saga_id LIMIT :count
""")
LIST_PAYOUTS = text("""
    SELECT saga_id, short_code, source, member_id, currency, amount_minor, held_at, state, ended_at
    FROM payout_books
    WHERE short_code = :short_code AND state = :state AND (held_at, saga_id) > (:after_at, :after_id)
    ORDER BY held_at, saga_id LIMIT :count
""")
ACCOUNTS = text("""
    SELECT path AS account, code, currency, is_closed, CAST(sum(credits) - sum(debits) AS text) AS credit
    FROM accounts JOIN balances ON account_id = id
    WHERE owner = :member_id AND chart = 'sacco' AND code = ANY(CAST(:codes AS text[]))
    GROUP BY id, path, code, currency, is_closed ORDER BY path
""")
LOANS = text("SELECT loan_id FROM loan_books WHERE member_id = :member_id ORDER BY loan_id")
STATEMENT = text("""
    SELECT entry.transfer_id, entry.ordinal, reference, amount_minor, entry.booked_at, entry.effective_at, saga_id,
           step, CAST(credits_after - debits_after AS text) AS credit_after
    FROM transfer_entries AS entry JOIN transfers ON transfers.id = entry.transfer_id
    WHERE entry.account_id = (SELECT id FROM accounts WHERE path = :path) AND entry.lane = 0 AND NOT entry.is_hold
      AND entry.booked_at >= :since AND entry.booked_at < :until
      AND (entry.transfer_id, entry.ordinal) < (:before_id, :before_ordinal)
    ORDER BY entry.booked_at DESC, entry.transfer_id DESC, entry.ordinal DESC LIMIT :count
""")
"""An account of a member has one lane, so the totals after an entry are those of the account."""


def find_receipt(key: ReceiptKey, tx: Connection) -> Any:
    """Return a receipt's row, or None."""
    values = {"provider": key.provider, "short_code": key.short_code, "receipt": key.receipt}
    return tx.execute(FIND_RECEIPT, values).one_or_none()


def list_receipts(short_code: str, state: str, tx: Connection, *, after: tuple[datetime, str], count: int) -> list[Any]:
    """Return receipts of a state, the oldest first."""
    return _list(LIST_RECEIPTS, short_code, state, tx, after, count)


def list_payouts(short_code: str, state: str, tx: Connection, *, after: tuple[datetime, str], count: int) -> list[Any]:
    """Return payouts of a state, those first that were held first."""
    return _list(LIST_PAYOUTS, short_code, state, tx, after, count)


def accounts_of_member(member_id: str, tx: Connection) -> list[Any]:
    """Return a member's accounts, each with its credits less its debits."""
    return list(tx.execute(ACCOUNTS, {"member_id": member_id, "codes": list(OWNED_BY_MEMBERS)}).all())


def loans_of_member(member_id: str, tx: Connection) -> list[str]:
    """Return the numbers of a member's loans."""
    return list(tx.execute(LOANS, {"member_id": member_id}).scalars())


def member_statement(
    path: str, tx: Connection, *, since: datetime, until: datetime, before: tuple[int, int], count: int
) -> list[Any]:
    """Return the entries of a member's account that were booked in a range of time, the newest first."""
    values = {
        "path": path, "since": since, "until": until, "before_id": before[0], "before_ordinal": before[1],
        "count": count,
    }  # fmt: skip
    return list(tx.execute(STATEMENT, values).all())


def _list(
    statement: Any, short_code: str, state: str, tx: Connection, after: tuple[datetime, str], count: int
) -> list[Any]:
    values = {"short_code": short_code, "state": state, "after_at": after[0], "after_id": after[1], "count": count}
    return list(tx.execute(statement, values).all())
