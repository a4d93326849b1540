"""What a Kafka record says: the fact in it, and its line on the timeline. Pure but for the codec's schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

from chassis.saga import dead_letters
from chassis.saga.deferred import RawMessage
from chassis.wire.codec import Codec, Undecodable
from chassis.wire.envelope import ID, TRACEPARENT, derived_id, header
from messages.contract import Message, name_of
from messages.saga import CancelSaga, FenceSaga, RedriveStep, SagaFenced
from messages.saga import StepRedriven as StepRedrivenMessage

from saga_tracker.model.facts import (
    ANY_STEP,
    Cancelled,
    CommandDead,
    Compensated,
    Fact,
    Fenced,
    RedriveOutcome,
    Rejected,
    RetriesExhausted,
    Started,
    StepRedriven,
    StepState,
    Succeeded,
    Unreadable,
)
from saga_tracker.model.progress import fence_key, redrive_key
from saga_tracker.model.saga import CANCEL_TOPIC, SERVICE, Definitions, SagaDefinition, StepDefinition
from saga_tracker.store.consumed_offsets import TopicPartition
from saga_tracker.store.timeline import Entry

DEAD_LETTER_SUFFIX = ".dlq"
OWN_DEAD_LETTERS = f"{SERVICE}{DEAD_LETTER_SUFFIX}"
DETAIL_LENGTH_MAX = 500
"""A detail is one sentence for a person."""
SMALLINT_MAX = 32_767
TRACEPARENT_FORM = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Unexpected(Exception):
    """A message that can be decoded but says nothing to the tracker; it goes to the dead letters with this reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One message as Kafka gave it, with its place."""

    raw: RawMessage
    offset: int
    timestamp_s: float

    @property
    def place(self) -> TopicPartition:
        """Its topic and partition."""
        return self.raw.topic, self.raw.partition


@dataclass(slots=True, kw_only=True)
class Reading:
    """What a record says of a saga. ``definition`` is None where only the stored saga can tell which it follows.

    The fact of a ``dead_letter`` depends on the definition (:func:`fact_of_dead_letter`).
    """

    saga_id: str
    definition: SagaDefinition | None
    entry: Entry
    fact: Fact | None = None
    dead_letter: Letter | None = None
    subject: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What a dead letter says of itself. ``type`` is the message's full name, ``redrive`` how often it was redriven.

    ``command_attempt`` and ``command_step`` are those of a command of ours that could be decoded.
    """

    letter_id: str
    message_id: str
    service: str
    step: str | None
    type: str
    reason: str
    origin_topic: str
    redrive: int = 0
    command_attempt: int = 1
    command_step: str | None = None


def topics(definitions: Definitions) -> list[str]:
    """Return the topics that the tracker reads to follow these sagas."""
    found = {CANCEL_TOPIC, OWN_DEAD_LETTERS}
    for definition in definitions.values():
        found.update(definition.event_topics, definition.dead_letter_topics)
    return sorted(found)


def read(record: Record, codec: Codec, definitions: Definitions) -> Reading:
    """Return what the record says.

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
    if isinstance(message, SagaFenced | StepRedrivenMessage):
        return topic == f"{message.service}.events"
    return topic == f"{message.OWNER}.events"


def plain(text: str) -> str:
    """Return a text as PostgreSQL can hold it and a person wants to read it: no NUL, not endless."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")[:DETAIL_LENGTH_MAX]


def fact_of_dead_letter(definition: SagaDefinition, letter: Letter, *, step: str | None) -> Fact:
    """Return what a dead letter means for a saga: a dead command, a step given up, or something nobody can read.

    ``step`` is the one that :func:`step_of` tells.
    """
    reason = letter.reason or "no reason given"
    for each in definition.steps:
        if each.compensation is not None and letter.type == each.compensation.command.FULL_NAME:
            return CommandDead(command=each.name, reason=reason, attempt=letter.command_attempt)
    if letter.type == FenceSaga.FULL_NAME:
        return CommandDead(command=fence_key(letter.service), reason=reason, attempt=letter.command_attempt)
    if letter.type == RedriveStep.FULL_NAME and step is not None:
        first = (letter.command_attempt - 1) * definition.command_attempts_max + 1
        return CommandDead(command=redrive_key(step), reason=reason, attempt=first)
    if any(each.name == step == letter.step and letter.type == each.trigger.FULL_NAME for each in definition.steps):
        return RetriesExhausted(step=letter.step or "", reason=reason, redrive=letter.redrive)
    told = f"{letter.service}: {reason}"
    return Unreadable(step=step or ANY_STEP, reason=told, redrive=letter.redrive, letter=letter.letter_id)


