"""Definitions: the parts of a saga, and every contradiction for which a definition is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from messages.catalogue import MESSAGES
from messages.checkout import OrderCancellationRequested, OrderSubmitted
from messages.contract import name_of
from messages.payment import PaymentRefunded, RefundPayment
from messages.saga import OrderConfirmed, OrderFailed
from proof.awaited_models import CARD_TIMED_3
from saga_tracker.definitions import DEFINITIONS, UnknownSaga, newest
from saga_tracker.ingest.decoding import topics
from saga_tracker.model.diagram import diagram, mermaid
from saga_tracker.model.saga import (
    CompensationDefinition,
    InvalidDefinition,
    SagaDefinition,
    StepDefinition,
    SubjectDefinition,
)

ORDER = DEFINITIONS["order", 1]
"""The rules are the same for every definition, so a new version changes nothing here."""
AUTHORIZE, RESERVE, BURN, SHIP, CAPTURE, LEDGER = ORDER.steps


def with_step(step: StepDefinition, **changes: object) -> SagaDefinition:
    changed = replace(step, **changes)  # type: ignore[arg-type]
    return replace(ORDER, steps=tuple(changed if each is step else each for each in ORDER.steps))


def test_every_definition_is_found_by_its_name_and_version_and_the_newest_by_its_name() -> None:
    for (name, version), definition in DEFINITIONS.items():
        assert (definition.name, definition.version) == (name, version)
        assert newest(name).version == max(each for of, each in DEFINITIONS if of == name)


def test_an_unknown_saga_is_refused_with_the_names_of_the_known_ones() -> None:
    known = ", ".join(sorted({name for name, _ in DEFINITIONS}))
    with pytest.raises(UnknownSaga, match=f"known: {known}."):
        newest("ordre")


def test_the_tracker_consumes_every_topic_that_can_carry_a_message_of_an_order() -> None:
    found = topics(DEFINITIONS)
    assert {"checkout.events", "payment.events", "ledger.events", "saga.commands", "saga-tracker.dlq"} <= set(found)
    assert {f"{step.name}.dlq" for step in ORDER.steps} <= set(found)
    assert "saga.events" not in found


def test_a_service_is_fenced_once_with_all_of_its_steps() -> None:
    assert ORDER.services == ("payment", "inventory", "loyalty", "shipping", "ledger")
    assert ORDER.steps_of("payment") == ("authorize_payment", "capture_payment")


def test_the_longest_wait_of_a_saga_is_its_deadline_or_that_for_evidence() -> None:
    assert ORDER.waits_s_max == ORDER.deadline_s
    assert CARD_TIMED_3.waits_s_max == 3_600


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: replace(ORDER, steps=()), "has no steps"),
    (lambda: replace(ORDER, steps=ORDER.steps[1:]), "reserve_inventory is triggered by PaymentAuthorized, but"),
    (lambda: replace(ORDER, steps=(*ORDER.steps, AUTHORIZE)), "The step authorize_payment is used twice"),
    (lambda: with_step(SHIP, rejected_with=BURN.rejected_with), "LoyaltyPointsRejected is used twice"),
    (lambda: with_step(SHIP, compensation=None), "book_shipment is compensatable but nothing undoes it"),
    (lambda: with_step(CAPTURE, undone_by="book_shipment"), "must be an earlier step of payment"),
    (lambda: with_step(CAPTURE, undone_by="post_ledger"), "must be an earlier step of payment"),
    (lambda: with_step(SHIP, undone_by="authorize_payment"), "has a compensation and undone_by"),
    (lambda: with_step(SHIP, forward_only=True), "forward_only; that is only a pivot without a compensation"),
    (lambda: with_step(SHIP, rejected_with=OrderConfirmed), "OrderConfirmed is the rejection of book_shipment but"),
    (
        lambda: with_step(
            AUTHORIZE, compensation=CompensationDefinition(command=OrderCancellationRequested, reply=PaymentRefunded)
        ),
        "has no field attempt",
    ),
    (
        lambda: with_step(
            AUTHORIZE, compensation=CompensationDefinition(command=RefundPayment, reply=OrderCancellationRequested)
        ),
        "has no field undone",
    ),
    (lambda: with_step(SHIP, timeout_s=0), "the timeout of book_shipment is 0"),
    (lambda: replace(ORDER, command_attempts_max=0), "command_attempts_max is 0"),
    (lambda: replace(ORDER, deadline_s=100), "Its steps may take 120 s in all, but deadline_s is 100"),
    (
        lambda: replace(ORDER, subject=SubjectDefinition(field="member_id", kind="member")),
        "OrderSubmitted is the starting event but has no field member_id",
    ),
    (lambda: replace(ORDER, completed_by=OrderSubmitted), "OrderSubmitted is the completing event but"),
    (lambda: replace(ORDER, failed_by=OrderConfirmed), "OrderConfirmed is the failing event but has no field cause"),
    (lambda: replace(ORDER, cancelled_by={OrderConfirmed: "customer"}), "OrderConfirmed is a cancelling event but"),
    (
        lambda: replace(ORDER, reactions={OrderCancellationRequested: ("checkout",)}),
        "checkout react to OrderCancellationRequested",
    ),
    (lambda: replace(ORDER, reactions={PaymentRefunded: ("nowhere",)}), "nowhere react to PaymentRefunded"),
]


@pytest.mark.parametrize(("build", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_a_definition_that_contradicts_itself_is_refused_by_name(build: Callable[[], object], reason: str) -> None:
    with pytest.raises(InvalidDefinition, match=reason) as refusal:
        build()
    assert str(refusal.value).startswith("order version 1: ")


def test_the_drawings_show_every_message_of_the_saga() -> None:
    used = {OrderSubmitted, OrderConfirmed, OrderFailed}
    for step in ORDER.steps:
        used |= {step.succeeds_with, *([step.rejected_with] if step.rejected_with else [])}
        used |= {step.compensation.command, step.compensation.reply} if step.compensation else set()
    assert used <= set(MESSAGES.values())
    for message in used:
        assert name_of(message) in diagram(ORDER)
        assert name_of(message) in mermaid(ORDER)
