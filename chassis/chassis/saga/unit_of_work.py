"""The unit of work of one transaction: deliveries and call results go in, outgoing rows and pending calls come out."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from chassis.http.downstream import NotTried, Unavailable
from chassis.saga.answers import QueryAnswer
from chassis.saga.dead_letters import PAYLOAD_BYTES_MAX, DeadLetter, dead_letter_row
from chassis.saga.deferred import Deferral, Key, RawMessage
from chassis.saga.effects import LoadedEffects
from chassis.saga.handlers import Handlers
from chassis.saga.outbox import OutboxRow
from chassis.saga.retry import RetryPolicy
from chassis.saga.steps import (
    COMMIT_ALLOWANCE,
    NETWORK,
    AnyAwaited,
    AnyExternalCompensation,
    AnyExternalStep,
    ExternalCompensation,
    ExternalStep,
    idempotency_key,
)
from chassis.saga.waiting import UNPROCESSABLE, WaitingMessages
from chassis.wire.codec import Codec
from chassis.wire.envelope import (
    ID,
    SOURCE,
    TRACEPARENT,
    Headers,
    NewId,
    child_traceparent,
    derived_id,
    envelope,
    header,
    headers,
    new_traceparent,
    source_of,
)
from messages.contract import Envelope, Message
from messages.standalone import STANDALONE

BLOCKED = "waits behind an earlier message of its saga"
TOPICS = {message_type: topic for topic, message_type in STANDALONE.items()}
"""The topics of the messages that belong to no saga; any other event is on its service's own."""
OWN_RETRIES = RetryPolicy(initial_interval_s=2.0, attempts_max=8)
"""The waits of a command of the service's own: they grow up to four minutes, and the last one is repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message for one handler; ``attempt`` counts from 1, ``redrive`` how often an operator redrove it.

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
    """A call to make after the commit. One that ``is_query`` only queries the outcome of an earlier one.

    ``deadline_at`` is stored with the effect: after it nothing of the call can be under way, wherever its process is.
    """

    handler: AnyExternalStep | AnyExternalCompensation
    delivery: Delivery
    request: Any
    attempt: int
    deadline_at: datetime
    is_query: bool = False

    @property
    def key(self) -> str:
        """The idempotency key of the call, and of every other call for the same effect."""
        return idempotency_key(self.delivery.message.saga_id, self.handler)

    @property
    def begins_by(self) -> datetime:
        """The latest time at which it may begin. Later it would have to be broken off before its whole duration."""
        return self.deadline_at - self.handler.call.duration

    @property
    def sends_until(self) -> datetime:
        """The time after which its client sends nothing more."""
        return self.deadline_at - NETWORK


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """The provider's outcome of a call (None: the provider does not know the key), or the reason why there is none."""

    call: PendingCall
    outcome: Any = None
    failure: Unavailable | None = None


class AwaitedAct(enum.Enum):
    """What a call about an attempt does."""

    SEND = enum.auto()
    QUERY = enum.auto()
    CANCEL = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedPendingCall:
    """A call about an attempt at an awaited step, to make after the commit.

    ``after`` is the id of the outbox row that Kafka must have acknowledged before. It announces the attempt, as a rule
    as its StepAwaited. Without it a service that is restored could not know that it had called, or cancelled.
    """

    step: AnyAwaited
    saga_id: str
    number: int
    act: AwaitedAct
    key: str
    provider_id: str | None
    deadline_at: datetime
    request: Any = None
    after: str | None = None

    @property
    def begins_by(self) -> datetime:
        """The latest time at which it may begin, as of a :class:`PendingCall`."""
        return self.deadline_at - self.step.call.duration

    @property
    def sends_until(self) -> datetime:
        """The time after which its client sends nothing more."""
        return self.deadline_at - NETWORK


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedResult:
    """A provider's answer to a call about an attempt, or the reason why there is none."""

    call: AwaitedPendingCall
    answer: QueryAnswer | None = None
    failure: Unavailable | None = None


