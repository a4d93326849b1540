"""What is paid for a parcel that comes back: for what arrived, for all of it where it is lost, and never more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.saga.answers import Proven, Settlement
from chassis.saga.attempts import Outcome
from chassis.saga.effects import EffectState
from messages.checkout import OrderLine, ReturnApproved
from messages.shipping import ParcelArrived, ParcelNotCollected, ReturnedLine
from shipping.parcels import (
    Approved,
    Arrived,
    NotCollected,
    ParcelEnd,
    Piece,
    Report,
    gross_of,
    judge,
    outcome_of,
    received_of,
)
from shipping.sagas import return_order
from support.builders import a

LINES = (
    OrderLine(sku="cup", quantity=2, unit_price_minor=500),
    OrderLine(sku="tea", quantity=3, unit_price_minor=100),
)
APPROVED = Approved(lines=LINES, refund_minor=1_000, points_minor=300, points=30)
ALL = (Piece(sku="cup", quantity=2), Piece(sku="tea", quantity=3))


def done(end: ParcelEnd, *pieces: Piece) -> Settlement:
    proof = Proven(outcome=Outcome.SUCCEEDED, reference="COL_1", detail=Report(end=end, pieces=pieces).detail)
    return Settlement(state=EffectState.DONE, attempt=1, proof=proof)


def rejected(detail: str | None, outcome: Outcome = Outcome.REFUSED) -> Settlement:
    proof = Proven(outcome=outcome, reference="COL_1", detail=detail)
    return Settlement(state=EffectState.REJECTED, attempt=1, proof=proof)


def arrived(*pieces: Piece, approved: Approved = APPROVED) -> Arrived:
    outcome = outcome_of(approved, done(ParcelEnd.ARRIVED, *pieces))
    assert isinstance(outcome, Arrived)
    return outcome


def amounts(outcome: Arrived | NotCollected) -> tuple[int, int, int]:
    assert isinstance(outcome, Arrived)
    return outcome.refund_minor, outcome.points_minor, outcome.points


def test_all_that_is_approved_is_paid_where_all_arrives() -> None:
    outcome = arrived(*ALL)
    assert amounts(outcome) == (1_000, 300, 30)
    assert (outcome.collection_id, outcome.is_lost) == ("COL_1", False)
    assert outcome.received == (
        ReturnedLine(sku="cup", good=2, damaged=0),
        ReturnedLine(sku="tea", good=3, damaged=0),
    )


def test_damaged_pieces_count_like_good_ones() -> None:
    outcome = arrived(Piece(sku="cup", quantity=2, is_damaged=True), Piece(sku="tea", quantity=3))
    assert amounts(outcome) == (1_000, 300, 30)
    assert outcome.received[0] == ReturnedLine(sku="cup", good=0, damaged=2)


def test_a_lost_parcel_counts_as_a_whole_and_nothing_is_received() -> None:
    outcome = outcome_of(APPROVED, done(ParcelEnd.LOST))
    assert amounts(outcome) == (1_000, 300, 30)
    assert isinstance(outcome, Arrived)
    assert (outcome.is_lost, outcome.received) == (True, ())


def test_of_fewer_pieces_those_that_arrived_are_paid_by_their_price() -> None:
    outcome = arrived(Piece(sku="cup", quantity=1))
    assert amounts(outcome) == (1_000 * 500 // 1_300, 500 - 1_000 * 500 // 1_300, 30 * 116 // 300)
    assert outcome.received == (ReturnedLine(sku="cup", good=1, damaged=0),)


def test_what_was_not_approved_is_neither_received_nor_paid() -> None:
    more = arrived(*ALL, Piece(sku="cup", quantity=7), Piece(sku="hat", quantity=1))
    assert more == replace(arrived(*ALL), surplus=more.surplus)
    assert more.surplus == (ReturnedLine(sku="cup", good=7, damaged=0), ReturnedLine(sku="hat", good=1, damaged=0))


def test_good_pieces_of_a_product_are_received_and_damaged_ones_too_many() -> None:
    outcome = arrived(Piece(sku="cup", quantity=2, is_damaged=True), Piece(sku="cup", quantity=1))
    assert outcome.received == (ReturnedLine(sku="cup", good=1, damaged=1),)
    assert outcome.surplus == (ReturnedLine(sku="cup", good=0, damaged=1),)


def test_a_parcel_of_other_pieces_alone_proves_a_failure_that_says_what_came() -> None:
    proof = done(ParcelEnd.ARRIVED, Piece(sku="hat", quantity=2), Piece(sku="fan", quantity=1, is_damaged=True)).proof
    judged = judge(APPROVED, proof)
    assert judged == replace(proof, outcome=Outcome.REFUSED)
    assert judge(APPROVED, judged) == judged
    outcome = outcome_of(APPROVED, Settlement(state=EffectState.REJECTED, attempt=1, proof=judged))
    assert isinstance(outcome, NotCollected)
    assert outcome.reason == "nothing_of_it_arrived"
    assert outcome.detail == "None of the announced pieces arrived; the parcel had 1 of fan and 2 of hat."
    assert outcome.surplus == (ReturnedLine(sku="fan", good=0, damaged=1), ReturnedLine(sku="hat", good=2, damaged=0))


def test_of_many_other_products_the_first_are_named() -> None:
    pieces = tuple(Piece(sku=f"p{number}", quantity=1) for number in range(9))
    outcome = outcome_of(APPROVED, rejected(Report(end=ParcelEnd.ARRIVED, pieces=pieces).detail))
    assert isinstance(outcome, NotCollected)
    assert outcome.detail.endswith("1 of p0, 1 of p1, 1 of p2 and 6 other products.")
    assert len(outcome.surplus) == 9


@pytest.mark.parametrize(
    "settlement",
    [
        done(ParcelEnd.ARRIVED, Piece(sku="tea", quantity=1, is_damaged=True), Piece(sku="hat", quantity=1)),
        done(ParcelEnd.LOST),
        rejected(Report(end=ParcelEnd.NOT_COLLECTED).detail),
        rejected(None, Outcome.CANCEL_REFUSED),
    ],
)
def test_another_proof_means_what_it_says(settlement: Settlement) -> None:
    assert judge(APPROVED, settlement.proof) == settlement.proof


def test_of_a_product_at_two_prices_the_pieces_of_the_first_line_arrive_first() -> None:
    lines = tuple(OrderLine(sku="cup", quantity=1, unit_price_minor=price) for price in (500, 300))
    outcome = arrived(
        Piece(sku="cup", quantity=1), approved=Approved(lines=lines, refund_minor=800, points_minor=0, points=0)
    )
    assert outcome.refund_minor == 500
    assert outcome.received == (ReturnedLine(sku="cup", good=1, damaged=0),)


def test_pieces_that_cost_nothing_are_returned_for_nothing() -> None:
    lines = (OrderLine(sku="leaflet", quantity=1, unit_price_minor=0),)
    free = Approved(lines=lines, refund_minor=0, points_minor=0, points=0)
    assert amounts(arrived(Piece(sku="leaflet", quantity=1), approved=free)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("settlement", "reason"),
    [
        (rejected(Report(end=ParcelEnd.NOT_COLLECTED).detail), "not_collected"),
        (rejected(Report(end=ParcelEnd.NOT_COLLECTABLE).detail), "not_collectable"),
        (rejected(Report(end=ParcelEnd.ARRIVED).detail), "nothing_arrived"),
        (rejected(Report(end=ParcelEnd.CALLED_OFF).detail, Outcome.VOIDED), "called_off"),
        (rejected(None), "not_collected"),
    ],
)
def test_where_nothing_arrives_the_return_fails_with_the_reason(settlement: Settlement, reason: str) -> None:
    outcome = outcome_of(APPROVED, settlement)
    assert isinstance(outcome, NotCollected)
    assert outcome.reason == reason
    assert outcome.detail.endswith(".")


@pytest.mark.parametrize("detail", [None, "", "[]", "{}", '{"end":"late","pieces":[]}', '{"end":"lost","pieces":[1]}'])
def test_a_proof_without_a_couriers_report_is_refused(detail: str | None) -> None:
    proof = Proven(outcome=Outcome.SUCCEEDED, reference="COL_1", detail=detail)
    with pytest.raises(ValueError, match=r"."):
        outcome_of(APPROVED, Settlement(state=EffectState.DONE, attempt=1, proof=proof))


SKUS = st.sampled_from("abc")
ORDERED = st.lists(
    st.builds(OrderLine, sku=SKUS, quantity=st.integers(1, 9), unit_price_minor=st.integers(0, 10**6)), min_size=1
).map(tuple)
SENT = st.lists(st.builds(Piece, sku=st.sampled_from("abcd"), quantity=st.integers(1, 20), is_damaged=st.booleans()))
SMALL, AMOUNTS = st.integers(0, 5), st.integers(0, 10**9)


def counted_gross(lines: tuple[OrderLine, ...], received: tuple[ReturnedLine, ...]) -> int:
    """Return the price of what is received, piece by piece; the first lines' pieces arrive first."""
    left = {each.sku: each.good + each.damaged for each in received}
    prices = [(line.sku, line.unit_price_minor) for line in lines for _ in range(line.quantity)]
    counted = 0
    for sku, price in prices:
        if left.get(sku, 0) > 0:
            left[sku] -= 1
            counted += price
    return counted


