"""The rules of routing, and what becomes of a message that breaks one; no broker, no database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chassis.saga.deferred import Deferral, RawMessage
from chassis.saga.handlers import Handlers
from chassis.saga.routing import Router, Work
from chassis.saga.steps import Reaction, Step
from chassis.saga.triggers import AnySagaTrigger
from chassis.saga.waiting import UNPROCESSABLE
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.inventory import InventoryReserved, ReleaseInventory
from messages.loyalty import LoyaltyPointsBurned
from messages.payment import PaymentAuthorized, PaymentCaptured, RefundPayment
from messages.saga import StepAwaited
from messages.shipping import ShipmentBooked
from proof.schemas import LocalRegistry
from support import toy
from support.builders import a
from support.toy import PICK

CODEC = Codec(LocalRegistry())
ROUTER = Router(toy.NAME, Handlers.of(toy.handlers(toy.WellProvider())), CODEC)


def raw(message: Message, topic: str = toy.INPUT) -> RawMessage:
    value = CODEC.encode(topic, message)
    return RawMessage(topic=topic, partition=0, key=message.saga_id.encode(), value=value, headers=(), offset=7)


def deferral(message: RawMessage, handler: str) -> Deferral:
    return Deferral(
        message_id=new_id(), handler=handler, saga_id=(message.key or b"").decode(), raw=message, attempt=2,
        due_at=datetime.now(UTC), reason="a test",
    )  # fmt: skip


def reason(work: Work) -> str:
    """Return the reason of the one message that is all of the work."""
    assert len(work) == 1
    (found,) = work.unprocessable
    return found.reason


def test_a_message_reaches_its_handler() -> None:
    trigger = a(PaymentAuthorized)
    work = ROUTER.route([raw(trigger)])
    assert [(name, delivery.message) for name, delivery in work.deliveries] == [(PICK, trigger)]
    assert len(work) == 1


def test_an_event_that_no_handler_waits_for_is_left_out() -> None:
    assert not ROUTER.route([raw(a(ShipmentBooked))])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (raw(a(PaymentAuthorized)), True),
        (raw(a(ShipmentBooked)), False),
        (raw(a(RefundPayment), toy.COMMANDS), True),
        (raw(a(ReleaseInventory)), True),
        (replace(raw(a(ShipmentBooked)), value=b"\x00"), True),
        (replace(raw(a(ShipmentBooked)), value=None), True),
    ],
    ids=["its handler", "an event for others", "an unknown command", "a command among events", "too short", "empty"],
)
def test_exactly_what_is_handled_or_refused_concerns_the_service(message: RawMessage, expected: bool) -> None:
    assert ROUTER.concerns(message.topic, message.value) == expected
    assert bool(ROUTER.route([message])) == expected


def test_a_command_that_no_handler_waits_for_is_unprocessable() -> None:
    assert "toy handles no baraza.payment.RefundPayment" in reason(ROUTER.route([raw(a(RefundPayment), toy.COMMANDS)]))


@pytest.mark.parametrize(("message", "topic"), [(a(PaymentAuthorized), toy.COMMANDS), (a(ReleaseInventory), toy.INPUT)])
def test_a_message_on_a_topic_where_it_does_not_belong_is_unprocessable(message: Message, topic: str) -> None:
    assert "where it does not belong" in reason(ROUTER.route([raw(message, topic)]))


@pytest.mark.parametrize("given", [{"saga_id": "x" * 65}, {"message_id": "\x00"}, {"message_id": ""}])
def test_an_id_of_another_form_is_unprocessable(given: dict[str, str]) -> None:
    assert "ids are ULIDs" in reason(ROUTER.route([raw(a(PaymentAuthorized, **given))]))


@pytest.mark.parametrize("key", [new_id().encode(), b"", None])
def test_a_key_that_is_not_the_saga_id_is_unprocessable(key: bytes | None) -> None:
    assert "The key is not the saga id" in reason(ROUTER.route([replace(raw(a(PaymentAuthorized)), key=key)]))


@pytest.mark.parametrize("given", [{"saga_version": 2**31 - 1}, {"saga_type": "return"}])
def test_an_event_of_a_saga_that_this_release_lacks_is_unprocessable(given: dict[str, object]) -> None:
    assert "Its saga is none of this release" in reason(ROUTER.route([raw(a(PaymentAuthorized, **given))]))


def test_a_sagas_event_reaches_the_steps_of_that_saga_alone() -> None:
    pick, pack, send = toy.handlers(toy.WellProvider())
    assert isinstance(pick, Step)
    assert isinstance(pack, Step)
    elsewhere = (replace(toy.TO_PICK, saga="return", succeeds_with=PaymentCaptured, rejected_with=None),)
    pick_returned = replace(pick, name="pick_returned", triggers=elsewhere, compensation=None)
    later: AnySagaTrigger = replace(toy.TO_PICK, saga="return", versions=(2,), succeeds_with=LoyaltyPointsBurned)
    pack = replace(pack, triggers=(toy.TO_PACK, replace(later, rejected_with=None)))
    router = Router(toy.NAME, Handlers.of([pick, pick_returned, pack, send]), CODEC)

    def reached(**saga: object) -> list[str]:
        work = router.route([raw(a(PaymentAuthorized, **saga))])
        assert not work.unprocessable
        return [name for name, _ in work.deliveries]

    assert reached() == [PICK]
    assert reached(saga_type="return") == ["pick_returned"]
    assert reached(saga_type="return", saga_version=2) == [toy.PACK], "one step serves two sagas"
    assert not router.route([raw(a(InventoryReserved, saga_type="return"))]), "it triggers nothing in that saga"
    assert "Its saga is none" in reason(router.route([raw(a(PaymentAuthorized, saga_version=2))]))


def test_a_deferred_event_is_routed_by_its_saga_too() -> None:
    row = deferral(raw(a(PaymentAuthorized, saga_type="return")), PICK)
    work = ROUTER.route([], [row])
    assert "Its saga is none of this release" in reason(work)
    assert work.unprocessable[0].row == row


def test_a_command_passes_whatever_its_saga_is() -> None:
    assert len(ROUTER.route([raw(a(ReleaseInventory, saga_version=99), toy.COMMANDS)]).deliveries) == 1


def test_a_message_whose_headers_cannot_be_read_is_unprocessable_until_it_is_redriven() -> None:
    unread = replace(raw(a(PaymentAuthorized)), headers_flaw="The name of a header is not UTF-8.")
    work = ROUTER.route([unread])
    assert reason(work) == unread.headers_flaw
    assert work.unprocessable[0].detail == f"The original is at offset 7 of {toy.INPUT}, partition 0."
    assert ROUTER.route([], [deferral(replace(unread, headers_flaw=""), UNPROCESSABLE)]).due


def test_a_deferred_message_whose_handler_is_gone_is_unprocessable() -> None:
    row = deferral(raw(a(PaymentAuthorized)), "a step of the last release")
    work = ROUTER.route([], [row])
    assert "toy has no handler a step of the last release any more" in reason(work)
    assert work.unprocessable[0].row == row


def test_a_parked_message_is_routed_anew_and_discarded_where_no_handler_wants_it() -> None:
    wanted, unwanted = (
        deferral(raw(a(InventoryReserved)), UNPROCESSABLE), deferral(raw(a(ShipmentBooked)), UNPROCESSABLE),
    )  # fmt: skip
    work = ROUTER.route([], [wanted, unwanted])
    assert [(name, delivery.row) for name, delivery in work.due] == [(toy.PACK, wanted.key)]
    assert work.unwanted == [unwanted]


def test_an_awaited_step_of_a_saga_for_others_is_left_out_and_of_a_later_version_of_ours_is_refused() -> None:
    """One service follows another one's step in one saga; that step may be in many sagas."""
    reaction = Reaction(on=StepAwaited, sagas=frozenset({("order", 1)}), apply=lambda _events, _tx: None)
    router = Router(toy.NAME, Handlers.of((*toy.handlers(toy.WellProvider()), reaction)), CODEC)
    assert router.route([raw(a(StepAwaited))]).deliveries
    assert not router.route([raw(a(StepAwaited, saga_type="collection"))])
    assert "none of this release" in reason(router.route([raw(a(StepAwaited, saga_version=99))]))
