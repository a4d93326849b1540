"""What the sagas of receipts ask of the ledger: to record one, to allocate it, to return it. Pure.

One receipt is recorded once, whatever saga asks for it, and leaves what is not allocated once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from ledger.model.loan_booking import book_payments, loan_balance, loan_inputs, loan_records, takes
from ledger.model.loans import LoanPart
from ledger.model.sacco_books import (
    Done,
    Inputs,
    Needs,
    Outcome,
    Receipt,
    ReceiptKey,
    ReceiptState,
    Rejected,
    SaccoBooks,
    SaccoRequest,
    entries_of,
    path,
    summed,
)
from ledger.model.transfers import Entry, NotBooked, reference_of
from ledger.model.waterfall import (
    CODES,
    LOAN_KINDS,
    Allocation,
    NotAllocated,
    Target,
    TargetKind,
    allocate,
    parts_of,
)

RECORD_RECEIPT: Final = "record_receipt"
POST_ALLOCATION: Final = "post_allocation"
HOLD_RETURN: Final = "hold_return"
COMMIT_RETURN: Final = "commit_return"
ALLOCATED: Final = "ALLOCATED"
SUSPENSE: Final = "SUSPENSE"
UNALLOCATED: Final = "UNALLOCATED"
SAVINGS: Final = "SAVINGS"
SPENT: Final = "spent"
INSUFFICIENT_FUNDS: Final = "insufficient_funds"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfReceipt(SaccoRequest):
    """A request about a receipt; ``receipt_saga_id`` is the saga that recorded it."""

    provider: str
    short_code: str
    receipt: str
    currency: str
    amount_minor: int
    completed_at: datetime
    receipt_saga_id: str

    @property
    def receipt_key(self) -> ReceiptKey:
        """What names the receipt."""
        return ReceiptKey(provider=self.provider, short_code=self.short_code, receipt=self.receipt)

    def recorded(self, books: SaccoBooks) -> Receipt:
        """Return the receipt as it is recorded. Raises NotBooked where it is another one."""
        found = books.receipt(self.receipt_saga_id)
        if (found.key, found.currency, found.amount_minor) != (self.receipt_key, self.currency, self.amount_minor):
            wanted = f"{self.receipt_key} of {self.amount_minor} {self.currency}"
            raise NotBooked(f"Saga {self.receipt_saga_id} has recorded {found}, not {wanted}; see who sent it.")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordReceipt(OfReceipt):
    """Record that money has arrived. It is not rejected: the money is here."""

    def needs(self) -> Needs:
        """Return the receipt by its name, and the accounts of what is received."""
        return Needs(
            own=(reference_of(self.saga_id, self.step),),
            paths=(path("utility", self.currency, self.short_code), path("unallocated", self.currency)),
            receipt_keys=(self.receipt_key,),
        )

    def book(self, books: SaccoBooks) -> Outcome:
        """Book it at its value date. Raises NotBooked where another saga has recorded it."""
        known = books.receipt_of(self.receipt_key)
        if known is not None and known.saga_id != self.saga_id:
            raise NotBooked(f"Receipt {self.receipt} of {self.short_code} is recorded by saga {known.saga_id} already.")
        entries = entries_of("received", {"amount": self.amount_minor}, self.currency, {"utility": self.short_code})
        books.book(self.source, entries, effective_at=self.completed_at)
        books.put_receipt(
            Receipt(
                saga_id=self.saga_id,
                provider=self.provider,
                short_code=self.short_code,
                receipt=self.receipt,
                currency=self.currency,
                amount_minor=self.amount_minor,
                completed_at=self.completed_at,
                recorded_at=books.loaded.booked_at,
                state=ReceiptState.UNALLOCATED,
            )
        )
        return Done()


@dataclass(frozen=True, slots=True, kw_only=True)
class PostAllocation(OfReceipt):
    """Allocate a receipt by a member's policy, or leave it where it is. ``reason`` is why it waits already."""

    member_id: str | None
    reason: str | None
    policy: str
    policy_version: int
    loan_order: tuple[LoanPart, ...]
    targets: tuple[Target, ...]

    def needs(self) -> Needs:
        """Return the receipt, the loans, and the accounts of every target."""
        return Needs(
            own=_references(self),
            paths=(path("unallocated", self.currency), *paths_of(self.targets, self.currency, self.member_id)),
            receipt_sagas=(self.receipt_saga_id,),
            loan_ids=tuple(each.owner for each in self.targets if each.kind is TargetKind.LOAN),
        )

    def book(self, books: SaccoBooks) -> Outcome:
        """Allocate it at its value date, or return why it stays unallocated."""
        receipt = self.recorded(books)
        reason = self.reason
        if receipt.state is not ReceiptState.UNALLOCATED:
            reason = receipt.state.value.lower()
        if reason is not None:
            return _suspended(reason)
        found = allocate(
            self.amount_minor,
            self.targets,
            takes=lambda loan_id, amount: takes(books, loan_id, amount, self.completed_at, self.loan_order),
            is_open=lambda target: is_open(books, target, self.currency),
        )
        if isinstance(found, NotAllocated):
            return _suspended(found.reason)
        return self._post(books, receipt, found.allocations)

    def repost(self, books: SaccoBooks, published: Done) -> Outcome:
        """Book again in a restored database what was published; what balances are now decides nothing."""
        if published.fields["state"] != ALLOCATED:
            return published
        listed = tuple(
            Allocation(kind=each["kind"], owner=each["owner"], amount_minor=each["allocated_minor"])
            for each in published.fields["allocations"]
        )
        self._post(books, self.recorded(books), listed)
        return published

    def _post(self, books: SaccoBooks, receipt: Receipt, allocations: Sequence[Allocation]) -> Outcome:
        inputs = self._inputs(books)
        loans = parts_of(allocations)
        book_payments(
            books, self.source, loans,
            value_at=self.completed_at, order=self.loan_order, policy=self.policy, policy_version=self.policy_version,
        )  # fmt: skip
        books.book(self.source, attributed(allocations, self.currency), effective_at=self.completed_at)
        books.put_receipt(
            replace(
                receipt,
                state=ReceiptState.ALLOCATED,
                member_id=self.member_id,
                allocated_by=self.saga_id,
                policy=self.policy,
                policy_version=self.policy_version,
                inputs=inputs,
            )
        )
        return Done(
            fields={
                "state": ALLOCATED,
                "reason": None,
                "allocations": records_of(allocations),
                "loan_balance_minor": loan_balance(books, loans),
                "loans": loan_records(books, loans),
            }
        )

    def _inputs(self, books: SaccoBooks) -> Inputs:
        """Return what the allocation is computed from, as it is stored with it."""
        return {
            "targets": [
                {"kind": each.kind.value, "owner": each.owner, "limit_minor": each.limit_minor} for each in self.targets
            ],
            "loan_order": [each.value for each in self.loan_order],
            "value_at": self.completed_at.isoformat(),
            "loans": {
                each.owner: loan_inputs(books.loans[each.owner], self.completed_at)
                for each in self.targets
                if each.owner in books.loans
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldReturn(OfReceipt):
    """Hold a receipt's amount for its return: what is not allocated, or the savings of the member who got it."""

    from_savings: bool
    member_id: str | None

    def needs(self) -> Needs:
        """Return the receipt, and the accounts of the hold."""
        source = self._source_path()
        return Needs(
            own=(reference_of(self.saga_id, self.step),),
            paths=(path("returns_in_transit", self.currency, self.saga_id), *([] if source is None else [source])),
            receipt_sagas=(self.receipt_saga_id,),
        )

    def book(self, books: SaccoBooks) -> Outcome:
        """Hold it, or return why not. Raises NotBooked for a member who did not get it."""
        receipt = self.recorded(books)
        wanted = ReceiptState.ALLOCATED if self.from_savings else ReceiptState.UNALLOCATED
        if receipt.state is not wanted:
            detail = f"Receipt {self.receipt} is {receipt.state}, not {wanted}."
            return Rejected(reason=receipt.state.value.lower(), detail=detail)
        if self.from_savings and (self.member_id is None or receipt.member_id != self.member_id):
            raise NotBooked(f"Receipt {self.receipt} was allocated to {receipt.member_id}, not {self.member_id}.")
        posting = "return_held_from_savings" if self.from_savings else "return_held"
        owners = {"returns_in_transit": self.saga_id, "fosa": self.member_id or ""}
        entries = entries_of(posting, {"amount": self.amount_minor}, self.currency, owners)
        if (refused := books.try_book(self.source, entries)) is not None:
            return replace(refused, reason=SPENT) if refused.reason == INSUFFICIENT_FUNDS else refused
        books.put_receipt(replace(receipt, state=ReceiptState.RETURNING, returned_by=self.saga_id))
        return Done()

    def _source_path(self) -> str | None:
        if not self.from_savings:
            return path("unallocated", self.currency)
        return None if self.member_id is None else path("fosa", self.currency, self.member_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitReturn(OfReceipt):
    """Book that a receipt has gone back to its payer."""

    reversed_at: datetime

    def needs(self) -> Needs:
        """Return the receipt, and the accounts of what has left."""
        return Needs(
            own=(reference_of(self.saga_id, self.step),),
            paths=(
                path("returns_in_transit", self.currency, self.saga_id),
                path("utility", self.currency, self.short_code),
            ),
            receipt_sagas=(self.receipt_saga_id,),
        )

    def book(self, books: SaccoBooks) -> Outcome:
        """Book it at the reversal's time. Raises NotBooked where nothing is held for it."""
        receipt = self.recorded(books)
        if (receipt.state, receipt.returned_by) != (ReceiptState.RETURNING, self.saga_id):
            raise NotBooked(f"Receipt {self.receipt} is {receipt.state} by {receipt.returned_by}; nothing is held.")
        owners = {"returns_in_transit": self.saga_id, "utility": self.short_code}
        entries = entries_of("returned", {"amount": self.amount_minor}, self.currency, owners)
        books.book(self.source, entries, effective_at=self.reversed_at)
        books.put_receipt(replace(receipt, state=ReceiptState.RETURNED))
        return Done()


def state_before_return(receipt: Receipt) -> ReceiptState:
    """Return the state that a receipt had before it was held for its return."""
    return ReceiptState.UNALLOCATED if receipt.allocated_by is None else ReceiptState.ALLOCATED


def paths_of(targets: Iterable[Target], currency: str, member_id: str | None) -> list[str]:
    """Return every account that an allocation may touch, with the savings that get what a loan no longer takes."""
    found = [] if member_id is None else [path("fosa", currency, member_id)]
    for each in targets:
        if each.kind is TargetKind.LOAN:
            found.append(path("loan", currency, each.owner))
            found += [path(CODES[part], currency) for part in ("PENALTIES", "FEES", "INTEREST")]
        else:
            found.append(path(CODES[each.kind], currency, each.owner))
    return found


def is_open(books: SaccoBooks, target: Target, currency: str) -> bool:
    """Return whether a target may take anything. A member's account that was never opened is no closed one."""
    if target.kind is TargetKind.LOAN:
        return target.owner in books.loans
    return not books.balance(path(CODES[target.kind], currency, target.owner)).is_closed


def attributed(allocations: Iterable[Allocation], currency: str) -> tuple[Entry, ...]:
    """Return the entries of an allocation of what was not allocated."""
    entries: list[Entry] = []
    for each in allocations:
        code = CODES[each.kind]
        owners = {code: each.owner} if each.kind not in LOAN_KINDS or code == "loan" else {}
        entries += entries_of("attributed", {code: each.amount_minor}, currency, owners)
    return summed(entries)


def records_of(allocations: Iterable[Allocation]) -> list[dict[str, Any]]:
    """Return allocations as an event has them."""
    return [{"kind": each.kind, "owner": each.owner, "allocated_minor": each.amount_minor} for each in allocations]


def _suspended(reason: str) -> Done:
    nothing: dict[str, Any] = {"allocations": [], "loan_balance_minor": None, "loans": []}
    return Done(fields={"state": SUSPENSE, "reason": reason, **nothing})


def _references(request: SaccoRequest) -> tuple[str, str]:
    reference = reference_of(request.saga_id, request.step)
    return reference, f"{reference}:corrected"
