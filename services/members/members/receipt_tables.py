"""Every statement on receipts and on what persons propose about them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, text

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from members.tables import assignments, receipts, returns

ReceiptRow: TypeAlias = Row[tuple[Any, ...]]
"""A row of ``receipts``."""
ProposalRow: TypeAlias = Row[tuple[Any, ...]]
"""A row of ``assignments`` or ``returns``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReceipt:
    """A receipt to store as it was attributed."""

    provider: str
    short_code: str
    receipt: str
    saga_id: str
    currency: str
    amount_minor: int
    completed_at: datetime
    reference: str | None
    collection_id: str | None
    hint_member_id: str | None
    member_id: str | None
    state: str
    reason: str | None
    policy: str
    policy_version: int
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedReceipt:
    """What the ledger did with a receipt; ``allocations`` is JSON."""

    saga_id: str
    state: str
    reason: str | None
    member_id: str | None
    allocations: str
    at: datetime | None


COLUMNS = Columns.of(receipts)
NEW = COLUMNS.only(*NewReceipt.__dataclass_fields__)
OF = {"assignments": Columns.of(assignments), "returns": Columns.of(returns)}

INSERT = Statement(f"""
    INSERT INTO receipts ({NEW.names}, allocations) SELECT {NEW.values}, '[]' FROM {NEW.rows}
    ON CONFLICT (provider, short_code, receipt) DO NOTHING
""")

LOCK_BY_SAGA = Statement(f"""
    SELECT {COLUMNS.names} FROM receipts WHERE saga_id = ANY(CAST(%(ids)s AS text[]))
    ORDER BY provider, short_code, receipt FOR UPDATE
""")

BOOK = Statement("""
    UPDATE receipts
    SET state = booked.state, reason = booked.reason, member_id = coalesce(booked.member_id, receipts.member_id),
        allocations = CAST(booked.allocations AS jsonb), ended_at = booked.at
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(states)s AS text[]), CAST(%(reasons)s AS text[]),
                CAST(%(members)s AS text[]), CAST(%(allocations)s AS text[]), CAST(%(times)s AS timestamptz[]))
        AS booked (saga_id, state, reason, member_id, allocations, at)
    WHERE receipts.saga_id = booked.saga_id
""")

FIND = text(f"SELECT {COLUMNS.names} FROM receipts WHERE receipt = :receipt ORDER BY provider, short_code")

LOCK = text(f"SELECT {COLUMNS.names} FROM receipts WHERE receipt = :receipt ORDER BY provider, short_code FOR UPDATE")

SET_STATE = text("""
    UPDATE receipts SET state = :state, ended_at = :ended_at
    WHERE provider = :provider AND short_code = :short_code AND receipt = :receipt
""")

PAGE = text(f"""
    SELECT {COLUMNS.names} FROM receipts
    WHERE (CAST(:state AS text) IS NULL OR state = :state)
      AND (CAST(:member_id AS text) IS NULL OR member_id = :member_id)
      AND (recorded_at, receipt) > (CAST(:after_at AS timestamptz), :after)
    ORDER BY recorded_at, receipt LIMIT :limit
""")


def insert(tx: Connection, new: Sequence[NewReceipt]) -> None:
    """Store receipts; one that is there stays as it is."""
    if new:
        ordered = sorted(new, key=lambda each: (each.provider, each.short_code, each.receipt))
        INSERT.run(tx, NEW.parameters(ordered))


def lock_by_saga(tx: Connection, sagas: Collection[str]) -> dict[str, ReceiptRow]:
    """Lock the receipts of these sagas in one order, and return them by saga."""
    return {row.saga_id: row for row in LOCK_BY_SAGA.rows(tx, {"ids": sorted(sagas)})} if sagas else {}


def book(tx: Connection, booked: Sequence[BookedReceipt]) -> None:
    """Store what the ledger did with receipts whose rows are locked."""
    if booked:
        parameters = {
            "ids": [each.saga_id for each in booked],
            "states": [each.state for each in booked],
            "reasons": [each.reason for each in booked],
            "members": [each.member_id for each in booked],
            "allocations": [each.allocations for each in booked],
            "times": [each.at for each in booked],
        }
        BOOK.run(tx, parameters)


