"""The messages of merchants' events, for those who prefer Kafka to webhooks."""

from __future__ import annotations

from typing import Final

from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from chassis.wire.envelope import headers, new_traceparent
from messages.contract import name_of
from messages.notifier import MerchantEvent
from notifier.domain import MerchantNotice

TOPIC: Final = "notification.events"
SOURCE: Final = "notifier"
PARTITION: Final = 0
"""Of what no message has led to: the worker that owns it publishes the row within a quarter of a minute."""


def event_of(notice: MerchantNotice) -> MerchantEvent:
    """Return the message of an event of a merchant."""
    return MerchantEvent(
        message_id=notice.event_id,
        saga_id=notice.merchant_id,
        saga_type="notification",
        saga_version=1,
        causation_id=None,
        occurred_at=notice.occurred_at,
        merchant_id=notice.merchant_id,
        is_live=notice.is_live,
        type=notice.type.value,
        payload=notice.body,
    )


def row_of(event: MerchantEvent, codec: Codec) -> OutboxRow:
    """Return the outbox row of an event that no message has led to, in a trace of its own."""
    return OutboxRow(
        id=event.message_id,
        topic=TOPIC,
        saga_id=event.saga_id,
        type=name_of(MerchantEvent),
        payload=codec.encode(TOPIC, event),
        headers=headers(event, source=SOURCE, traceparent=new_traceparent()),
        partition=PARTITION,
    )
