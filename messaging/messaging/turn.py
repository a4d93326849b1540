"""What handling a batch leaves behind, and the words for it: deliveries, calls to make, answers, outgoing rows."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from messages.contract import Envelope, Message

from messaging.codec import Codec
from messaging.dead_letters import DeadLetter, dead_letter_row
from messaging.deferred import Deferral, RawMessage
from messaging.downstream import Unavailable
from messaging.effects import Book, EffectState
from messaging.envelope import (
    TRACEPARENT,
    NewId,
    child_traceparent,
    derived_id,
    envelope,
    header,
    headers,
)
from messaging.handlers import Handlers
from messaging.outbox import OutboxRow
from messaging.steps import ExternalCompensation, ExternalStep

HELD = "held until its call is settled or an operator decides"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message for one handler; ``attempt`` counts from 1. A deferred one has a row that goes when it is handled."""

    message: Message
    raw: RawMessage
    attempt: int = 1
    is_deferred: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingCall:
    """A call to make after the commit; one that ``asks`` only asks the provider what became of an earlier one."""

    handler: ExternalStep[Any, Any, Any, Any] | ExternalCompensation[Any, Any, Any, Any]
    delivery: Delivery
    request: Any
    key: str
    attempt: int
    deadline_at: datetime
    asks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a call: the provider's outcome (None: it never heard of the key), or why there is none."""

    call: PendingCall
    outcome: Any = None
    failure: Unavailable | None = None


@dataclass(slots=True)
class Outgoing:
    """What a transaction leaves behind: rows to publish and calls to make once it is committed."""

    rows: list[OutboxRow] = field(default_factory=list)
    calls: list[PendingCall] = field(default_factory=list)
    deferrals: dict[tuple[str, str], Deferral] = field(default_factory=dict)
    handled: list[tuple[str, str]] = field(default_factory=list)
    settled_saga_ids: set[str] = field(default_factory=set)
    closing: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)


class Undeliverable(Exception):
    """A message that this service can do nothing with; it goes to the dead-letter topic with this reason."""


class Turn:
    """One transaction's consequences as they gather: messages to emit, to defer, to give up. It touches no database."""

    def __init__(
        self,
        service: str,
        handlers: Handlers,
        codec: Codec,
        book: Book,
        *,
        now: datetime,
        new_id: NewId,
        jitter: random.Random,
    ) -> None:
        self._service = service
        self._handlers = handlers
        self._codec = codec
        self._book = book
        self._now = now
        self._new_id = new_id
        self.jitter = jitter.random
        self.out = Outgoing()

    def fail(self, handler_name: str, delivery: Delivery, reason: str) -> None:
        """A handler raised for this message: try again later, or give it up to the dead-letter topic."""
        self.retry(handler_name, delivery, reason, None)

    def give_up(self, handler_name: str, delivery: Delivery, reason: str) -> None:
        """This service can do nothing with the message: to its dead-letter topic at once."""
        self.dead_letter(delivery.raw, None, reason, delivery.attempt)
        self.mark_handled(handler_name, [delivery], always=True)

    def dead_letter(self, raw: RawMessage, step: str | None, reason: str, attempts: int) -> None:
        """Send the original bytes to the step's dead-letter topic, or to the service's own where no step is meant."""
        letter = DeadLetter(service=self._service, step=step, reason=reason, attempts=attempts)
        self.out.rows.append(dead_letter_row(raw, letter, row_id=self._new_id()))

    def retry(self, handler_name: str, delivery: Delivery, reason: str, retry_after_s: float | None) -> None:
        """Handle the message again later, or give it up to the dead-letter topic when its policy is exhausted."""
        policy, step = self._handlers.retry_of(handler_name)
        if policy.is_exhausted(delivery.attempt):
            self.dead_letter(delivery.raw, step, reason, delivery.attempt)
            effect = self._book.get(delivery.message.saga_id, handler_name)
            if effect is not None and effect.state is EffectState.STARTED:
                self.defer(handler_name, delivery, attempt=delivery.attempt, due_at=None, reason=HELD)
            else:
                self.mark_handled(handler_name, [delivery], always=True)
            return
        wait_s = max(policy.delay_s(delivery.attempt, self.jitter()), retry_after_s or 0.0)
        due_at = self._now + timedelta(seconds=wait_s)
        self.defer(handler_name, delivery, attempt=delivery.attempt + 1, due_at=due_at, reason=reason)

    def defer(
        self, handler_name: str, delivery: Delivery, *, attempt: int, due_at: datetime | None, reason: str
    ) -> None:
        """Let the message wait for this handler until ``due_at``; None: until a fence or an operator asks for it."""
        key = (delivery.message.message_id, handler_name)
        self.out.deferrals[key] = Deferral(
            message_id=delivery.message.message_id,
            handler=handler_name,
            saga_id=delivery.message.saga_id,
            raw=delivery.raw,
            attempt=attempt,
            due_at=due_at,
            reason=reason,
        )

    def mark_handled(self, handler_name: str, group: Iterable[Delivery], *, always: bool = False) -> None:
        """These messages wait no more. Only a deferred one has a row that must go, unless ``always``."""
        for delivery in group:
            key = (delivery.message.message_id, handler_name)
            self.out.deferrals.pop(key, None)
            if delivery.is_deferred or always:
                self.out.handled.append(key)

    def reply_envelope(self, cause: Message, message_id: str) -> Envelope:
        """Return the envelope of what ``cause`` led to."""
        return envelope(cause, message_id=message_id, at=self._now)

    def command_reply_envelope(self, command: Message) -> Envelope:
        """Return the envelope of a command's reply, whose id is the same however often the command comes."""
        return self.reply_envelope(command, derived_id(command.message_id, "reply"))

    def emit(self, message: Message, cause: RawMessage) -> None:
        """Write a message into the outbox, in the trace and on the partition number of what caused it."""
        topic = f"{self._service}.events"
        trace = child_traceparent(header(cause.headers, TRACEPARENT))
        self.out.rows.append(
            OutboxRow(
                id=message.message_id,
                topic=topic,
                saga_id=message.saga_id,
                type=message.FULL_NAME,
                payload=self._codec.encode(topic, message),
                headers=headers(message, source=self._service, traceparent=trace),
                partition=cause.partition,
                cause=cause.headers,
            )
        )
