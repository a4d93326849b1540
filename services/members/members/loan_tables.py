"""Every statement on loans and on the parts in which they are paid out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, text

from chassis.postgres.columns import SQLALCHEMY, Columns
from chassis.postgres.statement import Statement
from members.tables import loan_parts, loans

LoanRow: TypeAlias = Row[tuple[Any, ...]]
"""A row of ``loans``."""
PartRow: TypeAlias = Row[tuple[Any, ...]]
"""A row of ``loan_parts``."""
PENDING, RELEASED, PART_PAID, PART_FAILED = "PENDING", "RELEASED", "PAID", "FAILED"
"""The states of a part."""

COLUMNS = Columns.of(loans, parameter=SQLALCHEMY)
PART_COLUMNS = Columns.of(loan_parts, parameter=SQLALCHEMY)
NEW = COLUMNS.only(
    "loan_id", "member_id", "principal_minor", "interest_ppm", "term_months", "loan_fee_minor", "penalty_ppm", "phone",
    "provider", "short_code", "currency", "applied_by", "applied_at",
)  # fmt: skip

LOANS = Statement(f"SELECT {COLUMNS.names} FROM loans WHERE loan_id = ANY(CAST(%(ids)s AS text[]))")

LOCK = Statement(f"""
    SELECT {COLUMNS.names} FROM loans WHERE loan_id = ANY(CAST(%(ids)s AS text[])) ORDER BY loan_id FOR UPDATE
""")

OPEN_OF = Statement("""
    SELECT member_id, loan_id, state FROM loans
    WHERE member_id = ANY(CAST(%(ids)s AS text[])) AND state IN ('DISBURSING', 'ACTIVE')
    ORDER BY member_id, applied_at, loan_id
""")

PARTS_BY_SAGA = Statement(f"""
    SELECT {PART_COLUMNS.names} FROM loan_parts WHERE saga_id = ANY(CAST(%(ids)s AS text[]))
""")

END_PARTS = Statement("""
    UPDATE loan_parts
    SET state = ended.state, failure_reason = ended.reason, receipt = ended.receipt, ended_at = ended.at
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(states)s AS text[]), CAST(%(reasons)s AS text[]),
                CAST(%(receipts)s AS text[]), CAST(%(times)s AS timestamptz[]))
        AS ended (saga_id, state, reason, receipt, at)
    WHERE loan_parts.saga_id = ended.saga_id AND loan_parts.state <> 'PAID'
""")

ACTIVATE = Statement("""
    UPDATE loans SET state = 'ACTIVE'
    WHERE loan_id = ANY(CAST(%(ids)s AS text[])) AND state = 'DISBURSING'
      AND NOT EXISTS (SELECT FROM loan_parts WHERE loan_parts.loan_id = loans.loan_id AND loan_parts.state <> 'PAID')
""")

BALANCE = Statement("""
    UPDATE loans SET balance_minor = paid.balance, is_paid = loans.is_paid OR paid.is_paid, balance_at = paid.at
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(balances)s AS bigint[]), CAST(%(are_paid)s AS boolean[]),
                CAST(%(times)s AS timestamptz[])) AS paid (loan_id, balance, is_paid, at)
    WHERE loans.loan_id = paid.loan_id AND (loans.balance_at IS NULL OR loans.balance_at <= paid.at)
""")

END_PAID = Statement("""
    UPDATE loans SET state = 'PAID', ended_at = balance_at
    WHERE loan_id = ANY(CAST(%(ids)s AS text[])) AND state = 'ACTIVE' AND is_paid
""")

INSERT = text(f"""
    INSERT INTO loans ({NEW.names}, state) VALUES ({", ".join(f":{name}" for name in NEW)}, 'APPLIED')
    ON CONFLICT (loan_id) DO NOTHING
""")

APPRAISE = text("""
    UPDATE loans SET state = 'APPRAISED', proposed_by = :by, proposal_reason = :reason, proposed_at = :at
    WHERE loan_id = :loan_id AND state = 'APPLIED'
""")

APPROVE = text("""
    UPDATE loans SET state = 'DISBURSING', approved_by = :by, approval_reason = :reason, approved_at = :at
    WHERE loan_id = :loan_id AND state = 'APPRAISED' AND lower(proposed_by) <> lower(:by)
""")

REFUSE = text("""
    UPDATE loans SET state = 'REFUSED', approval_reason = :reason, ended_at = :at
    WHERE loan_id = :loan_id AND state IN ('APPLIED', 'APPRAISED')
""")

INSERT_PART = text("""
    INSERT INTO loan_parts (loan_id, part, generation, amount_minor, state)
    VALUES (:loan_id, :part, 0, :amount_minor, 'PENDING')
""")

RELEASE_PART = text("""
    UPDATE loan_parts
    SET state = 'RELEASED', generation = generation + 1, saga_id = :saga_id, released_at = :at, failure_reason = NULL,
        ended_at = NULL
    WHERE loan_id = :loan_id AND part = :part AND generation = :generation AND state IN ('PENDING', 'FAILED')
