"""What a handler publishes besides its answers: on the partition of the message that led to it, at once."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from chassis.saga.deferred import RawMessage
from chassis.saga.effects import LoadedEffects
from chassis.saga.handlers import Handlers
from chassis.saga.unit_of_work import Delivery, UnitOfWork
from chassis.saga.waiting import WaitingMessages
from chassis.wire.codec import Codec
from chassis.wire.envelope import TRACEPARENT, header, headers, new_id, new_traceparent
from messages.ledger import PaymentCommitted
from messages.merchant import VoidRequested
from messages.notifier import MerchantEvent
from proof.schemas import LocalRegistry
from support.builders import a

CODEC = Codec(LocalRegistry())


def unit_of_work(service: str) -> UnitOfWork:
    return UnitOfWork(
        service, Handlers.of(()), CODEC, LoadedEffects(), WaitingMessages.of([]),
        now=datetime.now(UTC), new_id=new_id, jitter=random.Random(0),
    )  # fmt: skip


def delivery(partition: int) -> Delivery:
    message = a(PaymentCommitted, message_id=new_id())
    raw = RawMessage(
        topic="ledger.events",
        partition=partition,
        key=message.saga_id.encode(),
        value=CODEC.encode("ledger.events", message),
        headers=headers(message, source="ledger", traceparent=new_traceparent()),
    )
    return Delivery(message=message, raw=raw)


def trace_of(message_headers: object) -> bytes:
    found = header(message_headers, TRACEPARENT)  # type: ignore[arg-type]
    assert found is not None
    return found.split(b"-")[1]


def test_a_message_gets_the_partition_and_the_trace_of_its_own_cause() -> None:
    unit, group = unit_of_work("merchant"), [delivery(3), delivery(5)]
    unit.emit_besides([a(VoidRequested, causation_id=group[1].message.message_id)], group)
    (row,) = unit.out.rows
    assert (row.topic, row.partition) == ("merchant.events", 5)
    assert trace_of(row.headers) == trace_of(group[1].raw.headers)


def test_a_message_of_no_saga_is_on_its_own_topic_and_on_a_partition_of_the_batch() -> None:
    unit, group = unit_of_work("notifier"), [delivery(7)]
    unit.emit_besides([a(MerchantEvent, causation_id=None)], group)
    (row,) = unit.out.rows
    assert (row.topic, row.partition, row.cause) == ("notification.events", 7, None)
    assert trace_of(row.headers) != trace_of(group[0].raw.headers)