def find(tx: Connection, receipt: str, short_code: str | None = None, *, locks: bool = False) -> list[ReceiptRow]:
    """Return the receipts of a number, in most cases one; with ``locks`` their rows are locked."""
    rows = tx.execute(LOCK if locks else FIND, {"receipt": receipt}).all()
    return [row for row in rows if short_code is None or row.short_code == short_code]


def set_state(tx: Connection, row: ReceiptRow | ProposalRow, state: str, *, ended_at: datetime | None = None) -> None:
    """Change the state of a receipt whose row is locked."""
    key = {"provider": row.provider, "short_code": row.short_code, "receipt": row.receipt}
    tx.execute(SET_STATE, {**key, "state": state, "ended_at": ended_at})


def page(tx: Connection, **filters: object) -> list[ReceiptRow]:
    """Return receipts, the oldest first. A filter that is None selects all."""
    return list(tx.execute(PAGE, filters))


NEW_OF = {
    table: columns.without("decided_by", "decision_reason", "decided_at", "outcome", "ended_at")
    for table, columns in OF.items()
}
INSERT_INTO = {
    table: text(f"""
        INSERT INTO {table} ({new.names}) VALUES ({", ".join(f":{name}" for name in new)})
        ON CONFLICT DO NOTHING
    """)
    for table, new in NEW_OF.items()
}
FIND_IN = {
    table: text(f"SELECT {columns.names} FROM {table} WHERE proposal_id = :proposal_id")
    for table, columns in OF.items()
}
DECIDE_IN = {
    table: text(f"""
        UPDATE {table} SET state = :state, decided_by = :by, decision_reason = :reason, decided_at = :at
        WHERE proposal_id = :proposal_id AND state = 'PROPOSED'
          AND (lower(proposed_by) <> lower(:by) OR :state = 'REFUSED')
        RETURNING {columns.names}
    """)
    for table, columns in OF.items()
}
END_IN = {
    table: text(f"""
        UPDATE {table} SET state = :state, outcome = :outcome, ended_at = :at
        WHERE proposal_id = :proposal_id AND state = 'APPROVED'
        RETURNING {columns.names}
    """)
    for table, columns in OF.items()
}
PAGE_OF = {
    table: text(f"""
        SELECT {columns.names} FROM {table}
        WHERE proposal_id > :after AND (CAST(:state AS text) IS NULL OR state = :state)
        ORDER BY proposal_id LIMIT :limit
    """)
    for table, columns in OF.items()
}


class Proposals:
    """The statements on one table of proposals."""

    def __init__(self, table: str) -> None:
        self._insert = INSERT_INTO[table]
        self._find = FIND_IN[table]
        self._decide = DECIDE_IN[table]
        self._end = END_IN[table]
        self._page = PAGE_OF[table]

    def insert(self, tx: Connection, new: Mapping[str, object]) -> bool:
        """Store a proposal. Return False where another one of the receipt is open."""
        return tx.execute(self._insert, {**new, "state": "PROPOSED"}).rowcount == 1

    def find(self, tx: Connection, proposal_id: str) -> ProposalRow | None:
        """Return a proposal, None where there is none."""
        return tx.execute(self._find, {"proposal_id": proposal_id}).one_or_none()

    def decide(
        self, tx: Connection, proposal_id: str, state: str, *, by: str, reason: str, at: datetime
    ) -> ProposalRow | None:
        """Decide about a proposal. Return None where it is decided, or the same person would approve it."""
        values = {"proposal_id": proposal_id, "state": state, "by": by, "reason": reason, "at": at}
        return tx.execute(self._decide, values).one_or_none()

    def end(
        self, tx: Connection, proposal_id: str, state: str, *, outcome: str | None, at: datetime
    ) -> ProposalRow | None:
        """Note how the saga of an approved proposal ended, once; None where that is noted."""
        values = {"proposal_id": proposal_id, "state": state, "outcome": outcome, "at": at}
        return tx.execute(self._end, values).one_or_none()

    def page(self, tx: Connection, *, state: str | None, after: str, limit: int) -> list[ProposalRow]:
        """Return proposals in the order in which they were made."""
        return list(tx.execute(self._page, {"state": state, "after": after, "limit": limit}))


ASSIGNMENTS = Proposals("assignments")
RETURNS = Proposals("returns")
