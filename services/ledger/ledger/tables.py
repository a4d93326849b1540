"""What the ledger's steps load and save, each for a whole batch; the tables themselves are in :mod:`ledger.store`."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from chassis.postgres.transient import utc_now
from ledger.model.decisions import Loaded
from ledger.model.transfers import Transfer
from ledger.store import booking, rows
from ledger.store.schema import metadata

__all__ = ["IMBALANCE", "OVERDUE", "load", "metadata", "save"]

IMBALANCE = text("""
    SELECT currency, sum(abs(difference))
    FROM (
        SELECT chart, currency, sum(debits) - sum(credits) AS difference
        FROM balances JOIN accounts ON accounts.id = account_id GROUP BY chart, currency
    ) AS books
    GROUP BY currency
""")

OVERDUE = text("""
    SELECT 'manual_posting', count(*) FROM manual_postings
    WHERE state = 'APPROVED' AND decided_at < now() - interval '10 minutes'
""")


def load(transfers: Sequence[Transfer], tx: Connection) -> Loaded:
    """Lock the accounts of these transfers, and open those that are opened on use.

    The time is the ledger's own: what a message says about its time decides no booking and no end of a hold.
    """
    return booking.load(transfers, tx, now=utc_now())


def save(loaded: Loaded, tx: Connection) -> None:
    """Add what the batch has booked."""
    rows.save(loaded, tx)
