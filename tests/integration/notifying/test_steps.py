"""What is stored and published when a merchant's saga has ended, well or not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from chassis.postgres.migrations import differences
from chassis.process.published import published_of
from chassis.process.reconcile import Replay
from chassis.testing.service import types
from messages.contract import Message
from messages.ledger import CaptureCommitted, PaymentCommitted, RefundCommitted, ReversalPosted, VoidCommitted
from messages.merchant import CaptureRequested, PaymentSubmitted, RefundRequested, VoidRequested
from messages.saga import CaptureFailed, PaymentFailed, RefundFailed, VoidFailed
from notifier import tables
from notifier.domain import EventType
from notifier.store import endpoints
from support.builders import a
from support.notifiers import CODEC, NotifierUnderTest, new_merchant

PAYMENT_ID = 2**62 + 1
URL = "http://127.0.0.1:1/hooks"
REVERSED = {
    "CAPTURE_FAILED": "payment.capture_failed",
    "REFUND_FAILED": "refund.failed",
    "AUTHORIZATION_EXPIRED": "payment.authorization_expired",
    "DISPUTED": "dispute.created",
    "DISPUTE_WON": "dispute.won",
    "DISPUTE_LOST": "dispute.lost",
}


def of(message_type: type[Message], saga: str, saga_id: str, merchant: str, **fields: Any) -> Message:
    given = {"saga_type": saga, "saga_version": 1, "saga_id": saga_id, "payment_id": PAYMENT_ID, "is_live": False}
    return a(message_type, **given | {"merchant_id": merchant} | fields)


def failing(message_type: type[Message], saga: str, saga_id: str, cause: str = "REJECTED") -> Message:
    return a(
        message_type, saga_type=saga, saga_version=1, saga_id=saga_id, cause=cause, step="validate_payment",
        reason="The card was refused.", occurred_at=datetime(2026, 5, 1, tzinfo=UTC),
    )  # fmt: skip


def test_the_migrations_make_the_tables_in_code(notifier: NotifierUnderTest) -> None:
    with notifier.engine.connect() as connection:
        assert differences(tables.metadata, connection) == []


@pytest.mark.parametrize(
    ("saga", "trigger", "fields", "event_type", "answer"),
    [
        ("payment", PaymentCommitted, {"capture": "NOW"}, "payment.captured", "PaymentNotified"),
        ("payment", PaymentCommitted, {"capture": "LATER"}, "payment.authorized", "PaymentNotified"),
        ("capture_later", CaptureCommitted, {}, "payment.captured", "CaptureNotified"),
        ("void_payment", VoidCommitted, {}, "payment.voided", "VoidNotified"),
        ("refund", RefundCommitted, {}, "refund.succeeded", "RefundNotified"),
        *[
            ("payment_reversal", ReversalPosted, {"kind": kind}, event_type, "ReversalNotified")
            for kind, event_type in REVERSED.items()
        ],
    ],
)
def test_the_step_is_done_when_the_event_its_deliveries_and_its_message_are_stored(
    notifier: NotifierUnderTest, saga: str, trigger: type[Message], fields: Any, event_type: str, answer: str
) -> None:
    endpoint = notifier.endpoint(URL)
    merchant, _ = endpoint.owner
    notifier.endpoint(f"{URL}/2", merchant=merchant, types=[event_type])
    notifier.endpoint(f"{URL}/3", merchant=merchant, types=["ping"])
    notifier.endpoint(f"{URL}/live", merchant=merchant, is_live=True)
    notifier.endpoint(f"{URL}/other")
    service = notifier.service()
    event = of(trigger, saga, service.saga_id, merchant, **fields)
    published: Any = service.deliver(event)
    assert types(published) == [answer, "MerchantEvent"]
    assert (published[0].payment_id, published[0].merchant_id, published[0].is_live, published[0].deliveries) == (
        PAYMENT_ID, merchant, False, 2,
    )  # fmt: skip
    assert service.state_of("notify_merchant") == "DONE"
    ((event_id, body),) = notifier.rows("SELECT event_id, body FROM events WHERE type = :type", type=event_type)
    assert "." not in event_id
    assert f'"payment_id":"{PAYMENT_ID}"' in body
    (sent,) = notifier.published(endpoint.owner)
    assert (sent.message_id, sent.type, sent.payload, sent.saga_id) == (event_id, event_type, body, merchant)


def test_a_redelivered_event_changes_nothing(notifier: NotifierUnderTest) -> None:
    endpoint = notifier.endpoint(URL)
    service = notifier.service()
    event = of(PaymentCommitted, "payment", service.saga_id, endpoint.owner[0], capture="NOW")
    service.deliver(event)
    assert service.deliver(event) == []
    assert notifier.states(endpoint) == [("DUE", 0, None)]
    assert len(notifier.published(endpoint.owner)) == 1


def test_without_an_endpoint_the_step_is_done_and_the_event_is_published(notifier: NotifierUnderTest) -> None:
    merchant, service = new_merchant(), notifier.service()
    (answer, _) = service.deliver(of(PaymentCommitted, "payment", service.saga_id, merchant, capture="NOW"))
    assert answer.deliveries == 0  # type: ignore[attr-defined]
    assert [each.type for each in notifier.published((merchant, False))] == ["payment.captured"]


def test_a_disabled_endpoint_gets_nothing(notifier: NotifierUnderTest) -> None:
    endpoint = notifier.endpoint(URL)
    with notifier.engine.begin() as tx:
        endpoints.disable(endpoint.endpoint_id, endpoint.owner, tx, because="MERCHANT", now=notifier.clock())
    service = notifier.service()
    (answer, _) = service.deliver(of(PaymentCommitted, "payment", service.saga_id, endpoint.owner[0], capture="NOW"))
    assert answer.deliveries == 0  # type: ignore[attr-defined]


def test_a_reversal_of_an_unknown_kind_waits_for_a_person(notifier: NotifierUnderTest) -> None:
    service = notifier.service()
    event = of(ReversalPosted, "payment_reversal", service.saga_id, new_merchant(), kind="ODD")
    with pytest.raises(ValueError, match="No event for a reversal of kind 'ODD'"):
        service.deliver(event)
    assert notifier.rows("SELECT * FROM events") == []


BEGINNINGS = {
    "payment": (PaymentSubmitted, PaymentFailed, "payment.failed", "payment.canceled"),
    "capture_later": (CaptureRequested, CaptureFailed, "payment.capture_failed", "payment.capture_failed"),
    "void_payment": (VoidRequested, VoidFailed, "payment.void_failed", "payment.void_failed"),
    "refund": (RefundRequested, RefundFailed, "refund.failed", "refund.failed"),
}


@pytest.mark.parametrize("saga", BEGINNINGS)
@pytest.mark.parametrize("cause", ["REJECTED", "TIMED_OUT", "EXHAUSTED", "CANCELLED"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 0, 1, 1), (1, 1, 0, 0, 1)])
def test_a_failed_saga_is_notified_once_in_whichever_order_its_events_come(
    notifier: NotifierUnderTest, saga: str, cause: str, order: tuple[int, ...]
) -> None:
    beginning, end, fails_as, cancelled_as = BEGINNINGS[saga]
    endpoint, service = notifier.endpoint(URL), notifier.service()
    messages = (
        of(beginning, saga, service.saga_id, endpoint.owner[0], reference="order 7"),
        failing(end, saga, service.saga_id, cause),
    )
    published = [each for index in order for each in service.deliver(messages[index])]
    assert types(published) == ["MerchantEvent"]
    (sent,) = notifier.published(endpoint.owner)
    assert sent.type == (cancelled_as if cause == "CANCELLED" else fails_as)
    assert sent.occurred_at == datetime(2026, 5, 1, tzinfo=UTC)
    assert f'"payment_id":"{PAYMENT_ID}"' in sent.payload
    assert '"reason":"The card was refused."' in sent.payload
    assert notifier.states(endpoint) == [("DUE", 0, None)]


def test_a_payment_that_has_not_failed_is_no_event(notifier: NotifierUnderTest) -> None:
    endpoint, service = notifier.endpoint(URL), notifier.service()
    service.deliver(of(PaymentSubmitted, "payment", service.saga_id, endpoint.owner[0]))
    assert notifier.rows("SELECT * FROM events") == []


def test_in_a_restored_database_the_deliveries_are_planned_again_and_the_answer_stays(
    notifier: NotifierUnderTest,
) -> None:
    step: Any = next(step for step in notifier.service().handlers.steps if step.name == "notify_merchant")
    endpoint = notifier.endpoint(URL)
    event = of(PaymentCommitted, "payment", "saga", endpoint.owner[0], capture="NOW")
    trigger = step.triggers[0]
    request = trigger.read(event, step.name)
    with notifier.engine.begin() as tx:
        planned = step.load([request], tx)
        assert step.restore is not None
        assert step.restore(request, planned, 7) == 7
        step.save(planned, tx)
    assert notifier.states(endpoint) == [("DUE", 0, None)]


def test_every_event_type_has_the_form_of_the_standard() -> None:
    for event_type in EventType:
        assert all(part.replace("_", "").isalnum() for part in event_type.split("."))


def test_a_restored_database_takes_over_the_answer_and_publishes_the_event_again_under_its_id(
    notifier: NotifierUnderTest,
) -> None:
    endpoint = notifier.endpoint(URL)
    service = notifier.service()
    event = of(PaymentCommitted, "payment", service.saga_id, endpoint.owner[0], capture="NOW")
    answer, sent = service.deliver(event)
    with notifier.engine.begin() as tx:
        tx.execute(text("TRUNCATE effects, events, deliveries, outbox CASCADE"))
    read = published_of(service.handlers, [(0, answer)], service.read)
    done = Replay("notifier", service.handlers, notifier.engine, CODEC, read).run()
    assert (done.repeated, list(done.open)) == (1, [])
    assert [each.message_id for each in notifier.published(endpoint.owner)] == [sent.message_id]
    assert notifier.rows("SELECT type FROM outbox WHERE aggregateid = :id", id=service.saga_id) == []
