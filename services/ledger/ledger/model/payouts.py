"""What the sagas of payouts ask of the ledger: to hold one's money, and to book that it was paid. Pure.

A payout is one thing, whatever pays for it: savings, a loan that is disbursed, a dividend. Its hold is a posting with
no end: only proof that it failed leads to the release. Each has an account of its own in transit, which never goes
below zero, so that a release and a commit exclude one another.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from ledger.model.loan_booking import book_payments, is_closed, loan_balance, loan_records, takes
from ledger.model.loans import Disbursement, Loan, LoanPart, Terms
from ledger.model.receipts import records_of
from ledger.model.sacco_books import (
    Done,
    Needs,
    Outcome,
    Payout,
    PayoutState,
    Rejected,
    SaccoBooks,
    SaccoRequest,
    entries_of,
    path,
    summed,
)
from ledger.model.transfers import Entry, NotBooked, reference_of
from ledger.model.waterfall import CODES, LOAN_CLOSED, Allocation, TargetKind, of_loan, parts_of

PLACE_HOLD: Final = "place_hold"
COMMIT_PAYOUT: Final = "commit_payout"
POST_REPAYMENT: Final = "post_repayment"
LIMIT_EXCEEDED: Final = "limit_exceeded"


class PayoutSource(enum.StrEnum):
    """What pays for a payout."""

    SAVINGS = "SAVINGS"
    LOAN = "LOAN"
    DIVIDEND = "DIVIDEND"


POSTINGS: Final = {
    PayoutSource.SAVINGS: "payout",
    PayoutSource.LOAN: "loan_payout",
    PayoutSource.DIVIDEND: "dividend_payout",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OfPayout(SaccoRequest):
    """A request about a payout, which its saga names."""

    member_id: str
    short_code: str
    currency: str
    amount_minor: int
    fee_minor: int
    excise_minor: int
    pays: PayoutSource
    loan_id: str | None = None

    @property
    def amounts(self) -> Mapping[str, int]:
        """The amounts of its postings."""
        return {"amount": self.amount_minor, "fee": self.fee_minor, "excise": self.excise_minor}

    @property
    def owners(self) -> Mapping[str, str]:
        """The owners of its accounts."""
        found = {
            "fosa": self.member_id,
            "dividends_payable": self.member_id,
            "payout_in_transit": self.saga_id,
            "utility": self.short_code,
            "charges_payable": self.short_code,
        }
        return found if self.loan_id is None else {**found, "loan": self.loan_id, "loans_in_transit": self.loan_id}

    @property
    def own_loan(self) -> str:
        """The loan of a payout that a loan pays for. Raises NotBooked without one."""
        if self.loan_id is None:
            raise NotBooked(f"Payout {self.saga_id} of a loan names none; see who sent it.")
        return self.loan_id


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceHold(OfPayout):
    """Take a payout's money from what pays for it. ``terms`` are those of the loan that pays."""

    terms: Terms | None = None

    def needs(self) -> Needs:
        """Return the accounts of the hold. A loan's account is opened with its first one."""
        loans = [] if self.loan_id is None else [self.loan_id]
        entries = entries_of(POSTINGS[self.pays], _ones(self.amounts), self.currency, self.owners)
        return Needs(
            own=(reference_of(self.saga_id, self.step),),
            paths=tuple(each.account for each in entries),
            opened=tuple(path("loan", self.currency, each) for each in loans),
            loan_ids=loans,
            payout_sagas=(self.saga_id,),
        )

    def book(self, books: SaccoBooks) -> Outcome:
        """Hold it, or return why not."""
        if self.pays is PayoutSource.LOAN and (refused := self._check_loan(books)) is not None:
            return refused
        entries = entries_of(POSTINGS[self.pays], self.amounts, self.currency, self.owners)
        if (rejected := books.try_book(self.source, entries)) is not None:
            return rejected
        if self.terms is not None and self.own_loan not in books.loans:
            books.put_loan(Loan(terms=self.terms))
        books.put_payout(
            Payout(
                saga_id=self.saga_id,
                short_code=self.short_code,
                source=self.pays.value,
                member_id=self.member_id,
                currency=self.currency,
                amount_minor=self.amount_minor,
                held_at=books.loaded.booked_at,
                state=PayoutState.HELD,
            )
        )
        return Done()

    def _check_loan(self, books: SaccoBooks) -> Rejected | None:
        """Refuse a part beyond what is lent: what was paid out, and what is in transit, count."""
        loan = books.loans.get(self.own_loan) or (None if self.terms is None else Loan(terms=self.terms))
        if loan is None or (self.terms is not None and loan.terms != self.terms):
            raise NotBooked(f"Loan {self.loan_id} has other terms here: {loan}, not {self.terms}; see who sent it.")
        transit = books.balance_if_open(path("loans_in_transit", self.currency, self.own_loan))
        paying_minor = loan.disbursed_minor + (0 if transit is None else transit.posted) + self.amount_minor
        if paying_minor <= loan.terms.principal_minor:
            return None
        detail = f"Loan {self.loan_id} of {loan.terms.principal_minor} would have {paying_minor} paid out."
        return Rejected(reason=LIMIT_EXCEEDED, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitPayout(OfPayout):
    """Book that a payout was paid: fees are earned now, and a loan's interest begins."""

    charge_minor: int
    completed_at: datetime
    part: int = 0

    def needs(self) -> Needs:
        """Return the accounts of what was paid."""
        return Needs(
            own=(reference_of(self.saga_id, self.step),),
            named=(reference_of(self.saga_id, PLACE_HOLD),),
            paths=tuple(each.account for each in self._entries(_ones({**self.amounts, "charge": 1}))),
            loan_ids=() if self.loan_id is None else (self.loan_id,),
            payout_sagas=(self.saga_id,),
        )

    def book(self, books: SaccoBooks) -> Outcome:
        """Book it at its value date. Raises NotBooked where its money is not in transit any more."""
        payout = held_payout(books, self.saga_id)
        books.book(
            self.source,
            self._entries({**self.amounts, "charge": self.charge_minor}),
            effective_at=self.completed_at,
        )
        books.put_payout(replace(payout, state=PayoutState.PAID, ended_at=self.completed_at))
        if self.pays is PayoutSource.LOAN:
            self._disburse(books)
        return Done()

    def _entries(self, amounts: Mapping[str, int]) -> tuple[Entry, ...]:
        entries = entries_of("payout_paid", amounts, self.currency, self.owners)
        if self.pays is PayoutSource.LOAN:
            entries += entries_of("loan_paid", {"amount": amounts["amount"]}, self.currency, self.owners)
        return entries

    def _disburse(self, books: SaccoBooks) -> None:
        loan = books.loans.get(self.own_loan)
        if loan is None:
            raise NotBooked(f"Loan {self.loan_id} is unknown here; its place_hold comes first.")
        disbursement = Disbursement(
            loan_id=self.own_loan,
            saga_id=self.saga_id,
            part=len(loan.disbursements) + 1,
            amount_minor=self.amount_minor,
            value_at=self.completed_at,
        )
        books.put_loan(loan.disbursed(disbursement))


@dataclass(frozen=True, slots=True, kw_only=True)
class PostRepayment(SaccoRequest):
    """Repay a loan from savings: one booking, all of it or nothing."""

    member_id: str
    loan_id: str
    currency: str
    amount_minor: int
    policy: str
    policy_version: int
    loan_order: tuple[LoanPart, ...]
    value_at: datetime

    def needs(self) -> Needs:
        """Return the loan, and the accounts of its parts."""
        reference = reference_of(self.saga_id, self.step)
        income = [path(CODES[part], self.currency) for part in ("PENALTIES", "FEES", "INTEREST")]
        return Needs(
            own=(reference, f"{reference}:corrected"),
            paths=(
                path("fosa", self.currency, self.member_id),
                path("loan", self.currency, self.loan_id),
                *income,
            ),
            loan_ids=(self.loan_id,),
        )

    def book(self, books: SaccoBooks) -> Outcome:
        """Book what the loan takes; what it does not take stays in savings."""
        loan = books.loans.get(self.loan_id)
        if loan is not None and loan.terms.member_id != self.member_id:
            raise NotBooked(f"Loan {self.loan_id} is of {loan.terms.member_id}, not of {self.member_id}.")
        split = takes(books, self.loan_id, self.amount_minor, self.value_at, self.loan_order)
        if is_closed(loan) or split.total_minor == 0:
            return Rejected(reason=LOAN_CLOSED, detail=f"Nothing is owed of loan {self.loan_id}.")
        available = books.balance(path("fosa", self.currency, self.member_id)).available
        if available < self.amount_minor:
            detail = f"{available} are available and {self.amount_minor} were to be repaid."
            return Rejected(reason="insufficient_funds", detail=detail)
        allocations = of_loan(self.loan_id, split)
        if rest := self.amount_minor - split.total_minor:
            savings = Allocation(kind=TargetKind.SAVINGS.value, owner=self.member_id, amount_minor=rest)
            allocations.append(savings)
        return self._post(books, allocations)

    def repost(self, books: SaccoBooks, published: Done) -> Outcome:
        """Book again in a restored database what was published."""
        listed = [
            Allocation(kind=each["kind"], owner=each["owner"], amount_minor=each["allocated_minor"])
            for each in published.fields["allocations"]
        ]
        return self._post(books, listed)

    def _post(self, books: SaccoBooks, allocations: Sequence[Allocation]) -> Outcome:
        loans = parts_of(allocations)
        book_payments(
            books, self.source, loans,
            value_at=self.value_at, order=self.loan_order, policy=self.policy, policy_version=self.policy_version,
        )  # fmt: skip
        entries: list[Entry] = []
        owners = {"fosa": self.member_id, "loan": self.loan_id}
        for each in allocations:
            if each.kind != TargetKind.SAVINGS:
                entries += entries_of("repaid", {CODES[each.kind]: each.amount_minor}, self.currency, owners)
        rejected = books.try_book(self.source, summed(entries), effective_at=self.value_at)
        if rejected is not None:
            raise NotBooked(f"What {self.source.reference} books was refused: {rejected.detail}")
        left = {"loan_balance_minor": loan_balance(books, loans), "loans": loan_records(books, loans)}
        return Done(fields={"allocations": records_of(allocations), **left})


def held_payout(books: SaccoBooks, saga_id: str) -> Payout:
    """Return a payout whose money is in transit. Raises NotBooked for any other."""
    payout = books.payouts.get(saga_id)
    if payout is None or payout.state is not PayoutState.HELD:
        raise NotBooked(f"Nothing is held for payout {saga_id}: {payout}. A release and a commit exclude one another.")
    return payout


def _ones(amounts: Mapping[str, int]) -> Mapping[str, int]:
    """Return the same amounts, none of them zero: every account that they may touch."""
    return {name: max(1, amount_minor) for name, amount_minor in amounts.items()}
