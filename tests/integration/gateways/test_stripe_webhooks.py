"""Stripe's webhooks before, between and after answers, and what it reports unasked; on real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from chassis.http.signatures import BadSignature
from chassis.saga.unit_of_work import AwaitedAct
from chassis.testing.service import types
from messages.payment import GatewayAuthorized, GatewayCaptured, GatewayRefunded
from support.gateway_stub import GatewayStub, serving
from support.paying import STRIPE, Paying, stripe, stripe_event, stripe_signature
from support.stripe_books import StripeBooks


@pytest.fixture
def books() -> StripeBooks:
    return StripeBooks()


@pytest.fixture
def paying(engine: Engine, books: StripeBooks) -> Iterator[Paying]:
    with serving(GatewayStub(books.answer)) as stub:
        paying = Paying(engine=engine, gateways={STRIPE: stripe(stub.url)})
        books.prefix = paying.saga_id[-6:]
        yield paying


def shown(books: StripeBooks, number: int = 1) -> dict[str, Any]:
    return dict(list(books.intents.values())[number - 1])


def test_a_webhook_of_the_authorization_before_the_answer_settles_the_step(paying: Paying, books: StripeBooks) -> None:
    paying.authorize()
    paying.call()
    pending = paying.calls[0]
    pending.step.call.answer_query(pending.request, pending.key, pending.provider_id)
    (authorized,) = paying.webhook(stripe_event("payment_intent.amount_capturable_updated", shown(books)))
    assert isinstance(authorized, GatewayAuthorized)
    assert paying.run() == [], "the answer that comes after it changes nothing"
    assert (paying.authorizing, pending.act) == ("DONE", AwaitedAct.QUERY)


def test_a_capture_webhook_before_the_answer_settles_and_the_answer_changes_nothing(
    paying: Paying, books: StripeBooks
) -> None:
    authorized = paying.authorized()
    paying.deliver(authorized)
    pending = paying.calls[0]
    pending.step.call.send(pending.request, pending.key)
    body = stripe_event("payment_intent.succeeded", shown(books))
    (captured,) = paying.webhook(body)
    assert isinstance(captured, GatewayCaptured)
    assert (paying.run(), paying.webhook(body)) == ([], []), "neither the answer nor a doubled webhook changes anything"


def test_a_capture_webhook_after_the_answer_changes_nothing(paying: Paying, books: StripeBooks) -> None:
    paying.capture_after(paying.authorized())
    assert paying.webhook(stripe_event("payment_intent.succeeded", shown(books))) == []
    assert paying.capturing == "DONE"


def test_a_webhook_of_an_unknown_payment_is_kept_and_applied_later(paying: Paying, books: StripeBooks) -> None:
    other = Paying(engine=paying.engine, gateways=paying.gateways)
    intent = {
        "id": f"pi_{other.payment_id}", "object": "payment_intent", "status": "requires_capture", "amount": 5_000,
        "amount_received": 0, "currency": "eur", "metadata": {"payment_id": str(other.payment_id), "key": other.key},
    }  # fmt: skip
    assert other.webhook(stripe_event("payment_intent.amount_capturable_updated", intent)) == []
    other.authorize()
    other.now = other.now.replace(second=5)
    (authorized,) = other.match()
    assert isinstance(authorized, GatewayAuthorized)
    assert authorized.gateway_payment_id == intent["id"]


def test_a_pending_refund_is_proven_by_its_webhook(paying: Paying, books: StripeBooks) -> None:
    books.refund_status = "pending"
    paying.capture_after(paying.authorized())
    refund = paying.of_saga()
    refund.run(refund.refund(1_000, paying.saga_id))
    done = {**next(iter(books.refunds.values())), "status": "succeeded"}
    (refunded,) = refund.webhook(stripe_event("refund.updated", done))
    assert isinstance(refunded, GatewayRefunded)


def test_a_refund_that_fails_later_is_reported_once_and_its_amount_is_free_again(
    paying: Paying, books: StripeBooks
) -> None:
    paying.capture_after(paying.authorized())
    refund = paying.of_saga()
    done = refund.run(refund.refund(1_000, paying.saga_id))[-1]
    assert isinstance(done, GatewayRefunded)
    failed = {**next(iter(books.refunds.values())), "status": "failed", "failure_reason": "expired_or_canceled_card"}
    refund.take(stripe_event("refund.failed", failed))
    refund.take(stripe_event("refund.updated", failed))
    (reported,) = refund.report()
    assert (reported.kind, reported.reversed_minor, reported.refund_id) == ("REFUND_FAILED", 1_000, done.refund_id)
    assert (reported.reason, reported.gateway_reference) == ("expired_or_canceled_card", done.gateway_refund_id)
    assert (paying.row().refunded_minor, refund.refund_row(done.refund_id).state) == (0, "FAILED")
    assert refund.report() == []
    assert refund.decide() == [], "no step is contradicted"


def test_a_refund_that_fails_before_it_succeeded_is_the_outcome_of_its_step(paying: Paying, books: StripeBooks) -> None:
    books.refund_status = "pending"
    paying.capture_after(paying.authorized())
    refund = paying.of_saga()
    refund.run(refund.refund(1_000, paying.saga_id))
    failed = {**next(iter(books.refunds.values())), "status": "failed", "failure_reason": "declined"}
    refund.take(stripe_event("refund.failed", failed))
    assert refund.report() == []
    refund.wait(700)
    refund.lose()
    assert refund.report() == []
    assert types(refund.decide()) == ["GatewayRefundFailed"]


def test_an_authorization_that_expires_uncaptured_is_reported_once(paying: Paying, books: StripeBooks) -> None:
    paying.capture = "LATER"
    paying.capture_after(paying.authorized())
    ended = {**shown(books), "status": "canceled", "cancellation_reason": "automatic"}
    paying.take(stripe_event("payment_intent.canceled", ended))
    charge = {"id": "ch_1", "payment_intent": ended["id"], "amount": 5_000, "currency": "eur", "metadata": {}}
    paying.take(stripe_event("charge.expired", charge))
    (reported,) = paying.report()
    assert (reported.kind, reported.reversed_minor) == ("AUTHORIZATION_EXPIRED", 5_000)
    assert (reported.saga_type, reported.payment_saga_id) == ("payment_reversal", paying.saga_id)
    assert paying.row().state == "EXPIRED"


def test_our_own_cancel_is_reported_to_nobody(paying: Paying, books: StripeBooks) -> None:
    paying.capture = "LATER"
    paying.capture_after(paying.authorized())
    void = paying.of_saga()
    void.run(void.void(paying.saga_id))
    void.take(stripe_event("payment_intent.canceled", shown(books)))
    assert void.report() == []


def test_a_dispute_is_reported_and_so_is_its_end(paying: Paying, books: StripeBooks) -> None:
    paying.capture_after(paying.authorized())
    dispute = {
        "id": f"dp_{paying.payment_id}", "payment_intent": shown(books)["id"], "amount": 5_000, "currency": "eur",
        "reason": "fraudulent", "status": "needs_response",
    }  # fmt: skip
    paying.take(stripe_event("charge.dispute.created", {**dispute, "status": "warning_needs_response"}))
    paying.take(stripe_event("charge.dispute.created", dispute))
    paying.take(stripe_event("charge.dispute.closed", {**dispute, "status": "won"}))
    assert sorted(each.kind for each in paying.report()) == ["DISPUTED", "DISPUTE_WON"]


def test_a_report_that_does_not_fit_its_payment_is_for_a_person(paying: Paying, books: StripeBooks) -> None:
    paying.capture_after(paying.authorized())
    dispute = {
        "id": "dp_2", "payment_intent": shown(books)["id"], "amount": 9_000, "currency": "eur", "reason": "fraudulent",
        "status": "needs_response",
    }  # fmt: skip
    paying.take(stripe_event("charge.dispute.created", dispute))
    assert paying.report() == []
    assert paying.report() == []


def test_a_webhook_is_signed_by_the_new_or_the_old_secret_and_just_now(paying: Paying) -> None:
    body = stripe_event("payment_intent.created", {"object": "payment_intent"})
    adapter = paying.webhooks
    adapter.authenticate([("stripe-signature", stripe_signature(body, paying.now))], body, paying.now)
    for header in ("", "t=,v1=", "t=1,v1=00", "v1=00", stripe_signature(body, paying.now, "whsec_other"), "t=١,v1=0"):
        with pytest.raises(BadSignature):
            adapter.authenticate([("stripe-signature", header)], body, paying.now)
    with pytest.raises(BadSignature):
        adapter.authenticate([("stripe-signature", stripe_signature(body, paying.now))], body + b" ", paying.now)
    late = paying.now.replace(hour=1)
    with pytest.raises(BadSignature):
        adapter.authenticate([("stripe-signature", stripe_signature(body, paying.now))], body, late)
