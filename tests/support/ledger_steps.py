"""The ledger's handlers in transactions of the chassis, without Kafka."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import ledger.handlers
from chassis.saga.batch import Batch
from chassis.saga.deferred import RawMessage
from chassis.saga.handlers import Handlers
from chassis.saga.routing import Work
from chassis.saga.unit_of_work import Delivery
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from proof.schemas import LocalRegistry
from support.ledgers import LedgerUnderTest

HANDLERS = Handlers.of(ledger.handlers.HANDLERS)


class Crash(Exception):
    """Ends a transaction before its commit."""


def handle(
    under_test: LedgerUnderTest,
    *messages: Message,
    crash: bool = False,
    handlers: Handlers = HANDLERS,
    after: timedelta = timedelta(),
) -> list[Message]:
    """Handle messages in one transaction, and return what it publishes. With ``crash`` it raises Crash instead.

    ``after``: so much later than now, by the ledger's own clock.
    """
    pairs = []
    for message in messages:
        topic = f"ledger.{'commands' if type(message) in handlers.commands else 'events'}"
        raw = RawMessage(topic=topic, partition=0, key=message.saga_id.encode(), value=b"", headers=())
        pairs += [(name, Delivery(message=message, raw=raw)) for name in handlers.handling(message)]
    work = Work(deliveries=pairs)
    codec = Codec(LocalRegistry())
    with under_test.engine.begin() as tx:
        batch = Batch(
            tx, "ledger", handlers, codec, work.saga_ids,
            now=datetime.now(UTC) + after, new_id=new_id, jitter=random.Random(0),
        )  # fmt: skip
        batch.handle(work)
        out = batch.finish().rows
        if crash:
            raise Crash
        return [codec.decode(row.payload) for row in out]


def only(under_test: LedgerUnderTest, message: Message) -> Any:
    """Return the one message that this one is answered with."""
    (answer,) = handle(under_test, message)
    return answer
