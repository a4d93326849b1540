"""Payments and refunds of one merchant, in whatever order, batches and number of times their messages come.

A crash before the commit loses a batch, which then comes again. Whatever happens: the books balance, no payment has
more refunded than captured, and once every saga has ended nothing is held or in transit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.model.transfers import NotBooked
from messages.contract import Message
from messages.ledger import BalanceReserved, PaymentCommitted, RefundCommitted, RefundReserved
from support.ledger_steps import Crash, handle
from support.ledgers import LedgerUnderTest, reference
from support.merchant_bookings import MerchantUnderTest, PaymentUnderTest, RefundUnderTest

PAYMENTS, REFUNDS = 3, 3
AMOUNT, FEE, REFUND = 100, 3, 45
"""Two refunds of a payment fit, a third does not."""
AMOUNTS = """
    SELECT captured_minor, fee_minor, refunding_minor, refunded_minor, disputed_minor FROM payments
    WHERE payment_id = ANY(:ids)
"""
STEPS_OF_PAYMENT = ("accepted", "captured", "part", "release")
STEPS_OF_REFUND = ("request", "refunded", "unrefund", "failed")
REVERSALS = ("capture_failed", "disputed", "won", "lost")
IN_TRANSIT = """
    SELECT sum(debits - credits)::bigint, sum(held_debits)::bigint, sum(held_credits)::bigint
    FROM accounts JOIN balances ON account_id = accounts.id
    WHERE code IN ('captures_in_transit', 'refunds_in_transit')
