"""Manual postings: who proposes what, and who approves it. Nothing of one is in the books before its saga holds it.

The row is one person's proposal until another one decides: the statement refuses a decision of the same person, and so
does the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from ledger.model.transfers import Entry

COLUMNS = """posting_id, accounts, amounts, currencies, effective_at, reason, proposed_by, proposed_at, state,
           decided_by, decided_at, decision_reason, outcome, ended_at"""

PROPOSE = text("""
    INSERT INTO manual_postings (posting_id, key, accounts, amounts, currencies, effective_at, reason, proposed_by,
                                 proposed_at, state)
    VALUES (:posting_id, :key, :accounts, :amounts, :currencies, :effective_at, :reason, :proposed_by, :proposed_at,
            'PROPOSED')
    ON CONFLICT (proposed_by, key) DO NOTHING
""")
FIND_BY_KEY = text(f"SELECT {COLUMNS} FROM manual_postings WHERE proposed_by = :proposed_by AND key = :key")
FIND = text(f"SELECT {COLUMNS} FROM manual_postings WHERE posting_id = :posting_id")
LIST = text(f"""
    SELECT {COLUMNS} FROM manual_postings
    WHERE posting_id > :after AND (CAST(:state AS text) IS NULL OR state = :state)
    ORDER BY posting_id LIMIT :count
""")
DECIDE = text(f"""
    UPDATE manual_postings
    SET state = :state, decided_by = :decided_by, decided_at = :decided_at, decision_reason = :reason
    WHERE posting_id = :posting_id AND state = 'PROPOSED'
      AND (lower(proposed_by) <> lower(:decided_by) OR :state = 'REFUSED')
    RETURNING {COLUMNS}
""")
RECORD = text("""
    INSERT INTO manual_postings (posting_id, key, accounts, amounts, currencies, effective_at, reason, proposed_by,
                                 proposed_at, state, decided_by, decided_at, decision_reason)
    VALUES (:posting_id, :posting_id, :accounts, :amounts, :currencies, :effective_at, :reason, :proposed_by,
            :proposed_at, 'APPROVED', :decided_by, :decided_at, :decision_reason)
    ON CONFLICT (posting_id) DO UPDATE
    SET state = excluded.state, decided_by = excluded.decided_by, decided_at = excluded.decided_at,
        decision_reason = excluded.decision_reason
    WHERE manual_postings.state = 'PROPOSED'
""")
END = text("""
    UPDATE manual_postings SET state = :state, outcome = :outcome, ended_at = :ended_at
    WHERE posting_id = :posting_id AND state = 'APPROVED'
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a person proposes to post. ``key`` is the client's: the same key proposes once."""

    posting_id: str
    key: str
    entries: Sequence[Entry]
    effective_at: datetime
    reason: str
    proposed_by: str
    proposed_at: datetime


def propose(proposal: Proposal, tx: Connection) -> Any:
    """Store a proposal, unless one under its key is there, and return the row that is."""
    tx.execute(PROPOSE, _values(proposal) | {"key": proposal.key})
    return tx.execute(FIND_BY_KEY, {"proposed_by": proposal.proposed_by, "key": proposal.key}).one()


def _values(proposal: Proposal) -> dict[str, Any]:
    return {
        "posting_id": proposal.posting_id,
        "accounts": [entry.account for entry in proposal.entries],
        "amounts": [entry.amount_minor for entry in proposal.entries],
        "currencies": [entry.currency for entry in proposal.entries],
        "effective_at": proposal.effective_at,
        "reason": proposal.reason,
        "proposed_by": proposal.proposed_by,
        "proposed_at": proposal.proposed_at,
    }


def find(posting_id: str, tx: Connection) -> Any:
    """Return a manual posting's row, or None."""
    return tx.execute(FIND, {"posting_id": posting_id}).one_or_none()


def list_postings(*, state: str | None, after: str, count: int, tx: Connection) -> list[Any]:
    """Return up to ``count`` manual postings after the one with this id, in the order in which they were proposed."""
    return list(tx.execute(LIST, {"state": state, "after": after, "count": count}).all())


def decide(posting_id: str, state: str, tx: Connection, *, by: str, reason: str, at: datetime) -> Any:
    """Approve or refuse a proposal, and return its row; None where it is decided already, or its proposer approves."""
    values = {"posting_id": posting_id, "state": state, "decided_by": by, "decided_at": at, "reason": reason}
    return tx.execute(DECIDE, values).one_or_none()


def record_approval(
    proposal: Proposal, tx: Connection, *, approved_by: str, approved_at: datetime, approval_reason: str
) -> None:
    """Store an approval that Kafka has and this database, since it was restored, may lack."""
    decision = {"decided_by": approved_by, "decided_at": approved_at, "decision_reason": approval_reason}
    tx.execute(RECORD, _values(proposal) | decision)


def end(posting_id: str, state: str, outcome: str | None, tx: Connection, *, at: datetime) -> None:
    """Record how the saga of an approved posting ended. Once it has ended this changes nothing."""
    tx.execute(END, {"posting_id": posting_id, "state": state, "outcome": outcome, "ended_at": at})


def entries_of(row: Any) -> tuple[Entry, ...]:
    """Return the entries of a manual posting's row."""
    return tuple(Entry(*each) for each in zip(row.accounts, row.amounts, row.currencies, strict=True))
