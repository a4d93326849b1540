"""What a service has published and read since a time, as Kafka has it. A reconciliation decides it again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from chassis.process.awaited_replay import AwaitedMessages, effect_of
from chassis.process.service import consumed_topics
from chassis.process.topic_reader import Reader
from chassis.saga.deferred import RawMessage
from chassis.saga.handlers import Handlers
from chassis.saga.triggers import StepKey
from chassis.wire.codec import Codec, Undecodable
from messages.contract import Message
from messages.saga import FenceSaga, RedriveStep, SagaFenced, StepAwaited, StepContradicted

READ_AHEAD_MAX = 5_000
"""Messages of one partition that a service may have read since it last committed its offsets: a second's, at most."""
LAG_MAX = timedelta(minutes=10)
"""What the service handled after TIME may be this much older. A service that lagged further needs an earlier TIME."""

Trigger: TypeAlias = tuple[str, type[Message]]
"""A saga's id and the type of the event that triggers a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedReply:
    """A reply that the service has published. ``cause`` is None where it is older than the messages that were read."""

    message: Message
    published_at_ms: int
    cause: RawMessage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The replies that a service has published, in that order, and what it had read.

    ``triggers`` are those of its steps by saga and type, ``closed`` the sagas with a command to fence or to compensate,
    ``fenced`` the steps that a fence names. ``contradictions`` are about evidence, by saga and effect.
    """

    replies: Sequence[PublishedReply] = ()
    triggers: Mapping[Trigger, RawMessage] = field(default_factory=dict)
    closed: Collection[str] = ()
    fenced: Collection[StepKey] = ()
    contradictions: Mapping[StepKey, Sequence[StepContradicted]] = field(default_factory=dict)

    @property
    def awaited(self) -> AwaitedMessages:
        """What of it is about awaited steps."""
        return AwaitedMessages(fenced=self.fenced, contradictions=self.contradictions, triggers=self.triggers)

    def may_be_called(self, committed: Mapping[tuple[str, int], int]) -> dict[Trigger, RawMessage]:
        """Return the triggers for which a call may have been made: those that the service had read.

        ``committed`` are its offsets by topic and partition. What it read after its last commit is not far beyond them.
        """
        return {
            key: raw
            for key, raw in self.triggers.items()
            if key[0] in self.closed or raw.offset < committed.get((raw.topic, raw.partition), 0) + READ_AHEAD_MAX
        }


def published_since(reader: Reader, service: str, handlers: Handlers, codec: Codec, since: datetime) -> Published:
    """Return what the service has published since then, and what it had read."""
    if not handlers.steps:
        return Published()
    wanted = {*handlers.answers, SagaFenced, *((StepAwaited, StepContradicted) if handlers.awaited else ())}
    own = reader.read(reader.offsets_at([f"{service}.events"], since))
    published = [(at_ms, message) for at_ms, raw in own if (message := _read(codec, raw, wanted)) is not None]
    consumed = reader.read(reader.offsets_at(consumed_topics(service, handlers), since - LAG_MAX))
    wanted = {*handlers.events, *handlers.commands}
    read = [(raw, message) for _, raw in consumed if (message := _read(codec, raw, wanted)) is not None]
    return published_of(handlers, published, read)


def published_of(
    handlers: Handlers, own: Iterable[tuple[int, Message]], read: Iterable[tuple[RawMessage, Message]]
) -> Published:
    """Return what a service with these handlers has published, each message with its time, and what it had read."""
    published: dict[str, tuple[int, Message]] = {}
    for at_ms, message in own:
        published.setdefault(message.message_id, (at_ms, message))
    contradictions: dict[StepKey, list[StepContradicted]] = {}
    for _, message in published.values():
        if isinstance(message, StepContradicted):
            contradictions.setdefault((message.saga_id, effect_of(message)), []).append(message)
    causes: dict[str, RawMessage] = {}
    triggers: dict[Trigger, RawMessage] = {}
    closed: set[str] = set()
    fenced: set[StepKey] = set()
    for raw, message in read:
        causes[message.message_id] = raw
        triggers[message.saga_id, type(message)] = raw
        if type(message) in handlers.commands and not isinstance(message, RedriveStep):
            closed.add(message.saga_id)
        if isinstance(message, FenceSaga):
            fenced |= {(message.saga_id, step) for step in message.steps}
    replies = [
        PublishedReply(message=message, published_at_ms=at_ms, cause=causes.get(message.causation_id or ""))
        for at_ms, message in sorted(published.values(), key=lambda pair: pair[0])
    ]
    return Published(replies=replies, triggers=triggers, closed=closed, fenced=fenced, contradictions=contradictions)


def _read(codec: Codec, raw: RawMessage, wanted: Collection[type[Message]]) -> Message | None:
    """Return the message if it is of a wanted type. What cannot be decoded has led to no reply either."""
    try:
        return codec.decode(raw.value) if codec.type_of(raw.value) in wanted else None
    except Undecodable:
        return None
