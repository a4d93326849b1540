"""What a batch about merchants' payments has loaded, and how one of its requests books. Pure.

A request may book several transfers. All of them stand with its payment's status, or none: whatever is refused after
the first one raises, so that the transaction ends.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from chassis.saga.triggers import StepRequest
from ledger.model.accounts import Balance
from ledger.model.decisions import Loaded, decide
from ledger.model.payments import Payment, PaymentAmounts, PaymentChange, PaymentStatus
from ledger.model.transfers import (
    Booked,
    Entry,
    NotBooked,
    Origin,
    Outcome,
    Refused,
    Stored,
    Transfer,
    TransferKind,
    reference_of,
)

CAPTURE_OR_VOID: Final = "capture_or_void"
REFUND_GATEWAY: Final = "refund_gateway"
RESERVE_BALANCE: Final = "reserve_balance"
COMMIT_LEDGER: Final = "commit_ledger"
POST_REVERSAL: Final = "post_reversal"
POST_SETTLEMENT: Final = "post_settlement"
OPEN_MERCHANT_ACCOUNTS: Final = "open_merchant_accounts"


class RefundState(enum.StrEnum):
    """What the ledger knows of a refund."""

    HELD = "HELD"
    COMMITTED = "COMMITTED"
    RELEASED = "RELEASED"
    FAILED = "FAILED"


class DisputeState(enum.StrEnum):
    """What the ledger knows of a dispute."""

    OPEN = "OPEN"
    WON = "WON"
    LOST = "LOST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """A refund of a payment, and the saga that made it."""

    refund_id: int
    payment_id: str
    saga_id: str
    amount_minor: int
    state: RefundState


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """A dispute about a payment. ``covered_minor`` is what the merchant's reserve covered."""

    dispute_id: str
    payment_id: str
    amount_minor: int
    covered_minor: int
    state: DisputeState


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a request needs: the references that it may book, those that they name, and the paths that they touch.

    ``accounts`` must be open, and are not locked.
    """

    own: Sequence[str] = ()
    named: Sequence[str] = ()
    paths: Sequence[str] = ()
    accounts: Sequence[str] = ()
    payment_ids: Sequence[str] = ()
    refund_ids: Sequence[int] = ()
    dispute_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Which saga, step and message books."""

    saga_id: str
    step: str
    message_id: str

    @property
    def reference(self) -> str:
        """The reference of what the step books."""
        return reference_of(self.saga_id, self.step)

    @property
    def origin(self) -> Origin:
        """The origin of what the step books."""
        return Origin(saga_id=self.saga_id, step=self.step, message_id=self.message_id)

    def of(self, step: str) -> Source:
        """Return the same for another step of the saga, whose outcome it books."""
        return replace(self, step=step)


@dataclass(slots=True, kw_only=True)
class Books:
    """What the batch has loaded and changes. ``open_accounts`` are those that requests need and do not touch."""

    loaded: Loaded
    open_accounts: frozenset[str] = frozenset()
    refunds: dict[int, Refund] = field(default_factory=dict)
    disputes: dict[str, Dispute] = field(default_factory=dict)
    changed_refunds: dict[int, Refund] = field(default_factory=dict)
    changed_disputes: dict[str, Dispute] = field(default_factory=dict)

    def payment(self, payment_id: str) -> Payment | None:
        """Return a payment as it stands in this batch."""
        return self.loaded.payments.get(payment_id)

    def merchants_payment(self, payment_id: str, owner: str, currency: str) -> tuple[Payment, PaymentAmounts]:
        """Return a payment that must be known, with its amounts. Raises NotBooked."""
        payment = self.payment(payment_id)
        if payment is None or payment.amounts is None:
            raise NotBooked(f"Payment {payment_id} of {owner} is unknown here; its reserve_balance comes first.")
        if (payment.amounts.owner, payment.amounts.currency) != (owner, currency):
            has = f"{payment.amounts.owner} in {payment.amounts.currency}"
            raise NotBooked(f"Payment {payment_id} is of {has}, not of {owner} in {currency}; see who sent it.")
        return payment, payment.amounts

    def known(self, reference: str) -> Stored | None:
        """Return a booked transfer that a request needs."""
        return self.loaded.known.get(reference)

    def resolved_by(self, hold: str) -> str | None:
        """Return the reference of what posted or voided a hold, or None."""
        return self.loaded.resolved.get(hold)

    def covered(self, path: str, amount_minor: int) -> int:
        """Return how much of an amount an account can give. Raises NotBooked for an account that is not open."""
        return max(0, min(self.balance(path).available, amount_minor))

    def balance(self, path: str) -> Balance:
        """Return the only row of an account. Raises NotBooked for an account that is not open."""
        account = self.loaded.accounts.get(path)
        if account is None:
            raise NotBooked(f"No account {path}; register the merchant, whose onboarding opens it.")
        return self.loaded.balances[account.id]

    def try_book(
        self,
        source: Source,
        *,
        kind: TransferKind = TransferKind.TRANSFER,
        entries: tuple[Entry, ...] = (),
        of: str | None = None,
        change: PaymentChange | None = None,
        is_undo: bool = False,
    ) -> Outcome:
        """Book a transfer under the source's reference, or return why not."""
        reference = f"{source.reference}:undo" if is_undo else source.reference
        transfer = Transfer(
            reference=reference, kind=kind, entries=entries, of=of, origin=source.origin, payment=change
        )
        return decide(transfer, self.loaded)

    def book(
        self,
        source: Source,
        *,
        kind: TransferKind = TransferKind.TRANSFER,
        entries: tuple[Entry, ...] = (),
        of: str | None = None,
        change: PaymentChange | None = None,
        is_undo: bool = False,
    ) -> Booked:
        """Book a transfer that must not be refused. Raises NotBooked."""
        outcome = self.try_book(source, kind=kind, entries=entries, of=of, change=change, is_undo=is_undo)
        if isinstance(outcome, Refused):
            raise NotBooked(f"What {source.reference} books was refused: {outcome.reason}. {outcome.detail}")
        return outcome

    def put_refund(self, refund: Refund) -> None:
        """Change a refund, or add it."""
        self.refunds[refund.refund_id] = self.changed_refunds[refund.refund_id] = refund

    def put_dispute(self, dispute: Dispute) -> None:
        """Change a dispute, or add it."""
        self.disputes[dispute.dispute_id] = self.changed_disputes[dispute.dispute_id] = dispute


def moved(payment: Payment, status: PaymentStatus, amounts: PaymentAmounts | None = None) -> PaymentChange:
    """Return the change of a payment from what it is now."""
    return PaymentChange(payment_id=payment.payment_id, version=payment.version, status=status, amounts=amounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequest(StepRequest, ABC):
    """What a message asks of a step that books for merchants."""

    message_id: str

    @abstractmethod
    def needs(self) -> Needs:
        """Return what is loaded and locked for it."""

    @abstractmethod
    def book(self, books: Books, source: Source) -> Outcome:
        """Book it. A refusal is a rejection of the step; anything else that is in the way raises NotBooked."""