@dataclass(slots=True)
class Outgoing:
    """What is to follow the commit: rows to publish, calls to make; and the handlers that are to be retried."""

    rows: list[OutboxRow] = field(default_factory=list)
    calls: list[PendingCall] = field(default_factory=list)
    awaited_calls: list[AwaitedPendingCall] = field(default_factory=list)
    retried: list[str] = field(default_factory=list)


class Undeliverable(Exception):
    """A message that this service must not handle; it goes to the dead-letter topic with this reason.

    The reason is the same for all messages of that kind, so that people can group by it; ``detail`` is about this one.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail


class UnitOfWork:
    """The consequences of one transaction: messages to emit, to defer, to park. It never touches the database.

    ``loaded`` and ``waiting`` are the effects and the waiting messages of its sagas, as the transaction has left them
    so far. ``allowance`` is the time from ``now`` to the commit for which the deadlines of its calls allow.
    """

    def __init__(
        self,
        service: str,
        handlers: Handlers,
        codec: Codec,
        loaded: LoadedEffects,
        waiting: WaitingMessages,
        *,
        now: datetime,
        new_id: NewId,
        jitter: random.Random,
        allowance: timedelta = COMMIT_ALLOWANCE,
    ) -> None:
        self._handlers = handlers
        self._codec = codec
        self._jitter = jitter.random
        self.service = service
        self.loaded = loaded
        self.waiting = waiting
        self.now = now
        self.new_id = new_id
        self.allowance = allowance
        self.out = Outgoing()

    def deadline_of(self, handler: AnyExternalStep | AnyExternalCompensation | AnyAwaited) -> datetime:
        """Return the deadline of a call that this unit of work plans, and that begins after the commit.

        One that waits for Kafka to acknowledge its announcement also waits for the transaction that the loop makes
        meanwhile.
        """
        duration: timedelta = handler.call.duration
        waits = 1 if isinstance(handler, ExternalStep | ExternalCompensation) else 2
        return self.now + waits * self.allowance + duration

    def park(self, handler_name: str, delivery: Delivery, reason: str, detail: str = "") -> None:
        """Dead-letter and park a message at once that this service must not handle."""
        self.dead_letter(delivery.raw, None, reason, delivery.attempt, redrive=delivery.redrive, detail=detail)
        self.defer(handler_name, delivery, attempt=delivery.attempt, due_at=None, reason=reason)

    def park_unprocessable(self, raw: RawMessage, reason: str, detail: str, *, row: Deferral | None = None) -> None:
        """Dead-letter a message that cannot be decoded or must not be handled, and park it for its saga.

        ``row`` is the deferral of one that was deferred before. Without a key that may be a saga id there is no saga to
        park it for, and a message so long that even its dead letter is cut is none of ours.
        """
        key = (raw.key or b"").decode("utf-8", "replace")
        message_id = derived_id(raw.topic, raw.partition, raw.offset) if row is None else row.message_id
        if row is None and self.waiting.get((message_id, UNPROCESSABLE)) is not None:
            return
        redrive = 0 if row is None else row.redrive
        self.dead_letter(raw, None, reason, 1, redrive=redrive, detail=detail)
        if not ID.fullmatch(key) or len(raw.value or b"") > PAYLOAD_BYTES_MAX:
            return
        parked = Deferral(
            message_id=message_id,
            handler=UNPROCESSABLE,
            saga_id=key,
            raw=raw,
            attempt=1,
            due_at=None,
            reason=reason.replace("\x00", "\ufffd"),  # PostgreSQL's text has no NUL
            redrive=redrive,
        )
        self.waiting.put(parked, instead_of=None if row is None else row.key)

    def dead_letter(
        self, raw: RawMessage, step: str | None, reason: str, attempts: int, *, redrive: int = 0, detail: str = ""
    ) -> None:
        """Emit a dead letter with the original bytes, on the step's topic, or on the service's own without a step."""
        letter = DeadLetter(
            service=self.service, step=step, reason=reason, detail=detail, attempts=attempts, redrive=redrive
        )
        self.out.rows.append(dead_letter_row(raw, letter, row_id=self.new_id()))

    def retry(self, handler_name: str, delivery: Delivery, failure: Unavailable) -> None:
        """Defer the message until its next attempt; once its retries are exhausted, dead-letter it.

        An event whose retries are exhausted is parked. A command is not: its sender sends it again. But a command
        of the service's own (which undoes a late call) is sent only once, so its retries are never exhausted.
        """
        policy, step = self._handlers.retry_of(handler_name)
        attempt, was_tried = delivery.attempt, not isinstance(failure, NotTried)
        if header(delivery.raw.headers, SOURCE) == source_of(self.service) and delivery.raw.is_command:
            policy, attempt = OWN_RETRIES, min(attempt, OWN_RETRIES.attempts_max - 1)
        if was_tried and policy.is_exhausted(attempt):
            redrive, detail = delivery.redrive, failure.detail
            self.dead_letter(delivery.raw, step, failure.reason, attempt, redrive=redrive, detail=detail)
            if delivery.raw.is_command:
                self.mark_handled(handler_name, [delivery])
            else:
                self.defer(handler_name, delivery, attempt=attempt, due_at=None, reason=failure.reason)
            return
        wait_s = max(policy.delay_s(attempt if was_tried else 1, self._jitter()), failure.retry_after_s or 0.0)
        due_at, following = self.now + timedelta(seconds=wait_s), attempt + 1 if was_tried else attempt
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
        is_blocked: bool = False,
    ) -> None:
        """Let the message wait for this handler until ``due_at``; None: until it is unblocked, redriven or fenced."""
        deferral = Deferral(
            message_id=delivery.message.message_id,
            handler=handler_name,
            saga_id=delivery.message.saga_id,
            raw=delivery.raw,
            attempt=attempt,
            due_at=due_at,
            reason=reason,
            redrive=delivery.redrive,
            is_blocked=is_blocked,
        )
        self.waiting.put(deferral, instead_of=delivery.row)

    def mark_handled(self, handler_name: str, group: Iterable[Delivery]) -> None:
        """Delete the deferrals of these messages."""
        for delivery in group:
            self.waiting.remove((delivery.message.message_id, handler_name))
            if delivery.row is not None:
                self.waiting.remove(delivery.row)

    def reply_envelope(self, cause: Message, message_id: str) -> Envelope:
        """Return the envelope of a message that ``cause`` led to."""
        return envelope(cause, message_id=message_id, at=self.now)

    def command_reply_envelope(self, command: Message) -> Envelope:
        """Return the envelope of a command's reply, whose id is the same however often the command comes."""
        return self.reply_envelope(command, derived_id(command.message_id, "reply"))

    def emit_besides(self, messages: Iterable[Message], group: Sequence[Delivery]) -> None:
        """Emit messages that a handler makes besides, each on the partition number of its cause and in its trace.

        One that names no cause gets the partition number of the group's first message, and a trace of its own.
        """
        causes = {each.message.message_id: each.raw for each in group}
        for message in messages:
            cause = causes.get(message.causation_id or "")
            if cause is None:
                self._write(message, group[0].raw.partition, new_traceparent(), None)
            else:
                self.emit(message, cause)

    def emit(self, message: Message, cause: RawMessage) -> None:
        """Write a message into the outbox, in the trace and on the partition number of its cause."""
        trace = child_traceparent(header(cause.headers, TRACEPARENT))
        self._write(message, cause.partition, trace, cause.headers)

    def _write(self, message: Message, partition: int, trace: bytes, cause: Headers | None) -> None:
        topic = TOPICS.get(type(message), f"{self.service}.events")
        self.out.rows.append(
            OutboxRow(
                id=message.message_id,
                topic=topic,
                saga_id=message.saga_id,
                type=message.FULL_NAME,
                payload=self._codec.encode(topic, message),
                headers=headers(message, source=self.service, traceparent=trace),
                partition=partition,
                cause=cause,
            )
        )
