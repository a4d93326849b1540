"""The steps of a return in inventory, payment and loyalty on real PostgreSQL: whatever comes again, each ran once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Engine

import bench_providers.gateway.handlers
import bench_providers.gateway.tables
import inventory.handlers
import loyalty.handlers
import payment.handlers
from chassis.http.downstream import Unavailable, UnforeseenAnswer
from chassis.postgres import migrations
from chassis.process.published import published_of
from chassis.process.reconcile import Replay
from chassis.saga.handlers import Handlers
from chassis.wire.envelope import new_id
from messages.inventory import InventoryReleased, InventoryReserved, InventoryRestocked, ReleaseInventory
from messages.loyalty import LoyaltyPointsBurned, ReturnPointsCredited
from messages.payment import PaymentAuthorized, PaymentRefunded, RefundPayment, ReturnRefunded
from messages.shipping import ParcelArrived
from payment.api import FIND
from payment.domain import PaymentState
from payment.gateway import (
    Authorization,
    Authorized,
    Capture,
    Captured,
    PartialRefund,
    Refunded,
    Undo,
)
from stack import Stack
from support.builders import a
from support.executed import CODEC, Executed
from support.postgres import scratch_database

CAPTURED_MINOR = 1_000
STOCK = "SELECT received, on_hand FROM stock WHERE sku = :sku"
RESTOCKS = "SELECT step, sku, units FROM restocks WHERE saga_id = :saga_id ORDER BY sku"
REFUNDS = "SELECT step, order_id, amount_minor, currency, refund_id FROM refunds WHERE saga_id = :saga_id"
CREDITS = "SELECT step, order_id, customer_id, points FROM credits WHERE saga_id = :saga_id"
CONSERVED = """
    SELECT sku, received, coalesce(moved, 0), on_hand + coalesce(reserved, 0) - coalesce(restocked, 0) FROM stock
    LEFT JOIN (SELECT sku, sum(units)::bigint AS moved FROM stock_movements GROUP BY sku) AS entered USING (sku)
    LEFT JOIN (SELECT sku, sum(units)::bigint AS restocked FROM restocks GROUP BY sku) AS returned USING (sku)
    LEFT JOIN (SELECT line.sku, sum(line.quantity)::bigint AS reserved
               FROM reservations, unnest(skus, quantities) AS line (sku, quantity)
               WHERE state = 'RESERVED' GROUP BY line.sku) AS held USING (sku)
