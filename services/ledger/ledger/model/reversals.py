"""What a gateway reverses unasked, and what each kind books. Pure.

A reversal may be read before what it reverses, which is in another saga. It is then not booked, and comes again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from ledger.model.payment_books import (
    RESERVE_BALANCE,
    Books,
    Dispute,
    DisputeState,
    Needs,
    RefundState,
    Source,
    moved,
)
from ledger.model.payment_requests import NOTHING, OfPayment
from ledger.model.payments import PaymentStatus
from ledger.model.transfers import NotBooked, Outcome, TransferKind, reference_of


class ReversalKind(enum.StrEnum):
    """What a gateway reports unasked."""

    CAPTURE_FAILED = "CAPTURE_FAILED"
    REFUND_FAILED = "REFUND_FAILED"
    AUTHORIZATION_EXPIRED = "AUTHORIZATION_EXPIRED"
    DISPUTED = "DISPUTED"
    DISPUTE_WON = "DISPUTE_WON"
    DISPUTE_LOST = "DISPUTE_LOST"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostReversal(OfPayment):
    """Book what a gateway reversed. ``dispute_id`` keeps two disputes of one payment apart."""

    kind: ReversalKind
    payment_saga_id: str
    reversed_minor: int
    refund_id: int | None
    dispute_id: str

    def needs(self) -> Needs:
        """Return the payment's hold, and every account that a reversal may touch."""
        codes = ("gateway_receivable", "pending", "available", "reserve", "receivable", "fees")
        return Needs(
            own=(reference_of(self.saga_id, self.step),),
            named=(reference_of(self.payment_saga_id, RESERVE_BALANCE),),
            paths=self.paths(*codes),
            payment_ids=(self.payment_id,),
            refund_ids=() if self.refund_id is None else (self.refund_id,),
            dispute_ids=(self.dispute_id,),
        )

    def book(self, books: Books, source: Source) -> Outcome:
        """Book the reversal. Raises NotBooked where what it reverses does not stand."""
        match self.kind:
            case ReversalKind.CAPTURE_FAILED:
                return self._capture_failed(books, source)
            case ReversalKind.REFUND_FAILED:
                return self._refund_failed(books, source)
            case ReversalKind.AUTHORIZATION_EXPIRED:
                return self._expired(books, source)
            case ReversalKind.DISPUTED:
                return self._disputed(books, source)
            case ReversalKind.DISPUTE_WON:
                return self._won(books, source)
            case ReversalKind.DISPUTE_LOST:
                return self._lost(books, source)

    def _capture_failed(self, books: Books, source: Source) -> Outcome:
        """Take a capture back from the merchant, and our part of the fee from our fees."""
        payment, amounts = self.owned(books)
        if not 0 < self.reversed_minor <= amounts.captured_minor:
            captured = f"of which {amounts.captured_minor} are captured"
            raise NotBooked(f"{self.reversed_minor} of payment {self.payment_id} failed, {captured}.")
        fee_minor = amounts.fee_minor * self.reversed_minor // amounts.captured_minor
        net_minor = self.reversed_minor - fee_minor
        pending = books.covered(self.merchant.path("pending", self.currency), net_minor)
        available = books.covered(self.merchant.path("available", self.currency), net_minor - pending)
        entries = self.merchant.entries(
            "capture_failed",
            {"pending": pending, "available": available, "receivable": net_minor - pending - available,
             "fee": fee_minor},
            self.currency,
        )  # fmt: skip
        left = replace(
            amounts,
            captured_minor=amounts.captured_minor - self.reversed_minor,
            fee_minor=amounts.fee_minor - fee_minor,
        )
        return books.book(source, entries=entries, change=moved(payment, left.status, left))

    def _refund_failed(self, books: Books, source: Source) -> Outcome:
        """Give a refund back to the merchant: what it owes first, the rest is available."""
        payment, amounts = self.owned(books)
        refund = None if self.refund_id is None else books.refunds.get(self.refund_id)
        committed = (self.payment_id, self.reversed_minor, RefundState.COMMITTED)
        if refund is None or (refund.payment_id, refund.amount_minor, refund.state) != committed:
            failed = f"Refund {self.refund_id} of {self.reversed_minor} for payment {self.payment_id} failed"
            raise NotBooked(f"{failed}, and is not committed here: {refund}.")
        owed = books.balance(self.merchant.path("receivable", self.currency)).posted
        receivable = max(0, min(owed, self.reversed_minor))
        entries = self.merchant.entries(
            "refund_failed",
            {"receivable": receivable, "available": self.reversed_minor - receivable},
            self.currency,
        )
        left = replace(amounts, refunded_minor=amounts.refunded_minor - self.reversed_minor)
        books.put_refund(replace(refund, state=RefundState.FAILED))
        return books.book(source, entries=entries, change=moved(payment, left.status, left))

    def _expired(self, books: Books, source: Source) -> Outcome:
        """Release what is held. Of a captured payment, or one that has ended, nothing is held any more."""
        payment, _ = self.owned(books)
        if payment.status is PaymentStatus.RESERVED:
            raise NotBooked(f"Payment {self.payment_id} is still under way; its saga ends first.")
        if payment.status is not PaymentStatus.AUTHORIZED:
            return NOTHING
        hold = reference_of(self.payment_saga_id, RESERVE_BALANCE)
        if books.resolved_by(hold) is not None:
            raise NotBooked(f"A capture of payment {self.payment_id} is under way; its saga ends first.")
        return books.book(source, kind=TransferKind.VOID, of=hold, change=moved(payment, PaymentStatus.VOIDED))

    def _disputed(self, books: Books, source: Source) -> Outcome:
        """Take the disputed amount from the merchant's reserve. What that does not cover, the merchant owes."""
        payment, amounts = self.owned(books)
        if self.dispute_id in books.disputes:
            raise NotBooked(f"Dispute {self.dispute_id} is booked already; a gateway's second one has its own id.")
        if amounts.captured_minor <= 0 or self.reversed_minor <= 0:
            captured = f"of which {amounts.captured_minor} are captured"
            raise NotBooked(f"{self.reversed_minor} of payment {self.payment_id} are disputed, {captured}.")
        covered = books.covered(self.merchant.path("reserve", self.currency), self.reversed_minor)
        taken = {"covered": covered, "rest": self.reversed_minor - covered}
        entries = self.merchant.entries("disputed", taken, self.currency)
        left = replace(amounts, disputed_minor=amounts.disputed_minor + self.reversed_minor)
        dispute = Dispute(
            dispute_id=self.dispute_id,
            payment_id=self.payment_id,
            amount_minor=self.reversed_minor,
            covered_minor=covered,
            state=DisputeState.OPEN,
        )
        books.put_dispute(dispute)
        return books.book(source, entries=entries, change=moved(payment, PaymentStatus.DISPUTED, left))

    def _won(self, books: Books, source: Source) -> Outcome:
        """Give back exactly what the dispute took."""
        payment, amounts = self.owned(books)
        dispute = self._open_dispute(books)
        given = {"covered": dispute.covered_minor, "rest": dispute.amount_minor - dispute.covered_minor}
        entries = self.merchant.entries("dispute_won", given, self.currency)
        left = replace(amounts, disputed_minor=amounts.disputed_minor - dispute.amount_minor)
        books.put_dispute(replace(dispute, state=DisputeState.WON))
        return books.book(source, entries=entries, change=moved(payment, left.status, left))

    def _lost(self, books: Books, source: Source) -> Outcome:
        """Keep what the dispute took: there is nothing more to book, and the payment stays disputed."""
        payment, amounts = self.owned(books)
        books.put_dispute(replace(self._open_dispute(books), state=DisputeState.LOST))
        return books.book(source, change=moved(payment, amounts.status))

    def _open_dispute(self, books: Books) -> Dispute:
        dispute = books.disputes.get(self.dispute_id)
        booked = (self.payment_id, self.reversed_minor, DisputeState.OPEN)
        if dispute is None or (dispute.payment_id, dispute.amount_minor, dispute.state) != booked:
            ended = f"Dispute {self.dispute_id} of {self.reversed_minor} about payment {self.payment_id} has ended"
            raise NotBooked(f"{ended}, and is not open here: {dispute}.")
        return dispute
