"""A payout over Daraja: what an answer proves, what only a result proves, and what a fault of ours does to the lane."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from chassis.saga.unit_of_work import AwaitedAct
from chassis.testing.service import types
from chassis.wire.envelope import new_id
from messages.ledger import ReturnHeld
from messages.mobile_money import FloatReleased, FloatReserved, PayoutFailed, PayoutPaid, ReceiptReversed
from messages.saga import SagaFenced, StepContradicted
from mobile_money import floats, lanes
from mobile_money.domain import Lane, LaneId
from mobile_money.readings import originator_of
from support.builders import a
from support.gateway_stub import Answer, GatewayStub
from support.mobile_money import B2C_PATH, LOST, STATUS_PATH, DarajaBooks, Sending, receipt, result, status


def error(code: str, message: str, status: int = 500) -> Answer:
    return Answer(status=status, body={"requestId": "r", "errorCode": code, "errorMessage": message})


def lane(sending: Sending) -> LaneId:
    return LaneId(short_code=sending.code.short_code, name=Lane.MEMBERS)


def is_paused(sending: Sending) -> bool:
    with sending.engine.begin() as tx:
        return str(lane(sending)) in lanes.paused(tx)


def reserved(sending: Sending) -> Any:
    return sending.row("float_reservations")


def told(sending: Sending, minor: int) -> None:
    with sending.engine.begin() as tx:
        floats.tell(tx, sending.code.short_code, at=sending.now, utility_minor=minor)


def test_a_payout_is_paid_by_its_result_and_never_by_its_acknowledgement(sending: Sending, books: DarajaBooks) -> None:
    (held,) = sending.hold()
    assert isinstance(held, FloatReserved)
    sending.deliver(held)
    sending.send()
    assert (sending.state, sending.row().state) == ("SENT", "REQUESTED"), "an acknowledgement is no outcome"
    (sent,) = books.of(B2C_PATH)
    assert (sent["OriginatorConversationID"], sent["Amount"], sent["CommandID"]) == (
        sending.own_id(), 2_500, "BusinessPayment",
    )  # fmt: skip
    assert len(sent["OriginatorConversationID"]) == 20
    number = receipt()
    (paid,) = sending.callback("b2c", result(sending.own_id(), number))
    assert isinstance(paid, PayoutPaid)
    assert (paid.receipt, paid.amount_minor, paid.charge_minor) == (number, 250_000, 900)
    assert paid.completed_at.isoformat() == "2026-11-29T09:00:30+00:00", "12:00:30 in Nairobi"
    assert sending.row().state == "PAID"
    assert reserved(sending).state == "CONSUMED"
    assert sending.callback("b2c", result(sending.own_id(), number)) == []
    assert sending.fates() == ["APPLIED", "DUPLICATE"]


def test_a_result_that_comes_before_the_answer_is_kept_and_settles(sending: Sending, stub: GatewayStub) -> None:
    sending.pay()
    sending.acknowledge()
    (paid,) = sending.callback("b2c", result(sending.own_id(), receipt()))
    assert isinstance(paid, PayoutPaid)
    assert sending.call() == [], "the answer to the request comes afterwards, and changes nothing"
    assert sending.state == "DONE"


def test_a_lost_answer_is_asked_for_first_and_then_sent_again_under_the_same_id(
    sending: Sending, stub: GatewayStub, books: DarajaBooks
) -> None:
    sending.pay()
    stub.scripted.append(Answer(body={"access_token": "t", "expires_in": 3599}))
    stub.scripted.append(LOST)
    sending.send()
    sending.wait(10)
    assert sending.state == "UNSURE"
    sending.restart()
    sending.wait(61)
    (query,) = sending.calls
    assert query.act is AwaitedAct.QUERY
    sending.call()
    (asked,) = books.of(STATUS_PATH)
    assert asked["OriginalConversationID"] == sending.own_id()
    assert sending.state == "UNSURE", "that a query was taken settles nothing"
    with sending.engine.connect() as tx:
        known = text("SELECT question_id FROM questions WHERE key = :key")
        conversation = tx.execute(known, {"key": f"{sending.saga_id}:send_payout"}).scalar_one()
    assert sending.callback("status", status(conversation, code="2032")) == []
    assert sending.state == "UNSURE", "not found proves nothing"
    sending.wait(61)
    sending.call()
    sending.wait(121)
    (again,) = sending.calls
    assert (again.act, again.number) == (AwaitedAct.SEND, 1)
    sending.send()
    (sent,) = books.of(B2C_PATH)
    assert sent["OriginatorConversationID"] == sending.own_id(), "the same id, whatever was lost"
    assert sending.state == "SENT"


def test_a_duplicate_is_an_arrival_and_never_a_failure(sending: Sending, stub: GatewayStub, books: DarajaBooks) -> None:
    stub.answer = lambda got: (
        error("500.002.1001", "Duplicate OriginatorConversationID.")
        if got.line.endswith(B2C_PATH)
        else books.answer(got)
    )
    sending.pay()
    sending.send()
    assert sending.state == "SENT"


@pytest.mark.parametrize(
    ("code", "message"),
    [("500.002.1001", "Internal server error"), ("500.003.02", "System is busy"), ("599.999.99", "what is that")],
)
def test_an_error_that_says_nothing_leaves_the_payout_unsure(
    sending: Sending, stub: GatewayStub, books: DarajaBooks, code: str, message: str
) -> None:
    stub.answer = lambda got: error(code, message) if got.line.endswith(B2C_PATH) else books.answer(got)
    sending.pay()
    sending.send()
    sending.wait(10)
    assert (sending.state, is_paused(sending)) == ("UNSURE", False)


@pytest.mark.parametrize("code", [1, "2001", 21, "8006", "TP40153", 11])
def test_a_fault_of_ours_pauses_the_lane_and_never_fails_the_member(sending: Sending, code: object) -> None:
    told(sending, 10_000_000)
    (held,) = sending.hold()
    sending.deliver(held)
    sending.send()
    assert sending.callback("b2c", result(sending.own_id(), code=code)) == []
    assert (sending.state, is_paused(sending), reserved(sending).state) == ("PAUSED", True, "RESERVED")
    sending.wait(600)
    assert sending.calls == [], "no attempt begins while the lane is paused"
    with sending.engine.begin() as tx:
        lanes.open_lane(tx, lane(sending), reason="topped up", by="treasurer", now=sending.now)
    sending.wait(0)
    (call,) = sending.calls
    assert (call.number, sending.own_id(2) != sending.own_id(1)) == (2, True), "a new id only after proven failure"
    sending.send()
    (paid,) = sending.callback("b2c", result(sending.own_id(2), receipt()))
    assert types([paid]) == ["PayoutPaid"]


def test_nothing_is_sent_into_a_paused_lane_and_it_goes_under_the_same_id_later(
    sending: Sending, books: DarajaBooks
) -> None:
    with sending.engine.begin() as tx:
        lanes.pause(tx, lane(sending), reason="credentials", by="treasurer", now=sending.now)
    sending.pay()
    sending.send()
    assert (books.of(B2C_PATH), sending.state) == ([], "STARTED")
    with sending.engine.begin() as tx:
        lanes.open_lane(tx, lane(sending), reason="renewed", by="treasurer", now=sending.now)
    sending.wait(10)
    sending.send()
    assert [each["OriginatorConversationID"] for each in books.of(B2C_PATH)] == [sending.own_id()]


@pytest.mark.parametrize(("code", "reason"), [("2040", "not_registered"), (4, "daily_limit"), (8, "balance_limit")])
def test_a_members_failure_is_final_and_its_float_goes_back_once(sending: Sending, code: object, reason: str) -> None:
    (held,) = sending.hold()
    sending.deliver(held)
    sending.send()
    (failed,) = sending.callback("b2c", result(sending.own_id(), code=code))
    assert isinstance(failed, PayoutFailed)
    assert (failed.reason, is_paused(sending), reserved(sending).state) == (reason, False, "RESERVED")
    (released,) = sending.release_float()
    assert isinstance(released, FloatReleased)
    assert (types([released]), released.undone, reserved(sending).state) == (["FloatReleased"], True, "RELEASED")
    sending.release_float()
    assert reserved(sending).state == "RELEASED"


@pytest.mark.parametrize("code", [17, 26, "100000001", "999", "SFC_NEW"])
def test_a_code_that_is_uncertain_or_unknown_settles_nothing(sending: Sending, code: object) -> None:
    sending.pay()
    sending.send()
    assert sending.callback("b2c", result(sending.own_id(), code=code)) == []
    assert (sending.state, is_paused(sending)) == ("SENT", False)


def test_a_queue_timeout_that_was_paid_is_paid(sending: Sending) -> None:
    sending.pay()
    sending.send()
    request = {"OriginatorConversationID": sending.own_id(), "Amount": 2500, "PartyB": "254712345678"}
    assert sending.callback("b2c-timeout", request) == []
    assert sending.state == "SENT", "it waited in a queue: nothing is known"
    (paid,) = sending.callback("b2c", result(sending.own_id(), receipt()))
    assert types([paid]) == ["PayoutPaid"]


def test_what_does_not_agree_with_the_request_decides_nothing_and_is_listed(sending: Sending) -> None:
    sending.pay()
    sending.send()
    other = {**result(sending.own_id(), receipt(), TransactionAmount=2501)}
    stranger = result(sending.own_id(), receipt(), ReceiverPartyPublicName="254700000001 - Joe")
    for body in (other, stranger, result(sending.own_id(), "ODD")):
        assert sending.callback("b2c", body) == []
    assert (sending.state, sending.fates()) == ("SENT", ["REFUSED", "REFUSED", "REFUSED"])


def test_a_success_after_a_failure_is_told_as_a_contradiction(sending: Sending) -> None:
    sending.pay()
    sending.send()
    sending.callback("b2c", result(sending.own_id(), code=2040))
    (told_,) = sending.callback("b2c", result(sending.own_id(), receipt()))
    assert isinstance(told_, StepContradicted)
    assert sending.fates() == ["APPLIED", "LATE"]


def test_two_successes_with_different_receipts_are_a_contradiction_and_the_same_one_twice_is_none(
    sending: Sending,
) -> None:
    sending.pay()
    sending.send()
    number = receipt()
    sending.callback("b2c", result(sending.own_id(), number))
    again = result(sending.own_id(), number, TransactionCompletedDateTime="29.11.2026 12:00:31")
    assert sending.callback("b2c", again) == [], "the same receipt with another second is the same success"
    assert types(sending.callback("b2c", result(sending.own_id(), receipt()))) == ["StepContradicted"]


def test_a_fence_meets_a_payout_that_was_sent_and_the_later_success_goes_through(sending: Sending) -> None:
    sending.pay()
    sending.send()
    (fenced,) = sending.fence()
    assert isinstance(fenced, SagaFenced)
    assert fenced.steps[0].state == "IN_DOUBT"
    assert "PayoutPaid" in types(sending.callback("b2c", result(sending.own_id(), receipt())))


def test_too_little_float_refuses_a_payout_and_concurrent_ones_never_share_it(sending: Sending) -> None:
    told(sending, 400_000)
    other = sending.of_saga()
    assert types(sending.hold()) == ["FloatReserved"]
    assert types(other.hold()) == ["FloatRefused"]


def test_a_status_that_is_completed_settles_what_no_callback_ever_told(sending: Sending) -> None:
    sending.pay()
    sending.send()
    number = receipt()
    told_ = status(
        "AG_x", TransactionStatus="Completed", ReceiptNo=number, Amount="2500.00", FinalisedTime="20261129120030",
        OriginatorConversationID=sending.own_id(), DebitPartyName="a",
    )  # fmt: skip
    (paid,) = sending.callback("status", told_)
    assert isinstance(paid, PayoutPaid)
    assert paid.receipt == number


@pytest.mark.parametrize("said", ["Declined", "Cancelled", "Expired", "Failed"])
def test_a_status_that_names_no_code_is_never_the_members_failure(sending: Sending, said: str) -> None:
    """The result is lost: it may have been our initiator's password, whatever the text beside it is."""
    sending.pay()
    sending.send()
    told_ = status(
        "AG_x", TransactionStatus=said, OriginatorConversationID=sending.own_id(), TransactionReason="Not registered"
    )
    assert "PayoutFailed" not in types(sending.callback("status", told_))
    assert (sending.state, sending.row().state) == ("PAUSED", "REQUESTED")
    with sending.engine.connect() as tx:
        query = text("SELECT state, reason FROM lanes WHERE short_code = :code AND name = 'MEMBERS'")
        assert tx.execute(query, {"code": sending.code.short_code}).one() == ("PAUSED", said.lower())
    assert sending.callback("b2c", result(sending.own_id(), code=2040)) == [], "what is late changes nothing"


