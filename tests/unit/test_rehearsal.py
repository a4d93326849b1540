"""Rehearsals: what follows from given facts, for every definition that there is and for a payout."""

from __future__ import annotations

import pytest

from proof.awaited_models import PAYOUT_3
from saga_tracker.definitions import DEFINITIONS, newest
from saga_tracker.model.decision import SagaState
from saga_tracker.model.facts import StepState
from saga_tracker.model.rehearsal import UnknownStep, rehearse
from saga_tracker.model.saga import SagaDefinition

ORDER = newest("order")


def test_a_rejection_compensates_what_ran_in_reverse() -> None:
    saga = rehearse(ORDER).ran("authorize_payment", "reserve_inventory").rejected("burn_loyalty_points")
    assert saga.commands == ("ReleaseInventory reserve_inventory",)
    ended = saga.to_the_end()
    assert ended.sent == ("ReleaseInventory reserve_inventory", "RefundPayment authorize_payment")
    assert ended.state is SagaState.CANCELLED_COMPENSATED


def test_a_late_step_is_fenced_in_every_service_before_anything_is_compensated() -> None:
    saga = rehearse(ORDER).ran("authorize_payment").late("reserve_inventory")
    assert saga.commands == tuple(f"FenceSaga {service}" for service in ORDER.services)
    ended = saga.to_the_end()
    assert ended.sent[-1] == "RefundPayment authorize_payment"
    assert ended.state is SagaState.CANCELLED_COMPENSATED


def test_without_a_reply_it_is_sent_again_and_then_parked() -> None:
    saga = rehearse(ORDER).ran("authorize_payment").rejected("reserve_inventory")
    assert saga.waits_s == ORDER.reply_timeout_s
    for _ in range(ORDER.command_attempts_max):
        assert saga.state is SagaState.PENDING
        saga = saga.silent()
    assert saga.state is SagaState.NEEDS_REVIEW


def test_an_outcome_that_comes_later_is_waited_for_without_an_end_and_a_fence_leaves_it_in_doubt() -> None:
    (pivot,) = [step.name for step in PAYOUT_3.steps if step.has_no_return]
    before = [step.name for step in PAYOUT_3.steps[: [step.name for step in PAYOUT_3.steps].index(pivot)]]
    saga = rehearse(PAYOUT_3).ran(*before).awaited(pivot)
    assert (saga.state, saga.commands, saga.waits_s) == (SagaState.PENDING, (), None)
    doubt = saga.cancelled()
    for service in PAYOUT_3.fenced_services:
        mine = pivot in PAYOUT_3.fenced_steps_of(service)
        doubt = doubt.fenced(service, **({pivot: StepState.IN_DOUBT} if mine else {}))
    assert (doubt.state, doubt.commands) == (SagaState.IN_DOUBT, ())
    assert doubt.ran(*(step.name for step in PAYOUT_3.steps)).state is SagaState.CONFIRMED, "the cancellation is lost"
    assert doubt.rejected(pivot).to_the_end().state is SagaState.CANCELLED_COMPENSATED
    assert doubt.contradicted(pivot).state is SagaState.INCIDENT


def test_once_a_pivot_ran_that_is_forward_only_a_late_step_parks_and_a_cancellation_is_lost() -> None:
    receipt = newest("receipt")
    late = rehearse(receipt).ran("record_receipt").late("attribute_receipt")
    assert (late.state, late.commands) == (SagaState.NEEDS_REVIEW, ())
    assert late.ran("attribute_receipt").state is SagaState.PENDING, "it goes on by itself"
    cancelled = rehearse(receipt).ran("record_receipt").cancelled()
    assert (cancelled.state, cancelled.commands) == (SagaState.PENDING, ())
    assert cancelled.ran(*(step.name for step in receipt.steps)).state is SagaState.CONFIRMED


def test_before_a_pivot_that_is_forward_only_a_saga_can_be_stopped() -> None:
    stopped = rehearse(newest("receipt")).cancelled()
    assert stopped.commands == ("FenceSaga ledger",)
    fenced = stopped.fenced("ledger", record_receipt=StepState.DONE)
    assert (fenced.state, fenced.commands) == (SagaState.PENDING, ()), "it had run, and so it goes on"


def test_what_a_gateway_has_reported_is_booked_and_then_neither_lateness_nor_a_cancellation_stops_it() -> None:
    reversal = rehearse(newest("payment_reversal")).ran("post_reversal")
    late = reversal.late("notify_merchant")
    assert (late.state, late.commands) == (SagaState.NEEDS_REVIEW, ())
    assert late.ran("notify_merchant").state is SagaState.CONFIRMED
    assert reversal.cancelled().ran("notify_merchant").state is SagaState.CONFIRMED
    assert rehearse(newest("settlement")).ran("post_settlement").cancelled().state is SagaState.CONFIRMED


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=lambda each: f"{each.name} {each.version}")
def test_every_saga_ends_wherever_it_is_stopped(definition: SagaDefinition) -> None:
    names = [step.name for step in definition.steps]
    assert rehearse(definition).ran(*names).state is SagaState.CONFIRMED
    undoable = len(names) if definition.no_return is None else definition.no_return + 1
    for count in range(undoable):
        stopped = rehearse(definition).ran(*names[:count]).cancelled().to_the_end()
        assert stopped.state is SagaState.CANCELLED_COMPENSATED
        assert not any(name in each for each in stopped.sent for name in names[count:]), "what never ran is not undone"
    for count in range(undoable, len(names)):
        behind = rehearse(definition).ran(*names[:count]).cancelled()
        assert (behind.state, behind.commands) == (SagaState.PENDING, ()), "it only goes forward"


def test_a_step_that_the_definition_lacks_is_named() -> None:
    with pytest.raises(UnknownStep, match="has no step 'paint'; it has authorize_payment"):
        rehearse(ORDER).ran("paint")
