"""What merchant decides: fees, what is left, and a status that does not depend on the order of events."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.wire.envelope import new_id
from merchant.domain import (
    Capture,
    Kind,
    Operation,
    OperationState,
    Payment,
    Price,
    Status,
    check_capture,
    check_refund,
    check_void,
    refund_fee_minor,
)
from merchant.fingerprints import fingerprint, is_of, key_digest
from merchant.intake import BODY, payer_of
from merchant.keys import digest_of, hint_of, is_well_formed, new_key
from merchant.reactions import APPLY
from merchant.waiting import WAIT_MAX_S, seconds_of
from messages.contract import Message
from messages.ledger import CaptureCommitted, PaymentCommitted, RefundCommitted, ReversalPosted
from messages.payment import GatewayAuthorized, GatewayCaptured
from messages.saga import PaymentCompleted, PaymentFailed, RefundFailed

AT = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "basis_points", "fixed", "fee"),
    [
        (10_000, 290, 30, 320),
        (10_017, 290, 0, 290),  # 290.49
        (10_018, 290, 0, 291),  # 290.52
        (50, 100, 0, 1),  # half a unit is rounded up
        (49, 100, 0, 0),
        (20, 0, 30, 20),  # never more than the amount
        (1, 10_000, 0, 1),
        (2**53 - 1, 10_000, 0, 2**53 - 1),
        (10_000, 0, 0, 0),
    ],
)
def test_a_fee_is_rounded_half_up_and_never_more_than_the_amount(
    amount: int, basis_points: int, fixed: int, fee: int
) -> None:
    assert Price(basis_points=basis_points, fixed_minor=fixed).fee_minor(amount) == fee


@given(st.integers(1, 2**53 - 1), st.integers(0, 10_000), st.integers(0, 10**9))
def test_a_fee_lies_between_nothing_and_the_amount(amount: int, basis_points: int, fixed: int) -> None:
    assert 0 <= Price(basis_points=basis_points, fixed_minor=fixed).fee_minor(amount) <= amount


@given(st.lists(st.integers(1, 1_000), min_size=1, max_size=20), st.integers(0, 1_000))
def test_the_parts_of_a_fee_are_never_more_than_it(refunds: list[int], fee: int) -> None:
    captured = sum(refunds)
    assert sum(refund_fee_minor(fee, each, captured) for each in refunds) <= fee


def payment(**changes: Any) -> Payment:
    return replace(Payment(payment_id=1, saga_id=new_id(), amount_minor=100, capture=Capture.NOW), **changes)


def refund(amount_minor: int, state: OperationState = OperationState.PENDING, number: int = 2) -> Operation:
    return Operation(
        operation_id=number,
        payment_id=1,
        saga_id=new_id(),
        kind=Kind.REFUND,
        state=state,
        amount_minor=amount_minor,
    )


def captured(*operations: Operation, **changes: Any) -> Payment:
    return payment(captured_minor=100, committed_at=AT, operations=operations, **changes)


def test_a_second_refund_of_60_on_100_is_refused_with_what_is_left() -> None:
    reason = check_refund(captured(refund(60)), 60)
    assert reason is not None
    assert (reason.left_minor, reason.is_amount) == (40, True)
    assert check_refund(captured(refund(60)), 40) is None


@pytest.mark.parametrize("state", [OperationState.FAILED, OperationState.REVERSED])
def test_a_refund_that_failed_gives_its_amount_back(state: OperationState) -> None:
    assert captured(refund(60, state)).refundable_minor == 100


def test_what_is_disputed_or_lost_cannot_be_refunded() -> None:
    assert captured(disputed_minor=70).refundable_minor == 30
    assert captured(disputed_minor=70, dispute_lost_minor=70).refundable_minor == 30
    assert captured(disputed_minor=70, dispute_won_minor=70).refundable_minor == 100


def test_a_payment_that_is_not_captured_has_nothing_to_refund() -> None:
    for each in (payment(), captured(capture_failed_at=AT), payment(committed_at=AT)):
        reason = check_refund(each, 1)
        assert reason is not None
        assert (reason.left_minor, reason.is_amount) == (0, False)


def test_only_an_open_authorization_is_captured_or_voided_and_once() -> None:
    authorized = payment(capture=Capture.LATER, authorized_at=AT, committed_at=AT)
    assert check_capture(authorized, 100) is None
    assert check_void(authorized) is None
    too_much = check_capture(authorized, 101)
    assert too_much is not None
    assert too_much.is_amount
    pending = replace(refund(100), kind=Kind.CAPTURE)
    for closed in (
        replace(authorized, operations=(pending,)),
        replace(authorized, expired_at=AT),
        replace(authorized, voided_at=AT),
        replace(authorized, committed_at=None),
        payment(authorized_at=AT, committed_at=AT),
    ):
        assert check_capture(closed, 1) is not None
        assert check_void(closed) is not None
    failed = replace(pending, state=OperationState.FAILED)
    assert check_capture(replace(authorized, operations=(failed,)), 100) is None


def envelope(saga_id: str, seconds: int) -> dict[str, Any]:
    return {
        "message_id": new_id(), "saga_id": saga_id, "saga_type": "payment", "saga_version": 1,
        "causation_id": None, "occurred_at": AT + timedelta(seconds=seconds),
    }  # fmt: skip


OF_PAYMENT: dict[str, Any] = {
    "payment_id": 1,
    "merchant_id": "duka",
    "is_live": False,
    "currency": "USD",
    "gateway_account": "a",
}
AT_GATEWAY: dict[str, Any] = {
    **OF_PAYMENT, "amount_minor": 100, "reference": "r", "gateway": "stripe", "gateway_payment_id": "pi_1",
    "fee_minor": 1,
}  # fmt: skip


def whole_story(saga_id: str, refunds: tuple[Operation, Operation]) -> list[Message]:
    """Return the events of a captured payment: a refund worked, another failed, and a dispute was won."""
    own: dict[str, Any] = {**AT_GATEWAY, "capture": "NOW", "expires_at": None}
    reversed_: dict[str, Any] = {
        **{name: value for name, value in AT_GATEWAY.items() if name not in ("gateway_payment_id", "fee_minor")},
        "reversal_id": "x", "payment_saga_id": saga_id, "gateway_reference": "dp", "reason": "none", "refund_id": None,
    }  # fmt: skip
    return [
        GatewayAuthorized(**envelope(saga_id, 1), **own),
        GatewayCaptured(**envelope(saga_id, 2), **own, captured_minor=100),
        PaymentCommitted(**envelope(saga_id, 3), **own, captured_minor=100),
        PaymentCompleted(**envelope(saga_id, 4), started_at=AT),
        RefundCommitted(
            **envelope(refunds[0].saga_id, 5), **OF_PAYMENT, refund_id=2, refund_minor=60, payment_saga_id=saga_id,
            gateway="stripe", gateway_refund_id="re",
        ),
        RefundFailed(**envelope(refunds[1].saga_id, 6), started_at=AT, cause="REJECTED", step="s", reason="no"),
        ReversalPosted(**envelope(new_id(), 7), **reversed_, kind="DISPUTED", reversed_minor=40),
        ReversalPosted(**envelope(new_id(), 8), **reversed_, kind="DISPUTE_WON", reversed_minor=40),
    ]  # fmt: skip


@given(st.integers(0, 2**32))
def test_any_order_of_events_and_any_redelivery_lead_to_the_same_payment(seed: int) -> None:
    chance = random.Random(seed)
    refunds = (refund(60), refund(40, number=3))
    start = payment(operations=refunds)
    story = whole_story(start.saga_id, refunds)
    in_order = start
    for event in story:
        in_order = APPLY[type(event)](in_order, event)
    assert in_order.status is Status.PARTLY_REFUNDED
    shuffled = start
    for event in chance.sample(story * 2, len(story) * 2):
        shuffled = APPLY[type(event)](shuffled, event)
    assert shuffled == in_order


def test_a_refund_that_the_gateway_takes_back_counts_no_more_also_where_that_comes_first() -> None:
    refunds = (refund(60), refund(40, number=3))
    start = captured(*refunds)
    committed = whole_story(start.saga_id, refunds)[4]
    taken_back = replace(whole_story(start.saga_id, refunds)[6], kind="REFUND_FAILED", refund_id=2)  # type: ignore[call-arg]
    for order in ((committed, taken_back), (taken_back, committed)):
        found = start
        for event in order:
            found = APPLY[type(event)](found, event)
        assert found.operations[0].state is OperationState.REVERSED
        assert (found.refunded_minor, found.status) == (0, Status.CAPTURED)


@pytest.mark.parametrize(("cause", "status"), [("CANCELLED", Status.CANCELED), ("REJECTED", Status.FAILED)])
def test_a_failed_payment_stays_failed(cause: str, status: Status) -> None:
    start = payment()
    failed = PaymentFailed(**envelope(start.saga_id, 9), started_at=AT, cause=cause, step="s", reason="no")
    found = APPLY[PaymentFailed](start, failed)
    late = GatewayAuthorized(**envelope(start.saga_id, 1), **AT_GATEWAY, capture="NOW", expires_at=None)
    assert APPLY[GatewayAuthorized](found, late).status is found.status is status


def test_a_later_capture_of_a_part_is_what_is_captured() -> None:
    capture = replace(refund(30), kind=Kind.CAPTURE)
    start = payment(capture=Capture.LATER, authorized_at=AT, committed_at=AT, operations=(capture,))
    event = CaptureCommitted(
        **envelope(capture.saga_id, 1), **AT_GATEWAY, captured_minor=30, payment_saga_id=start.saga_id
    )
    found = APPLY[CaptureCommitted](start, event)
    assert (found.status, found.captured_minor, found.refundable_minor) == (Status.CAPTURED, 30, 30)


def test_parts_of_a_key_cannot_be_shifted() -> None:
    made = {
        key_digest(merchant, route, key, is_live=is_live)
        for merchant, route, key, is_live in [
            ("ab", "c", "d", True), ("a", "bc", "d", True), ("ab", "cd", "", True), ("ab", "c", "d", False)
        ]
    }  # fmt: skip
    assert len(made) == 4


def body(**changes: Any) -> Any:
    own = {
        "amount_minor": 1, "currency": "USD", "payment_method": {"type": "card", "token": "t"}, "reference": "r",
    }  # fmt: skip
    return BODY.validate_python({**own, **changes})


def test_a_fingerprint_has_its_rule_and_depends_on_the_meaning_alone() -> None:
    one = fingerprint(BODY, body(metadata={"a": "1", "b": "2"}))
    assert one[0] == 1
    assert is_of(one, fingerprint(BODY, body(metadata={"b": "2", "a": "1"}, capture="now", reference=" r ")))
    assert not is_of(one, fingerprint(BODY, body(metadata={"a": "2", "b": "1"})))


def test_rule_1_of_fingerprints_never_changes() -> None:
    assert fingerprint(BODY, body()).hex() == "01e9da5f098b7559d9fda776d36508723080a71b5486923020b3c6d52dcfe9dcd9"


def test_a_payer_is_another_one_with_another_merchant_mode_or_key() -> None:
    made = {
        payer_of(key, merchant, "t", is_live=is_live)
        for key, merchant, is_live in [(b"k", "a", True), (b"l", "a", True), (b"k", "b", True), (b"k", "a", False)]
    }
    assert len(made) == 4


@pytest.mark.parametrize("is_live", [True, False])
def test_a_key_names_its_mode_and_has_a_checksum(is_live: bool) -> None:
    key = new_key(is_live=is_live)
    assert key.startswith("sk_live_" if is_live else "sk_test_")
    assert is_well_formed(key)
    assert key.endswith(hint_of(key))
    assert len(digest_of(key)) == 32
    changed = "A" if key[12] != "A" else "B"
    assert not is_well_formed(key[:12] + changed + key[13:])
    assert not is_well_formed(key.replace("sk_", "pk_"))
    assert new_key(is_live=is_live) != key


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0), ("", 0), ("wait=5", 5), ("respond-async, wait=5", 5), ("wait = 3; foo", 3), ("WAIT=2", 2),
        ("wait=100000", WAIT_MAX_S), ("wait=-1", 0), ("wait=x", 0), ("await=5", 0),
    ],
)  # fmt: skip
def test_a_preference_to_wait_is_read_and_bounded(prefer: str | None, seconds: int) -> None:
    assert seconds_of(prefer) == seconds
