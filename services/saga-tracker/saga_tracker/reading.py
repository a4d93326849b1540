"""What a Kafka record says: the fact in it, and its line on the timeline. Pure but for the codec's schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from messages.contract import Message, name_of
from messages.saga import CancelSaga, FenceSaga, SagaFenced, StepRedriven
from messaging.codec import Codec, Undecodable
from messaging.deferred import RawMessage
from messaging.envelope import ID, TRACEPARENT, derived_id, header

from messaging import dead_letters
from saga_tracker.facts import (
    ANY_STEP,
    Cancelled,
    CommandDead,
    Compensated,
    Fact,
    Fenced,
    Rejected,
    RetriesExhausted,
    Started,
    StepState,
    Succeeded,
    Unreadable,
)
from saga_tracker.progress import fence_key
from saga_tracker.saga import SagaDefinition, StepDefinition
from saga_tracker.tables import Entry, Place

SERVICE = "saga-tracker"
CANCEL_TOPIC = "saga.commands"
DEAD_LETTER_SUFFIX = ".dlq"
OWN_DEAD_LETTERS = f"{SERVICE}{DEAD_LETTER_SUFFIX}"
DETAIL_LENGTH_MAX = 500
"""A detail is one sentence for a person."""
TRACEPARENT_FORM = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

Definitions = Mapping[tuple[str, int], SagaDefinition]


class Unexpected(Exception):
    """A message that can be decoded but says nothing to the tracker; it goes to the dead letters with this reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One message as Kafka gave it, with its place."""

    raw: RawMessage
    offset: int
    timestamp_s: float

    @property
    def place(self) -> Place:
        """Its topic and partition."""
        return self.raw.topic, self.raw.partition


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a record says of a saga. ``definition`` is None where only the stored saga can tell which it follows.

    ``dead_letter`` holds the bytes of a dead letter; its fact depends on the definition (:func:`fact_of_dead_letter`).
    """

    saga_id: str
    definition: SagaDefinition | None
    entry: Entry
    fact: Fact | None = None
    dead_letter: RawMessage | None = None
    subject: str | None = None
    traceparent: str | None = None


def topics(definitions: Definitions) -> list[str]:
    """Return the topics that the tracker reads to follow these sagas."""
    found = {CANCEL_TOPIC, OWN_DEAD_LETTERS}
    for definition in definitions.values():
        found.update(definition.event_topics, definition.dead_letter_topics)
    return sorted(found)


def read(record: Record, codec: Codec, definitions: Definitions) -> Reading | None:
    """Return what the record says; None for a dead letter whose key names no saga, which nobody could look for.

    Raises Undecodable or Unexpected, saying why, for what belongs in the dead letters.
    """
    if record.raw.topic.endswith(DEAD_LETTER_SUFFIX):
        return _read_dead_letter(record, codec, definitions)
    message = codec.decode(record.raw.value)
    if record.raw.key != message.saga_id.encode():
        raise Unexpected(f"The key is not the saga id {message.saga_id!r}; publish with the saga id as the key.")
    if not (ID.fullmatch(message.saga_id) and ID.fullmatch(message.message_id)):
        raise Unexpected("Its saga id or its message id is not an id of ours; ids are ULIDs.")
    if message.causation_id is not None and not ID.fullmatch(message.causation_id):
        raise Unexpected("The id of its cause is not an id of ours; ids are ULIDs.")
    if not _belongs_on(record.raw.topic, message):
        raise Unexpected(f"{name_of(type(message))} came on {record.raw.topic}, where it does not belong.")
    definition = definitions.get((message.saga_type, message.saga_version))
    if definition is None:
        raise Unexpected(f"No saga {message.saga_type!r} version {message.saga_version} in this release.")
    fact, entry = _read_message(definition, message, record)
    subject = getattr(message, definition.subject) if isinstance(fact, Started) else None
    return Reading(
        saga_id=message.saga_id,
        definition=definition,
        entry=entry,
        fact=fact,
        subject=None if subject is None else plain(str(subject)),
        traceparent=_traceparent(record.raw),
    )


def _belongs_on(topic: str, message: Message) -> bool:
    if isinstance(message, CancelSaga):
        return topic == CANCEL_TOPIC
    if isinstance(message, SagaFenced | StepRedriven):
        return topic == f"{message.service}.events"
    return topic == f"{message.OWNER}.events"


