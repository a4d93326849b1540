"""Loans: their terms and states, what was paid out of them, and what was paid back.

A loan's row is locked before its disbursements and payments are read, so that these are all there are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from chassis.postgres.columns import Columns
from chassis.postgres.statement import PendingResult, Statement
from ledger.model.loans import Disbursement, Loan, LoanPart, LoanPayment, LoanState, Split, Terms
from ledger.store.schema import loan_books, loan_disbursements, loan_payments

LOANS = Columns.of(
    loan_books,
    sources={
        "state": lambda row: row.state.value,
        **{
            name: f"terms.{name}"
            for name in (
                "loan_id", "member_id", "currency", "principal_minor", "interest_ppm", "term_months", "fee_minor",
                "penalty_ppm",
            )
        },
    },
)  # fmt: skip
CHANGED = LOANS.only("loan_id", "version", "state")
DISBURSEMENTS = Columns.of(loan_disbursements)
PAYMENTS = Columns.of(
    loan_payments,
    sources={
        "loan_order": lambda row: ",".join(row.order),
        "penalties_minor": "split.penalties_minor",
        "fees_minor": "split.fees_minor",
        "interest_minor": "split.interest_minor",
        "principal_minor": "split.principal_minor",
    },
)
CORRECTED = PAYMENTS.only("loan_id", "number", "penalties_minor", "fees_minor", "interest_minor", "principal_minor")

LOCK = Statement(f"""
    SELECT {LOANS.names} FROM loan_books
    WHERE loan_id = ANY(CAST(%(loan_ids)s AS text[])) ORDER BY loan_id FOR NO KEY UPDATE
""")
FIND = Statement(f"SELECT {LOANS.names} FROM loan_books WHERE loan_id = ANY(CAST(%(loan_ids)s AS text[]))")
FIND_DISBURSEMENTS = Statement(f"""
    SELECT {DISBURSEMENTS.names} FROM loan_disbursements
    WHERE loan_id = ANY(CAST(%(loan_ids)s AS text[])) ORDER BY loan_id, part
""")
FIND_PAYMENTS = Statement(f"""
    SELECT {PAYMENTS.names} FROM loan_payments
    WHERE loan_id = ANY(CAST(%(loan_ids)s AS text[])) ORDER BY loan_id, number
""")
ADD = Statement(f"INSERT INTO loan_books ({LOANS.names}) SELECT {LOANS.values} FROM {LOANS.rows}")
CHANGE = Statement(f"""
    UPDATE loan_books SET {CHANGED.assignments} FROM {CHANGED.rows}
    WHERE loan_books.loan_id = row.loan_id AND loan_books.version < row.version
""")
ADD_DISBURSEMENTS = Statement(f"""
    INSERT INTO loan_disbursements ({DISBURSEMENTS.names})
    SELECT {DISBURSEMENTS.values} FROM {DISBURSEMENTS.rows}
""")
ADD_PAYMENTS = Statement(f"""
    INSERT INTO loan_payments ({PAYMENTS.names}) SELECT {PAYMENTS.values} FROM {PAYMENTS.rows}
""")
CORRECT_PAYMENTS = Statement(f"""
    UPDATE loan_payments SET {CORRECTED.assignments} FROM {CORRECTED.rows}
    WHERE loan_payments.loan_id = row.loan_id AND loan_payments.number = row.number
""")


class LoanMoved(RuntimeError):
    """A loan's row changed although it was locked; the transaction must not be committed."""


def lock(loan_ids: Collection[str], tx: Connection) -> tuple[PendingResult, PendingResult, PendingResult] | None:
    """Lock loans in one order, then read what was paid out of them and paid back."""
    return _read(LOCK, loan_ids, tx)


def find(loan_ids: Collection[str], tx: Connection) -> dict[str, Loan]:
    """Return loans without locking them."""
    return loans_of(_read(FIND, loan_ids, tx))


def _read(
    statement: Statement, loan_ids: Collection[str], tx: Connection
) -> tuple[PendingResult, PendingResult, PendingResult] | None:
    if not loan_ids:
        return None
    wanted = {"loan_ids": sorted(loan_ids)}
    return (
        statement.submit(tx, wanted),
        FIND_DISBURSEMENTS.submit(tx, wanted),
        FIND_PAYMENTS.submit(tx, wanted),
    )


def loans_of(found: tuple[PendingResult, PendingResult, PendingResult] | None) -> dict[str, Loan]:
    """Return the loans of these results by their numbers."""
    if found is None:
        return {}
    rows, disbursed, paid = (each.rows() for each in found)
    disbursements: dict[str, list[Disbursement]] = {}
    for row in disbursed:
        disbursements.setdefault(row.loan_id, []).append(Disbursement(**row._asdict()))
    payments: dict[str, list[LoanPayment]] = {}
    for row in paid:
        payments.setdefault(row.loan_id, []).append(_payment(row))
    return {
        row.loan_id: Loan(
            terms=_terms(row),
            state=LoanState(row.state),
            version=row.version,
            disbursements=tuple(disbursements.get(row.loan_id, ())),
            payments=tuple(payments.get(row.loan_id, ())),
        )
        for row in rows
    }


def save(changed: Sequence[Loan], stored: Mapping[str, Loan], tx: Connection) -> None:
    """Add what has changed of these loans since they were stored. Raises LoanMoved."""
    if not changed:
        return
    new = [each for each in changed if each.terms.loan_id not in stored]
    moved = [each for each in changed if each.terms.loan_id in stored]
    if new:
        ADD.run(tx, LOANS.parameters(new))
    if moved and CHANGE.submit(tx, CHANGED.parameters(moved)).change_count() != len(moved):
        raise LoanMoved(f"Some of {len(moved)} loans changed under their locks; see who else writes to them.")
    disbursements: list[Disbursement] = []
    payments: list[LoanPayment] = []
    corrected: list[LoanPayment] = []
    for loan in changed:
        known = stored.get(loan.terms.loan_id, Loan(terms=loan.terms))
        disbursements += loan.disbursements[len(known.disbursements) :]
        payments += loan.payments[len(known.payments) :]
        pairs = zip(known.payments, loan.payments, strict=False)
        corrected += [after for before, after in pairs if before != after]
    if disbursements:
        ADD_DISBURSEMENTS.run(tx, DISBURSEMENTS.parameters(disbursements))
    if payments:
        ADD_PAYMENTS.run(tx, PAYMENTS.parameters(payments))
    if corrected:
        CORRECT_PAYMENTS.run(tx, CORRECTED.parameters(corrected))


def _terms(row: Any) -> Terms:
    return Terms(
        loan_id=row.loan_id,
        member_id=row.member_id,
        currency=row.currency,
        principal_minor=row.principal_minor,
        interest_ppm=row.interest_ppm,
        term_months=row.term_months,
        fee_minor=row.fee_minor,
        penalty_ppm=row.penalty_ppm,
    )


def _payment(row: Any) -> LoanPayment:
    return LoanPayment(
        loan_id=row.loan_id,
        number=row.number,
        saga_id=row.saga_id,
        value_at=row.value_at,
        split=Split(
            penalties_minor=row.penalties_minor,
            fees_minor=row.fees_minor,
            interest_minor=row.interest_minor,
            principal_minor=row.principal_minor,
        ),
        order=tuple(LoanPart(each) for each in row.loan_order.split(",")),
        policy=row.policy,
        policy_version=row.policy_version,
    )
