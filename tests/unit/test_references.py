"""References: which numbers of a saga's events are stored, how a personal one is hashed, and what a person may type."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest

from baraza import selection
from baraza.references import named, referring, saga_of, selected
from baraza.terminal import UsageRefusal
from messages.checkout import OrderSubmitted
from messages.payment import PaymentAuthorized, PaymentCaptured, PaymentRefunded
from messages.shipping import ShipmentBooked
from saga_tracker.definitions import newest
from saga_tracker.model.references import HASHED, Reference, hashed, references_of, stored_forms
from saga_tracker.model.saga import InvalidDefinition, ReferenceDefinition
from support.builders import a

ORDER = newest("order")
KEY = b"a key of this stack"
PERSONAL = replace(
    ORDER, references=(ReferenceDefinition(kind="member", event=OrderSubmitted, field="customer_id", is_personal=True),)
)
SAGA = "01JCZ3K8T0ABCDEFGHJKMNPQRS"


def test_the_numbers_of_an_orders_payment_and_shipment_are_references() -> None:
    authorized, booked = a(PaymentAuthorized, authorization_id=" auth_7 "), a(ShipmentBooked, tracking_number="BRZ9")
    assert list(references_of(ORDER, authorized, None)) == [
        Reference(saga_id=authorized.saga_id, kind="payment", value="auth_7")
    ]
    assert list(references_of(ORDER, booked, None)) == [
        Reference(saga_id=booked.saga_id, kind="shipment", value="BRZ9")
    ]
    assert list(references_of(ORDER, a(OrderSubmitted), KEY)) == []


@pytest.mark.parametrize("value", ["", "   ", "x" * 129, "\x00"])
def test_what_no_person_has_in_hand_is_no_reference(value: str) -> None:
    assert list(references_of(ORDER, a(PaymentAuthorized, authorization_id=value), None)) == []


def test_a_personal_reference_is_stored_as_its_keyed_hash_and_never_without_a_key() -> None:
    submitted = a(OrderSubmitted, customer_id="0712 345 678")
    assert list(references_of(PERSONAL, submitted, None)) == []
    (stored,) = references_of(PERSONAL, submitted, KEY)
    assert stored.value == hashed("0712345678", KEY)
    assert "0712" not in stored.value
    assert hashed("0712345678", b"another key") != stored.value
    assert stored.value in stored_forms(" 0712345678 ", KEY)
    assert stored_forms(stored.value, KEY) == frozenset(), "the table's own value finds nothing"
    assert stored_forms("auth_7", None) == {"auth_7"}
    assert stored.value.startswith(HASHED)


@pytest.mark.parametrize(
    ("event", "field", "problem"),
    [
        (PaymentAuthorized, "receipt", "has no field receipt"),
        (PaymentCaptured, "amount", "has no field amount"),
    ],
)
def test_a_reference_must_be_a_field_of_an_event_of_the_saga(event: Any, field: str, problem: str) -> None:
    with pytest.raises(InvalidDefinition, match=problem):
        replace(ORDER, references=(ReferenceDefinition(kind="payment", event=event, field=field),))


def test_a_reference_stands_in_an_event_of_the_way_forward() -> None:
    wrong = ReferenceDefinition(kind="payment", event=PaymentRefunded, field="step")
    with pytest.raises(InvalidDefinition, match="is no event of the way forward"):
        replace(ORDER, references=(wrong,))


class Tracker:
    """The tracker's API, with these sagas for every reference."""

    def __init__(self, *sagas: str) -> None:
        self.sagas, self.queries = sagas, list[Any]()

    def get(self, path: str, params: Any = None) -> Any:
        self.queries.append((path, params))
        rows = [{"saga_id": each, "type": "order", "state": "PENDING", "started_at": "t"} for each in self.sagas]
        return {"sagas": rows}


def found(tracker: Any, text: str) -> str:
    return saga_of(tracker, text)


def test_an_id_is_taken_as_it_is_and_anything_else_is_looked_up() -> None:
    tracker = Tracker(SAGA)
    assert found(tracker, f" {SAGA.lower()} ") == SAGA
    assert tracker.queries == []
    assert found(tracker, " auth_7 ") == SAGA
    assert tracker.queries == [("/v1/sagas", {"reference": "auth_7", "limit": 20})]


def test_several_sagas_of_a_reference_are_listed() -> None:
    other = SAGA.replace("Q", "R")
    with pytest.raises(UsageRefusal, match="several sagas") as refused:
        found(Tracker(SAGA, other), "auth_7")
    assert SAGA in str(refused.value)
    assert other in str(refused.value)
    with pytest.raises(UsageRefusal, match="No saga has the id or the reference 'auth_7'"):
        found(Tracker(), "auth_7")


def test_the_sagas_that_refer_to_one_are_found_by_its_id_and_do_not_include_it() -> None:
    other = SAGA.replace("Q", "R")
    tracker = Tracker(other, SAGA)
    assert [each["saga_id"] for each in referring(tracker, SAGA)] == [other]
    assert tracker.queries == [("/v1/sagas", {"reference": SAGA, "limit": 20})]


def test_a_selection_names_sagas_by_their_ids_and_by_references() -> None:
    tracker = Tracker(SAGA.replace("Q", "R"))
    typed = selection.parse(f"step=book_shipment id={SAGA.lower()},BRZ9")
    assert selected(tracker, typed) == {"step": "book_shipment", "saga_ids": [SAGA, SAGA.replace("Q", "R")]}
    assert [params["reference"] for _, params in tracker.queries] == ["BRZ9"]
    assert selected(tracker, selection.parse("step=book_shipment")) == {"step": "book_shipment"}
    with pytest.raises(UsageRefusal, match="several sagas"):
        selected(Tracker(SAGA, SAGA.replace("Q", "R")), selection.parse("id=BRZ9"))
    with pytest.raises(UsageRefusal, match="capitals and small letters differ"):
        selected(Tracker(), selection.parse("id=brz9"))


def test_for_an_id_no_tracker_is_needed() -> None:
    def unreachable() -> AbstractContextManager[Tracker]:
        raise AssertionError("no tracker runs")

    assert named(f" {SAGA.lower()}", unreachable) == SAGA
    assert named("BRZ9", lambda: nullcontext(Tracker(SAGA))) == SAGA


@pytest.mark.parametrize("text", ["", " ", "x" * 129, "a\nb"])
def test_what_can_be_no_reference_is_refused_before_it_is_sent(text: str) -> None:
    tracker = Tracker(SAGA)
    with pytest.raises(UsageRefusal, match="neither an id"):
        found(tracker, text)
    assert tracker.queries == []