@given(lines=ORDERED, pieces=SENT, refund=AMOUNTS, points_minor=AMOUNTS, points=AMOUNTS, end=st.sampled_from(ParcelEnd))
def test_nothing_is_ever_paid_or_received_beyond_what_was_approved(
    lines: tuple[OrderLine, ...], pieces: list[Piece], refund: int, points_minor: int, points: int, end: ParcelEnd
) -> None:
    approved = Approved(lines=lines, refund_minor=refund, points_minor=points_minor, points=points)
    outcome = outcome_of(approved, done(end, *pieces))
    assert isinstance(outcome, Arrived)
    for paid, limit in zip(amounts(outcome), (refund, points_minor, points), strict=True):
        assert 0 <= paid <= limit
    for each in outcome.received:
        assert each.good + each.damaged <= sum(line.quantity for line in lines if line.sku == each.sku)
    kept = [*outcome.received, *outcome.surplus]
    for is_damaged in (False, True):
        for sku in "abcd":
            counted = sum((each.damaged if is_damaged else each.good) for each in kept if each.sku == sku)
            assert counted == sum(
                each.quantity for each in pieces if each.sku == sku and each.is_damaged == is_damaged
            ), "no piece is left out"


@given(lines=ORDERED, refund=AMOUNTS, points_minor=AMOUNTS, points=AMOUNTS)
def test_whatever_costs_something_is_paid_in_full_where_it_arrives_in_full(
    lines: tuple[OrderLine, ...], refund: int, points_minor: int, points: int
) -> None:
    approved = Approved(lines=lines, refund_minor=refund, points_minor=points_minor, points=points)
    pieces = [Piece(sku=line.sku, quantity=line.quantity) for line in lines]
    paid = amounts(arrived(*pieces, approved=approved))
    assert paid == ((refund, points_minor, points) if gross_of(lines) else (0, 0, 0))


