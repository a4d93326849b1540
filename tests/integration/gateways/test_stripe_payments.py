"""A merchant's payment at Stripe, in payment's own steps, on real PostgreSQL and over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from chassis.saga.unit_of_work import AwaitedAct
from chassis.testing.service import types
from messages.payment import (
    AuthorizationVoided,
    GatewayAuthorized,
    GatewayCaptured,
    GatewayCaptureFailed,
    GatewayDeclined,
    GatewayRefunded,
    GatewayRefundFailed,
    GatewayVoided,
    GatewayVoidFailed,
    LateCaptured,
)
from messages.saga import SagaFenced, StepAwaited, StepContradicted
from support.gateway_stub import Answer, GatewayStub, serving
from support.paying import STRIPE, Paying, stripe
from support.stripe_books import CAPTURE_BEFORE, DECLINING, StripeBooks

LOST = Answer(status=0)


@pytest.fixture
def books() -> StripeBooks:
    return StripeBooks()


@pytest.fixture
def stub(books: StripeBooks) -> Iterator[GatewayStub]:
    with serving(GatewayStub(books.answer)) as stub:
        yield stub


@pytest.fixture
def paying(engine: Engine, stub: GatewayStub) -> Paying:
    return Paying(engine=engine, gateways={STRIPE: stripe(stub.url)})


def test_an_intent_is_created_its_id_is_committed_and_then_it_is_confirmed(paying: Paying, stub: GatewayStub) -> None:
    (awaited,) = paying.authorize()
    assert isinstance(awaited, StepAwaited)
    (accepted,) = paying.call()
    assert isinstance(accepted, StepAwaited)
    assert (accepted.reference, paying.authorizing) == ("pi_1", "SENT"), "an intent that is not confirmed is no outcome"
    (pending,) = paying.calls
    assert (pending.act, pending.provider_id, pending.after) == (AwaitedAct.QUERY, f"{STRIPE}:payment:pi_1", None)
    (authorized,) = paying.call()
    assert isinstance(authorized, GatewayAuthorized)
    assert (authorized.gateway, authorized.gateway_payment_id, authorized.amount_minor) == ("stripe", "pi_1", 5_000)
    assert authorized.expires_at == datetime.fromtimestamp(CAPTURE_BEFORE, UTC)
    assert stub.lines == ["POST /v1/payment_intents", "POST /v1/payment_intents/pi_1/confirm"]
    created, confirmed = stub.got
    assert (created.key, confirmed.key) == (paying.key, f"{paying.key}:confirm")
    assert created.form["confirm"] == "false"
    assert created.form["metadata[payment_id]"] == str(paying.payment_id)
    row = paying.row()
    assert (row.state, row.gateway_payment_id, row.authorized_minor) == ("AUTHORIZED", "pi_1", 5_000)


def test_a_captured_payment_has_one_charge_and_its_event_has_the_amount(paying: Paying, books: StripeBooks) -> None:
    (captured,) = [each for each in paying.capture_after(paying.authorized()) if isinstance(each, GatewayCaptured)]
    assert (captured.captured_minor, captured.gateway_payment_id) == (5_000, "pi_1")
    assert books.intents["pi_1"]["amount_received"] == 5_000
    assert (paying.row().state, paying.row().captured_minor, paying.capturing) == ("CAPTURED", 5_000, "DONE")


def test_a_decline_is_a_refusal_with_the_issuers_code(paying: Paying) -> None:
    paying.token = DECLINING
    declined = paying.authorized()
    assert isinstance(declined, GatewayDeclined)
    assert (declined.gateway, declined.reason) == ("stripe", "insufficient_funds")
    assert (paying.authorizing, paying.row().state) == ("REJECTED", "DECLINED")


def test_a_500_of_the_confirmation_is_never_a_decline(paying: Paying, books: StripeBooks, stub: GatewayStub) -> None:
    books.fails_after = ["confirm"]
    paying.authorize()
    assert types(paying.run()) == ["StepAwaited"]
    assert paying.authorizing == "SENT", "the outcome is unknown"
    (authorized,) = paying.run(paying.wait(3))
    assert isinstance(authorized, GatewayAuthorized)
    assert stub.lines.count("POST /v1/payment_intents/pi_1/confirm") == 1, "the intent itself answered"


def test_a_stored_500_before_the_confirmation_cancels_the_intent_and_a_new_attempt_follows(
    paying: Paying, books: StripeBooks
) -> None:
    books.fails_before = ["confirm"]
    paying.authorize()
    paying.run()
    paying.run(paying.wait(3))
    assert (paying.authorizing, books.intents["pi_1"]["status"]) == ("PAUSED", "canceled")
    (awaited, accepted, authorized) = paying.run(paying.wait(60))
    assert isinstance(authorized, GatewayAuthorized)
    assert (authorized.gateway_payment_id, types([awaited, accepted])) == ("pi_2", ["StepAwaited"] * 2)
    assert [each["status"] for each in books.intents.values()] == ["canceled", "requires_capture"]


def test_a_stored_500_of_the_creation_is_proof_that_nothing_can_be_charged(paying: Paying, books: StripeBooks) -> None:
    books.fails_after = ["payment_intents"]
    paying.authorize()
    paying.run()
    assert paying.authorizing == "STARTED", "the first 500 says nothing"
    paying.acknowledge()
    for _ in range(3):
        paying.run(paying.wait(40))
    assert paying.authorizing == "DONE"
    assert [each["status"] for each in books.intents.values()] == ["requires_confirmation", "requires_capture"]


def test_a_crash_after_the_creation_leads_to_one_intent(paying: Paying, books: StripeBooks, stub: GatewayStub) -> None:
    paying.authorize()
    stub.scripted = []
    pending = paying.calls[0]
    pending.step.call.send(pending.request, pending.key)
    paying.lose()
    paying.acknowledge()
    found = []
    for _ in range(3):
        found += paying.run(paying.wait(20))
    assert isinstance(found[-1], GatewayAuthorized)
    assert (len(books.intents), paying.authorizing) == (1, "DONE")


def test_a_crash_after_the_confirmation_charges_once(paying: Paying, books: StripeBooks) -> None:
    paying.authorize()
    paying.call()
    paying.acknowledge()
    pending = paying.calls[0]
    pending.step.call.answer_query(pending.request, pending.key, pending.provider_id)
    paying.lose()
    (authorized,) = paying.run(paying.wait(10))
    assert isinstance(authorized, GatewayAuthorized)
    assert [each["status"] for each in books.intents.values()] == ["requires_capture"]


def test_an_attempt_is_not_sent_again_once_its_key_may_be_deleted(paying: Paying, stub: GatewayStub) -> None:
    paying.authorize()
    stub.scripted = [LOST]
    paying.run()
    paying.acknowledge()
    paying.wait(21 * 3_600)
    paying.run()
    sent = len(stub.got)
    for _ in range(10):
        paying.run(paying.wait(3_600))
    assert len(stub.got) == sent, "a key that was deleted would execute again"


def test_a_fence_cancels_an_intent_that_is_not_confirmed(paying: Paying, books: StripeBooks) -> None:
    paying.authorize()
    paying.call()
    paying.acknowledge()
    paying.lose()
    fenced = paying.fence()
    (doubt,) = [each for each in fenced if isinstance(each, SagaFenced)]
    assert doubt.steps[0].state == "IN_DOUBT"
    paying.run()
    assert books.intents["pi_1"]["status"] == "canceled"
    (answer,) = [each for each in paying.wait(1) if isinstance(each, SagaFenced)]
    assert (answer.steps[0].state, paying.authorizing) == ("FENCED", "FENCED closing")


def test_a_fence_before_the_answer_confirms_nothing_and_cancels_what_was_created(
    paying: Paying, books: StripeBooks
) -> None:
    paying.authorize()
    paying.fence()
    paying.run()
    for _ in range(3):
        paying.run(paying.wait(10))
    assert [each["status"] for each in books.intents.values()] == ["canceled"]
    assert paying.authorizing == "FENCED closing"


def test_a_fence_whose_intent_was_never_answered_creates_it_again_and_cancels_it(
    paying: Paying, books: StripeBooks, stub: GatewayStub
) -> None:
    paying.authorize()
    stub.scripted = [LOST]
    paying.run()
    paying.acknowledge()
    paying.fence()
    for _ in range(3):
        paying.run(paying.wait(10))
    assert [each["status"] for each in books.intents.values()] == ["canceled"]
    assert paying.authorizing == "FENCED closing"


def test_a_compensation_cancels_the_authorization_and_is_replied_to_on_proof(
    paying: Paying, books: StripeBooks
) -> None:
    paying.authorized()
    paying.compensate()
    assert [each for each in paying.published if isinstance(each, AuthorizationVoided)] == []
    paying.run()
    paying.wait(1)
    (voided,) = [each for each in paying.published if isinstance(each, AuthorizationVoided)]
    assert (voided.undone, books.intents["pi_1"]["status"], paying.row().state) == (True, "canceled", "VOIDED")


def test_captured_already_is_success_of_the_same_request(paying: Paying, books: StripeBooks) -> None:
    authorized = paying.authorized()
    books.intents["pi_1"] |= {"status": "succeeded", "amount_received": 5_000}
    found = paying.capture_after(authorized)
    assert isinstance(found[-1], GatewayCaptured)


def test_captured_already_with_another_amount_is_told_to_a_person(paying: Paying, books: StripeBooks) -> None:
    authorized = paying.authorized()
    books.intents["pi_1"] |= {"status": "succeeded", "amount_received": 4_000}
    found = paying.capture_after(authorized)
    assert types(found) == ["StepAwaited", "StepContradicted"]
    assert isinstance(found[-1], StepContradicted)
    assert (found[-1].proven, found[-1].recorded) == ("MISMATCHED", "STARTED")
    assert paying.capturing != "DONE"
    assert paying.run(paying.wait(60)) == [], "it is published once"


def test_a_500_of_the_capture_is_no_refusal_and_the_intent_tells(paying: Paying, books: StripeBooks) -> None:
    authorized = paying.authorized()
    books.fails_after = ["capture"]
    assert types(paying.capture_after(authorized)) == ["StepAwaited"]
    found = paying.run(paying.wait(10))
    assert isinstance(found[-1], GatewayCaptured)


def test_a_stored_500_before_the_capture_is_followed_by_one_capture(paying: Paying, books: StripeBooks) -> None:
    authorized = paying.authorized()
    books.fails_before = ["capture"]
    found = paying.capture_after(authorized)
    for _ in range(4):
        found += paying.run(paying.wait(20))
    assert isinstance(found[-1], GatewayCaptured)
    assert books.intents["pi_1"]["amount_received"] == 5_000


def test_an_authorization_that_expired_on_day_7_refuses_its_capture(paying: Paying, books: StripeBooks) -> None:
    authorized = paying.authorized()
    books.intents["pi_1"] |= {"status": "canceled", "cancellation_reason": "automatic"}
    found = paying.capture_after(authorized)
    assert isinstance(found[-1], GatewayCaptureFailed)
    assert found[-1].reason == "authorization_expired"
    assert paying.row().state == "CAPTURE_FAILED"


def test_a_capture_that_comes_later_calls_nobody_now(paying: Paying, stub: GatewayStub) -> None:
    paying.capture = "LATER"
    authorized = paying.authorized()
    calls = len(stub.got)
    found = paying.capture_after(authorized)
    assert isinstance(found[-1], GatewayCaptured)
    assert (found[-1].captured_minor, len(stub.got), paying.row().state) == (0, calls, "AUTHORIZED")


def test_a_later_capture_of_a_part_releases_the_rest(paying: Paying, books: StripeBooks) -> None:
    paying.capture = "LATER"
    paying.capture_after(paying.authorized())
    later = paying.of_saga()
    (captured,) = [each for each in later.run(later.capture_later(3_000, paying.saga_id)) if type(each) is LateCaptured]
    assert isinstance(captured, LateCaptured)
    assert (captured.captured_minor, captured.gateway, captured.gateway_payment_id) == (3_000, "stripe", "pi_1")
    assert (books.intents["pi_1"]["amount_received"], paying.row().captured_minor) == (3_000, 3_000)


def test_a_void_cancels_the_authorization_and_cancelled_already_is_success(paying: Paying, books: StripeBooks) -> None:
    paying.capture = "LATER"
    paying.capture_after(paying.authorized())
    first, second = paying.of_saga(), paying.of_saga()
    assert isinstance(first.run(first.void(paying.saga_id))[-1], GatewayVoided)
    assert (books.intents["pi_1"]["status"], paying.row().state) == ("canceled", "VOIDED")
    assert isinstance(second.run(second.void(paying.saga_id))[-1], GatewayVoided)


def test_a_void_of_what_is_captured_is_refused(paying: Paying) -> None:
    paying.capture_after(paying.authorized())
    void = paying.of_saga()
    failed = void.run(void.void(paying.saga_id))[-1]
    assert isinstance(failed, GatewayVoidFailed)
    assert (failed.reason, paying.row().state) == ("already_captured", "CAPTURED")


def test_two_refunds_of_60_on_100_are_one_refund(paying: Paying) -> None:
    paying.amount_minor = 100_00
    paying.capture_after(paying.authorized())
    first, second = paying.of_saga(), paying.of_saga()
    first.refund(60_00, paying.saga_id)
    second.refund(60_00, paying.saga_id)
    done, refused = first.run()[-1], second.run()[-1]
    assert isinstance(done, GatewayRefunded)
    assert (done.refund_minor, done.gateway_refund_id) == (60_00, "re_1")
    assert isinstance(refused, GatewayRefundFailed)
    assert refused.reason == "charge_already_refunded"
    assert paying.row().refunded_minor == 60_00


def test_a_pending_refund_is_proven_by_a_later_query(paying: Paying, books: StripeBooks) -> None:
    books.refund_status = "pending"
    paying.capture_after(paying.authorized())
    refund = paying.of_saga()
    found = refund.run(refund.refund(1_000, paying.saga_id))
    assert (types(found), refund.refunding) == (["StepAwaited"] * 2, "SENT")
    books.refunds["re_1"]["status"] = "succeeded"
    assert isinstance(refund.run(refund.wait(5))[-1], GatewayRefunded)


def test_a_refund_whose_answer_is_a_stored_500_is_found_by_our_key(paying: Paying, books: StripeBooks) -> None:
    paying.capture_after(paying.authorized())
    books.fails_after = ["refunds"]
    refund = paying.of_saga()
    assert types(refund.run(refund.refund(1_000, paying.saga_id))) == ["StepAwaited"]
    assert isinstance(refund.run(refund.wait(10))[-1], GatewayRefunded)
    assert len(books.refunds) == 1


@pytest.mark.parametrize(
    ("currency", "amount_minor", "sent"),
    [("JPY", 500, 500), ("KRW", 1_000, 1_000), ("ISK", 1_500, 150_000), ("CLP", 900, 900), ("BHD", 1_250, 1_250)],
)
def test_each_currency_is_sent_in_stripes_units_and_compared_in_ours(
    paying: Paying, books: StripeBooks, currency: str, amount_minor: int, sent: int
) -> None:
    paying.currency, paying.amount_minor = currency, amount_minor
    found = paying.capture_after(paying.authorized())
    assert books.intents["pi_1"]["amount_received"] == sent
    assert isinstance(found[-1], GatewayCaptured)
    assert (found[-1].captured_minor, found[-1].currency) == (amount_minor, currency)


@pytest.mark.parametrize(
    ("currency", "amount_minor", "reason"),
    [
        ("USD", 100_000_000, "amount_too_large"),
        ("USD", 2**31 + 1, "amount_too_large"),
        ("ISK", 1_000_000, "amount_too_large"),
        ("BHD", 1_255, "amount_not_exact"),
        ("USD", 49, "amount_too_small"),
        ("USD", -5, "amount_invalid"),
        ("USD", 0, "amount_invalid"),
        ("ZZZ", 500, "currency_unknown"),
    ],
)
def test_an_amount_that_stripe_cannot_take_is_refused_before_any_call(
    paying: Paying, stub: GatewayStub, currency: str, amount_minor: int, reason: str
) -> None:
    paying.currency, paying.amount_minor = currency, amount_minor
    declined = paying.authorized()
    assert isinstance(declined, GatewayDeclined)
    assert (declined.reason, stub.got) == (reason, [])


def test_what_is_not_executed_is_sent_again_under_the_same_key(paying: Paying, stub: GatewayStub) -> None:
    busy = {"error": {"type": "idempotency_error", "code": "idempotency_key_in_use", "message": "later"}}
    paying.authorize()
    stub.scripted = [Answer(status=409, body=busy)]
    paying.run()
    paying.acknowledge()
    found = []
    for _ in range(3):
        found += paying.run(paying.wait(20))
    assert isinstance(found[-1], GatewayAuthorized)
    created = [each.key for each in stub.got if each.line == "POST /v1/payment_intents"]
    assert created == [paying.key] * 2
