"""Decodes a Kafka record: the fact in it, and its entry on the timeline. Pure but for the codec's schemas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, partial
from typing import TypeAlias

from chassis.wire.codec import Codec
from chassis.wire.envelope import ID
from messages.contract import Message, name_of
from messages.saga import CancelSaga, SagaFenced, StepAwaited, StepContradicted
from messages.saga import StepRedriven as StepRedrivenMessage
from saga_tracker.ingest.awaited_decoding import interpret_awaited
from saga_tracker.ingest.dead_letter_decoding import DecodedDeadLetter, decode_dead_letter
from saga_tracker.ingest.decisions import OWN_DECISIONS, InvalidDecision, OwnDecision, check_id, entry_of, fact_of
from saga_tracker.ingest.records import Record, Unexpected, plain, traceparent_of
from saga_tracker.model.facts import (
    UNKNOWN_STEP,
    Cancelled,
    Compensated,
    Fact,
    Fenced,
    RedriveOutcome,
    Rejected,
    Started,
    StepRedriven,
    StepState,
    Succeeded,
)
from saga_tracker.model.references import Reference, references_of
from saga_tracker.model.saga import (
    CANCEL_TOPIC,
    DECISIONS_TOPIC,
    SERVICE,
    Definitions,
    SagaDefinition,
    StepDefinition,
)
from saga_tracker.store.timeline import Entry

DEAD_LETTER_SUFFIX = ".dlq"
OWN_DEAD_LETTERS = f"{SERVICE}{DEAD_LETTER_SUFFIX}"


@dataclass(slots=True, kw_only=True)
class DecodedMessage:
    """A message with its fact and its timeline entry."""

    saga_id: str
    definition: SagaDefinition
    entry: Entry
    fact: Fact
    subject: str | None
    references: tuple[Reference, ...]
    traceparent: str | None

    @property
    def partition(self) -> int:
        """The partition of its saga on every topic."""
        return self.entry.partition or 0

    @property
    def occurred_at(self) -> datetime:
        """When it happened; a saga begins then of which this is the first message."""
        return self.entry.occurred_at


@dataclass(slots=True, kw_only=True)
class DecodedDecision:
    """A decision of the tracker itself that was read back. ``fact`` is None where it changes nothing that is known.

    ``entry`` is its timeline entry, or for a cancellation None: its request has one.
    """

    saga_id: str
    definition: SagaDefinition
    message: OwnDecision
    fact: Fact | None
    entry: Entry | None
    occurred_at: datetime
    partition: int
    traceparent: str | None


DecodedRecord: TypeAlias = DecodedMessage | DecodedDecision | DecodedDeadLetter


def topics(definitions: Definitions) -> list[str]:
    """Return the topics that the tracker consumes for these sagas."""
    found = {CANCEL_TOPIC, DECISIONS_TOPIC, OWN_DEAD_LETTERS}
    for definition in definitions.values():
        found.update(definition.event_topics, definition.dead_letter_topics)
    return sorted(found)


def decode(record: Record, codec: Codec, definitions: Definitions, reference_key: bytes | None = None) -> DecodedRecord:
    """Decode a record. Raises Undecodable or Unexpected, with the reason, for what must be dead-lettered.

    ``reference_key`` hashes personal references. Without it there are none.
    """
    if record.raw.topic.endswith(DEAD_LETTER_SUFFIX):
        return decode_dead_letter(record, codec, definitions)
    message = codec.decode(record.raw.value)
    if record.raw.key != message.saga_id.encode():
        raise Unexpected(f"The key is not the saga id {message.saga_id!r}; publish with the saga id as the key.")
    if not (ID.fullmatch(message.saga_id) and ID.fullmatch(message.message_id)):
        raise Unexpected("The saga id or the message id is not a ULID; every id must be one.")
    if message.causation_id is not None and not ID.fullmatch(message.causation_id):
        raise Unexpected("The causation id is not a ULID; every id must be one.")
    if not _belongs_on(record.raw.topic, message):
        raise Unexpected(f"{name_of(type(message))} came on {record.raw.topic}, where it does not belong.")
    definition = definitions.get((message.saga_type, message.saga_version))
    if definition is None:
        raise Unexpected(f"No saga {message.saga_type!r} version {message.saga_version} in this release.")
    if isinstance(message, OWN_DECISIONS):
        return _decode_decision(definition, message, record)
    fact, entry = _interpret(definition, message, record)
    about = definition.subject if isinstance(fact, Started) else None
    subject = None if about is None else getattr(message, about.field)
    return DecodedMessage(
        saga_id=message.saga_id,
        definition=definition,
        entry=entry,
        fact=fact,
        subject=None if subject is None else plain(str(subject)),
        references=tuple(references_of(definition, message, reference_key)),
        traceparent=traceparent_of(record.raw),
    )


def _decode_decision(definition: SagaDefinition, message: OwnDecision, record: Record) -> DecodedDecision:
    partition = record.raw.partition
    try:
        check_id(message)
        fact, entry = fact_of(message), entry_of(message, partition)
    except InvalidDecision as error:
        raise Unexpected(str(error)) from error
    return DecodedDecision(
        saga_id=message.saga_id,
        definition=definition,
        message=message,
        fact=fact,
        entry=entry,
        occurred_at=message.occurred_at,
        partition=partition,
        traceparent=traceparent_of(record.raw),
    )


def _belongs_on(topic: str, message: Message) -> bool:
    if isinstance(message, CancelSaga):
        return topic == CANCEL_TOPIC
    if isinstance(message, OWN_DECISIONS):
        return topic == DECISIONS_TOPIC
    if isinstance(message, SagaFenced | StepRedrivenMessage | StepAwaited | StepContradicted):
        return topic == f"{message.service}.events"
    return topic == f"{message.OWNER}.events"


def _entry(message: Message, record: Record, kind: str, step: str | None = None, detail: str | None = None) -> Entry:
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


def _interpret(definition: SagaDefinition, message: Message, record: Record) -> tuple[Fact, Entry]:
    entry = partial(_entry, message, record)
    succeeded = _successes(definition).get(type(message))
    if succeeded is not None:
        return succeeded, entry("event", succeeded.step)
    if isinstance(message, definition.started_by):
        return Started(at=message.occurred_at), entry("event")
    if isinstance(message, SagaFenced):
        return _interpret_fenced(definition, message, entry("reply"))
    if isinstance(message, StepRedrivenMessage):
        return _interpret_redriven(definition, message, entry("reply", message.step or None, message.outcome))
    if isinstance(message, StepAwaited | StepContradicted):
        return interpret_awaited(definition, message, entry("event", message.step))
    if isinstance(message, CancelSaga):
        by, reason = plain(message.actor), plain(message.reason)
        act = entry("act", detail=f"{by}: {reason}")
        return Cancelled(at=message.occurred_at, by=by, reason=reason), act
    canceller = definition.cancelled_by.get(type(message))
    if canceller is not None:
        reason = plain(str(getattr(message, "reason", "")))
        return Cancelled(at=message.occurred_at, by=canceller, reason=reason), entry("act", detail=reason)
    for step in definition.steps:
        fact = _fact_of_step(step, message)
        if fact is not None:
            kind = "reply" if isinstance(fact, Compensated) else "event"
            return fact, entry(kind, step.name, _detail_of(message, fact))
    raise Unexpected(f"{name_of(type(message))} is no message of {definition.name} version {definition.version}.")


@cache
def _successes(definition: SagaDefinition) -> Mapping[type[Message], Succeeded]:
    """Return the fact of each step's success. Most messages are successes, and the fact is the same for every saga."""
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


