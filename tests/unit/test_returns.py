"""What of an order may be returned, and what comes back for it: the pure rules, by example and by property."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.wire.envelope import new_id
from checkout.domain import OrderState, PricedLine
from checkout.fields import ShipTo
from checkout.fingerprints import return_fingerprint
from checkout.returns import (
    WINDOW,
    Amounts,
    ApproveReturn,
    CountedReturn,
    DecidedReturn,
    OrderMissing,
    OrderReturns,
    PlacedOrder,
    Reason,
    ReturnBody,
    ReturnLine,
    ReturnRefusal,
    ReturnState,
    Withdrawals,
    amounts_of,
    approve,
    check_return,
    priced,
    refusals_of,
    return_message_of,
    withdraw,
)
from checkout.sagas import return_order
from messages.checkout import ReturnApproved, ReturnRefused, ReturnRequested, WithdrawReturn
from messages.contract import Envelope
from support.builders import a

AT = datetime(2026, 11, 29, 10, tzinfo=UTC)
HOME = ShipTo(name="A. Person", street="1 Road", city="Town", postal_code="12345", country="US")
PINNED = "1c6ff07e219e85be3df8d854a347889c01c0541e970cd7ed55fbe90fca3b3e34"
"""A fingerprint that is stored must never change."""
ORDER = PlacedOrder(
    order_id="order-1",
    customer_id="ada",
    state=OrderState.CONFIRMED,
    currency="USD",
    lines=(
        PricedLine(sku="tea", quantity=3, unit_price_minor=100),
        PricedLine(sku="cup", quantity=1, unit_price_minor=700),
    ),
    points_to_burn=100,
    total_minor=1_000,
    payable_minor=900,
    decided_at=AT,
)


def envelope() -> Envelope:
    return Envelope(
        message_id=new_id(), saga_id="return-1", saga_type="return_order", saga_version=1, causation_id=None,
        occurred_at=AT + timedelta(days=1),
    )  # fmt: skip


def request(*lines: tuple[str, int], at: datetime = AT) -> ApproveReturn:
    return ApproveReturn(
        saga_id=new_id(), step="approve_return", order_id="order-1", lines=lines, reason="too small", requested_at=at
    )


def returned(*lines: tuple[str, int], received: dict[str, int] | None = None) -> CountedReturn:
    found = priced(ORDER, lines)
    return CountedReturn(lines=found, received=received, amounts=amounts_of(ORDER, [], found))


def reasons(
    *lines: tuple[str, int], order: PlacedOrder = ORDER, counted: Sequence[CountedReturn] = (), at: datetime = AT
) -> list[tuple[Reason, tuple[str | int, ...]]]:
    return [(each.reason, each.path) for each in refusals_of(order, counted, lines, at=at)]


def test_a_part_of_a_confirmed_order_may_be_returned() -> None:
    assert reasons(("tea", 3), ("cup", 1)) == []
    assert reasons(("tea", 2), counted=[returned(("tea", 1))]) == []


@pytest.mark.parametrize("state", [OrderState.PENDING, OrderState.CANCELLED_COMPENSATED])
def test_only_a_confirmed_order_may_be_returned(state: OrderState) -> None:
    assert reasons(("tea", 1), ("none", 1), order=replace(ORDER, state=state)) == [(Reason.NOT_CONFIRMED, ())]


def test_an_order_may_be_returned_for_thirty_days_from_its_confirmation() -> None:
    assert timedelta(days=30) == WINDOW
    assert reasons(("tea", 1), at=AT + WINDOW) == []
    assert reasons(("tea", 1), at=AT + WINDOW + timedelta(microseconds=1)) == [(Reason.OUTSIDE_WINDOW, ())]


def test_what_was_not_bought_is_refused_at_its_field() -> None:
    assert reasons(("tea", 4), ("pot", 1), ("cup", 1)) == [
        (Reason.NOT_BOUGHT, ("lines", 0, "quantity")),
        (Reason.NOT_BOUGHT, ("lines", 1, "sku")),
    ]


def test_what_is_returned_already_is_refused_at_its_field() -> None:
    counted = [returned(("tea", 2)), returned(("cup", 1))]
    assert reasons(("tea", 2), ("cup", 1), counted=counted) == [
        (Reason.ALREADY_RETURNED, ("lines", 0, "quantity")),
        (Reason.ALREADY_RETURNED, ("lines", 1, "quantity")),
    ]
    details = [each.detail for each in refusals_of(ORDER, counted, (("tea", 2), ("cup", 1)), at=AT)]
    assert details[0].endswith("2 of 3 are returned already; send at most 1.")
    assert details[1].endswith("1 of 1 are returned already; remove the line.")


def test_pieces_that_did_not_arrive_may_be_returned_again_and_lost_ones_may_not() -> None:
    assert reasons(("tea", 2), counted=[returned(("tea", 3), received={"tea": 1})]) == []
    assert reasons(("tea", 1), counted=[returned(("tea", 3), received=None)]) != []


def test_more_pieces_than_were_announced_count_as_announced() -> None:
    assert returned(("tea", 2), received={"tea": 5, "pot": 1}).pieces == {"tea": 2}


def test_a_return_gives_back_its_part_of_what_was_paid() -> None:
    whole = priced(ORDER, (("tea", 3), ("cup", 1)))
    assert amounts_of(ORDER, [], whole) == Amounts(refund_minor=900, points_minor=100, points=100)
    assert amounts_of(ORDER, [], priced(ORDER, (("tea", 1),))) == Amounts(refund_minor=90, points_minor=10, points=10)


def test_the_last_return_gives_back_what_rounding_has_left() -> None:
    order = replace(ORDER, payable_minor=899, points_to_burn=101)
    parts = [priced(order, (("tea", 1),))] * 3 + [priced(order, (("cup", 1),))]
    counted: list[CountedReturn] = []
    for lines in parts:
        counted.append(CountedReturn(lines=lines, received=None, amounts=amounts_of(order, counted, lines)))
    assert [each.amounts.refund_minor for each in counted] == [89, 90, 90, 630]
    assert sum([each.amounts for each in counted], Amounts()) == Amounts(refund_minor=899, points_minor=101, points=101)


def test_an_approval_counts_for_the_next_one_of_the_same_batch() -> None:
    rows = OrderReturns(orders={"order-1": ORDER})
    first, second = approve(request(("cup", 1)), rows, envelope()), approve(request(("cup", 1)), rows, envelope())
    assert isinstance(first, DecidedReturn)
    assert isinstance(second, ReturnRefusal)
    assert (first.amounts.refund_minor, first.approved_at) == (630, AT + timedelta(days=1))
    assert second.reason is Reason.ALREADY_RETURNED
    assert [each.state for each in rows.decided] == [ReturnState.APPROVED, ReturnState.REFUSED]
    assert (rows.decided[1].amounts, rows.decided[1].approved_at) == (Amounts(), None)


def test_an_approval_that_comes_days_after_the_request_is_judged_by_the_time_of_the_request() -> None:
    rows = OrderReturns(orders={"order-1": replace(ORDER, decided_at=AT - WINDOW)})
    assert isinstance(approve(request(("cup", 1)), rows, envelope()), DecidedReturn)


def test_a_return_of_an_order_that_is_not_there_parks_its_saga() -> None:
    with pytest.raises(OrderMissing, match="order-1"):
        approve(request(("cup", 1)), OrderReturns(orders={}), envelope())


def test_a_withdrawal_is_made_where_there_is_an_approval() -> None:
    rows, command = Withdrawals(), a(WithdrawReturn, saga_id="return-1", step="approve_return")
    assert withdraw(command, False, rows, envelope()).undone is False
    assert rows.return_ids == []
    assert withdraw(command, True, rows, envelope()).undone is True
    assert rows.return_ids == ["return-1"]


def test_the_sagas_events_have_what_the_next_step_needs() -> None:
    line = {"sku": "cup", "quantity": 1, "unit_price_minor": 1}
    event = a(ReturnRequested, order_id="order-1", lines=[line, line], saga_type="return_order")
    asked = return_order.to_approve(event, "approve_return")
    assert (asked.lines, asked.requested_at, asked.reason) == ((("cup", 2),), event.occurred_at, event.reason)
    rows = OrderReturns(orders={"order-1": ORDER})
    approved = return_order.approved(event, approve(request(("cup", 1)), rows, envelope()), envelope())
    assert isinstance(approved, ReturnApproved)
    assert (approved.customer_id, approved.collect_from, approved.refund_minor) == ("ada", event.collect_from, 630)
    assert [(each.sku, each.quantity, each.unit_price_minor) for each in approved.lines] == [("cup", 1, 700)]
    refused = return_order.approved(event, approve(request(("cup", 1)), rows, envelope()), envelope())
    assert isinstance(refused, ReturnRefused)
    assert refused.reason == "already_returned"


def body(*lines: tuple[str, int], collect_from: ShipTo = HOME, reason: str | None = None) -> ReturnBody:
    return ReturnBody(
        lines=tuple(ReturnLine(sku=sku, quantity=quantity) for sku, quantity in lines),
        collect_from=collect_from,
        reason=reason,
    )


def test_a_body_is_refused_at_each_field_by_the_rules_of_an_order() -> None:
    sent = body(
        ("tea", 0), ("tea", 1), collect_from=replace(HOME, name="4111 1111 1111 1111", postal_code=None),
        reason="my card is 4111 1111 1111 1111",
    )  # fmt: skip
    assert [each.path for each in check_return(sent, ["tea"]).refusals] == [
        ("lines", 0, "quantity"), ("lines", 1, "sku"), ("collect_from", "name"),
        ("collect_from", "postal_code"), ("reason",),
    ]  # fmt: skip
    assert [each.path for each in check_return(body(), []).refusals] == [("lines",)]
    other = check_return(body(("tea", 1), collect_from=replace(HOME, country="ZZ")), ["tea"])
    assert [each.path for each in other.refusals] == [("collect_from", "country")]


def test_a_body_is_brought_into_its_normal_form_and_a_sku_into_the_orders() -> None:
    sent = body((" tea ", 1), (" old", 1), collect_from=replace(HOME, city=" Town ", region=" "), reason=" small ")
    checked = check_return(sent, ["tea", " old"])
    assert checked.refusals == ()
    assert checked.lines == (("tea", 1), (" old", 1))
    assert (checked.collect_from.city, checked.collect_from.region, checked.reason) == ("Town", None, "small")


def test_a_fingerprint_is_of_an_order_and_a_body() -> None:
    made = {return_fingerprint(order, body(("tea", count))) for order in ("order-1", "order-2") for count in (1, 2)}
    assert len(made) == 4
    assert return_fingerprint("order-1", body(("tea", 1))).hex() == PINNED


def test_the_message_states_only_what_is_certain() -> None:
    for state in ReturnState:
        for is_cancellation_requested in (False, True):
            message = return_message_of(state, is_cancellation_requested=is_cancellation_requested)
            is_open = state in (ReturnState.REQUESTED, ReturnState.APPROVED)
            assert ("cancellation requested" in message) is (is_open and is_cancellation_requested)


@dataclass
class Returning:
    """An order whose customer returns it. ``pieces`` are those of each return that are no longer the customer's."""

    order: PlacedOrder
    counted: list[CountedReturn] = field(default_factory=list)
    pieces: list[dict[str, int]] = field(default_factory=list)

    def request(self, lines: Sequence[tuple[str, int]]) -> bool:
        if next(refusals_of(self.order, self.counted, lines, at=AT), None) is not None:
            return False
        found = priced(self.order, lines)
        amounts = amounts_of(self.order, self.counted, found)
        assert min(amounts.refund_minor, amounts.points_minor, amounts.points) >= 0
        self.counted.append(CountedReturn(lines=found, received=None, amounts=amounts))
        self.pieces.append(dict(lines))
        return True

    def withdraw(self, number: int) -> None:
        del self.counted[number]
        del self.pieces[number]

    def arrive(self, number: int, received: dict[str, int]) -> None:
        """Keep what arrived, with the amounts as shipping has them: by the gross of what arrived."""
        before = self.counted[number]
        gross, whole = self.gross_minor(received), self.gross_minor(self.pieces[number])
        amounts = Amounts(
            refund_minor=before.amounts.refund_minor * gross // whole,
            points_minor=before.amounts.points_minor * gross // whole,
            points=before.amounts.points * gross // whole,
        )
        if gross:
            self.counted[number] = replace(before, received=received, amounts=amounts)
            self.pieces[number] = received
        else:
            self.withdraw(number)  # nothing arrived: the return fails

    def gross_minor(self, pieces: dict[str, int]) -> int:
        return sum(pieces.get(line.sku, 0) * line.unit_price_minor for line in self.order.lines)

    @property
    def given_back(self) -> Amounts:
        return sum([each.amounts for each in self.counted], Amounts())

    @property
    def left(self) -> list[tuple[str, int]]:
        returned: Counter[str] = Counter()
        for each in self.pieces:
            returned.update(each)
        rest = [(line.sku, line.quantity - returned[line.sku]) for line in self.order.lines]
        assert all(quantity >= 0 for _, quantity in rest), "more came back than was bought"
        return [(sku, quantity) for sku, quantity in rest if quantity]

    def check(self) -> None:
        paid_by_points = self.order.total_minor - self.order.payable_minor
        given = self.given_back
        assert given.refund_minor <= self.order.payable_minor
        assert given.points_minor <= paid_by_points
        assert given.points <= self.order.points_to_burn
        if not self.left:
            self.check_whole()

    def check_whole(self) -> None:
        paid_by_points = self.order.total_minor - self.order.payable_minor
        assert self.given_back == Amounts(
            refund_minor=self.order.payable_minor, points_minor=paid_by_points, points=self.order.points_to_burn
        )


