"""What the ledger's steps load and save, each for a whole batch; the tables themselves are in :mod:`ledger.store`."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from ledger.domain import posting, reversal
from ledger.model.decisions import Loaded
from ledger.store import booking, rows
from ledger.store.schema import metadata
from messages.ledger import ReverseLedger
from messages.payment import PaymentCaptured

__all__ = ["IMBALANCE", "load_postings", "load_reversals", "metadata", "save_loaded"]

IMBALANCE = text("""
    SELECT currency, sum(debits) - sum(credits)
    FROM balances JOIN accounts ON accounts.id = account_id GROUP BY currency
""")


def load_postings(events: Sequence[PaymentCaptured], tx: Connection) -> Loaded:
    """Lock the accounts of these payments, and open those that are new."""
    return booking.load([posting(event) for event in events], tx, now=min(event.occurred_at for event in events))


def load_reversals(commands: Sequence[ReverseLedger], tx: Connection) -> Loaded:
    """Load what these sagas posted, and lock its accounts."""
    now = min(command.occurred_at for command in commands)
    return booking.load([reversal(command) for command in commands], tx, now=now)


def save_loaded(loaded: Loaded, tx: Connection) -> None:
    """Add what the batch has booked."""
    rows.save(loaded, tx)