@given(lines=ORDERED, pieces=SENT, refund=SMALL | AMOUNTS, points_minor=SMALL | AMOUNTS, points=SMALL | AMOUNTS)
def test_card_and_points_together_are_rounded_down_once(
    lines: tuple[OrderLine, ...], pieces: list[Piece], refund: int, points_minor: int, points: int
) -> None:
    approved = Approved(lines=lines, refund_minor=refund, points_minor=points_minor, points=points)
    outcome = arrived(*pieces, approved=approved)
    counted, whole = counted_gross(lines, outcome.received), gross_of(lines)
    assert outcome.refund_minor == (refund * counted // whole if whole else 0)
    assert outcome.refund_minor + outcome.points_minor == ((refund + points_minor) * counted // whole if whole else 0)
    if points == points_minor:
        assert outcome.points == outcome.points_minor


def test_of_two_pieces_for_one_unit_each_one_gives_back_a_unit() -> None:
    lines = (OrderLine(sku="pin", quantity=2, unit_price_minor=1),)
    approved = Approved(lines=lines, refund_minor=1, points_minor=1, points=1)
    assert amounts(arrived(Piece(sku="pin", quantity=1), approved=approved)) == (0, 1, 1)


def test_points_that_pay_less_than_a_unit_come_back_by_the_price() -> None:
    lines = (OrderLine(sku="pin", quantity=2, unit_price_minor=1),)
    approved = Approved(lines=lines, refund_minor=1, points_minor=1, points=100)
    assert amounts(arrived(Piece(sku="pin", quantity=1), approved=approved)) == (0, 1, 50)
    paid_by_card = Approved(lines=lines, refund_minor=2, points_minor=0, points=5)
    assert amounts(arrived(Piece(sku="pin", quantity=2), approved=paid_by_card)) == (2, 0, 5)


@given(pieces=SENT, more=SENT)
def test_more_pieces_never_pay_less(pieces: list[Piece], more: list[Piece]) -> None:
    fewer, all_of_them = arrived(*pieces), arrived(*pieces, *more)
    assert fewer.refund_minor <= all_of_them.refund_minor
    assert fewer.refund_minor + fewer.points_minor <= all_of_them.refund_minor + all_of_them.points_minor


@given(pieces=SENT, end=st.sampled_from(ParcelEnd))
def test_a_report_is_read_as_it_was_written(pieces: list[Piece], end: ParcelEnd) -> None:
    report = Report(end=end, pieces=tuple(pieces))
    read = Report.of(report.detail)
    assert (read.end, read.detail) == (report.end, report.detail)
    assert received_of(LINES, read.pieces) == received_of(LINES, pieces)


@given(pieces=st.permutations(ALL), end=st.sampled_from(ParcelEnd))
def test_the_order_of_the_pieces_changes_no_detail_and_their_number_does(pieces: list[Piece], end: ParcelEnd) -> None:
    whole = Report(end=end, pieces=ALL)
    assert Report(end=end, pieces=tuple(pieces)).detail == whole.detail
    assert Report(end=end, pieces=tuple(pieces[1:])).detail != whole.detail


def test_good_pieces_are_received_before_damaged_ones() -> None:
    pieces = [Piece(sku="cup", quantity=2, is_damaged=True), Piece(sku="cup", quantity=1)]
    assert received_of(LINES, pieces) == (ReturnedLine(sku="cup", good=1, damaged=1),)


def test_the_saga_publishes_what_arrived_or_why_nothing_did() -> None:
    lines = [{"sku": "cup", "quantity": 2, "unit_price_minor": 500}]
    event = a(ReturnApproved, saga_type="return_order", lines=lines, refund_minor=900, points_minor=100, points=10)
    request = return_order.to_collect(event, "collect_parcel")
    assert (request.key, request.reference) == ((event.saga_id, "collect_parcel"), event.saga_id)
    envelope = {
        name: getattr(event, name)
        for name in ("message_id", "saga_id", "saga_type", "saga_version", "causation_id", "occurred_at")
    }
    published = return_order.ended(event, done(ParcelEnd.ARRIVED, Piece(sku="cup", quantity=1)), envelope)  # type: ignore[arg-type]
    assert isinstance(published, ParcelArrived)
    assert (published.order_id, published.customer_id) == (event.order_id, event.customer_id)
    assert (published.refund_minor, published.points_minor, published.points) == (450, 50, 5)
    failed = return_order.ended(event, rejected(None), envelope)  # type: ignore[arg-type]
    assert isinstance(failed, ParcelNotCollected)
    assert failed.reason == "not_collected"