@st.composite
def orders(draw: st.DrawFn) -> PlacedOrder:
    pieces = st.tuples(st.integers(1, 4), st.one_of(st.integers(1, 9), st.integers(1, 10**10)))
    drawn = draw(st.lists(pieces, min_size=1, max_size=4))
    lines = tuple(
        PricedLine(sku=f"sku-{number}", quantity=quantity, unit_price_minor=price)
        for number, (quantity, price) in enumerate(drawn)
    )
    total_minor = sum(line.quantity * line.unit_price_minor for line in lines)
    payable_minor = draw(st.integers(1, total_minor))
    points = draw(st.integers(0, 10**6)) if payable_minor < total_minor else 0
    return replace(ORDER, lines=lines, total_minor=total_minor, payable_minor=payable_minor, points_to_burn=points)


@given(orders(), st.data())
def test_no_split_gives_back_more_than_was_paid_and_all_pieces_give_back_exactly_that(
    order: PlacedOrder, data: st.DataObject
) -> None:
    returning = Returning(order=order)
    for _ in range(data.draw(st.integers(0, 12))):
        act = data.draw(st.sampled_from(["request", "withdraw", "arrive"]))
        if act == "request":
            wanted = [(line.sku, data.draw(st.integers(0, line.quantity))) for line in order.lines]
            if lines := [(sku, quantity) for sku, quantity in wanted if quantity]:
                is_possible = all(quantity <= dict(returning.left).get(sku, 0) for sku, quantity in lines)
                assert returning.request(lines) is is_possible
        elif open_ones := [number for number, each in enumerate(returning.counted) if each.received is None]:
            number = data.draw(st.sampled_from(open_ones))
            if act == "withdraw":
                returning.withdraw(number)
            else:
                announced = returning.pieces[number]
                arrived = {sku: data.draw(st.integers(0, quantity)) for sku, quantity in announced.items()}
                returning.arrive(number, arrived)
        returning.check()
    # In the end all that is left comes back: what was paid is given back, whatever happened before.
    if returning.left:
        assert returning.request(returning.left)
        returning.check_whole()
