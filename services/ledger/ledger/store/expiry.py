"""Voids holds whose definition gave them an end, once it has passed. Any other hold stands until it is resolved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from ledger.model.transfers import Transfer, TransferKind
from ledger.store.booking import book

HOLDS_MAX = 500
OVERLAP = timedelta(hours=1)
"""A hold that was booked with an end in the past is found as well, unless that lies further back."""
FIRST = datetime(1970, 1, 1, tzinfo=UTC)

EXPIRED = text("""
    SELECT reference, expires_at FROM transfers AS hold
    WHERE kind = 'HOLD' AND expires_at IS NOT NULL AND expires_at > :since AND expires_at <= :now
      AND NOT EXISTS (SELECT FROM transfers WHERE of_id = hold.id AND kind IN ('POST', 'VOID'))
    ORDER BY expires_at LIMIT :count
""")


def void_reference(hold: str) -> str:
    """Return the reference of the void of an expired hold: one for each, so that it is voided once."""
    return f"{hold}:expired"


class ExpiredHolds:
    """Voids expired holds. The first search begins with the first hold, a later one shortly before the last search."""

    def __init__(self) -> None:
        self._since = FIRST

    def void(self, tx: Connection, *, now: datetime) -> bool:
        """Void some of them, and return whether there may be more. The caller commits."""
        found = tx.execute(EXPIRED, {"since": self._since, "now": now, "count": HOLDS_MAX}).all()
        if found:
            voids = [
                Transfer(reference=void_reference(row.reference), kind=TransferKind.VOID, of=row.reference)
                for row in found
            ]
            book(voids, tx, now=now)
        if len(found) < HOLDS_MAX:
            self._since = now - OVERLAP
        return len(found) == HOLDS_MAX