"""


@dataclass(kw_only=True)
class Gateway:
    """A gateway that keeps captures, and one outcome for each key. ``script`` says how each further refund goes."""

    left_minor: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Refunded] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    script: list[str] = field(default_factory=list)

    def refund(self, request: PartialRefund, key: str) -> Refunded:
        self.keys.append(key)
        course = self.script.pop(0) if self.script else "well"
        if course == "fails":
            raise Unavailable("does not answer")
        if key not in self.outcomes:
            if course == "refuses" or request.amount_minor > self.left_minor[request.capture_id]:
                raise UnforeseenAnswer("gateway", 422, "refund_exceeds_capture", "not refunded")
            amount_minor = request.amount_minor - (course == "refunds less")
            self.left_minor[request.capture_id] -= amount_minor
            self.outcomes[key] = Refunded(refund_id=f"ref_{key}", amount_minor=amount_minor)
        if course == "answer lost":
            raise Unavailable("the answer was lost")
        return self.outcomes[key]

    def find_refund(self, key: str) -> Refunded | None:
        return self.outcomes.get(key)

    def undo(self, request: Undo, key: str) -> Refunded:
        return self.refund(PartialRefund(capture_id=request.capture_id or "", amount_minor=request.amount_minor), key)

    def find_undo(self, key: str) -> Refunded | None:
        return self.find_refund(key)

    def authorize(self, request: Authorization, key: str) -> Authorized:
        raise AssertionError("a return authorizes nothing")

    def capture(self, request: Capture, key: str) -> Captured:
        raise AssertionError("a return captures nothing")

    def find_authorization(self, key: str) -> Authorized | None:
        raise AssertionError("a return authorizes nothing")

    def find_capture(self, key: str) -> Captured | None:
        raise AssertionError("a return captures nothing")


def migrated(infrastructure: Stack, package: str) -> Iterator[Engine]:
    with scratch_database(infrastructure) as engine:
        migrations.upgrade(package, engine)
        yield engine


@pytest.fixture(scope="module")
def stock_engine(infrastructure: Stack) -> Iterator[Engine]:
    yield from migrated(infrastructure, "inventory")


@pytest.fixture
def stock(stock_engine: Engine) -> Iterator[Executed]:
    """Inventory; after the test every unit must be explained by what came in, is held and was put back."""
    service = Executed(name="inventory", engine=stock_engine, handlers=Handlers.of(inventory.handlers.HANDLERS))
    yield service
    for sku, received, moved, explained in service.rows(CONSERVED):
        assert (received, received) == (moved, explained), sku


@pytest.fixture(scope="module")
def payment_engine(infrastructure: Stack) -> Iterator[Engine]:
    yield from migrated(infrastructure, "payment")


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def payments(payment_engine: Engine, gateway: Gateway) -> Executed:
    own = Handlers.of(payment.handlers.handlers(gateway))
    return Executed(name="payment", engine=payment_engine, handlers=own)


@pytest.fixture(scope="module")
def account_engine(infrastructure: Stack) -> Iterator[Engine]:
    yield from migrated(infrastructure, "loyalty")


@pytest.fixture
def accounts(account_engine: Engine) -> Executed:
    return Executed(name="loyalty", engine=account_engine, handlers=Handlers.of(loyalty.handlers.HANDLERS))


def stocked(stock: Executed, units: int = 10) -> str:
    """Open the stock of a new SKU, and return it."""
    sku = new_id()
    stock.run_sql("INSERT INTO stock (sku, received, on_hand) VALUES (:sku, :units, :units)", sku=sku, units=units)
    return sku


def arrived(*received: tuple[str, int, int], **fields: Any) -> ParcelArrived:
    """Return the arrival of a parcel with these good and damaged pieces by SKU."""
    lines = [{"sku": sku, "good": good, "damaged": damaged} for sku, good, damaged in received]
    return a(ParcelArrived, saga_type="return_order", received=lines, **fields)


def only(messages: list[Any]) -> Any:
    """Return the one message of these."""
    (message,) = messages
    return message


def test_good_pieces_are_put_back_and_damaged_ones_are_not(stock: Executed) -> None:
    tea, cup = stocked(stock), stocked(stock)
    event = arrived((tea, 2, 1), (cup, 0, 3), refund_minor=700, points_minor=80, points=8)
    answer = only(stock.deliver(event))
    assert isinstance(answer, InventoryRestocked)
    assert (answer.units, answer.order_id, answer.customer_id) == (2, event.order_id, event.customer_id)
    assert (answer.refund_minor, answer.points_minor, answer.points) == (700, 80, 8)
    assert (stock.rows(STOCK, sku=tea), stock.rows(STOCK, sku=cup)) == ([(10, 12)], [(10, 10)])
    assert stock.rows(RESTOCKS, saga_id=event.saga_id) == [("restock_inventory", tea, 2)]


def test_a_lost_parcel_puts_nothing_back_and_the_return_goes_on(stock: Executed) -> None:
    event = arrived(is_lost=True)
    assert only(stock.deliver(event)).units == 0
    assert stock.rows(RESTOCKS, saga_id=event.saga_id) == []


def test_lines_of_one_sku_are_put_back_together(stock: Executed) -> None:
    sku = stocked(stock)
    event = arrived((sku, 2, 0), (sku, 3, 0))
    assert only(stock.deliver(event)).units == 5
    assert stock.rows(RESTOCKS, saga_id=event.saga_id) == [("restock_inventory", sku, 5)]


def test_an_arrival_that_comes_again_changes_nothing(stock: Executed) -> None:
    sku = stocked(stock)
    event = arrived((sku, 1, 0))
    assert stock.deliver(event, crashes=True) == []
    assert len(stock.deliver(event, event)) == 1
    assert stock.deliver(event) == []
    assert stock.rows(STOCK, sku=sku) == [(10, 11)]


def test_a_sku_that_has_no_stock_here_is_opened_with_what_came_back(stock: Executed) -> None:
    sku, others = new_id(), [arrived((stocked(stock), 1, 0)) for _ in range(2)]
    stock.deliver(others[0], arrived((sku, 2, 0)), others[1], arrived((sku, 1, 0)))
    assert stock.rows(STOCK, sku=sku) == [(0, 3)]
    opened = "SELECT made_by, kind, units FROM stock_movements WHERE sku = :sku"
    assert stock.rows(opened, sku=sku) == [("restock_inventory", "OPENED", 0)]


def test_what_came_back_is_reserved_by_the_next_order(stock: Executed) -> None:
    sku = stocked(stock, 1)
    line = {"sku": sku, "quantity": 1, "unit_price_minor": 5}
    first, second, third = (a(PaymentAuthorized, lines=[line]) for _ in range(3))
    assert isinstance(only(stock.deliver(first)), InventoryReserved)
    stock.deliver(arrived((sku, 1, 0)))
    assert isinstance(only(stock.deliver(second)), InventoryReserved)
    release = a(ReleaseInventory, saga_id=second.saga_id, step="reserve_inventory")
    replies = stock.deliver(release, arrived((sku, 1, 0)), third)
    assert {type(reply) for reply in replies} == {InventoryReleased, InventoryRestocked, InventoryReserved}
    assert stock.rows(STOCK, sku=sku) == [(1, 1)]


def paid(payments: Executed, gateway: Gateway, state: PaymentState = PaymentState.CAPTURED) -> str:
    """Store the payment of an order, and return the order's id."""
    order_id = new_id()
    gateway.left_minor[f"cap_{order_id}"] = CAPTURED_MINOR
    payments.run_sql(
        "INSERT INTO payments (saga_id, state, authorization_id, capture_id, currency, amount_minor)"
        " VALUES (:id, :state, :auth, :capture_id, 'USD', :amount_minor)",
        id=order_id, state=state.value, auth=f"auth_{order_id}", capture_id=f"cap_{order_id}",
        amount_minor=CAPTURED_MINOR,
    )  # fmt: skip
    payments.run_sql(
        "INSERT INTO effects (saga_id, step, state, updated_at)"
        " SELECT :id, unnest(CAST(:steps AS text[])), 'DONE', now()",
        id=order_id, steps=["authorize_payment", "capture_payment"],
    )  # fmt: skip
    return order_id


