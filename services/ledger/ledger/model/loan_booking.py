"""How payments of loans are booked: each with its parts, and what a late one changes of the others. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from ledger.model.loans import NO_SPLIT, Change, Loan, LoanPart, LoanPayment, LoanState, Split
from ledger.model.payment_books import Source
from ledger.model.sacco_books import SaccoBooks, path, summed
from ledger.model.transfers import Entry, NotBooked
from ledger.model.waterfall import CODES

CORRECTED: Final = ":corrected"
"""The reference of what a late payment corrects is the step's with this behind it."""


def takes(books: SaccoBooks, loan_id: str, amount_minor: int, at: datetime, order: Sequence[LoanPart]) -> Split:
    """Return what a loan takes of an amount at a value date: nothing of it where it is not known or not paid out."""
    loan = books.loans.get(loan_id)
    return NO_SPLIT if loan is None else loan.divided(amount_minor, at, order)


def book_payments(
    books: SaccoBooks,
    source: Source,
    payments: Mapping[str, Split],
    *,
    value_at: datetime,
    order: Sequence[LoanPart],
    policy: str,
    policy_version: int,
) -> None:
    """Add these payments to their loans, and correct what they change of the parts of others.

    The caller books the payments themselves afterwards: a loan is never below zero in between.
    """
    entries: list[Entry] = []
    for loan_id, split in payments.items():
        loan = books.loans.get(loan_id)
        if loan is None:
            raise NotBooked(f"Loan {loan_id} is unknown here; its place_hold comes first.")
        payment = LoanPayment(
            loan_id=loan_id,
            number=len(loan.payments) + 1,
            saga_id=source.saga_id,
            value_at=value_at,
            split=split,
            order=tuple(order),
            policy=policy,
            policy_version=policy_version,
        )
        changed, changes = loan.paid(payment)
        books.put_loan(changed)
        for change in changes:
            entries += _corrected(loan, change)
    if entries := _netted(entries):
        books.book(source, entries, suffix=CORRECTED)


def loan_balance(books: SaccoBooks, loans: Mapping[str, Split]) -> int | None:
    """Return what is left of the principal of the loans that were paid; None where none was."""
    if not loans:
        return None
    return sum(books.loans[loan_id].principal_left_minor for loan_id in loans)


def loan_records(books: SaccoBooks, loans: Iterable[str]) -> list[dict[str, Any]]:
    """Return what is left of each of these loans, as an event has it."""
    found = [books.loans[loan_id] for loan_id in sorted(loans)]
    return [
        {
            "loan_id": loan.terms.loan_id,
            "principal_minor": loan.principal_left_minor,
            "is_paid": loan.state is LoanState.PAID,
        }
        for loan in found
    ]


def loan_inputs(loan: Loan, at: datetime) -> dict[str, Any]:
    """Return what is owed of a loan at a value date, as it is stored with an allocation."""
    owed = loan.owed_at(at)
    return {
        "version": loan.version,
        "penalties_minor": owed.penalties_minor,
        "fees_minor": owed.fees_minor,
        "interest_minor": owed.interest_minor,
        "principal_minor": owed.principal_minor,
    }


def is_closed(loan: Loan | None) -> bool:
    """Return whether nothing can be paid on a loan now."""
    return loan is None or loan.state is LoanState.PAID or loan.disbursed_minor == 0


def _corrected(loan: Loan, change: Change) -> list[Entry]:
    """Return the entries that bring a payment's parts to what they are now; what the loan no longer takes is saved."""
    terms, before = loan.terms, change.payment.split.by_part
    entries = [
        Entry(_path(part, loan), before[part] - after, terms.currency) for part, after in change.split.by_part.items()
    ]
    entries.append(Entry(path("fosa", terms.currency, terms.member_id), -change.excess_minor, terms.currency))
    return entries


def _path(part: LoanPart, loan: Loan) -> str:
    owner = loan.terms.loan_id if part is LoanPart.PRINCIPAL else None
    return path(CODES[part.value], loan.terms.currency, owner)


def _netted(entries: Sequence[Entry]) -> list[Entry]:
    """Return one entry for each account, none where the amounts cancel out."""
    sums: dict[str, Entry] = {}
    for each in summed(entries):
        known = sums.get(each.account)
        amount_minor = each.amount_minor + (0 if known is None else known.amount_minor)
        sums[each.account] = Entry(each.account, amount_minor, each.currency)
    return [each for each in sums.values() if each.amount_minor]