def plain(text: str) -> str:
    """Return a text as PostgreSQL can hold it and a person wants to read it: no NUL, not endless."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")[:DETAIL_LENGTH_MAX]


def fact_of_dead_letter(definition: SagaDefinition, raw: RawMessage) -> Fact:
    """Return what a dead letter means for a saga: a dead command, a step given up, or something nobody can read."""
    letter = dead_letters.read(raw.headers)
    type_name = _type_name(raw)
    reason = plain(letter.reason) or "no reason given"
    if type_name == FenceSaga.FULL_NAME:
        return CommandDead(command=fence_key(letter.service), reason=reason)
    for step in definition.steps:
        if step.compensation is not None and type_name == step.compensation.command.FULL_NAME:
            return CommandDead(command=step.name, reason=reason)
        if step.name == letter.step and type_name == step.trigger.FULL_NAME:
            return RetriesExhausted(step=step.name, reason=reason)
    origin = _text_header(raw, "baraza_topic")
    meant = [each.name for each in definition.steps if each.service == letter.service and each.trigger_topic == origin]
    return Unreadable(step=meant[0] if len(meant) == 1 else ANY_STEP, reason=f"{letter.service}: {reason}")


def _read_message(definition: SagaDefinition, message: Message, record: Record) -> tuple[Fact, Entry]:
    def entry(kind: str, step: str | None = None, detail: str | None = None) -> Entry:
        return Entry(
            saga_id=message.saga_id,
            message_id=message.message_id,
            occurred_at=message.occurred_at,
            kind=kind,
            type=name_of(type(message)),
            service=message.OWNER,
            step=step,
            causation_id=message.causation_id,
            detail=None if detail is None else plain(detail),
            topic=record.raw.topic,
            partition=record.raw.partition,
            offset=record.offset,
        )

    if isinstance(message, definition.started_by):
        return Started(at=message.occurred_at), entry("event")
    if isinstance(message, SagaFenced):
        return _read_fenced(definition, message, entry("reply"))
    if isinstance(message, CancelSaga):
        by, reason = plain(message.actor), plain(message.reason)
        act = entry("act", detail=f"{by}: {reason}")
        return Cancelled(at=message.occurred_at, by=by, reason=reason), act
    if isinstance(message, definition.cancelled_by):
        reason = plain(str(getattr(message, "reason", "")))
        return Cancelled(at=message.occurred_at, by="customer", reason=reason), entry("act", detail=reason)
    for step in definition.steps:
        fact = _fact_of_step(step, message)
        if fact is not None:
            kind = "reply" if isinstance(fact, Compensated) else "event"
            return fact, entry(kind, step.name, _detail_of(message, fact))
    raise Unexpected(f"{name_of(type(message))} is no message of {definition.name} version {definition.version}.")


def _fact_of_step(step: StepDefinition, message: Message) -> Fact | None:
    if isinstance(message, step.succeeds_with):
        return Succeeded(step=step.name)
    if step.rejected_with is not None and isinstance(message, step.rejected_with):
        return Rejected(step=step.name, reason=plain(str(getattr(message, "reason", ""))))
    if step.compensation is not None and isinstance(message, step.compensation.reply):
        return Compensated(step=step.name)
    return None


def _detail_of(message: Message, fact: Fact) -> str | None:
    if isinstance(fact, Rejected):
        return f"{fact.reason}: {getattr(message, 'detail', '')}".rstrip(": ")
    if isinstance(fact, Compensated):
        return None if getattr(message, "undone", True) else "there was nothing to undo"
    return None


def _read_fenced(definition: SagaDefinition, message: SagaFenced, entry: Entry) -> tuple[Fact, Entry]:
    told = sorted(each.step for each in message.steps)
    if told != sorted(definition.steps_of(message.service)):
        # One that it leaves out would count as never run, and its effect would stay.
        raise Unexpected(f"A fence's answer tells of {told}; those are not the steps of {message.service!r}.")
    try:
        states = tuple((each.step, StepState(each.state)) for each in message.steps)
    except ValueError as error:
        raise Unexpected(f"A fence's answer has a state that is none: {error}.") from error
    detail = ", ".join(f"{step} {state}" for step, state in states)
    return Fenced(service=message.service, states=states), replace(entry, service=message.service, detail=detail)


def _read_dead_letter(record: Record, codec: Codec, definitions: Definitions) -> Reading | None:
    raw = record.raw
    saga_id = (raw.key or b"").decode("utf-8", "replace")
    if not ID.fullmatch(saga_id):
        return None
    letter = dead_letters.read(raw.headers)
    definition: SagaDefinition | None = None
    causation_id: str | None = None
    try:
        message = codec.decode(raw.value)
        definition = definitions.get((message.saga_type, message.saga_version))
        causation_id = message.message_id if ID.fullmatch(message.message_id) else None
    except Undecodable:
        pass  # What could not be decoded there cannot be decoded here; the stored saga knows what it follows.
    original = _text_header(raw, "ce_id") or f"{raw.partition}:{record.offset}"
    entry = Entry(
        saga_id=saga_id,
        message_id=derived_id("dead letter", raw.topic, letter.service, original, letter.attempts),
        occurred_at=datetime.fromtimestamp(record.timestamp_s, UTC),
        kind="dead_letter",
        type=plain(_type_name(raw).rpartition(".")[2] or "unknown"),
        service=plain(letter.service) or "unknown",
        step=None if letter.step is None else plain(letter.step),
        attempt=min(letter.attempts, 32_767),
        causation_id=causation_id,
        detail=plain(letter.reason),
        topic=raw.topic,
        partition=raw.partition,
        offset=record.offset,
    )
    return Reading(
        saga_id=saga_id,
        definition=definition,
        entry=entry,
        dead_letter=raw,
        traceparent=_traceparent(raw),
    )


def _traceparent(raw: RawMessage) -> str | None:
    text = _text_header(raw, TRACEPARENT)
    return text if TRACEPARENT_FORM.fullmatch(text) else None


def _type_name(raw: RawMessage) -> str:
    return _text_header(raw, "ce_type")


def _text_header(raw: RawMessage, name: str) -> str:
    return (header(raw.headers, name) or b"").decode("utf-8", "replace")