def restocked(order_id: str, refund_minor: int, **fields: Any) -> InventoryRestocked:
    return a(
        InventoryRestocked,
        **{"saga_type": "return_order", "order_id": order_id, "currency": "USD", "refund_minor": refund_minor} | fields,
    )


def test_returns_of_one_order_refund_parts_of_its_capture(payments: Executed, gateway: Gateway) -> None:
    order_id = paid(payments, gateway)
    events = [restocked(order_id, 300), restocked(order_id, 700)]
    assert payments.deliver(*events) == []
    answers = payments.call()
    for event, answer in zip(events, answers, strict=True):
        key = f"{event.saga_id}:refund_payment"
        assert isinstance(answer, ReturnRefunded)
        assert (answer.refund_id, answer.refund_minor, answer.points) == (f"ref_{key}", event.refund_minor, 1)
        row = ("refund_payment", order_id, event.refund_minor, "USD", f"ref_{key}")
        assert payments.rows(REFUNDS, saga_id=event.saga_id) == [row]
    assert gateway.left_minor[f"cap_{order_id}"] == 0
    with payments.engine.connect() as connection:
        row = connection.execute(FIND, {"saga_id": order_id}).one()
    assert (row.state, row.refund_id, row.returned_minor) == ("CAPTURED", None, CAPTURED_MINOR)


def test_a_refund_of_nothing_calls_no_gateway_and_needs_no_payment(payments: Executed, gateway: Gateway) -> None:
    nothing, something = restocked(new_id(), 0), restocked(paid(payments, gateway), 5)
    answer = only(payments.deliver(nothing, something))
    assert (answer.saga_id, answer.refund_id, answer.refund_minor) == (nothing.saga_id, "", 0)
    assert [call.delivery.message for call in payments.calls] == [something]
    assert payments.rows(REFUNDS, saga_id=nothing.saga_id) == [("refund_payment", nothing.order_id, 0, "USD", None)]
    assert payments.deliver(nothing, nothing) == []
    assert only(payments.rest()).saga_id == something.saga_id
    assert gateway.keys == [f"{something.saga_id}:refund_payment"]


@pytest.mark.parametrize("refund_minor", [0, 40])
def test_a_refund_is_repeated_alike_by_a_restored_database(
    payments: Executed, gateway: Gateway, refund_minor: int
) -> None:
    event = restocked(paid(payments, gateway), refund_minor)
    payments.deliver(event)
    payments.call()
    published = only([each for each in payments.published if each.saga_id == event.saga_id])
    rows = payments.rows(REFUNDS, saga_id=event.saga_id)
    for lost in ("DELETE FROM effects WHERE saga_id = :id", "DELETE FROM refunds WHERE saga_id = :id"):
        payments.run_sql(lost, id=event.saga_id)

    read = published_of(payments.handlers, [(1, published)], [(payments.raw(event), event)])
    done = Replay("payment", payments.handlers, payments.engine, CODEC, read).run()
    assert (done.repeated, done.open) == (1, [])
    assert payments.rows(REFUNDS, saga_id=event.saga_id) == rows
    assert len(gateway.keys) == bool(refund_minor)