""")

PARTS_OF = text(f"SELECT {PART_COLUMNS.names} FROM loan_parts WHERE loan_id = :loan_id ORDER BY part")

PAGE = text(f"""
    SELECT {COLUMNS.names} FROM loans
    WHERE loan_id > :after AND (CAST(:member_id AS text) IS NULL OR member_id = :member_id)
      AND (CAST(:state AS text) IS NULL OR state = :state)
    ORDER BY loan_id LIMIT :limit
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedPart:
    """The end of the payout of a part, by its saga."""

    saga_id: str
    state: str
    at: datetime
    reason: str | None = None
    receipt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What was left of a loan's principal at a time, and whether nothing at all was owed any more."""

    loan_id: str
    balance_minor: int
    is_paid: bool
    at: datetime


def load(tx: Connection, ids: Collection[str]) -> dict[str, LoanRow]:
    """Return these loans; unknown ones are missing."""
    return {row.loan_id: row for row in LOANS.rows(tx, {"ids": sorted(ids)})} if ids else {}


def lock(tx: Connection, ids: Collection[str]) -> dict[str, LoanRow]:
    """Lock loans in the order of their numbers, and return them."""
    return {row.loan_id: row for row in LOCK.rows(tx, {"ids": sorted(ids)})} if ids else {}


def open_of(tx: Connection, members: Collection[str]) -> dict[str, list[str]]:
    """Return the open loans of these members, in the order in which they are paid: the oldest first."""
    found: dict[str, list[str]] = {}
    for row in OPEN_OF.rows(tx, {"ids": sorted(members)}) if members else ():
        found.setdefault(row.member_id, []).append(row.loan_id)
    return found


def parts_by_saga(tx: Connection, sagas: Collection[str]) -> dict[str, PartRow]:
    """Return the parts of these sagas. A saga of an earlier generation has none."""
    return {row.saga_id: row for row in PARTS_BY_SAGA.rows(tx, {"ids": sorted(sagas)})} if sagas else {}


def end_parts(tx: Connection, ended: Sequence[EndedPart], loan_ids: Collection[str]) -> None:
    """Note how parts ended; a loan all of whose parts are paid becomes ACTIVE. The loans' rows are locked."""
    if not ended:
        return
    found = list({each.saga_id: each for each in sorted(ended, key=lambda each: each.state == PART_PAID)}.values())
    parameters = {
        "ids": [each.saga_id for each in found],
        "states": [each.state for each in found],
        "reasons": [each.reason for each in found],
        "receipts": [each.receipt for each in found],
        "times": [each.at for each in found],
    }
    END_PARTS.run(tx, parameters)
    ACTIVATE.run(tx, {"ids": sorted(loan_ids)})
    END_PAID.run(tx, {"ids": sorted(loan_ids)})


def note_balances(tx: Connection, balances: Sequence[Balance]) -> None:
    """Note what is left of loans whose rows are locked; one of which nothing is owed becomes PAID."""
    if not balances:
        return
    latest: dict[str, Balance] = {}
    for each in sorted(balances, key=lambda each: each.at):
        latest[each.loan_id] = each
    found = list(latest.values())
    BALANCE.run(
        tx,
        {
            "ids": [each.loan_id for each in found],
            "balances": [each.balance_minor for each in found],
            "are_paid": [each.is_paid for each in found],
            "times": [each.at for each in found],
        },
    )
    END_PAID.run(tx, {"ids": sorted(latest)})


def insert(tx: Connection, new: Mapping[str, object]) -> bool:
    """Store a loan as APPLIED. Return False where the number is taken."""
    return tx.execute(INSERT, dict(new)).rowcount == 1


def appraise(tx: Connection, loan_id: str, *, by: str, reason: str, at: datetime) -> bool:
    """Note that a person proposes to approve a loan. Return False for one that is not APPLIED."""
    return tx.execute(APPRAISE, {"loan_id": loan_id, "by": by, "reason": reason, "at": at}).rowcount == 1


def approve(tx: Connection, loan_id: str, *, by: str, reason: str, at: datetime) -> bool:
    """Note another person's approval. Return False for one that is not APPRAISED, and for the same person."""
    return tx.execute(APPROVE, {"loan_id": loan_id, "by": by, "reason": reason, "at": at}).rowcount == 1


def refuse(tx: Connection, loan_id: str, *, reason: str, at: datetime) -> bool:
    """Refuse a loan. Return False for one that is approved or refused."""
    return tx.execute(REFUSE, {"loan_id": loan_id, "reason": reason, "at": at}).rowcount == 1


def insert_parts(tx: Connection, loan_id: str, amounts: Sequence[int]) -> None:
    """Store the parts in which a loan is paid out; parts count from 1."""
    rows = [{"loan_id": loan_id, "part": part, "amount_minor": each} for part, each in enumerate(amounts, 1)]
    tx.execute(INSERT_PART, rows)


def release_part(tx: Connection, loan_id: str, part: int, *, generation: int, saga_id: str, at: datetime) -> bool:
    """Release a part for its payout by a saga. Return False where it was not PENDING or FAILED in this generation."""
    values = {"loan_id": loan_id, "part": part, "generation": generation, "saga_id": saga_id, "at": at}
    return tx.execute(RELEASE_PART, values).rowcount == 1


def parts(tx: Connection, loan_id: str) -> list[PartRow]:
    """Return the parts of a loan."""
    return list(tx.execute(PARTS_OF, {"loan_id": loan_id}))


def page(tx: Connection, **filters: object) -> list[LoanRow]:
    """Return loans whose number comes after ``after``."""
    return list(tx.execute(PAGE, filters))
