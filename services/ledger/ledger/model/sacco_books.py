"""What a batch about a SACCO's members has loaded, and how one of its requests books. Pure.

Receipts, loans and payouts are rows that the ledger keeps with its bookings. They change in the same transaction, and
are locked before balances, each kind in one order.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeAlias

from chassis.saga.triggers import StepRequest
from ledger.model.accounts import Balance
from ledger.model.charts import SACCO
from ledger.model.decisions import Loaded, decide
from ledger.model.loans import Loan
from ledger.model.payment_books import Source
from ledger.model.transfers import Entry, NotBooked, Reason, Refused, Stored, Transfer, TransferKind

REJECTIONS: Final = frozenset({Reason.INSUFFICIENT_FUNDS, Reason.ACCOUNT_CLOSED, Reason.LIMIT_EXCEEDED})
"""What may be rejected of what a member requests. An account that is not open is a member whose onboarding is missing:
a person sees to that, and no payout fails for it."""
OWNED_BY_MEMBERS: Final = ("fosa", "deposits", "shares", "dividends_payable", "member_receivable")
"""The accounts that each member has."""
Inputs: TypeAlias = Mapping[str, Any]


class ReceiptState(enum.StrEnum):
    """Where the money of a receipt is."""

    UNALLOCATED = "UNALLOCATED"
    ALLOCATED = "ALLOCATED"
    RETURNING = "RETURNING"
    RETURNED = "RETURNED"


class PayoutState(enum.StrEnum):
    """Where the money of a payout is."""

    HELD = "HELD"
    PAID = "PAID"
    RELEASED = "RELEASED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptKey:
    """What names a receipt outside of us."""

    provider: str
    short_code: str
    receipt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A receipt. ``saga_id`` is the saga that recorded it; ``inputs`` are what its allocation was computed from."""

    saga_id: str
    provider: str
    short_code: str
    receipt: str
    currency: str
    amount_minor: int
    completed_at: datetime
    recorded_at: datetime
    state: ReceiptState
    member_id: str | None = None
    allocated_by: str | None = None
    policy: str | None = None
    policy_version: int | None = None
    inputs: Inputs | None = None
    returned_by: str | None = None

    @property
    def key(self) -> ReceiptKey:
        """What names it."""
        return ReceiptKey(provider=self.provider, short_code=self.short_code, receipt=self.receipt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """A payout. ``ended_at`` is its value date once it is paid, and the time of its release."""

    saga_id: str
    short_code: str
    source: str
    member_id: str
    currency: str
    amount_minor: int
    held_at: datetime
    state: PayoutState
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a request needs: the references that it may book, those that they name, paths, and rows by their ids.

    ``opened`` are accounts that are opened if they are not.
    """

    own: Sequence[str] = ()
    named: Sequence[str] = ()
    paths: Sequence[str] = ()
    opened: Sequence[str] = ()
    receipt_sagas: Sequence[str] = ()
    receipt_keys: Sequence[ReceiptKey] = ()
    returned_by: Sequence[str] = ()
    loan_ids: Sequence[str] = ()
    payout_sagas: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The business refuses the request, and nothing is changed. ``reason`` is a code, ``detail`` a sentence."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The request is done. ``fields`` are those of its event that the trigger does not have."""

    fields: Mapping[str, Any] = field(default_factory=dict)


Outcome: TypeAlias = Done | Rejected


@dataclass(slots=True, kw_only=True)
class SaccoBooks:
    """What the batch has loaded and changes."""

    loaded: Loaded
    receipts: dict[str, Receipt] = field(default_factory=dict)
    loans: dict[str, Loan] = field(default_factory=dict)
    payouts: dict[str, Payout] = field(default_factory=dict)
    stored_receipts: frozenset[str] = frozenset()
    stored_loans: Mapping[str, Loan] = field(default_factory=dict)
    stored_payouts: frozenset[str] = frozenset()
    changed_receipts: dict[str, Receipt] = field(default_factory=dict)
    changed_loans: dict[str, Loan] = field(default_factory=dict)
    changed_payouts: dict[str, Payout] = field(default_factory=dict)
    _named: dict[ReceiptKey, str] = field(init=False)

    def __post_init__(self) -> None:
        self._named = {each.key: saga_id for saga_id, each in self.receipts.items()}

    def balance(self, path: str) -> Balance:
        """Return the only row of an account. Raises NotBooked for an account that is not open."""
        balance = self.balance_if_open(path)
        if balance is None:
            raise NotBooked(f"No account {path}; register the member, whose onboarding opens it.")
        return balance

    def balance_if_open(self, path: str) -> Balance | None:
        """Return the row of an account, or None for one that was never opened."""
        account = self.loaded.accounts.get(path)
        return None if account is None else self.loaded.balances[account.id]

    def known(self, reference: str) -> Stored:
        """Return a booked transfer that a request needs. Raises NotBooked."""
        found = self.loaded.known.get(reference)
        if found is None:
            raise NotBooked(f"Nothing is booked under {reference}; the step before books it.")
        return found

    def receipt_of(self, key: ReceiptKey) -> Receipt | None:
        """Return the receipt of that name, or None."""
        saga_id = self._named.get(key)
        return None if saga_id is None else self.receipts[saga_id]

    def receipt(self, saga_id: str) -> Receipt:
        """Return the receipt that a saga recorded. Raises NotBooked."""
        found = self.receipts.get(saga_id)
        if found is None:
            raise NotBooked(f"Saga {saga_id} has recorded no receipt here; its record_receipt comes first.")
        return found

    def put_receipt(self, receipt: Receipt) -> None:
        """Change a receipt, or add it."""
        self.receipts[receipt.saga_id] = self.changed_receipts[receipt.saga_id] = receipt
        self._named[receipt.key] = receipt.saga_id

    def put_loan(self, loan: Loan) -> None:
        """Change a loan, or add it."""
        loan = replace(loan, version=loan.version + 1)
        self.loans[loan.terms.loan_id] = self.changed_loans[loan.terms.loan_id] = loan

    def put_payout(self, payout: Payout) -> None:
        """Change a payout, or add it."""
        self.payouts[payout.saga_id] = self.changed_payouts[payout.saga_id] = payout

    def try_book(
        self,
        source: Source,
        entries: Iterable[Entry],
        *,
        effective_at: datetime | None = None,
        suffix: str = "",
        corrects: str | None = None,
    ) -> Rejected | None:
        """Book a transfer under the source's reference, or return why the business refuses it. Raises NotBooked."""
        transfer = Transfer(
            reference=f"{source.reference}{suffix}",
            kind=TransferKind.TRANSFER if corrects is None else TransferKind.CORRECTION,
            entries=tuple(entries),
            of=corrects,
            effective_at=effective_at,
            origin=source.origin,
        )
        outcome = decide(transfer, self.loaded)
        if not isinstance(outcome, Refused):
            return None
        if outcome.reason not in REJECTIONS:
            raise NotBooked(f"What {transfer.reference} books was refused: {outcome.reason}. {outcome.detail}")
        return Rejected(reason=outcome.reason.lower(), detail=outcome.detail)

    def book(
        self,
        source: Source,
        entries: Iterable[Entry],
        *,
        effective_at: datetime | None = None,
        suffix: str = "",
        corrects: str | None = None,
    ) -> None:
        """Book a transfer that must not be refused. Raises NotBooked."""
        refused = self.try_book(source, entries, effective_at=effective_at, suffix=suffix, corrects=corrects)
        if refused is not None:
            raise NotBooked(f"What {source.reference}{suffix} books was refused: {refused.reason}. {refused.detail}")


def path(code: str, currency: str, owner: str | None = None) -> str:
    """Return the path of an account of the SACCO."""
    return SACCO.path(code, currency, owner)


def entries_of(
    posting: str, amounts: Mapping[str, int], currency: str, owners: Mapping[str, str] | None = None
) -> tuple[Entry, ...]:
    """Return the entries of a moment. An amount of zero has no entry."""
    given = {name: amount_minor for name, amount_minor in amounts.items() if amount_minor}
    return SACCO.entries(posting, given, currency, owners)


def summed(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return one entry for each account and side, in the order in which they first occur."""
    sums: Counter[tuple[str, str, bool]] = Counter()
    for each in entries:
        sums[(each.account, each.currency, each.amount_minor > 0)] += each.amount_minor
    return tuple(Entry(account, amount_minor, currency) for (account, currency, _), amount_minor in sums.items())


def reversed_entries(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the entries that take these back."""
    return tuple(Entry(each.account, -each.amount_minor, each.currency) for each in entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaccoRequest(StepRequest, ABC):
    """What a message asks of a step that books for members."""

    message_id: str

    @property
    def source(self) -> Source:
        """Which saga, step and message books."""
        return Source(saga_id=self.saga_id, step=self.step, message_id=self.message_id)

    @abstractmethod
    def needs(self) -> Needs:
        """Return what is loaded and locked for it."""

    @abstractmethod
    def book(self, books: SaccoBooks) -> Outcome:
        """Book it. Whatever is in the way and is no rejection raises NotBooked."""