@pytest.mark.parametrize(
    "script", [["answer lost"], ["fails", "answer lost"], ["answer lost", "answer lost"]], ids=", ".join
)
def test_a_refund_whose_answer_is_lost_is_made_once(payments: Executed, gateway: Gateway, script: list[str]) -> None:
    order_id = paid(payments, gateway)
    gateway.script = script
    event = restocked(order_id, 300)
    payments.deliver(event)
    assert only(payments.rest()).refund_minor == 300
    assert set(gateway.keys) == {f"{event.saga_id}:refund_payment"}
    assert gateway.left_minor[f"cap_{order_id}"] == CAPTURED_MINOR - 300


def test_a_crash_between_the_call_and_its_outcome_refunds_once(payments: Executed, gateway: Gateway) -> None:
    order_id = paid(payments, gateway)
    event = restocked(order_id, 300)
    payments.deliver(event, crashes=True)
    payments.deliver(event)
    (lost,) = payments.calls
    lost.handler.call.run(lost.request, lost.key)
    payments.calls.clear()
    assert payments.deliver(event) == []
    assert only(payments.rest()).refund_minor == 300
    assert len(payments.rows(REFUNDS, saga_id=event.saga_id)) == 1
    assert gateway.left_minor[f"cap_{order_id}"] == CAPTURED_MINOR - 300


@pytest.mark.parametrize("course", ["refuses", "refunds less"])
def test_what_the_gateway_did_not_refund_as_it_was_sent_is_parked(
    payments: Executed, gateway: Gateway, course: str
) -> None:
    gateway.script = [course] * 3
    event = restocked(paid(payments, gateway), 300)
    payments.deliver(event)
    assert payments.rest() == []
    assert only(payments.letters) == event
    assert payments.rows(REFUNDS, saga_id=event.saga_id) == []
    assert set(gateway.keys) == {f"{event.saga_id}:refund_payment"}
    parked = "SELECT due_at FROM deferred WHERE saga_id = :id"
    assert payments.rows(parked, id=event.saga_id) == [(None,)]


def test_more_than_was_captured_is_refused_by_the_gateway_and_parked(payments: Executed, gateway: Gateway) -> None:
    order_id = paid(payments, gateway)
    payments.deliver(restocked(order_id, CAPTURED_MINOR))
    payments.call()
    beyond = restocked(order_id, 1)
    payments.deliver(beyond)
    assert payments.rest() == []
    assert only(payments.letters) == beyond
    assert gateway.left_minor[f"cap_{order_id}"] == 0


@pytest.mark.parametrize("state", [PaymentState.REFUNDED, PaymentState.VOIDED, PaymentState.AUTHORIZED])
def test_a_payment_that_is_not_captured_is_parked_and_the_others_are_refunded(
    payments: Executed, gateway: Gateway, state: PaymentState
) -> None:
    refused, well = restocked(paid(payments, gateway, state), 300), restocked(paid(payments, gateway), 300)
    payments.deliver(refused, well)
    assert only(payments.rest()).saga_id == well.saga_id
    assert only(payments.letters) == refused
    assert gateway.keys == [f"{well.saga_id}:refund_payment"]
    assert f"The payment of order {refused.order_id} is {state}; 300" in str(payments.failures[0])


def test_an_order_without_a_payment_is_parked(payments: Executed, gateway: Gateway) -> None:
    event = restocked(new_id(), 300)
    payments.deliver(event)
    assert payments.rest() == []
    assert only(payments.letters) == event
    assert f"Saga {event.order_id} has no payment of authorize_payment" in str(payments.failures[0])


def test_the_compensation_of_an_order_refunds_all_of_it_as_before(payments: Executed, gateway: Gateway) -> None:
    order_id = paid(payments, gateway)
    command = a(RefundPayment, saga_id=order_id, step="authorize_payment")
    payments.deliver(command)
    reply = only(payments.call())
    assert isinstance(reply, PaymentRefunded)
    assert (reply.undone, reply.amount_minor, reply.kind) == (True, CAPTURED_MINOR, "REFUNDED")
    assert gateway.keys == [f"{order_id}:authorize_payment:undo"]
    assert payments.rows("SELECT count(*) FROM refunds WHERE order_id = :id", id=order_id) == [(0,)]


