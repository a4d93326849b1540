"""Loads and saves what requests about a SACCO's members need, each batch in one order of locks.

1. Receipts, then loans, then payouts are locked, each in the order of their keys.
2. Accounts that a loan's first part needs are opened.
3. Balances are locked and what decides is read (:mod:`ledger.store.booking`), with the savings of the loans' members:
   what a loan no longer takes goes there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from ledger.model.sacco_books import Needs, SaccoBooks, path
from ledger.store import booking, loan_books, payout_books, receipt_books, rows
from ledger.store.accounts import new_account, open_accounts
from ledger.store.booking import Wanted


def load(needs: Sequence[Needs], tx: Connection, *, now: datetime) -> SaccoBooks:
    """Load and lock what these need."""
    # 1.
    receipts = receipt_books.lock(
        {each for need in needs for each in need.receipt_sagas},
        {each for need in needs for each in need.receipt_keys},
        {each for need in needs for each in need.returned_by},
        tx,
    )
    locked_loans = loan_books.lock({each for need in needs for each in need.loan_ids}, tx)
    payouts = payout_books.lock({each for need in needs for each in need.payout_sagas}, tx)
    loans = loan_books.loans_of(locked_loans)
    # 2.
    opened = {each for need in needs for each in need.opened}
    if opened:
        open_accounts([new_account(each, at=now) for each in opened], tx)
    # 3.
    savings = {path("fosa", each.terms.currency, each.terms.member_id) for each in loans.values()}
    wanted = Wanted(
        own=frozenset(each for need in needs for each in need.own),
        named=frozenset(each for need in needs for each in need.named),
        paths=frozenset(each for need in needs for each in need.paths) | savings,
        payment_ids=frozenset(),
    )
    loaded = booking.load_wanted(wanted, tx, now=now)
    found_receipts = [] if receipts is None else [receipt_books.receipt_of(row) for row in receipts.rows()]
    found_payouts = [] if payouts is None else [payout_books.payout_of(row) for row in payouts.rows()]
    return SaccoBooks(
        loaded=loaded,
        receipts={each.saga_id: each for each in found_receipts},
        loans=loans,
        payouts={each.saga_id: each for each in found_payouts},
        stored_receipts=frozenset(each.saga_id for each in found_receipts),
        stored_loans=dict(loans),
        stored_payouts=frozenset(each.saga_id for each in found_payouts),
    )


def save(books: SaccoBooks, tx: Connection) -> None:
    """Add what the batch has booked, with the rows that it changed."""
    rows.save(books.loaded, tx)
    receipts, payouts = books.changed_receipts.values(), books.changed_payouts.values()
    receipt_books.save(
        [each for each in receipts if each.saga_id not in books.stored_receipts],
        [each for each in receipts if each.saga_id in books.stored_receipts],
        tx,
    )
    loan_books.save(list(books.changed_loans.values()), books.stored_loans, tx)
    payout_books.save(
        [each for each in payouts if each.saga_id not in books.stored_payouts],
        [each for each in payouts if each.saga_id in books.stored_payouts],
        tx,
    )
