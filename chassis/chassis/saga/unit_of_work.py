"""What handling a batch leaves behind, and the words for it: deliveries, calls to make, answers, outgoing rows."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from messages.contract import Envelope, Message

from chassis.http.downstream import NotTried, Unavailable
from chassis.saga.dead_letters import PAYLOAD_BYTES_MAX, DeadLetter, dead_letter_row
from chassis.saga.deferred import Deferral, Key, RawMessage
from chassis.saga.effects import LoadedEffects
from chassis.saga.handlers import Handlers
from chassis.saga.outbox import OutboxRow
from chassis.saga.steps import ExternalCompensation, ExternalStep
from chassis.saga.waiting import UNPROCESSABLE, WaitingMessages
from chassis.wire.codec import Codec
from chassis.wire.envelope import (
    ID,
    TRACEPARENT,
    NewId,
    child_traceparent,
    derived_id,
    envelope,
    header,
    headers,
)

BLOCKED = "waits behind an earlier message of its saga"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message for one handler; ``attempt`` counts from 1, ``redrive`` how often an operator ran it again.

    ``row`` is the key of its deferral, None for a message that comes from Kafka.
    """

    message: Message
    raw: RawMessage
    attempt: int = 1
    redrive: int = 0
    row: Key | None = None

    @classmethod
    def of(cls, row: Deferral, message: Message) -> Delivery:
        """Return the delivery of a deferred message."""
        return cls(message=message, raw=row.raw, attempt=row.attempt, redrive=row.redrive, row=row.key)


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
    """What a transaction leaves behind: rows to publish, calls to make, handlers to be tried again."""

    rows: list[OutboxRow] = field(default_factory=list)
    calls: list[PendingCall] = field(default_factory=list)
    retried: list[str] = field(default_factory=list)


class Undeliverable(Exception):
    """A message that this service can do nothing with; it goes to the dead-letter topic with this reason.

    The reason is the same for all messages of that kind, so that people can group by it; ``detail`` is about this one.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail


class UnitOfWork:
    """One transaction's consequences as they gather: messages to emit, to defer, to give up. It touches no database."""

    def __init__(
        self,
        service: str,
        handlers: Handlers,
        codec: Codec,
        book: LoadedEffects,
        line: WaitingMessages,
        *,
        now: datetime,
        new_id: NewId,
        jitter: random.Random,
    ) -> None:
        self._service = service
        self._handlers = handlers
        self._codec = codec
        self._book = book
        self._line = line
        self._now = now
        self._new_id = new_id
        self._jitter = jitter.random
        self.out = Outgoing()

    def fail(self, handler_name: str, delivery: Delivery, reason: str, detail: str = "") -> None:
        """A handler raised for this message: try again later, or give it up to the dead-letter topic."""
        self.retry(handler_name, delivery, Unavailable(reason, detail=detail))

    def give_up(self, handler_name: str, delivery: Delivery, reason: str, detail: str = "") -> None:
        """This service can do nothing with the message: to its dead-letter topic at once, and held."""
        self.dead_letter(delivery.raw, None, reason, delivery.attempt, redrive=delivery.redrive, detail=detail)
        self.defer(handler_name, delivery, attempt=delivery.attempt, due_at=None, reason=reason)

    def unread(self, raw: RawMessage, reason: str, detail: str = "", *, row: Deferral | None = None) -> None:
        """Nobody here can read the message or waits for it: to the dead-letter topic, and held for its saga.

        ``row`` is the deferral of one that was held before. Without a key that may be a saga's id no saga can hold it,
        and what is so long that even its dead letter is cut is no message of ours.
        """
        key = (raw.key or b"").decode("utf-8", "replace")
        message_id = derived_id(raw.topic, raw.partition, raw.offset) if row is None else row.message_id
        if row is None and self._line.get((message_id, UNPROCESSABLE)) is not None:
            return
        redrive = 0 if row is None else row.redrive
        self.dead_letter(raw, None, reason, 1, redrive=redrive, detail=detail)
        if not ID.fullmatch(key) or len(raw.value or b"") > PAYLOAD_BYTES_MAX:
            return
        held = Deferral(
            message_id=message_id,
            handler=UNPROCESSABLE,
            saga_id=key,
            raw=raw,
            attempt=1,
            due_at=None,
            reason=reason,
            redrive=redrive,
        )
        self._line.put(held, instead_of=None if row is None else row.key)

    def dead_letter(
        self, raw: RawMessage, step: str | None, reason: str, attempts: int, *, redrive: int = 0, detail: str = ""
    ) -> None:
        """Send the original bytes to the step's dead-letter topic, or to the service's own where no step is meant."""
        letter = DeadLetter(
            service=self._service, step=step, reason=reason, detail=detail, attempts=attempts, redrive=redrive
        )
        self.out.rows.append(dead_letter_row(raw, letter, row_id=self._new_id()))

    def retry(self, handler_name: str, delivery: Delivery, failure: Unavailable) -> None:
        """Handle the message again later, or give it up to the dead-letter topic when its policy is exhausted.

        An event that is given up is held. A command is not: whoever sent it sends it again.
        """
        policy, step = self._handlers.retry_of(handler_name)
        attempt, was_tried = delivery.attempt, not isinstance(failure, NotTried)
        if was_tried and policy.is_exhausted(attempt):
            redrive, detail = delivery.redrive, failure.detail
            self.dead_letter(delivery.raw, step, failure.reason, attempt, redrive=redrive, detail=detail)
            if delivery.raw.is_command:
                self.mark_handled(handler_name, [delivery])
            else:
                self.defer(handler_name, delivery, attempt=attempt, due_at=None, reason=failure.reason)
            return
        wait_s = max(policy.delay_s(attempt if was_tried else 1, self._jitter()), failure.retry_after_s or 0.0)
        due_at, following = self._now + timedelta(seconds=wait_s), attempt + 1 if was_tried else attempt
        self.defer(handler_name, delivery, attempt=following, due_at=due_at, reason=failure.reason)
        self.out.retried.append(handler_name)

    def defer(
        self,
        handler_name: str,
        delivery: Delivery,
        *,
        attempt: int,
        due_at: datetime | None,
        reason: str,
        behind: bool = False,
    ) -> None:
        """Let the message wait for this handler until ``due_at``; None: until a fence or an operator asks for it."""
        deferral = Deferral(
            message_id=delivery.message.message_id,
            handler=handler_name,
            saga_id=delivery.message.saga_id,
            raw=delivery.raw,
            attempt=attempt,
            due_at=due_at,
            reason=reason,
            redrive=delivery.redrive,
            behind=behind,
        )
        self._line.put(deferral, instead_of=delivery.row)

    def mark_handled(self, handler_name: str, group: Iterable[Delivery]) -> None:
        """These messages wait no more."""
        for delivery in group:
            self._line.remove((delivery.message.message_id, handler_name))
            if delivery.row is not None:
                self._line.remove(delivery.row)

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