"""
HELD = """
    SELECT sum(held_debits)::bigint FROM accounts JOIN balances ON account_id = accounts.id WHERE owner = :owner
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message about a payment, or about one of its refunds."""

    payment: int
    kind: str
    refund: int = 0


@dataclass(slots=True)
class Payments:
    """The messages of some payments; each keeps its id however often it comes. ``answered`` are its answers."""

    merchant: MerchantUnderTest
    payments: list[PaymentUnderTest] = field(default_factory=list)
    refunds: list[list[RefundUnderTest]] = field(default_factory=list)
    made: dict[Delivery, Message] = field(default_factory=dict)
    sent: set[Delivery] = field(default_factory=set)
    answered: set[tuple[str, type[Message]]] = field(default_factory=set)
    disputes: list[str] = field(default_factory=lambda: [f"dp_{reference()}" for _ in range(PAYMENTS)])

    def __post_init__(self) -> None:
        self.payments = [PaymentUnderTest(of=self.merchant, fee_minor=FEE) for _ in range(PAYMENTS)]
        self.refunds = [[payment.refund(REFUND) for _ in range(REFUNDS)] for payment in self.payments]

    def message(self, delivery: Delivery) -> Message:
        if delivery not in self.made:
            self.made[delivery] = self._make(delivery)
        return self.made[delivery]

    def _make(self, delivery: Delivery) -> Message:
        payment, refund = self.payments[delivery.payment], self.refunds[delivery.payment][delivery.refund]
        dispute = {"reversed_minor": 20, "gateway_reference": self.disputes[delivery.payment]}
        match delivery.kind:
            case "validated":
                return payment.validated()
            case "accepted":
                return payment.accepted()
            case "captured":
                return payment.captured()
            case "part":
                return payment.captured(AMOUNT - 30)
            case "release":
                return payment.release()
            case "request":
                return refund.requested()
            case "refunded":
                return refund.refunded()
            case "unrefund":
                return refund.release()
            case "failed":
                return refund.failed()
            case "capture_failed":
                return payment.reversal("CAPTURE_FAILED")
        kind = {"disputed": "DISPUTED", "won": "DISPUTE_WON", "lost": "DISPUTE_LOST"}[delivery.kind]
        return payment.reversal(kind, **dispute)

    def possible(self, delivery: Delivery) -> bool:
        """Return whether the other services can send it: an outcome only after its hold, and only one of two."""
        payment, refund = self.payments[delivery.payment], self.refunds[delivery.payment][delivery.refund]
        either = {"captured": ("part", "release"), "part": ("captured", "release"), "release": ("captured", "part"),
                  "refunded": ("unrefund",), "unrefund": ("refunded",), "won": ("lost",), "lost": ("won",)}  # fmt: skip
        if any(
            Delivery(delivery.payment, other, delivery.refund) in self.sent for other in either.get(delivery.kind, ())
        ):
            return False
        if delivery.kind in STEPS_OF_PAYMENT:
            return (payment.saga_id, BalanceReserved) in self.answered
        if delivery.kind in ("refunded", "unrefund"):
            return (refund.saga_id, RefundReserved) in self.answered
        if delivery.kind == "failed":
            return (refund.saga_id, RefundCommitted) in self.answered
        return delivery.kind == "validated" or (payment.saga_id, PaymentCommitted) in self.answered

    def deliver(self, ledger: LedgerUnderTest, deliveries: Sequence[Delivery], *, crashes: bool) -> None:
        """Deliver a batch. Where a message is not booked, each is delivered alone, and comes again another time."""
        wanted = []
        for each in deliveries:
            if self.possible(each):
                self.sent.add(each)
                wanted.append(self.message(each))
        if crashes:
            with contextlib.suppress(Crash, NotBooked):
                handle(ledger, *wanted, crash=True)
        self._handle(ledger, wanted)

    def _handle(self, ledger: LedgerUnderTest, messages: Sequence[Message]) -> None:
        try:
            answers = handle(ledger, *messages)
        except NotBooked:
            if len(messages) > 1:
                for message in messages:
                    self._handle(ledger, [message])
            return
        self.answered |= {(each.saga_id, type(each)) for each in answers}

    def ends(self) -> Iterator[Delivery]:
        """Yield what ends every saga that is under way."""
        for payment in range(PAYMENTS):
            yield Delivery(payment, "release")
            for refund in range(REFUNDS):
                yield Delivery(payment, "refunded", refund)
                yield Delivery(payment, "unrefund", refund)


of_payment = st.builds(
    Delivery, st.integers(0, PAYMENTS - 1),
    st.sampled_from(["validated", "validated", *STEPS_OF_PAYMENT, "captured", *REVERSALS]),
)  # fmt: skip
of_refund = st.builds(
    Delivery, st.integers(0, PAYMENTS - 1),
    st.sampled_from(["request", "request", *STEPS_OF_REFUND]), st.integers(0, REFUNDS - 1),
)  # fmt: skip
batches = st.lists(
    st.tuples(st.lists(of_payment | of_refund, min_size=3, max_size=8), st.booleans()), min_size=6, max_size=14
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=batches)
def test_whatever_comes_in_whatever_order_no_money_is_lost(
    ledger: LedgerUnderTest, schedule: Sequence[tuple[Sequence[Delivery], bool]]
) -> None:
    merchant = MerchantUnderTest(ledger=ledger)
    merchant.register()
    payments = Payments(merchant)
    for deliveries, crashes in schedule:
        payments.deliver(ledger, deliveries, crashes=crashes)
        check(payments)
    for end in payments.ends():
        payments.deliver(ledger, [end], crashes=False)
    check(payments)
    assert ledger.rows(HELD, owner=merchant.merchant_id) == [(0,)]
    assert ledger.rows(IN_TRANSIT) in ([(0, 0, 0)], [(None, None, None)])


def check(payments: Payments) -> None:
    """No payment has more refunded than captured, and the merchant's accounts sum to what its payments say."""
    ledger, merchant = payments.merchant.ledger, payments.merchant
    ledger.check()
    rows = ledger.rows(AMOUNTS, ids=[str(each.payment_id) for each in payments.payments])
    net = 0
    for captured, fee, refunding, refunded, disputed in rows:
        assert min(refunding, refunded, disputed, captured) >= 0
        assert refunding + refunded <= captured or captured == 0
        net += (captured - fee if captured else 0) - refunded - disputed
    balances = merchant.balances()
    owed = balances.pop("receivable", 0)
    assert sum(balances.values()) - owed == net