def test_a_receipt_that_went_back_before_names_no_receipt_of_its_reversal(sending: Sending) -> None:
    number, foreign = receipt(), receipt()
    back = sending.of_saga(saga_type="return_receipt")
    held = a(
        ReturnHeld, saga_id=back.saga_id, saga_type="return_receipt", provider="daraja",
        short_code=sending.code.short_code, receipt=number, currency="KES", amount_minor=70_000,
        source="UNALLOCATED", receipt_saga_id=new_id(),
    )  # fmt: skip
    back.deliver(held)
    back.send()
    own_id = originator_of(f"{back.saga_id}:send_reversal")
    (reversed_,) = back.callback("reversal", result(own_id, foreign, code="R000001"))
    assert isinstance(reversed_, ReceiptReversed)
    assert (reversed_.receipt, reversed_.reversal_receipt) == (number, ""), "its TransactionID is no row of a statement"


def test_one_token_is_shared_and_a_new_one_is_asked_for_once_after_its_error(
    sending: Sending, stub: GatewayStub, books: DarajaBooks
) -> None:
    refused: list[str] = []

    def answer(got):  # type: ignore[no-untyped-def]  # a stub's answer
        if got.line.endswith(B2C_PATH) and not refused:
            refused.append(got.headers["authorization"])
            return error("401.002.01", "Invalid Access Token", status=401)
        return books.answer(got)

    stub.answer = answer
    sending.pay()
    sending.send()
    assert sending.state == "SENT", "nothing was begun, so the same request went again"
    other = sending.of_saga()
    other.pay()
    other.send()
    fetched = [line for line in stub.lines if line.startswith("GET /oauth")]
    assert len(fetched) == 2, "one at first, one after the error, and all processes share it"


def test_what_is_due_after_a_long_time_is_a_question_and_never_a_verdict(sending: Sending) -> None:
    sending.pay()
    sending.send()
    for _ in range(12):
        sending.wait(timedelta(hours=12).total_seconds())
        sending.lose()
    assert (sending.state, sending.row().state) == ("SENT", "REQUESTED")
