"""A merchant's payment at Adyen, in payment's own steps: captures and refunds are received, and webhooks prove them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text

from chassis.saga.attempts import Outcome
from chassis.testing.service import types
from messages.contract import Message
from messages.payment import (
    AuthorizationVoided,
    GatewayAuthorized,
    GatewayCaptured,
    GatewayCaptureFailed,
    GatewayDeclined,
    GatewayRefunded,
    GatewayRefundFailed,
    GatewayVoided,
    LateCaptured,
)
from messages.saga import ReversalCompleted, SagaFenced, StepAwaited, StepContradicted
from payment.main import NOTICES
from payment.merchants.reporting import on_reversal_ended, on_reversal_reported
from payment.merchants.steps import AUTHORIZE_GATEWAY
from support.adyen_books import AdyenBooks
from support.builders import a
from support.gateway_stub import Answer, GatewayStub, serving
from support.paying import ADYEN, Paying, adyen, item, notification

LOST = Answer(status=0)
OVERDUE_OF = text("SELECT ended_at FROM gateway_reversals WHERE reversal_id = :id")


@pytest.fixture
def books() -> AdyenBooks:
    return AdyenBooks()


@pytest.fixture
def stub(books: AdyenBooks) -> Iterator[GatewayStub]:
    with serving(GatewayStub(books.answer)) as stub:
        yield stub


@pytest.fixture
def paying(engine: Engine, stub: GatewayStub, books: AdyenBooks) -> Paying:
    paying = Paying(engine=engine, gateways={ADYEN: adyen(stub.url)}, account=ADYEN, token="stored-card")
    books.prefix = paying.saga_id[-6:]
    return paying


def psp(books: AdyenBooks, what: str | None = None) -> str:
    """Return the psp of the payment, or of the last modification of a kind."""
    if what is None:
        return next(iter(books.payments))
    found: str = next(psp for kind, psp, _ in reversed(books.modifications) if kind == what)
    return found


def said(books: AdyenBooks, paying: Paying, event: str, what: str, **more: Any) -> bytes:
    """Return the webhook about the last modification of a kind."""
    own = {"originalReference": psp(books), "merchantReference": str(paying.payment_id)}
    return notification(item(event, psp(books, what), **{**own, **more}))


def captured(paying: Paying, books: AdyenBooks) -> Message:
    """Authorize and capture the payment, and return the event that a webhook led to."""
    paying.capture_after(paying.authorized())
    return paying.webhook(said(books, paying, "CAPTURE", "captures"))[-1]


def test_a_payment_is_authorized_at_once_and_captured_by_webhook(
    paying: Paying, books: AdyenBooks, stub: GatewayStub
) -> None:
    authorized = paying.authorized()
    assert isinstance(authorized, GatewayAuthorized)
    assert (authorized.gateway, authorized.gateway_payment_id, authorized.expires_at) == ("adyen", psp(books), None)
    sent = stub.got[0]
    assert (sent.line, sent.key) == ("POST /v72/payments", paying.key)
    assert (sent.body["reference"], sent.body["additionalData"]) == (str(paying.payment_id), {"manualCapture": "true"})
    (awaited, accepted) = paying.capture_after(authorized)
    assert isinstance(accepted, StepAwaited)
    assert (accepted.reference, paying.capturing) == (psp(books, "captures"), "SENT"), "received is no outcome"
    assert isinstance(awaited, StepAwaited)
    assert stub.got[1].key == stub.got[1].body["reference"] == awaited.key
    (event,) = paying.webhook(said(books, paying, "CAPTURE", "captures"))
    assert isinstance(event, GatewayCaptured)
    assert (event.captured_minor, paying.row().state) == (5_000, "CAPTURED")


def test_every_key_is_short_enough_for_adyen(paying: Paying, stub: GatewayStub, books: AdyenBooks) -> None:
    captured(paying, books)
    refund = paying.of_saga()
    refund.run(refund.refund(100, paying.saga_id))
    assert max(len(each.key or "") for each in stub.got) <= 64


def test_a_refusal_is_a_decline_with_a_reason(paying: Paying, books: AdyenBooks) -> None:
    books.results[paying.token] = "Refused"
    declined = paying.authorized()
    assert isinstance(declined, GatewayDeclined)
    assert (declined.reason, declined.detail) == ("not_enough_balance", "Not enough balance (12)")


@pytest.mark.parametrize("result", ["Received", "Pending"])
def test_a_payment_that_is_not_final_waits_for_its_webhook(paying: Paying, books: AdyenBooks, result: str) -> None:
    books.results[paying.token] = result
    paying.authorize()
    assert types(paying.run()) == ["StepAwaited"]
    assert paying.authorizing == "SENT"
    body = notification(item("AUTHORISATION", psp(books), merchantReference=str(paying.payment_id)))
    (authorized,) = paying.webhook(body)
    assert isinstance(authorized, GatewayAuthorized)


@pytest.mark.parametrize("result", ["RedirectShopper", "ChallengeShopper"])
def test_a_payment_that_needs_the_shopper_is_refused(paying: Paying, books: AdyenBooks, result: str) -> None:
    books.results[paying.token] = result
    declined = paying.authorized()
    assert isinstance(declined, GatewayDeclined)
    assert declined.reason == "authentication_required"


def test_a_part_that_is_authorized_is_given_back(paying: Paying, books: AdyenBooks) -> None:
    books.results[paying.token] = "PartiallyAuthorised"
    declined = paying.authorized()
    assert isinstance(declined, GatewayDeclined)
    assert (declined.reason, [each[0] for each in books.modifications]) == ("partially_authorized", ["cancels"])


def test_a_500_is_never_a_decline_and_the_same_key_tells_the_outcome(
    paying: Paying, books: AdyenBooks, stub: GatewayStub
) -> None:
    paying.authorize()
    stub.scripted = [Answer(status=500, body={"status": 500, "errorCode": "905", "message": "ours"})]
    assert paying.run() == []
    paying.acknowledge()
    found: list[Message] = []
    for _ in range(3):
        found += paying.run(paying.wait(20))
    assert isinstance(found[-1], GatewayAuthorized)
    assert len(books.payments) == 1


def test_a_crash_after_the_charge_is_one_charge(paying: Paying, books: AdyenBooks) -> None:
    paying.authorize()
    pending = paying.calls[0]
    pending.step.call.send(pending.request, pending.key)
    paying.lose()
    paying.acknowledge()
    found: list[Message] = []
    for _ in range(3):
        found += paying.run(paying.wait(20))
    assert isinstance(found[-1], GatewayAuthorized)
    assert len(books.payments) == 1


@pytest.mark.parametrize("status", [409, 422])
def test_a_request_under_way_is_sent_again_where_adyen_says_so(paying: Paying, stub: GatewayStub, status: int) -> None:
    paying.authorize()
    busy = {"status": status, "errorCode": "704", "message": "request already processed or in progress"}
    stub.scripted = [Answer(status=status, body=busy, headers={"transient-error": "true"})]
    paying.run()
    paying.acknowledge()
    found: list[Message] = []
    for _ in range(3):
        found += paying.run(paying.wait(20))
    assert isinstance(found[-1], GatewayAuthorized)


def test_a_request_that_adyen_has_already_is_not_sent_again_and_its_webhook_settles_it(
    paying: Paying, stub: GatewayStub
) -> None:
    paying.authorize()
    had = {"status": 422, "errorCode": "704", "message": "request already processed or in progress"}
    stub.scripted = [Answer(status=422, body=had)]
    paying.run()
    for _ in range(5):
        paying.run(paying.wait(60))
    assert (len(stub.got), paying.authorizing) == (1, "SENT")
    body = notification(item("AUTHORISATION", f"P{paying.payment_id}", merchantReference=str(paying.payment_id)))
    assert types(paying.webhook(body)) == ["GatewayAuthorized"]


def test_a_webhook_before_the_answer_is_matched_by_the_number_of_its_payment(paying: Paying, books: AdyenBooks) -> None:
    paying.authorize()
    pending = paying.calls[0]
    pending.step.call.send(pending.request, pending.key)
    body = notification(item("AUTHORISATION", psp(books), merchantReference=str(paying.payment_id)))
    (authorized,) = paying.webhook(body)
    assert isinstance(authorized, GatewayAuthorized)
    assert paying.run() == [], "the answer changes nothing"


def test_a_webhook_of_an_unknown_payment_is_kept_and_applied_later(paying: Paying, books: AdyenBooks) -> None:
    body = notification(item("AUTHORISATION", f"P{paying.payment_id}", merchantReference=str(paying.payment_id)))
    assert paying.webhook(body) == []
    paying.authorize()
    paying.lose()
    paying.now = paying.now.replace(second=5)
    (authorized,) = paying.match()
    assert isinstance(authorized, GatewayAuthorized)


def test_a_capture_webhook_before_the_answer_is_matched_once_the_answer_is_there(
    paying: Paying, books: AdyenBooks
) -> None:
    paying.deliver(paying.authorized())
    pending = paying.calls[0]
    pending.step.call.send(pending.request, pending.key)
    assert paying.webhook(said(books, paying, "CAPTURE", "captures")) == [], "its own id is not known yet"
    paying.run()
    paying.now = paying.now.replace(second=5)
    assert types(paying.match()) == ["GatewayCaptured"]


def test_a_capture_webhook_that_shows_our_key_settles_before_the_answer(paying: Paying, books: AdyenBooks) -> None:
    paying.deliver(paying.authorized())
    pending = paying.calls[0]
    pending.step.call.send(pending.request, pending.key)
    body = said(books, paying, "CAPTURE", "captures", merchantReference=pending.key)
    assert types(paying.webhook(body)) == ["GatewayCaptured"]
    assert paying.run() == []


def test_a_refused_capture_rejects_the_step(paying: Paying, books: AdyenBooks) -> None:
    paying.capture_after(paying.authorized())
    body = said(books, paying, "CAPTURE", "captures", success="false", reason="Insufficient balance on payment")
    (failed,) = paying.webhook(body)
    assert isinstance(failed, GatewayCaptureFailed)
    assert failed.reason == "insufficient_balance_on_payment"


def test_a_late_failure_of_an_older_attempt_settles_nothing_of_a_newer_one(paying: Paying, books: AdyenBooks) -> None:
    captured(paying, books)
    first, second = paying.of_saga(), paying.of_saga()
    first.run(first.refund(1_000, paying.saga_id))
    amount = {"currency": "EUR", "value": 1_000}
    old = said(books, paying, "REFUND", "refunds", success="false", reason="old", amount=amount)
    second.run(second.refund(1_000, paying.saga_id))
    assert second.webhook(old) == []
    assert second.refunding == "SENT"
    assert types(first.decide()) == ["GatewayRefundFailed"]
    (done,) = second.webhook(said(books, paying, "REFUND", "refunds", amount=amount))
    assert isinstance(done, GatewayRefunded)


def test_a_late_refusal_of_an_older_attempt_to_authorize_settles_nothing_of_the_live_one(
    paying: Paying, books: AdyenBooks, stub: GatewayStub
) -> None:
    paying.authorize()
    paying.lose()
    paying.acknowledge()
    paying.prove(Outcome.FAILED, 1, step=AUTHORIZE_GATEWAY)
    begun = paying.wait(60)
    assert types(begun) == ["StepAwaited"]
    pending = paying.calls[0]
    pending.step.call.send(pending.request, pending.key)
    assert stub.got[-1].body["reference"] == f"{paying.payment_id}-2", "each attempt has a reference of its own"
    for psp_of_older in ("OLDER", psp(books)):
        older = item("AUTHORISATION", psp_of_older, merchantReference=str(paying.payment_id), success="false")
        assert paying.webhook(notification(older)) == []
    assert paying.authorizing == "STARTED"
    (authorized,) = paying.webhook(
        notification(item("AUTHORISATION", psp(books), merchantReference=f"{paying.payment_id}-2"))
    )
    assert isinstance(authorized, GatewayAuthorized)
    assert paying.run() == [], "the answer changes nothing"


def test_a_refusal_under_another_id_waits_until_the_answer_has_told_the_own_one(
    paying: Paying, books: AdyenBooks
) -> None:
    paying.authorize()
    older = item("AUTHORISATION", f"O{paying.payment_id}", merchantReference=str(paying.payment_id), success="false")
    assert paying.webhook(notification(older)) == []
    assert paying.authorizing == "STARTED", "the answer is on its way, and says more"
    assert types(paying.run()) == ["GatewayAuthorized"]
    paying.now = paying.now.replace(second=5)
    assert (paying.match(), paying.authorizing) == ([], "DONE")


def test_a_refusal_whose_answer_never_comes_is_the_outcome_in_the_end(paying: Paying, stub: GatewayStub) -> None:
    paying.authorize()
    had = {"status": 422, "errorCode": "704", "message": "request already processed or in progress"}
    stub.scripted = [Answer(status=422, body=had)]
    refused = item("AUTHORISATION", f"R{paying.payment_id}", merchantReference=str(paying.payment_id), success="false")
    assert paying.webhook(notification(refused)) == []
    paying.run()
    paying.now = paying.now.replace(second=5)
    assert types(paying.match()) == ["GatewayDeclined"]


def test_the_fence_of_a_further_attempt_is_proven_by_its_own_webhooks(paying: Paying, stub: GatewayStub) -> None:
    paying.authorize()
    paying.lose()
    paying.acknowledge()
    paying.prove(Outcome.FAILED, 1, step=AUTHORIZE_GATEWAY)
    paying.wait(60)
    stub.scripted = [LOST]
    paying.run()
    paying.fence()
    paying.run(paying.wait(10))
    fences = [each for each in stub.got if each.line == "POST /v72/cancels"]
    assert fences[-1].body["paymentReference"] == f"{paying.payment_id}-2"
    own = {"merchantReference": fences[-1].body["reference"]}
    paying.webhook(notification(item("CANCELLATION", f"C{paying.payment_id}", **own)))
    assert paying.authorizing == "FENCED closing"


def test_a_capture_of_another_amount_is_told_to_a_person(paying: Paying, books: AdyenBooks) -> None:
    paying.capture_after(paying.authorized())
    (contradicted,) = paying.webhook(
        said(books, paying, "CAPTURE", "captures", amount={"currency": "EUR", "value": 4_999})
    )
    assert isinstance(contradicted, StepContradicted)
    assert (contradicted.proven, paying.capturing) == ("MISMATCHED", "SENT")


def test_an_authorization_in_another_currency_is_told_to_a_person(paying: Paying, stub: GatewayStub) -> None:
    amount = {"currency": "USD", "value": 5_000}
    body = {"pspReference": "X1", "resultCode": "Authorised", "merchantReference": str(paying.payment_id)}
    paying.authorize()
    stub.scripted = [Answer(body={**body, "amount": amount})]
    assert types(paying.run()) == ["StepContradicted"]


def test_a_fence_cancels_by_our_own_reference_and_a_webhook_proves_it(paying: Paying, stub: GatewayStub) -> None:
    paying.authorize()
    stub.scripted = [LOST]
    paying.run()
    paying.acknowledge()
    paying.fence()
    paying.run(paying.wait(10))
    fences = [each for each in stub.got if each.line == "POST /v72/cancels"]
    assert fences[-1].body["paymentReference"] == str(paying.payment_id)
    assert paying.authorizing == "SENT closing", "received is no outcome"
    body = notification(item("TECHNICAL_CANCEL", f"C{paying.payment_id}", merchantReference=str(paying.payment_id)))
    paying.webhook(body)
    answers = [each for each in paying.published if isinstance(each, SagaFenced)]
    assert (answers[-1].steps[0].state, paying.authorizing) == ("FENCED", "FENCED closing")


def test_a_cancel_that_is_refused_leaves_the_step_in_doubt(paying: Paying, stub: GatewayStub) -> None:
    paying.authorize()
    stub.scripted = [LOST]
    paying.run()
    paying.acknowledge()
    paying.fence()
    paying.run(paying.wait(10))
    own = {"merchantReference": str(paying.payment_id), "success": "false"}
    paying.webhook(notification(item("TECHNICAL_CANCEL", f"C{paying.payment_id}", **own)))
    assert paying.authorizing.endswith("closing")
    assert not paying.authorizing.startswith("FENCED")


def in_doubt(paying: Paying, stub: GatewayStub, *scripted: Answer) -> None:
    """Lose the answer to the authorization, fail the saga, and let Adyen refuse the cancel by our reference."""
    paying.authorize()
    stub.scripted = [LOST, *scripted]
    paying.run()
    paying.acknowledge()
    paying.fence()
    paying.run(paying.wait(10))
    own = {"merchantReference": str(paying.payment_id), "success": "false"}
    paying.webhook(notification(item("TECHNICAL_CANCEL", f"C{paying.payment_id}", **own)))
    paying.run()


@pytest.mark.parametrize("result", ["Authorised", "Refused"])
def test_a_payment_that_never_arrived_is_settled_by_its_key_and_what_it_authorizes_is_undone(
    paying: Paying, books: AdyenBooks, stub: GatewayStub, result: str
) -> None:
    books.results[paying.token] = result
    in_doubt(paying, stub)
    assert books.payments == {}
    for _ in range(4):
        paying.run(paying.wait(300))
    sent = [each.key for each in stub.got if each.line == "POST /v72/payments"]
    assert sent == [paying.key] * 2, "the same key, so that what did arrive is not authorized twice"
    answer = [each for each in paying.published if isinstance(each, SagaFenced)][-1].steps[0].state
    assert (answer, len(books.payments)) == ("DONE" if result == "Authorised" else "REJECTED", 1)
    assert not [each for each in paying.published if isinstance(each, GatewayAuthorized | GatewayDeclined)]
    if result == "Authorised":
        paying.compensate()
        paying.run()
        paying.webhook(said(books, paying, "CANCELLATION", "cancels"))
        (voided,) = [each for each in paying.published if isinstance(each, AuthorizationVoided)]
        assert (voided.undone, paying.row().state) == (True, "VOIDED")


def test_a_compensation_is_replied_to_once_the_webhook_proves_the_cancel(paying: Paying, books: AdyenBooks) -> None:
    paying.authorized()
    paying.compensate()
    paying.run()
    paying.wait(1)
    assert [each for each in paying.published if isinstance(each, AuthorizationVoided)] == []
    paying.webhook(said(books, paying, "CANCELLATION", "cancels"))
    (voided,) = [each for each in paying.published if isinstance(each, AuthorizationVoided)]
    assert (voided.undone, paying.row().state) == (True, "VOIDED")


def test_a_part_is_captured_later_and_a_void_is_proven_by_its_webhook(paying: Paying, books: AdyenBooks) -> None:
    paying.capture = "LATER"
    paying.capture_after(paying.authorized())
    later = paying.of_saga()
    later.run(later.capture_later(3_000, paying.saga_id))
    amount = {"currency": "EUR", "value": 3_000}
    (done,) = later.webhook(said(books, paying, "CAPTURE", "captures", amount=amount))
    assert isinstance(done, LateCaptured)
    assert (done.captured_minor, done.gateway_payment_id) == (3_000, psp(books))


def test_a_void_is_proven_by_its_webhook(paying: Paying, books: AdyenBooks) -> None:
    paying.capture = "LATER"
    paying.capture_after(paying.authorized())
    void = paying.of_saga()
    void.run(void.void(paying.saga_id))
    (done,) = void.webhook(said(books, paying, "CANCELLATION", "cancels"))
    assert isinstance(done, GatewayVoided)
    assert paying.row().state == "VOIDED"


def test_a_reversal_is_undecided_until_its_saga_has_ended(paying: Paying, books: AdyenBooks) -> None:
    captured(paying, books)
    paying.take(said(books, paying, "CAPTURE_FAILED", "captures"))
    (reported,) = paying.report()
    with paying.engine.begin() as tx:
        on_reversal_reported([reported, reported], tx)
        ended = a(ReversalCompleted, saga_id=reported.saga_id, saga_type="payment_reversal")
        before = tx.execute(OVERDUE_OF, {"id": reported.reversal_id}).scalar_one()
        on_reversal_ended([ended, ended], tx)
        after = tx.execute(OVERDUE_OF, {"id": reported.reversal_id}).scalar_one()
    assert (before, after) == (None, ended.occurred_at)


def test_a_capture_that_fails_days_later_is_reported_once(paying: Paying, books: AdyenBooks) -> None:
    captured(paying, books)
    body = said(books, paying, "CAPTURE_FAILED", "captures", reason="Rejected by the scheme")
    paying.take(body)
    paying.take(body)
    (reported,) = paying.report()
    assert (reported.kind, reported.reversed_minor, reported.reason) == (
        "CAPTURE_FAILED", 5_000, "Rejected by the scheme",
    )  # fmt: skip
    assert (paying.row().state, paying.fates()) == ("CAPTURE_FAILED", [("CAPTURE_FAILED", "REPORTED")])
    assert paying.report() == []


def test_a_capture_that_succeeds_after_it_had_failed_calls_a_person(paying: Paying, books: AdyenBooks) -> None:
    captured(paying, books)
    paying.take(said(books, paying, "CAPTURE_FAILED", "captures"))
    paying.report()
    again = said(books, paying, "CAPTURE", "captures", eventDate="2026-05-09T08:00:00+02:00")
    paying.take(again)
    paying.take(again)
    assert paying.all_fates()[-1] == ("CAPTURE", "STRANGE")
    with paying.engine.connect() as tx:
        assert [row for row in NOTICES.query(tx) if row[:2] == (ADYEN, "STRANGE")], "GatewayReportStrange reads it"
    paying.take(said(books, paying, "CAPTURE_FAILED", "captures", eventDate="2026-05-10T08:00:00+02:00"))
    assert (paying.report(), paying.fates()[-1]) == ([], ("CAPTURE_FAILED", "STRANGE")), (
        "a second failure is not passed over"
    )


def test_a_refund_that_succeeds_after_it_had_failed_calls_a_person(paying: Paying, books: AdyenBooks) -> None:
    captured(paying, books)
    refund, amount = paying.of_saga(), {"currency": "EUR", "value": 2_000}
    refund.run(refund.refund(2_000, paying.saga_id))
    refund.webhook(said(books, paying, "REFUND", "refunds", amount=amount))
    paying.take(said(books, paying, "REFUND_FAILED", "refunds", amount=amount))
    (reported,) = paying.report()
    assert (reported.kind, paying.row().refunded_minor) == ("REFUND_FAILED", 0)
    again = said(books, paying, "REFUND", "refunds", amount=amount, eventDate="2026-05-09T08:00:00+02:00")
    assert refund.webhook(again) == []
    assert (paying.all_fates()[-1], paying.row().refunded_minor) == (("REFUND", "STRANGE"), 0)


def test_a_failure_that_is_read_after_the_second_success_calls_a_person(paying: Paying, books: AdyenBooks) -> None:
    captured(paying, books)
    paying.take(said(books, paying, "CAPTURE", "captures", eventDate="2026-05-09T08:00:00+02:00"))
    paying.take(said(books, paying, "CAPTURE_FAILED", "captures"))
    assert paying.report() == []
    assert (paying.row().state, paying.fates()) == ("CAPTURED", [("CAPTURE_FAILED", "STRANGE")])


def test_a_failed_capture_before_its_success_waits_and_is_then_its_outcome(paying: Paying, books: AdyenBooks) -> None:
    paying.capture_after(paying.authorized())
    paying.take(said(books, paying, "CAPTURE_FAILED", "captures"))
    assert (paying.report(), paying.decide()) == ([], [])
    paying.wait(700)
    paying.lose()
    assert paying.report() == []
    assert types(paying.decide()) == ["GatewayCaptureFailed"]


def test_a_chargeback_of_a_payment_that_is_not_known_yet_waits(paying: Paying, books: AdyenBooks) -> None:
    own = {"merchantReference": str(paying.payment_id), "originalReference": f"{paying.payment_id}"}
    paying.take(notification(item("CHARGEBACK", f"D{paying.payment_id}", **own)))
    assert paying.report() == []
    assert paying.fates() == [("CHARGEBACK", "WAITING")]


def test_the_items_of_one_body_are_claims_of_their_own_and_an_odd_one_harms_no_other(
    paying: Paying, books: AdyenBooks
) -> None:
    paying.capture_after(paying.authorized())
    own = {"originalReference": psp(books), "merchantReference": str(paying.payment_id)}
    odd = item("CAPTURE", "odd", success="perhaps")
    report = item("REPORT_AVAILABLE", f"R{paying.payment_id}")
    good = item("CAPTURE", psp(books, "captures"), **own)
    assert types(paying.webhook(notification(odd, report, good))) == ["GatewayCaptured"]


@pytest.mark.parametrize(
    ("currency", "amount_minor", "sent"),
    [("JPY", 500, 500), ("KRW", 1_000, 1_000), ("ISK", 1_500, 150_000), ("CLP", 900, 90_000), ("BHD", 1_255, 1_255),
     ("USD", 2**31 + 1, 2**31 + 1), ("EUR", 123_456_789_00, 123_456_789_00)],
)  # fmt: skip
def test_each_currency_is_sent_in_adyens_units_and_compared_in_ours(
    paying: Paying, books: AdyenBooks, currency: str, amount_minor: int, sent: int
) -> None:
    paying.currency, paying.amount_minor = currency, amount_minor
    paying.capture_after(paying.authorized())
    amount = {"currency": currency, "value": sent}
    assert books.payments[psp(books)]["amount"] == amount
    (event,) = paying.webhook(said(books, paying, "CAPTURE", "captures", amount=amount))
    assert isinstance(event, GatewayCaptured)
    assert (event.captured_minor, event.currency) == (amount_minor, currency)


def test_an_amount_that_adyen_cannot_take_is_refused_before_any_call(paying: Paying, stub: GatewayStub) -> None:
    paying.currency, paying.amount_minor = "CVE", 150
    declined = paying.authorized()
    assert isinstance(declined, GatewayDeclined)
    assert (declined.reason, stub.got) == ("amount_not_exact", [])


def test_a_refund_is_proven_by_its_webhook_and_a_refused_one_too(paying: Paying, books: AdyenBooks) -> None:
    captured(paying, books)
    amount = {"currency": "EUR", "value": 2_000}
    done, refused = paying.of_saga(), paying.of_saga()
    done.run(done.refund(2_000, paying.saga_id))
    (event,) = done.webhook(said(books, paying, "REFUND", "refunds", amount=amount))
    assert isinstance(event, GatewayRefunded)
    refused.run(refused.refund(2_000, paying.saga_id))
    body = said(books, paying, "REFUND", "refunds", amount=amount, success="false", reason="Expired")
    (event,) = refused.webhook(body)
    assert isinstance(event, GatewayRefundFailed)
    assert paying.row().refunded_minor == 2_000
