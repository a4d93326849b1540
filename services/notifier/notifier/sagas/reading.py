"""What the events of merchants' sagas have in common: a payment of a merchant in a mode. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from chassis.saga.triggers import SagaTrigger
from messages.contract import Envelope, Message
from notifier.domain import EventType, MerchantNotice, NotifyMerchant, Value, event_id_of

Trigger = TypeVar("Trigger", bound=Message)


class OfPayment(Protocol):
    """An event about a merchant's payment."""

    @property
    def payment_id(self) -> int: ...
    @property
    def merchant_id(self) -> str: ...
    @property
    def is_live(self) -> bool: ...


def identified(event: OfPayment, **more: Value) -> dict[str, Value]:
    """Return the data of every notice: the payment's id as a text, since JSON numbers lose its last digits."""
    return {"payment_id": str(event.payment_id), "is_live": event.is_live, **more}


def notifying(
    saga: str,
    *,
    on: type[Trigger],
    type_of: Callable[[Trigger], EventType],
    data: Callable[[Trigger], dict[str, Value]],
    succeeds_with: type[Message],
) -> SagaTrigger[Trigger, NotifyMerchant, int]:
    """Return the trigger of a saga whose merchant is notified of ``on``."""

    def requested(event: Any, step: str) -> NotifyMerchant:
        notice = _notice(event, type_of(event), data(event))
        return NotifyMerchant(saga_id=event.saga_id, step=step, notice=notice)

    def published(event: Any, deliveries: int, envelope: Envelope) -> Message:
        return succeeds_with.from_record(
            {
                **envelope,
                "payment_id": event.payment_id,
                "merchant_id": event.merchant_id,
                "is_live": event.is_live,
                "deliveries": deliveries,
            }
        )

    return SagaTrigger(
        saga=saga,
        versions=(1,),
        on=on,
        read=requested,
        publish=published,
        succeeds_with=succeeds_with,
        restore=lambda event: event.deliveries,
    )


def _notice(event: Any, event_type: EventType, data: dict[str, Value]) -> MerchantNotice:
    return MerchantNotice(
        event_id=event_id_of(event.saga_id, event_type),
        type=event_type,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        occurred_at=event.occurred_at,
        data=identified(event, **data),
        payment_id=event.payment_id,
        saga_id=event.saga_id,
    )
