"""The steps of a payout, as sagas of merchants and members will declare them: a hold with an end, its post, its void.

Their messages are those of the order saga, which fit; only their places in a saga are others.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chassis.saga.handlers import Handlers
from chassis.saga.steps import Step
from ledger.domain import transfer_trigger
from ledger.model.charts import SACCO
from ledger.model.transfers import Entry, Transfer, TransferKind, reference_of
from ledger.steps import booking
from ledger.store.expiry import ExpiredHolds
from messages.contract import Envelope, Message
from messages.inventory import InventoryReserved
from messages.loyalty import LoyaltyPointsBurned
from messages.payment import PaymentAuthorized, PaymentCaptureFailed, PaymentDeclined
from messages.shipping import ShipmentBooked, ShipmentRejected
from support.builders import a
from support.ledger_steps import handle
from support.ledgers import LedgerUnderTest, member, reference

AMOUNTS = {"amount": 5_000, "fee": 50, "excise": 8}
HELD = sum(AMOUNTS.values())
LIVES = timedelta(hours=1)


def payout(event: PaymentAuthorized) -> Transfer:
    """Hold a payout and its fees, by the SACCO's chart. ``customer_id`` is the member."""
    owners = {"fosa": event.customer_id, "payout_in_transit": event.saga_id}
    return Transfer(
        reference="",
        kind=TransferKind.HOLD,
        entries=SACCO.entries("payout", AMOUNTS, "KES", owners),
        expires_at=event.occurred_at + LIVES,
    )


def paid(event: InventoryReserved) -> Transfer:
    """Post the payout without its fees, which is less than is held; the rest is released."""
    fosa, transit = member(event.customer_id), SACCO.path("payout_in_transit", "KES", event.saga_id)
    amount = AMOUNTS["amount"]
    entries = Entry(fosa, amount, "KES"), Entry(transit, -amount, "KES")
    return Transfer(reference="", kind=TransferKind.POST, of=reference_of(event.saga_id, "hold"), entries=entries)


def released(event: LoyaltyPointsBurned) -> Transfer:
    return Transfer(reference="", kind=TransferKind.VOID, of=reference_of(event.saga_id, "hold"))


def answer(message_type: type[Message]) -> Any:
    """Return a function that answers with a message of this type."""

    def answered(event: Message, envelope: Envelope) -> Message:
        return a(message_type, **envelope)

    return answered


def step(
    name: str,
    on: type[Message],
    transfer: Callable[[Any], Transfer],
    succeeds_with: type[Message],
    rejected_with: type[Message],
) -> Step[Any, Any]:
    """Return a step of a payout, in the saga that has these messages."""
    trigger = transfer_trigger(
        saga="order", versions=(1,), on=on, transfer=transfer, succeeded=answer(succeeds_with),
        succeeds_with=succeeds_with, rejected_with=rejected_with,
    )  # fmt: skip
    return booking(name, triggers=(trigger,))


STEPS = Handlers.of(
    (
        step("hold", PaymentAuthorized, payout, InventoryReserved, PaymentDeclined),
        step("post", InventoryReserved, paid, LoyaltyPointsBurned, PaymentCaptureFailed),
        step("release", LoyaltyPointsBurned, released, ShipmentBooked, ShipmentRejected),
    )
)


@pytest.fixture
def owner(ledger: LedgerUnderTest) -> str:
    """A member with enough for one payout."""
    name = reference()
    ledger.fund(member(name), HELD)
    return name


def request(owner: str, **fields: Any) -> PaymentAuthorized:
    return a(PaymentAuthorized, customer_id=owner, **fields)


def of(event: Message, message_type: type[Message], owner: str) -> Message:
    return a(message_type, saga_id=event.saga_id, customer_id=owner)


def types(messages: list[Message]) -> list[type[Message]]:
    return [type(each) for each in messages]


def test_a_payout_is_held_posted_for_less_and_the_rest_is_released(ledger: LedgerUnderTest, owner: str) -> None:
    event = request(owner)
    assert types(handle(ledger, event, handlers=STEPS)) == [InventoryReserved]
    assert ledger.totals()[member(owner)] == (0, HELD, HELD, 0)
    assert types(handle(ledger, of(event, InventoryReserved, owner), handlers=STEPS)) == [LoyaltyPointsBurned]
    assert ledger.totals()[member(owner)] == (AMOUNTS["amount"], HELD, 0, 0)


def test_a_second_payout_of_what_is_held_is_rejected(ledger: LedgerUnderTest, owner: str) -> None:
    (held, rejected) = handle(ledger, request(owner), request(owner), handlers=STEPS)
    assert isinstance(held, InventoryReserved)
    assert isinstance(rejected, PaymentDeclined)
    assert rejected.reason == "insufficient_funds"


def test_a_payout_that_fails_is_released_by_a_step(ledger: LedgerUnderTest, owner: str) -> None:
    event = request(owner)
    handle(ledger, event, handlers=STEPS)
    assert types(handle(ledger, of(event, LoyaltyPointsBurned, owner), handlers=STEPS)) == [ShipmentBooked]
    assert ledger.totals()[member(owner)] == (0, HELD, 0, 0)


def test_a_payout_whose_hold_would_have_ended_already_is_rejected(ledger: LedgerUnderTest, owner: str) -> None:
    (rejected,) = handle(ledger, request(owner, occurred_at=datetime.now(UTC) - LIVES), handlers=STEPS)
    assert isinstance(rejected, PaymentDeclined)
    assert rejected.reason == "hold_expired"
    assert ledger.totals()[member(owner)] == (0, HELD, 0, 0)


def test_the_end_of_a_hold_is_a_rejection_of_its_post_before_and_after_it_is_voided(
    ledger: LedgerUnderTest, owner: str
) -> None:
    event = request(owner)
    handle(ledger, event, handlers=STEPS)
    (expired,) = handle(ledger, of(event, InventoryReserved, owner), handlers=STEPS, after=LIVES)
    assert isinstance(expired, PaymentCaptureFailed)
    assert expired.reason == "hold_expired"
    with ledger.engine.begin() as tx:
        ExpiredHolds().void(tx, now=datetime.now(UTC) + LIVES)
    (resolved,) = handle(ledger, of(event, LoyaltyPointsBurned, owner), handlers=STEPS)
    assert isinstance(resolved, ShipmentRejected)
    assert resolved.reason == "hold_resolved"
    assert ledger.totals()[member(owner)] == (0, HELD, 0, 0)
