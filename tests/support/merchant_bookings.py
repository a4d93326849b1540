"""The messages of one merchant's payments, as the other services send them to the ledger."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chassis.wire.envelope import new_id
from ledger.model.merchants import Merchant
from messages.contract import Message
from messages.ledger import ReleaseBalance
from messages.merchant import CaptureRequested, MerchantRegistered, RefundRequested
from messages.payment import GatewayCaptured, GatewayRefunded, GatewayVoided, LateCaptured, ReversalReported
from messages.reconciliation import SettlementReported
from messages.risk import PaymentValidated
from messages.saga import CaptureFailed, StepAwaited
from support.builders import a
from support.ledger_steps import handle
from support.ledgers import LedgerUnderTest

ACCOUNT = "stripe-live"
CURRENCY = "EUR"
OWNED = ("pending", "available", "reserve", "receivable")
SHARED = ("gateway_receivable", "captures_in_transit", "refunds_in_transit", "fees", "gateway_costs", "bank")


def number() -> int:
    """Return a payment's or a refund's number of 63 bits."""
    return secrets.randbits(63)


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantUnderTest:
    """A merchant with open accounts, in one mode."""

    ledger: LedgerUnderTest
    merchant_id: str = field(default_factory=lambda: secrets.token_hex(6))
    is_live: bool = True

    @property
    def merchant(self) -> Merchant:
        return Merchant(merchant_id=self.merchant_id, is_live=self.is_live)

    def registered(self, *currencies: str) -> MerchantRegistered:
        saga = {"saga_type": "merchant_onboarding", "merchant_id": self.merchant_id}
        return a(MerchantRegistered, **saga, currencies=list(currencies or (CURRENCY,)))

    def register(self, *currencies: str) -> list[Message]:
        return handle(self.ledger, self.registered(*currencies))

    def balances(self, currency: str = CURRENCY) -> dict[str, int]:
        """Return what is posted on the merchant's own accounts, each on the account's own side; zeros are left out."""
        totals = self.ledger.totals()
        found = {code: totals[self.merchant.path(code, currency)] for code in OWNED}
        posted = {code: credits_ - debits for code, (debits, credits_, _, _) in found.items()}
        posted["receivable"] *= -1
        return {code: amount for code, amount in posted.items() if amount}

    def held(self, currency: str = CURRENCY) -> dict[str, int]:
        """Return what is held against the merchant's own accounts."""
        totals = self.ledger.totals()
        found = {code: totals[self.merchant.path(code, currency)][2] for code in OWNED}
        return {code: amount for code, amount in found.items() if amount}


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentUnderTest:
    """One payment of a merchant; each of its messages keeps its id, however often it is sent."""

    of: MerchantUnderTest
    amount_minor: int = 100
    fee_minor: int = 3
    currency: str = CURRENCY
    capture: str = "NOW"
    payment_id: int = field(default_factory=number)
    saga_id: str = field(default_factory=new_id)

    @property
    def fields(self) -> Mapping[str, Any]:
        return {
            "payment_id": self.payment_id,
            "merchant_id": self.of.merchant_id,
            "is_live": self.of.is_live,
            "currency": self.currency,
            "amount_minor": self.amount_minor,
            "gateway_account": ACCOUNT,
        }

    @property
    def own(self) -> Mapping[str, Any]:
        """The fields of a message of the payment's own saga."""
        return {**self.fields, "saga_id": self.saga_id, "saga_type": "payment", "fee_minor": self.fee_minor}

    def other(self, saga: str) -> Mapping[str, Any]:
        """The fields of a message of another saga about the payment."""
        return {**self.fields, "saga_type": saga, "payment_saga_id": self.saga_id}

    def validated(self) -> PaymentValidated:
        return a(PaymentValidated, **self.own, capture=self.capture)

    def accepted(self, **given: Any) -> StepAwaited:
        """Return the message that the gateway has accepted the capture."""
        step = {"service": "payment", "step": "capture_or_void", "undo": False, "reference": "gw:1"}
        return a(StepAwaited, **{"saga_id": self.saga_id, "saga_type": "payment", **step, **given})

    def captured(self, captured_minor: int | None = None, **given: Any) -> GatewayCaptured:
        minor = self.amount_minor if captured_minor is None else captured_minor
        return a(GatewayCaptured, **{**self.own, "capture": self.capture, "captured_minor": minor, **given})

    def release(self) -> ReleaseBalance:
        return a(ReleaseBalance, saga_id=self.saga_id, saga_type="payment", step="reserve_balance")

    def capture_requested(self, saga_id: str, capture_minor: int) -> CaptureRequested:
        """Return the request of a later capture, which has a saga of its own."""
        own = {**self.other("capture_later"), "saga_id": saga_id}
        return a(CaptureRequested, **own, capture_minor=capture_minor, fee_minor=3)

    def accepted_later(self, saga_id: str) -> StepAwaited:
        return self.accepted(saga_id=saga_id, saga_type="capture_later")

    def failed_later(self, saga_id: str) -> CaptureFailed:
        return a(CaptureFailed, saga_id=saga_id, saga_type="capture_later")

    def captured_later(self, captured_minor: int, fee_minor: int = 3, **given: Any) -> LateCaptured:
        own = {**self.other("capture_later"), **given}
        return a(LateCaptured, **own, captured_minor=captured_minor, fee_minor=fee_minor)

    def voided(self) -> GatewayVoided:
        return a(GatewayVoided, **self.other("void_payment"))

    def refund(self, refund_minor: int) -> RefundUnderTest:
        return RefundUnderTest(of=self, refund_minor=refund_minor)

    def reversal(self, kind: str, reversed_minor: int | None = None, **given: Any) -> ReversalReported:
        minor = self.amount_minor if reversed_minor is None else reversed_minor
        what = {"kind": kind, "reversed_minor": minor, **given}
        return a(ReversalReported, **self.other("payment_reversal"), **what)

    def commit(self) -> PaymentUnderTest:
        """Reserve and capture the payment."""
        handle(self.of.ledger, self.validated())
        handle(self.of.ledger, self.captured())
        return self

    def status(self) -> str | None:
        rows = self.of.ledger.rows("SELECT status FROM payments WHERE payment_id = :it", it=str(self.payment_id))
        return rows[0][0] if rows else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundUnderTest:
    """One refund of a payment."""

    of: PaymentUnderTest
    refund_minor: int
    refund_id: int = field(default_factory=number)
    saga_id: str = field(default_factory=new_id)

    @property
    def own(self) -> Mapping[str, Any]:
        return {
            **self.of.other("refund"),
            "saga_id": self.saga_id,
            "refund_id": self.refund_id,
            "refund_minor": self.refund_minor,
        }

    def requested(self) -> RefundRequested:
        return a(RefundRequested, **self.own)

    def refunded(self) -> GatewayRefunded:
        return a(GatewayRefunded, **self.own)

    def release(self) -> ReleaseBalance:
        return a(ReleaseBalance, saga_id=self.saga_id, saga_type="refund", step="reserve_balance")

    def failed(self) -> ReversalReported:
        return self.of.reversal("REFUND_FAILED", self.refund_minor, refund_id=self.refund_id)

    def commit(self) -> RefundUnderTest:
        handle(self.of.of.ledger, self.requested())
        handle(self.of.of.ledger, self.refunded())
        return self


def settlement(
    *releases: tuple[MerchantUnderTest, int], paid_minor: int, cost_minor: int, currency: str = CURRENCY
) -> SettlementReported:
    """Return a settlement of a gateway's account."""
    listed = [
        {"merchant_id": each.merchant_id, "is_live": each.is_live, "net_minor": net_minor}
        for each, net_minor in releases
    ]
    return a(
        SettlementReported, saga_type="settlement", gateway_account=ACCOUNT, is_live=True, currency=currency,
        paid_minor=paid_minor, cost_minor=cost_minor, releases=listed,
    )  # fmt: skip
