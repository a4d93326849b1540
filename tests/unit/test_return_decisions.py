"""What a return's steps decide and publish in inventory, payment, loyalty and the ledger. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import inventory.domain
import inventory.sagas.return_order
import ledger.sagas.return_order
import loyalty.domain
import loyalty.sagas.return_order
import payment.domain
import payment.sagas.return_order
from chassis.wire.envelope import envelope, new_id
from inventory.domain import RestockInventory, Stock
from ledger.model.transfers import Entry
from loyalty.domain import Accounts, CreditPoints
from messages.contract import Envelope
from messages.inventory import InventoryRestocked
from messages.loyalty import ReturnPointsCredited
from messages.payment import ReturnRefunded
from messages.shipping import ParcelArrived
from payment.domain import NothingToRefund, NotRefundable, Payment, Payments, PaymentState, Refund, RefundPart
from payment.gateway import PartialRefund, Refunded
from support.builders import a

EVENT = a(ParcelArrived, saga_type="return_order")
ENVELOPE: Envelope = envelope(EVENT, message_id=new_id(), at=EVENT.occurred_at)
AMOUNTS = {"refund_minor": 700, "points_minor": 80, "points": 8}
CAPTURED = Payment(
    saga_id="order-1", step="authorize_payment", state=PaymentState.CAPTURED, currency="USD", amount_minor=1_000,
    authorization_id="auth-1", capture_id="cap-1",
)  # fmt: skip
units = st.tuples(st.sampled_from(["tea", "cup", "pot"]), st.integers(0, 5))


def amounts_of(event: InventoryRestocked | ReturnRefunded | ReturnPointsCredited) -> dict[str, int]:
    return {"refund_minor": event.refund_minor, "points_minor": event.points_minor, "points": event.points}


def payments(**changes: Any) -> Payments:
    payment_ = replace(CAPTURED, **changes)
    return Payments(found={payment_.key: payment_})


def part(amount_minor: int, **changes: Any) -> RefundPart:
    request = RefundPart(
        saga_id="return-1", step="refund_payment", order_id="order-1", paid_by="authorize_payment", currency="USD",
        amount_minor=amount_minor,
    )  # fmt: skip
    return replace(request, **changes)


@given(st.lists(units), st.dictionaries(st.sampled_from(["tea", "cup"]), st.integers(0, 9)))
def test_a_restock_adds_exactly_what_is_good(lines: list[tuple[str, int]], on_hand: dict[str, int]) -> None:
    stock = Stock(on_hand=on_hand)
    request = RestockInventory(saga_id="return-1", step="restock_inventory", lines=tuple(lines))
    made = inventory.domain.restock(request, stock, ENVELOPE)
    assert stock.restocked == [made]
    assert sum(made.units.values()) == sum(good for _, good in lines)
    assert 0 not in made.units.values()
    for sku in ("tea", "cup", "pot"):
        assert stock.available(sku) == on_hand.get(sku, 0) + sum(good for each, good in lines if each == sku)


def test_only_good_pieces_are_put_back_and_the_amounts_pass_on() -> None:
    lines = [{"sku": "tea", "good": 2, "damaged": 1}, {"sku": "cup", "good": 0, "damaged": 1}]
    event = a(ParcelArrived, saga_type="return_order", received=lines, **AMOUNTS)
    request = inventory.sagas.return_order.to_restock(event, "restock_inventory")
    assert (request.key, request.lines) == ((event.saga_id, "restock_inventory"), (("tea", 2), ("cup", 0)))
    outcome = inventory.domain.restock(request, Stock(on_hand={}), ENVELOPE)
    published = inventory.sagas.return_order.restocked(event, outcome, ENVELOPE)
    assert (published.units, published.order_id) == (2, event.order_id)
    assert amounts_of(published) == AMOUNTS


def test_a_part_is_refunded_of_the_orders_capture() -> None:
    event = a(InventoryRestocked, saga_type="return_order", currency="USD", order_id="order-1", **AMOUNTS)
    request = payment.sagas.return_order.to_refund(event, "refund_payment")
    assert request.key == (event.saga_id, "refund_payment")
    assert request.payment == CAPTURED.key
    assert payment.domain.part_to_refund(request, payments()) == PartialRefund(capture_id="cap-1", amount_minor=700)
    outcome = Refunded(refund_id="ref-1", amount_minor=700)
    published = payment.sagas.return_order.refunded(event, outcome, ENVELOPE)
    assert (published.refund_id, amounts_of(published)) == ("ref-1", AMOUNTS)


def test_nothing_is_refunded_without_a_payment_and_without_a_number() -> None:
    event = a(InventoryRestocked, saga_type="return_order", **AMOUNTS | {"refund_minor": 0})
    request = payment.sagas.return_order.to_refund(event, "refund_payment")
    assert payment.domain.part_to_refund(request, Payments()) == NothingToRefund()
    published = payment.sagas.return_order.refunded(event, NothingToRefund(), ENVELOPE)
    assert (published.refund_id, published.refund_minor, published.points) == ("", 0, 8)


@pytest.mark.parametrize("state", [each for each in PaymentState if each is not PaymentState.CAPTURED])
def test_only_a_captured_payment_is_refunded_in_part(state: PaymentState) -> None:
    with pytest.raises(NotRefundable, match=f"The payment of order order-1 is {state}; 300 minor units of USD"):
        payment.domain.part_to_refund(part(300), payments(state=state))


def test_a_refund_is_in_the_payments_currency() -> None:
    with pytest.raises(NotRefundable, match="is in USD, the refund in KES"):
        payment.domain.part_to_refund(part(300, currency="KES"), payments())


def test_an_order_without_a_payment_is_named() -> None:
    with pytest.raises(LookupError, match="Saga order-2 has no payment of authorize_payment"):
        payment.domain.part_to_refund(part(300, order_id="order-2"), payments())


@pytest.mark.parametrize(
    ("amount_minor", "outcome", "refund_id"),
    [(300, Refunded(refund_id="ref-1", amount_minor=300), "ref-1"), (0, NothingToRefund(), None)],
)
def test_a_refund_is_recorded_and_its_payment_stays(
    amount_minor: int, outcome: Refunded | NothingToRefund, refund_id: str | None
) -> None:
    touched = payments()
    payment.domain.refund_part(part(amount_minor), outcome, touched)
    assert touched.changed == {}
    assert touched.refunded == [
        Refund(
            saga_id="return-1", step="refund_payment", order_id="order-1", amount_minor=amount_minor, currency="USD",
            refund_id=refund_id,
        )
    ]  # fmt: skip


@pytest.mark.parametrize("refunded_minor", [299, 301, 0])
def test_another_amount_than_was_sent_is_no_refund(refunded_minor: int) -> None:
    touched = payments()
    with pytest.raises(NotRefundable, match=f"refunded {refunded_minor} minor units of USD for return return-1"):
        payment.domain.refund_part(part(300), Refunded(refund_id="ref-1", amount_minor=refunded_minor), touched)
    assert touched.refunded == []


@given(st.integers(0, 100), st.integers(0, 100))
def test_a_credit_adds_its_points_to_the_account(points: int, before: int) -> None:
    accounts = Accounts(balances={"ann": before})
    event = a(ReturnRefunded, saga_type="return_order", customer_id="ann", **AMOUNTS | {"points": points})
    request = loyalty.sagas.return_order.to_credit(event, "restore_loyalty_points")
    expected = CreditPoints(
        saga_id=event.saga_id, step="restore_loyalty_points", order_id=event.order_id, customer_id="ann", points=points
    )
    assert request == expected
    made = loyalty.domain.credit(request, accounts, ENVELOPE)
    assert (accounts.credited, accounts.balance("ann")) == ([made], before + points)
    published = loyalty.sagas.return_order.credited(event, made, ENVELOPE)
    assert amounts_of(published) == AMOUNTS | {"points": points}


@pytest.mark.parametrize("points_minor", [0, 80])
def test_a_return_is_posted_against_sales(points_minor: int) -> None:
    event = a(
        ReturnPointsCredited, saga_type="return_order", currency="USD", refund_minor=700, points_minor=points_minor
    )
    transfer = ledger.sagas.return_order.posting(event)
    expected = [Entry("shop:sales:USD", 700 + points_minor, "USD"), Entry("shop:gateway_receivable:USD", -700, "USD")]
    expected += [Entry("shop:points_liability:USD", -points_minor, "USD")] if points_minor else []
    assert list(transfer.entries) == expected
    assert transfer.effective_at == event.occurred_at
    request = ledger.sagas.return_order.POSTING.read(event, "post_ledger")
    assert request.transfer.reference == f"{event.saga_id}:post_ledger"