def test_the_gateway_inside_of_the_process_refunds_parts_with_its_effects(payments: Executed, gateway: Gateway) -> None:
    bench_providers.gateway.tables.metadata.create_all(payments.engine)
    order_id = paid(payments, gateway)
    payments.run_sql(
        "INSERT INTO gateway_records (id, reference, state, amount_minor, captures, captured_minor)"
        " VALUES (:auth, :id, 'captured', :amount_minor, 1, :amount_minor)",
        auth=f"auth_{order_id}", id=order_id, amount_minor=CAPTURED_MINOR,
    )  # fmt: skip
    inside = Handlers.of(bench_providers.gateway.handlers.HANDLERS)
    service = Executed(name="payment", engine=payments.engine, handlers=inside)
    records = "SELECT state, refunds, refunded_minor FROM gateway_records WHERE reference = :id"
    answers = service.deliver(restocked(order_id, 300), restocked(order_id, 0), restocked(order_id, 200))
    refund_ids = [answer.refund_id for answer in answers if isinstance(answer, ReturnRefunded)]
    assert [refund_id != "" for refund_id in refund_ids] == [True, False, True]
    assert service.rows(records, id=order_id) == [("captured", 2, 500)]
    service.deliver(restocked(order_id, 500))
    assert service.rows(records, id=order_id) == [("refunded", 3, CAPTURED_MINOR)]


def opened(accounts: Executed, points: int = 50) -> str:
    """Open the account of a new customer, and return the customer."""
    customer_id = new_id()
    accounts.run_sql("INSERT INTO accounts VALUES (:id, :points, :points)", id=customer_id, points=points)
    return customer_id


def balance(accounts: Executed, customer_id: str) -> list[tuple[Any, ...]]:
    return accounts.rows("SELECT granted, balance FROM accounts WHERE customer_id = :id", id=customer_id)


def refunded(customer_id: str, points: int) -> ReturnRefunded:
    return a(ReturnRefunded, saga_type="return_order", customer_id=customer_id, points=points, points_minor=points * 9)


def test_points_are_credited_to_the_orders_customer(accounts: Executed) -> None:
    customer_id = opened(accounts)
    event = refunded(customer_id, 8)
    answer = only(accounts.deliver(event))
    assert isinstance(answer, ReturnPointsCredited)
    assert (answer.points, answer.points_minor, answer.refund_minor) == (8, 72, event.refund_minor)
    assert balance(accounts, customer_id) == [(50, 58)]
    row = ("restore_loyalty_points", event.order_id, customer_id, 8)
    assert accounts.rows(CREDITS, saga_id=event.saga_id) == [row]


def test_a_credit_that_comes_again_changes_nothing(accounts: Executed) -> None:
    customer_id = opened(accounts)
    event = refunded(customer_id, 8)
    assert accounts.deliver(event, crashes=True) == []
    assert len(accounts.deliver(event, event)) == 1
    assert accounts.deliver(event) == []
    assert balance(accounts, customer_id) == [(50, 58)]


def test_no_points_need_no_account(accounts: Executed) -> None:
    event = refunded(new_id(), 0)
    assert only(accounts.deliver(event)).points == 0
    assert balance(accounts, event.customer_id) == []
    assert [points for *_, points in accounts.rows(CREDITS, saga_id=event.saga_id)] == [0]


def test_points_of_a_customer_without_an_account_open_one(accounts: Executed) -> None:
    customer_id = new_id()
    accounts.deliver(refunded(customer_id, 3), refunded(opened(accounts), 1), refunded(customer_id, 4))
    assert balance(accounts, customer_id) == [(0, 7)]
    movements = "SELECT made_by, kind, points FROM account_movements WHERE customer_id = :id"
    assert accounts.rows(movements, id=customer_id) == [("restore_loyalty_points", "OPENED", 0)]


def test_what_was_credited_is_burned_by_the_next_order(accounts: Executed) -> None:
    customer_id = opened(accounts, 0)
    accounts.deliver(refunded(customer_id, 5))
    burn = a(InventoryReserved, customer_id=customer_id, points_to_burn=5)
    answers = accounts.deliver(burn, refunded(customer_id, 2))
    assert {type(each) for each in answers} == {LoyaltyPointsBurned, ReturnPointsCredited}
    assert balance(accounts, customer_id) == [(0, 2)]
