"""Reads what the tracker itself has sent: which command, or which end, a message on its topics is. Pure.

Only a rebuild reads these topics. A message whose id is not the one that follows from its saga and its attempt was not
sent by a tracker.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from chassis.wire.codec import Codec
from chassis.wire.envelope import derived_id
from messages.contract import Message, name_of
from messages.saga import FenceSaga, RedriveStep
from saga_tracker.ingest.outgoing import END, END_TOPIC
from saga_tracker.ingest.records import Record
from saga_tracker.model.decision import REDRIVE, fence_key, redrive_key
from saga_tracker.model.saga import SERVICE, Definitions, SagaDefinition
from saga_tracker.store.timeline import Entry

COMMANDS_SUFFIX = ".commands"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEnd:
    """The cause, step and reason of a saga's last event that it failed with."""

    cause: str
    step: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """A command or a last event of the tracker, with its timeline entry.

    ``key`` identifies it among those of its saga, ``attempt`` is its number. A redrive of an unknown step has no key.
    """

    saga_id: str
    definition: SagaDefinition
    entry: Entry
    key: str | None
    attempt: int
    failed: FailedEnd | None
    occurred_at: datetime
    partition: int
    traceparent: str | None = None


def sent_topics(definitions: Definitions) -> list[str]:
    """Return the topics on which the tracker sends for these sagas."""
    return sorted({END_TOPIC, *(topic for definition in definitions.values() for topic in definition.command_topics)})


def decode_sent(record: Record, codec: Codec, definitions: Definitions) -> SentMessage | None:
    """Return what a message on the tracker's topics is; None for one that no tracker sent. Raises Undecodable."""
    message = codec.decode(record.raw.value)
    definition = definitions.get((message.saga_type, message.saga_version))
    if definition is None or record.raw.key != message.saga_id.encode():
        return None
    topic = record.raw.topic
    if topic == END_TOPIC:
        return _end(definition, message, record)
    service = topic.removesuffix(COMMANDS_SUFFIX)
    attempt = getattr(message, "attempt", 1)
    if isinstance(message, FenceSaga):
        return _sent(definition, message, record, fence_key(service), attempt, step=None)
    if isinstance(message, RedriveStep):
        return _redrive(definition, message, record, service)
    for step in definition.steps:
        if step.compensation is not None and isinstance(message, step.compensation.command):
            return _sent(definition, message, record, step.name, attempt, step=step.name)
    return None


def _end(definition: SagaDefinition, message: Message, record: Record) -> SentMessage | None:
    failed = None
    if isinstance(message, definition.failed_by):
        failed = FailedEnd(**{name: str(getattr(message, name)) for name in FailedEnd.__slots__})
    elif not isinstance(message, definition.completed_by):
        return None
    return _sent(definition, message, record, END, 1, step=None, failed=failed)


def _redrive(definition: SagaDefinition, message: RedriveStep, record: Record, service: str) -> SentMessage | None:
    if not message.step:
        if message.message_id != derived_id(message.saga_id, REDRIVE, service, message.attempt):
            return None
        return _sent(definition, message, record, None, message.attempt, step=None)
    key, attempts_max = redrive_key(message.step), definition.command_attempts_max
    first = (message.attempt - 1) * attempts_max + 1
    for attempt in range(first, first + attempts_max):
        if message.message_id == derived_id(message.saga_id, key, attempt):
            return _sent(definition, message, record, key, attempt, step=message.step)
    return None


def _sent(
    definition: SagaDefinition,
    message: Message,
    record: Record,
    key: str | None,
    attempt: int,
    *,
    step: str | None,
    failed: FailedEnd | None = None,
) -> SentMessage | None:
    is_end, topic = key == END, record.raw.topic
    own_id = derived_id(message.saga_id, END) if is_end else derived_id(message.saga_id, key or "", attempt)
    if key is not None and message.message_id != own_id:
        return None
    # A redrive's reason is that of the operator's act, which has an entry of its own.
    reason = None if isinstance(message, RedriveStep) else getattr(message, "reason", None)
    entry = Entry(
        saga_id=message.saga_id,
        message_id=message.message_id,
        occurred_at=message.occurred_at,
        kind="event" if is_end else "command",
        type=name_of(type(message)),
        service=SERVICE,
        step=step,
        attempt=None if is_end else attempt,
        causation_id=message.causation_id,
        detail=reason,
        topic=topic,
        partition=record.raw.partition,
    )
    return SentMessage(
        saga_id=message.saga_id,
        definition=definition,
        entry=entry,
        key=key,
        attempt=attempt,
        failed=failed,
        occurred_at=message.occurred_at,
        partition=record.raw.partition,
    )