def _interpret_fenced(definition: SagaDefinition, message: SagaFenced, entry: Entry) -> tuple[Fact, Entry]:
    steps = sorted(each.step for each in message.steps)
    if steps != sorted(definition.fenced_steps_of(message.service)):
        # A step that is missing here would count as never run, and its effect would stay.
        raise Unexpected(f"SagaFenced lists the steps {steps}; those are not the steps of {message.service!r}.")
    try:
        states = tuple((each.step, StepState(each.state)) for each in message.steps)
    except ValueError as error:
        raise Unexpected(f"SagaFenced has a state that does not exist: {error}.") from error
    detail = ", ".join(f"{step} {state}" for step, state in states)
    return Fenced(service=message.service, states=states), replace(entry, service=message.service, detail=detail)


def _interpret_redriven(definition: SagaDefinition, message: StepRedrivenMessage, entry: Entry) -> tuple[Fact, Entry]:
    if message.step and message.step not in definition.steps_of(message.service):
        raise Unexpected(f"StepRedriven names the step {message.step!r}; that is no step of {message.service!r}.")
    try:
        outcome = RedriveOutcome(message.outcome)
    except ValueError as error:
        raise Unexpected(f"StepRedriven has an outcome that does not exist: {error}.") from error
    fact = StepRedriven(step=message.step or UNKNOWN_STEP, number=message.attempt, outcome=outcome)
    return fact, replace(entry, service=message.service)
