"""What the events of members' sagas have in common: whom they are about, and an amount. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from chassis.saga.triggers import SagaTrigger
from messages.contract import Envelope, Message
from messages.notifier import MemberNotified
from notifier.model.member_texts import Allocated, Money, Notice, NotifyMember

Trigger = TypeVar("Trigger", bound=Message)


class OfAmount(Protocol):
    """An event about an amount."""

    @property
    def currency(self) -> str: ...
    @property
    def amount_minor(self) -> int: ...


def money(event: OfAmount, amount_minor: int | None = None) -> Money:
    """Return the event's amount, or another one in its currency."""
    return Money(amount_minor=event.amount_minor if amount_minor is None else amount_minor, currency=event.currency)


def allocated(event: Any) -> Allocated:
    """Return what went where, and what is left of the loan."""
    balance = event.loan_balance_minor
    return Allocated(
        split=[(each.kind, money(event, each.allocated_minor)) for each in event.allocations],
        balance=None if balance is None else money(event, balance),
    )


def notifying(
    saga: str, *, on: type[Trigger], notice: Callable[[Trigger], Notice | None]
) -> SagaTrigger[Trigger, NotifyMember, int]:
    """Return the trigger of a saga whose member is notified of ``on``."""

    def requested(event: Trigger, step: str) -> NotifyMember:
        return NotifyMember(saga_id=event.saga_id, step=step, notice=notice(event))

    def published(event: Any, texts: int, envelope: Envelope) -> Message:
        return MemberNotified(**envelope, member_id=event.member_id, texts=texts)

    return SagaTrigger(
        saga=saga,
        versions=(1,),
        on=on,
        read=requested,
        publish=published,
        succeeds_with=MemberNotified,
        restore=lambda event: event.texts,
    )
