"""The outbox rows of what the ledger publishes without a message that caused it: closed days, approved postings."""

from __future__ import annotations

from typing import Final

from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from chassis.wire.envelope import headers, new_traceparent
from messages.contract import Message, name_of

DAYS: Final = "ledger.days"
EVENTS: Final = "ledger.events"
SOURCE: Final = "ledger"
PARTITION: Final = 0
"""The worker that owns it publishes the row, as one that was left over, within a quarter of a minute. Everything that
follows from it has its number."""


def row_of(event: Message, topic: str, codec: Codec) -> OutboxRow:
    """Return the outbox row that publishes an event, in a trace of its own."""
    return OutboxRow(
        id=event.message_id,
        topic=topic,
        saga_id=event.saga_id,
        type=name_of(type(event)),
        payload=codec.encode(topic, event),
        headers=headers(event, source=SOURCE, traceparent=new_traceparent()),
        partition=PARTITION,
    )
