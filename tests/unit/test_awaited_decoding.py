"""The messages about a step whose outcome comes later: their facts, their entries, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chassis.saga.deferred import RawMessage
from chassis.wire.codec import Codec
from messages.contract import Message
from messages.saga import SagaFenced, StepAwaited, StepContradicted
from proof.awaited_models import CARD_3, PAYOUT_3
from proof.schemas import LocalRegistry
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest.decoding import DecodedMessage, decode
from saga_tracker.ingest.records import Record, Unexpected
from saga_tracker.ingest.tracked_saga import TrackedSaga
from saga_tracker.model.contradictions import Contradicted
from saga_tracker.model.facts import NOTHING, Awaited, Cancelled, Fenced, StepState, Succeeded
from saga_tracker.model.references import Reference
from saga_tracker.model.saga import Definitions, SagaDefinition
from saga_tracker.store.sagas import SagaRow
from support.builders import a

CODEC = Codec(LocalRegistry())
AT = datetime(2026, 11, 29, 10, 2, tzinfo=UTC)
AWAITED = a(StepAwaited, service="shipping", step="book_shipment", attempt=1, undo=False, key="k", since=AT)
CONTRADICTED = a(
    StepContradicted, service="shipping", step="book_shipment", attempt=1, recorded="FAILED", proven="SUCCEEDED",
    source="statement", reference="row 812", undone_by_service=False,
)  # fmt: skip


def defined(definition: SagaDefinition) -> Definitions:
    return {("order", 1): definition}


def decoded(message: Message, definition: SagaDefinition = PAYOUT_3, topic: str = "shipping.events") -> DecodedMessage:
    value = CODEC.encode(topic, message)
    raw = RawMessage(topic=topic, partition=0, key=message.saga_id.encode(), value=value, headers=())
    found = decode(Record(raw=raw, offset=0, timestamp_ms=0), CODEC, defined(definition))
    assert isinstance(found, DecodedMessage)
    return found


def test_an_attempt_and_its_undo_are_facts_with_an_entry_of_their_service() -> None:
    found = decoded(AWAITED)
    assert found.fact == Awaited(step="book_shipment", attempt=1)
    assert (found.entry.kind, found.entry.type, found.entry.service) == ("event", "StepAwaited", "shipping")
    assert (found.entry.step, found.entry.attempt) == ("book_shipment", 1)
    assert found.entry.detail == "begun; its outcome comes later"
    undo = replace(AWAITED, service="payment", step="authorize_payment", attempt=2, undo=True)
    found = decoded(undo, CARD_3, "payment.events")
    assert found.fact == Awaited(step="authorize_payment", attempt=2, undo=True)
    assert found.entry.detail == "its undo was begun; its outcome comes later"


def test_the_reference_of_an_accepted_attempt_is_one_of_its_saga_where_the_definition_names_its_kind() -> None:
    steps = tuple(
        replace(step, awaited=replace(step.awaited, reference="parcel")) if step.awaited else step
        for step in PAYOUT_3.steps
    )
    accepted = replace(AWAITED, reference="COL_1 ")
    found = decoded(accepted, replace(PAYOUT_3, steps=steps))
    assert found.fact == decoded(AWAITED).fact, "it is the same fact twice"
    assert found.entry.detail == "accepted as COL_1 ; its outcome comes later"
    assert [(each.kind, each.value) for each in found.references] == [("parcel", "COL_1")]
    for none in (AWAITED, replace(AWAITED, reference=""), replace(AWAITED, reference="9" * 129)):
        assert decoded(none, replace(PAYOUT_3, steps=steps)).references == ()
    assert decoded(accepted).references == ()


def test_the_number_of_a_parcel_under_way_finds_its_return() -> None:
    accepted = replace(
        AWAITED, saga_type="return_order", saga_version=1, step="collect_parcel", reference="COL_1"
    )  # fmt: skip
    raw = RawMessage(
        topic="shipping.events", partition=0, key=accepted.saga_id.encode(),
        value=CODEC.encode("shipping.events", accepted), headers=(),
    )  # fmt: skip
    found = decode(Record(raw=raw, offset=0, timestamp_ms=0), CODEC, DEFINITIONS)
    assert isinstance(found, DecodedMessage)
    assert found.references == (Reference(saga_id=accepted.saga_id, kind="collection", value="COL_1"),)


def test_a_contradiction_shows_what_was_recorded_and_what_is_proven() -> None:
    found = decoded(CONTRADICTED)
    reason = "attempt 1 was FAILED, and is SUCCEEDED by statement row 812"
    since = CONTRADICTED.occurred_at
    assert found.fact == Contradicted(step="book_shipment", attempt=1, reason=reason, unsettled_since=since)
    assert found.entry.detail == reason
    undone = decoded(replace(CONTRADICTED, reference=None, undone_by_service=True))
    assert undone.entry.detail == "attempt 1 was FAILED, and is SUCCEEDED by statement; the service undoes it"
    assert isinstance(undone.fact, Contradicted)
    assert undone.fact.unsettled_since is None


def test_a_fence_may_report_that_a_step_is_in_doubt() -> None:
    steps = [{"step": "book_shipment", "state": "IN_DOUBT"}]
    found = decoded(a(SagaFenced, service="shipping", steps=steps))
    assert found.fact == Fenced(service="shipping", states=(("book_shipment", StepState.IN_DOUBT),))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (replace(AWAITED, step="reserve_inventory"), "that is no step of 'shipping'"),
        (replace(AWAITED, step="fly"), "that is no step of 'shipping'"),
        (replace(AWAITED, attempt=0), "attempts count from 1"),
        (replace(AWAITED, undo=True), "which has no compensation of its own"),
        (replace(CONTRADICTED, attempt=40_000), "attempts count from 1"),
    ],
)
def test_what_fits_no_awaited_step_of_its_service_is_refused(message: Message, reason: str) -> None:
    with pytest.raises(Unexpected, match=reason):
        decoded(message)


def test_a_step_whose_outcome_does_not_come_later_cannot_be_awaited() -> None:
    with pytest.raises(Unexpected, match="whose outcome does not come later"):
        decoded(replace(AWAITED, service="inventory", step="reserve_inventory"), topic="inventory.events")


def test_it_belongs_on_the_topic_of_its_service_alone() -> None:
    with pytest.raises(Unexpected, match="where it does not belong"):
        decoded(AWAITED, topic="payment.events")


def test_a_row_shows_since_when_it_awaits_an_outcome_until_that_is_known() -> None:
    row = SagaRow(
        saga_id="s", saga_type="order", saga_version=1, partition=0, progress=NOTHING, started_at=AT
    )  # fmt: skip
    saga, later = TrackedSaga(row=row, definition=PAYOUT_3), AT + timedelta(hours=1)

    def applied(now: datetime) -> tuple[str, datetime | None, datetime | None]:
        saga.apply(saga.decision, now)
        return row.state, row.awaits_since, row.deadline_at

    saga.add(Succeeded(step="reserve_inventory"))
    assert applied(AT)[:2] == ("PENDING", None)
    saga.add(Awaited(step="book_shipment", attempt=1))
    assert applied(AT) == ("PENDING", AT, None)
    saga.add(Awaited(step="book_shipment", attempt=2))
    assert applied(later) == ("PENDING", AT, None)
    saga.add(Cancelled(at=later, by="support-7", reason="asked"))
    for service, step in (("inventory", "reserve_inventory"), ("shipping", "book_shipment")):
        state = StepState.DONE if service == "inventory" else StepState.IN_DOUBT
        saga.add(Fenced(service=service, states=((step, state),)))
    assert applied(later) == ("IN_DOUBT", AT, None)
    saga.add(Succeeded(step="book_shipment"))
    assert applied(later)[:2] == ("PENDING", None)
