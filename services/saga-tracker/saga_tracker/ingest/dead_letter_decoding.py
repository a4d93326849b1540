"""Decodes dead letters: which saga and step each concerns, and the fact that follows. Pure but for the codec's schemas.

The saga's definition is needed for that. Where the original message cannot be decoded, only the stored saga names its
definition. So the definition comes as an argument, and everything else about a dead letter is in this module.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from chassis.saga import dead_letters
from chassis.saga.dead_letters import DeadLetter
from chassis.wire.codec import Codec, Undecodable
from chassis.wire.envelope import ID, TIME_MIN, derived_id
from messages.contract import Message
from messages.saga import FenceSaga, RedriveStep
from saga_tracker.ingest.records import Record, plain, text_header, traceparent_of
from saga_tracker.model.decision import fence_key, redrive_key
from saga_tracker.model.facts import UNKNOWN_STEP, CommandDead, Fact, RetriesExhausted, Unprocessable
from saga_tracker.model.masking import masked, shown_headers
from saga_tracker.model.saga import Definitions, SagaDefinition
from saga_tracker.store.dead_letters import LetterRow
from saga_tracker.store.timeline import Entry

SMALLINT_MAX = 32_767


@dataclass(slots=True, kw_only=True)
class DecodedDeadLetter:
    """A dead letter with its timeline entry. ``definition`` is None where only the stored saga can name it.

    ``message_id`` and ``type`` (the full name) are those of the original message. ``redrive`` counts the redrives
    before it became a dead letter. ``command_attempt`` and ``command_step`` are those of a command that was decoded.
    """

    record: Record
    saga_id: str
    definition: SagaDefinition | None
    entry: Entry
    message_id: str
    type: str
    reason: str
    origin_topic: str
    redrive: int
    command_attempt: int
    command_step: str | None
    traceparent: str | None
    body: str | None
    """The original message as JSON, masked; None where it cannot be decoded."""

    @property
    def partition(self) -> int:
        """The partition of its saga on every topic."""
        return self.entry.partition or 0

    @property
    def occurred_at(self) -> datetime:
        """When it happened; a saga begins then of which this is the first message."""
        return self.entry.occurred_at

    def step_in(self, definition: SagaDefinition) -> str | None:
        """Return the step that it concerns; None where that is unknown."""
        for step in definition.steps:
            if self.type == RedriveStep.FULL_NAME and step.name == self.command_step:
                return step.name
            if step.name == self.entry.step and self.type == step.trigger.FULL_NAME:
                return step.name
            if step.compensation is not None and self.type == step.compensation.command.FULL_NAME:
                return step.name
        candidates = [
            step.name
            for step in definition.steps
            if step.service == self.entry.service and step.trigger_topic == self.origin_topic
        ]
        return candidates[0] if len(candidates) == 1 else None

    def fact_in(self, definition: SagaDefinition) -> Fact:
        """Return its fact: a dead command, a step whose retries are exhausted, or an unprocessable message."""
        step, service = self.step_in(definition), self.entry.service
        reason = self.reason or "no reason given"
        for each in definition.steps:
            if each.compensation is not None and self.type == each.compensation.command.FULL_NAME:
                return CommandDead(command=each.name, reason=reason, attempt=self.command_attempt)
        if self.type == FenceSaga.FULL_NAME:
            return CommandDead(command=fence_key(service), reason=reason, attempt=self.command_attempt)
        if self.type == RedriveStep.FULL_NAME and step is not None:
            first = (self.command_attempt - 1) * definition.command_attempts_max + 1
            return CommandDead(command=redrive_key(step), reason=reason, attempt=first)
        if step is not None and step == self.entry.step and self._is_trigger(definition, step):
            return RetriesExhausted(step=step, reason=reason, redrive=self.redrive)
        return Unprocessable(
            step=step or UNKNOWN_STEP,
            reason=f"{service}: {reason}",
            redrive=self.redrive,
            letter=self.entry.message_id,
        )

    def _is_trigger(self, definition: SagaDefinition, step: str) -> bool:
        return any(each.name == step and self.type == each.trigger.FULL_NAME for each in definition.steps)

    def row(self, *, step: str | None, is_open: bool) -> LetterRow:
        """Return the row to store. ``is_open`` means that an operator has to redrive or close it."""
        entry = self.entry
        return LetterRow(
            topic=self.record.raw.topic,
            partition=self.record.raw.partition,
            offset=self.record.offset,
            letter_id=entry.message_id,
            message_id=self.message_id,
            saga_id=self.saga_id,
            service=entry.service,
            step=step,
            type=entry.type,
            reason=self.reason,
            redrive=self.redrive,
            is_open=is_open,
            headers=shown_headers(self.record.raw.headers),
            body=self.body,
        )


def decode_dead_letter(record: Record, codec: Codec, definitions: Definitions) -> DecodedDeadLetter:
    """Decode the headers of a dead letter, and its original message where that is possible. It never fails."""
    raw = record.raw
    letter = dead_letters.read(raw.headers)
    message: Message | None = None
    with suppress(Undecodable):
        message = codec.decode(raw.value)
    definition = None if message is None else definitions.get((message.saga_type, message.saga_version))
    own_id = "" if message is None or not ID.fullmatch(message.message_id) else message.message_id
    message_id = text_header(raw, "ce_id") or own_id or f"{raw.partition}:{record.offset}"
    redrive = min(letter.redrive, SMALLINT_MAX)
    generation = (redrive,) if redrive else ()
    letter_id = derived_id("dead letter", raw.topic, letter.service, message_id, letter.attempts, *generation)
    entry = _entry(record, letter, message, letter_id)
    return DecodedDeadLetter(
        record=record,
        saga_id=entry.saga_id,
        definition=definition if ID.fullmatch(entry.saga_id) else None,
        entry=entry,
        message_id=plain(message_id),
        type=plain(_type_name(record, message)),
        reason=plain(letter.reason),
        origin_topic=plain(text_header(raw, "baraza_topic")),
        redrive=redrive,
        command_attempt=min(max(1, getattr(message, "attempt", 1)), SMALLINT_MAX),
        command_step=getattr(message, "step", None),
        traceparent=traceparent_of(raw),
        body=None if message is None else masked(message),
    )


def _entry(record: Record, letter: DeadLetter, message: Message | None, letter_id: str) -> Entry:
    raw = record.raw
    return Entry(
        saga_id=plain((raw.key or b"").decode("utf-8", "backslashreplace")),
        message_id=letter_id,
        occurred_at=record.published_at or (TIME_MIN if message is None else message.occurred_at),
        kind="dead_letter",
        type=plain(_type_name(record, message).rpartition(".")[2] or "unknown"),
        service=plain(letter.service) or "unknown",
        step=None if letter.step is None else plain(letter.step),
        attempt=min(letter.attempts, SMALLINT_MAX),
        causation_id=message.message_id if message is not None and ID.fullmatch(message.message_id) else None,
        detail=plain(f"{letter.reason}: {letter.detail}" if letter.detail else letter.reason),
        topic=raw.topic,
        partition=raw.partition,
        offset=record.offset,
    )


def _type_name(record: Record, message: Message | None) -> str:
    return text_header(record.raw, "ce_type") or ("" if message is None else message.FULL_NAME)
