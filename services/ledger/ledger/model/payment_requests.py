"""What the sagas of merchants' payments ask of the ledger, and what each request books. Pure.

The hold of a payment is posted when its gateway has accepted the capture, or when the capture is proven, whichever the
ledger reads first. Either books the same transfer, under the reference of the step whose outcome it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ledger.model.amounts import AMOUNT_MAX
from ledger.model.merchants import Merchant, UnknownMerchant
from ledger.model.payment_books import (
    CAPTURE_OR_VOID,
    REFUND_GATEWAY,
    RESERVE_BALANCE,
    Books,
    Needs,
    PaymentRequest,
    Refund,
    RefundState,
    Source,
    moved,
)
from ledger.model.payments import Payment, PaymentAmounts, PaymentChange, PaymentStatus
from ledger.model.transfers import Booked, Entry, NotBooked, Outcome, Reason, Refused, TransferKind, reference_of

HOLD, POST, VOID, CORRECTION = TransferKind.HOLD, TransferKind.POST, TransferKind.VOID, TransferKind.CORRECTION
NOTHING: Final = Booked(id=0, is_repeated=True)
"""There was nothing to book: what is requested stands already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfPayment(PaymentRequest):
    """A request about a payment in one currency."""

    payment_id: str
    merchant: Merchant
    currency: str

    def owned(self, books: Books) -> tuple[Payment, PaymentAmounts]:
        """Return the payment, which must be this merchant's. Raises NotBooked."""
        return books.merchants_payment(self.payment_id, self.merchant.owner, self.currency)

    def paths(self, *codes: str) -> tuple[str, ...]:
        """Return the paths of these accounts."""
        return tuple(self.merchant.path(code, self.currency) for code in codes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservePayment(OfPayment):
    """Hold a payment's amount, and give it its first status."""

    amount_minor: int
    fee_minor: int

    def needs(self) -> Needs:
        """Return the accounts in transit. Those of the merchant must be open, so that a charge can be booked."""
        return Needs(
            own=(reference_of(self.saga_id, self.step),),
            paths=self.paths("gateway_receivable", "captures_in_transit"),
            accounts=tuple(self.merchant.accounts(self.currency)),
            payment_ids=(self.payment_id,),
        )

    def book(self, books: Books, source: Source) -> Outcome:
        """Book the hold. Raises UnknownMerchant."""
        missing = [path for path in self.merchant.accounts(self.currency) if path not in books.open_accounts]
        if missing:
            raise UnknownMerchant(f"No account {missing[0]}; register the merchant with this currency.")
        if not 0 < self.amount_minor <= AMOUNT_MAX or self.fee_minor < 0:
            detail = f"Amount {self.amount_minor} with fee {self.fee_minor}; an amount is above 0, a fee not below it."
            return Refused(reason=Reason.AMOUNT_OUT_OF_RANGE, detail=detail)
        amounts = PaymentAmounts(
            owner=self.merchant.owner,
            currency=self.currency,
            authorized_minor=self.amount_minor,
            fee_minor=self.fee_minor,
        )
        status = PaymentStatus.RESERVED
        change = PaymentChange(payment_id=self.payment_id, version=0, status=status, amounts=amounts)
        entries = self.merchant.entries("reserved", {"amount": self.amount_minor}, self.currency)
        return books.try_book(source, kind=HOLD, entries=entries, change=change)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitCapture(OfPayment):
    """Book a proven capture to the merchant. Where it captured nothing, the merchant captures later."""

    payment_saga_id: str
    captured_minor: int
    fee_minor: int
    is_later: bool = False

    @property
    def hold(self) -> str:
        """The reference of the payment's hold."""
        return reference_of(self.payment_saga_id, RESERVE_BALANCE)

    def needs(self) -> Needs:
        """Return the hold, its post and the accounts of a capture."""
        own = [reference_of(self.saga_id, self.step), reference_of(self.saga_id, CAPTURE_OR_VOID)]
        if self.saga_id != self.payment_saga_id:
            own.append(reference_of(self.saga_id, RESERVE_BALANCE))
        paths = self.paths("gateway_receivable", "captures_in_transit", "pending", "fees")
        return Needs(own=own, named=(self.hold,), paths=paths, payment_ids=(self.payment_id,))

    def book(self, books: Books, source: Source) -> Outcome:
        """Post the hold where that has not been done, and book what was captured; the rest is released."""
        payment, amounts = self.owned(books)
        least = 0 if self.is_later else 1
        if not least <= self.captured_minor <= amounts.authorized_minor or self.fee_minor < 0:
            captured = f"{self.captured_minor} with fee {self.fee_minor}"
            raise NotBooked(f"Payment {payment.payment_id} of {amounts.authorized_minor} has {captured} captured.")
        if self.captured_minor == 0:
            return books.book(source, change=moved(payment, PaymentStatus.AUTHORIZED))
        posted_minor = self._post(books, source)
        entries = self.merchant.entries(
            "captured",
            {
                "net": self.captured_minor - self.fee_minor,
                "fee": self.fee_minor,
                "rest": posted_minor - self.captured_minor,
            },
            self.currency,
        )
        after = replace(amounts, captured_minor=self.captured_minor, fee_minor=self.fee_minor)
        return books.book(source, entries=entries, change=moved(payment, PaymentStatus.CAPTURED, after))

    def _post(self, books: Books, source: Source) -> int:
        """Return what is in transit once the hold is posted, or released where its capture is booked beside it."""
        accepted = source.of(CAPTURE_OR_VOID)
        resolved_by = books.resolved_by(self.hold)
        beside = None if resolved_by is not None else books.known(accepted.reference)
        if beside is not None:
            books.book(source.of(RESERVE_BALANCE), kind=VOID, of=self.hold)
            return sum(max(0, entry.amount_minor) for entry in beside.entries)
        if resolved_by is None:
            entries = self.merchant.entries("reserved", {"amount": self.captured_minor}, self.currency)
            books.book(accepted, kind=POST, of=self.hold, entries=entries)
            return self.captured_minor
        posted = books.known(accepted.reference)
        if resolved_by != accepted.reference or posted is None:
            raise NotBooked(
                f"Hold {self.hold} is resolved by {resolved_by}; see what the gateway did with the payment."
            )
        return sum(max(0, entry.amount_minor) for entry in posted.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptCapture(PaymentRequest):
    """Post the hold of a payment whose capture its gateway has accepted: the money is in transit."""

    @property
    def hold(self) -> str:
        """The reference of the payment's hold."""
        return reference_of(self.saga_id, RESERVE_BALANCE)

    def needs(self) -> Needs:
        """Return the hold and its post."""
        return Needs(own=(reference_of(self.saga_id, self.step),), named=(self.hold,))

    def book(self, books: Books, source: Source) -> Outcome:
        """Post the whole hold, unless it is resolved. Without a hold there is nothing to post yet."""
        if books.known(self.hold) is None or books.resolved_by(self.hold) is not None:
            return NOTHING
        return books.book(source, kind=POST, of=self.hold)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptLateCapture(OfPayment):
    """Book what a gateway has accepted of a later capture, beside the hold: the money is in transit.

    The hold stays until the capture is proven. So one that fails is corrected, and another capture or a void follows.
    """

    payment_saga_id: str
    capture_minor: int

    @property
    def hold(self) -> str:
        """The reference of the payment's hold."""
        return reference_of(self.payment_saga_id, RESERVE_BALANCE)

    def needs(self) -> Needs:
        """Return the hold, what is booked already, and the accounts in transit."""
        accepted = reference_of(self.saga_id, self.step)
        paths = self.paths("gateway_receivable", "captures_in_transit")
        return Needs(own=(accepted, f"{accepted}:undo"), named=(self.hold,), paths=paths)

    def book(self, books: Books, source: Source) -> Outcome:
        """Book it once, unless the hold is resolved: then the capture is proven, or nothing is held any more."""
        is_open = books.known(self.hold) is not None and books.resolved_by(self.hold) is None
        if not is_open or books.known(source.reference) is not None:
            return NOTHING
        entries = self.merchant.entries("reserved", {"amount": self.capture_minor}, self.currency)
        return books.book(source, entries=entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectLateCapture(AcceptLateCapture):
    """Correct what was accepted of a later capture that then failed."""

    def book(self, books: Books, source: Source) -> Outcome:
        """Book the correction once; where nothing was accepted there is nothing to correct."""
        accepted = books.known(source.reference)
        if accepted is None or books.known(f"{source.reference}:undo") is not None:
            return NOTHING
        entries = tuple(Entry(each.account, -each.amount_minor, each.currency) for each in accepted.entries)
        return books.book(source, kind=CORRECTION, of=source.reference, entries=entries, is_undo=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitVoid(OfPayment):
    """Release what is held for a payment that its merchant abandons."""

    payment_saga_id: str

    def needs(self) -> Needs:
        """Return the hold."""
        own = (reference_of(self.saga_id, self.step),)
        return Needs(
            own=own, named=(reference_of(self.payment_saga_id, RESERVE_BALANCE),), payment_ids=(self.payment_id,)
        )

    def book(self, books: Books, source: Source) -> Outcome:
        """Void the hold. One whose authorization has expired meanwhile is released already."""
        payment, _ = self.owned(books)
        if payment.status is PaymentStatus.VOIDED:
            return NOTHING
        hold = reference_of(self.payment_saga_id, RESERVE_BALANCE)
        return books.book(source, kind=VOID, of=hold, change=moved(payment, PaymentStatus.VOIDED))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveRefund(OfPayment):
    """Hold a refund on the accounts of the merchant."""

    refund_id: int
    refund_minor: int

    def needs(self) -> Needs:
        """Return the merchant's accounts from which a refund is taken."""
        return Needs(
            own=(reference_of(self.saga_id, self.step),),
            paths=self.paths("available", "pending", "receivable", "refunds_in_transit"),
            payment_ids=(self.payment_id,),
            refund_ids=(self.refund_id,),
        )

    def book(self, books: Books, source: Source) -> Outcome:
        """Hold what the merchant has, available before pending. What neither covers, the merchant owes."""
        payment = books.payment(self.payment_id)
        if payment is None or payment.amounts is None or payment.amounts.captured_minor <= 0:
            status = "unknown" if payment is None else payment.status
            return Refused(
                reason=Reason.PAYMENT_NOT_CAPTURED, detail=f"Payment {self.payment_id} is {status}, not captured."
            )
        payment, amounts = self.owned(books)
        if self.refund_id in books.refunds:
            raise NotBooked(f"Refund {self.refund_id} is of saga {books.refunds[self.refund_id].saga_id} already.")
        if not 0 < self.refund_minor <= AMOUNT_MAX:
            return Refused(reason=Reason.AMOUNT_OUT_OF_RANGE, detail=f"A refund is above 0, not {self.refund_minor}.")
        if self.refund_minor > amounts.refundable_minor:
            detail = f"{self.refund_minor} of payment {self.payment_id}, of which {amounts.refundable_minor} are left."
            return Refused(reason=Reason.CAPTURED_EXCEEDED, detail=detail)
        held = replace(amounts, refunding_minor=amounts.refunding_minor + self.refund_minor)
        entries = self.merchant.entries("refund_reserved", self._covered(books), self.currency)
        change = moved(payment, payment.status, held)
        outcome = books.try_book(source, kind=HOLD, entries=entries, change=change)
        if isinstance(outcome, Booked):
            books.put_refund(
                Refund(
                    refund_id=self.refund_id,
                    payment_id=self.payment_id,
                    saga_id=self.saga_id,
                    amount_minor=self.refund_minor,
                    state=RefundState.HELD,
                )
            )
        return outcome

    def _covered(self, books: Books) -> dict[str, int]:
        available = books.covered(self.merchant.path("available", self.currency), self.refund_minor)
        pending = books.covered(self.merchant.path("pending", self.currency), self.refund_minor - available)
        books.balance(self.merchant.path("receivable", self.currency))
        return {"available": available, "pending": pending, "receivable": self.refund_minor - available - pending}


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRefund(OfPayment):
    """Book a proven refund."""

    refund_id: int
    refund_minor: int

    @property
    def hold(self) -> str:
        """The reference of the refund's hold."""
        return reference_of(self.saga_id, RESERVE_BALANCE)

    def needs(self) -> Needs:
        """Return the refund, its hold and the accounts of a refund."""
        return Needs(
            own=(reference_of(self.saga_id, self.step), reference_of(self.saga_id, REFUND_GATEWAY)),
            named=(self.hold,),
            paths=self.paths("gateway_receivable", "refunds_in_transit"),
            payment_ids=(self.payment_id,),
            refund_ids=(self.refund_id,),
        )

    def book(self, books: Books, source: Source) -> Outcome:
        """Post the hold, and take the refund off what the gateway owes."""
        payment, amounts = self.owned(books)
        refund = books.refunds.get(self.refund_id)
        held = (self.payment_id, self.saga_id, self.refund_minor, RefundState.HELD)
        if refund is None or (refund.payment_id, refund.saga_id, refund.amount_minor, refund.state) != held:
            raise NotBooked(f"Refund {self.refund_id} of {self.refund_minor} is not what is held: {refund}.")
        accepted = source.of(REFUND_GATEWAY)
        if books.resolved_by(self.hold) != accepted.reference:
            books.book(accepted, kind=POST, of=self.hold)
        refunded = replace(
            amounts,
            refunding_minor=amounts.refunding_minor - self.refund_minor,
            refunded_minor=amounts.refunded_minor + self.refund_minor,
        )
        entries = self.merchant.entries("refunded", {"refund": self.refund_minor}, self.currency)
        books.put_refund(replace(refund, state=RefundState.COMMITTED))
        return books.book(source, entries=entries, change=moved(payment, refunded.status, refunded))