def step_of(definition: SagaDefinition, letter: Letter) -> str | None:
    """Return the step that a dead letter was about; None where nobody can tell."""
    for step in definition.steps:
        if letter.type == RedriveStep.FULL_NAME and step.name == letter.command_step:
            return step.name
        if step.name == letter.step and letter.type == step.trigger.FULL_NAME:
            return step.name
        if step.compensation is not None and letter.type == step.compensation.command.FULL_NAME:
            return step.name
    meant = [
        step.name
        for step in definition.steps
        if step.service == letter.service and step.trigger_topic == letter.origin_topic
    ]
    return meant[0] if len(meant) == 1 else None


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

    succeeded = _successes(definition).get(type(message))
    if succeeded is not None:
        return succeeded, entry("event", succeeded.step)
    if isinstance(message, definition.started_by):
        return Started(at=message.occurred_at), entry("event")
    if isinstance(message, SagaFenced):
        return _read_fenced(definition, message, entry("reply"))
    if isinstance(message, StepRedrivenMessage):
        return _read_step_redriven(definition, message, entry("reply", message.step or None, message.outcome))
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


@cache
def _successes(definition: SagaDefinition) -> Mapping[type[Message], Succeeded]:
    """Most messages are successes; each step's says the same of every saga."""
    return {step.succeeds_with: Succeeded(step=step.name) for step in definition.steps}


def _fact_of_step(step: StepDefinition, message: Message) -> Fact | None:
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


def _read_step_redriven(definition: SagaDefinition, message: StepRedrivenMessage, entry: Entry) -> tuple[Fact, Entry]:
    if message.step and message.step not in definition.steps_of(message.service):
        raise Unexpected(f"A redrive's answer tells of {message.step!r}; that is no step of {message.service!r}.")
    try:
        outcome = RedriveOutcome(message.outcome)
    except ValueError as error:
        raise Unexpected(f"A redrive's answer has an outcome that is none: {error}.") from error
    fact = StepRedriven(step=message.step or ANY_STEP, number=message.attempt, outcome=outcome)
    return fact, replace(entry, service=message.service)


def _read_dead_letter(record: Record, codec: Codec, definitions: Definitions) -> Reading:
    raw = record.raw
    letter = dead_letters.read(raw.headers)
    message: Message | None = None
    with suppress(Undecodable):  # What cannot be decoded belongs to the stored saga, which knows what it follows.
        message = codec.decode(raw.value)
    definition = None if message is None else definitions.get((message.saga_type, message.saga_version))
    original = _text_header(raw, "ce_id") or f"{raw.partition}:{record.offset}"
    redrive = min(letter.redrive, SMALLINT_MAX)
    generation = (redrive,) if redrive else ()
    letter_id = derived_id("dead letter", raw.topic, letter.service, original, letter.attempts, *generation)
    entry = Entry(
        saga_id=plain((raw.key or b"").decode("utf-8", "backslashreplace")),
        message_id=letter_id,
        occurred_at=datetime.fromtimestamp(record.timestamp_s, UTC),
        kind="dead_letter",
        type=plain(_type_name(raw).rpartition(".")[2] or "unknown"),
        service=plain(letter.service) or "unknown",
        step=None if letter.step is None else plain(letter.step),
        attempt=min(letter.attempts, SMALLINT_MAX),
        causation_id=message.message_id if message is not None and ID.fullmatch(message.message_id) else None,
        detail=plain(f"{letter.reason}: {letter.detail}" if letter.detail else letter.reason),
        topic=raw.topic,
        partition=raw.partition,
        offset=record.offset,
    )
    return Reading(
        saga_id=entry.saga_id,
        definition=definition if ID.fullmatch(entry.saga_id) else None,
        entry=entry,
        dead_letter=Letter(
            letter_id=letter_id,
            message_id=plain(original),
            service=entry.service,
            step=entry.step,
            type=plain(_type_name(raw)),
            reason=plain(letter.reason),
            origin_topic=plain(_text_header(raw, "baraza_topic")),
            redrive=redrive,
            command_attempt=min(max(1, getattr(message, "attempt", 1)), SMALLINT_MAX),
            command_step=getattr(message, "step", None),
        ),
        traceparent=_traceparent(raw),
    )


def _traceparent(raw: RawMessage) -> str | None:
    text = _text_header(raw, TRACEPARENT)
    return text if TRACEPARENT_FORM.fullmatch(text) else None


def _type_name(raw: RawMessage) -> str:
    return _text_header(raw, "ce_type")


def _text_header(raw: RawMessage, name: str) -> str:
    return (header(raw.headers, name) or b"").decode("utf-8", "replace")
