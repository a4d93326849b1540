"""A step that serves several sagas: which message triggers it in which saga, and how each is read and answered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from chassis.saga.triggers import AmbiguousTrigger, SagaTrigger, StepRequest, Triggers
from messages.contract import Envelope, Message
from messages.inventory import InventoryRejected, InventoryReleased, InventoryReserved
from messages.loyalty import LoyaltyPointsRejected

AT = datetime(2026, 1, 1, tzinfo=UTC)


def envelope(saga: str, version: int = 1) -> Envelope:
    return Envelope(
        message_id="01JD", saga_id="01JC", saga_type=saga, saga_version=version, causation_id=None, occurred_at=AT
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Restock(StepRequest):
    """A request of inventory's own: it names no saga."""

    why: str


def rejection(event: LoyaltyPointsRejected, outcome: str, to: Envelope) -> Message:
    reason = f"{event.reason}: {outcome}"
    return InventoryRejected(**to, reason=reason, detail="", sku="a", requested=1, available=0)


ORDER = SagaTrigger(
    saga="order",
    versions=(1, 2),
    on=LoyaltyPointsRejected,
    read=lambda event, step: Restock(saga_id=event.saga_id, step=step, why=event.reason),
    publish=rejection,
    succeeds_with=InventoryReserved,
    rejected_with=InventoryRejected,
)
RETURN = replace(
    ORDER,
    saga="return_order",
    versions=(1,),
    read=lambda event, step: Restock(saga_id=event.saga_id, step=step, why=f"return, {event.detail}"),
)
TRIGGERS = Triggers({"restock": (ORDER, RETURN)})


def event(saga: str, version: int = 1) -> LoyaltyPointsRejected:
    return LoyaltyPointsRejected(
        **envelope(saga, version), reason="too few", detail="10 missing", requested=30, available=20
    )


def test_each_saga_reads_its_event_into_the_one_request_and_publishes_its_own_event() -> None:
    for saga, why in (("order", "too few"), ("return_order", "return, 10 missing")):
        ((step, trigger),) = TRIGGERS.of(event(saga))
        request = trigger.read(event(saga), step)
        assert request == Restock(saga_id=event(saga).saga_id, step="restock", why=why)
        published = trigger.publish(event(saga), "no", envelope(saga))
        assert (published.saga_type, published.reason) == (saga, "too few: no")  # type: ignore[attr-defined]


def test_a_message_is_routed_by_its_sagas_type_and_version_and_not_by_its_own_type_alone() -> None:
    assert TRIGGERS.of(event("order", 2)) == (("restock", ORDER),)
    assert TRIGGERS.of(event("return_order", 2)) == ()
    assert TRIGGERS.of(event("loan")) == ()
    assert TRIGGERS.events == {LoyaltyPointsRejected}
    assert TRIGGERS.sagas == {("order", 1), ("order", 2), ("return_order", 1)}
    assert TRIGGERS.missing([("order", 1), ("loan", 1)]) == {("loan", 1)}


def test_one_message_may_trigger_two_steps_of_a_saga_and_one_step_only_once() -> None:
    other = replace(ORDER, succeeds_with=InventoryReleased, rejected_with=None)
    both = Triggers({"restock": (ORDER,), "report": (other,)})
    assert [step for step, _ in both.of(event("order"))] == ["restock", "report"]
    with pytest.raises(
        AmbiguousTrigger, match="restock is triggered twice by LoyaltyPointsRejected of order version 1"
    ):
        Triggers({"restock": (ORDER, ORDER)})


def test_an_answer_belongs_to_one_step_of_its_saga() -> None:
    answer = InventoryRejected(**envelope("return_order"), reason="no", detail="", sku="a", requested=1, available=0)
    assert TRIGGERS.answered_by(answer) == "restock"
    assert TRIGGERS.answered_by(replace(answer, saga_version=2)) is None
    with pytest.raises(AmbiguousTrigger, match="InventoryReserved of order version 1 answers for restock and report"):
        Triggers({"restock": (ORDER,), "report": (ORDER,)})
