"""What one transaction of a service does with a batch: claim the effects, load, decide, save, write the outbox.

It knows neither Kafka nor threads: deliveries and answers come in, rows and calls to make go out. So the same code runs
under a real broker and under a simulated one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from messages.contract import Message, name_of
from messages.saga import FenceSaga, SagaFenced, StepOutcome
from sqlalchemy import Connection

from messaging import deferred, effects, outbox
from messaging.codec import Codec
from messaging.dead_letters import DeadLetter, dead_letter_row
from messaging.deferred import Deferral, RawMessage
from messaging.downstream import Unavailable
from messaging.effects import Book, EffectState, OnCompensation, OnDue, OnTrigger
from messaging.envelope import (
    TRACEPARENT,
    NewId,
    child_traceparent,
    derived_id,
    envelope,
    header,
    headers,
)
from messaging.outbox import OutboxRow
from messaging.retry import RetryPolicy
from messaging.steps import (
    AnyCompensation,
    AnyStep,
    ExternalCompensation,
    ExternalStep,
    Handler,
    Reaction,
    Step,
    name,
)

SETTLE_AGAIN_S = 2.0
"""How long an answer to a fence waits before it looks again whether the call has been settled."""
FENCE = name_of(FenceSaga)
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


Item = TypeVar("Item")
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Handlers:
    """A service's handlers by the message that they handle."""

    steps: tuple[AnyStep, ...]
    reactions: tuple[Reaction[Any], ...]

    @classmethod
    def of(cls, handlers: Iterable[Handler]) -> Handlers:
        """Sort the declared handlers by kind."""
        all_of_them = tuple(handlers)
        return cls(
            tuple(each for each in all_of_them if not isinstance(each, Reaction)),
            tuple(each for each in all_of_them if isinstance(each, Reaction)),
        )

    @property
    def compensations(self) -> tuple[AnyCompensation, ...]:
        """The compensations of all steps."""
        return tuple(step.compensation for step in self.steps if step.compensation is not None)

    @property
    def calls_out(self) -> bool:
        """Say whether a message may lead to a call to a provider."""
        return any(isinstance(each, ExternalStep | ExternalCompensation) for each in (*self.steps, *self.compensations))

    @property
    def commands(self) -> frozenset[type[Message]]:
        """The commands that the service handles; a service with steps can be fenced."""
        own = frozenset(compensation.on for compensation in self.compensations)
        return own | {FenceSaga} if self.steps else own

    @property
    def events(self) -> frozenset[type[Message]]:
        """The events that the service reacts to."""
        return frozenset(step.on for step in self.steps) | {reaction.on for reaction in self.reactions}

    def for_message(self, message_type: type[Message]) -> tuple[str, ...]:
        """Return the names of the handlers of a message."""
        found = [name(each) for each in (*self.steps, *self.reactions, *self.compensations) if each.on is message_type]
        return (*found, FENCE) if message_type is FenceSaga else tuple(found)

    def step(self, step_name: str) -> AnyStep | None:
        """Return the step of that name, or None."""
        return next((step for step in self.steps if step.name == step_name), None)

    def retry_of(self, handler_name: str) -> tuple[RetryPolicy, str | None]:
        """Return a handler's retry policy and the step whose dead-letter topic is meant (None: the service's own)."""
        for step in self.steps:
            if step.name == handler_name:
                return step.retry, step.name
            if step.compensation is not None and name(step.compensation) == handler_name:
                return step.compensation.retry, step.name
        for reaction in self.reactions:
            if name(reaction) == handler_name:
                return reaction.retry, None
        return RetryPolicy(), None


class Batch:
    """One batch in one transaction. Make one, feed it, then :meth:`finish`; the caller commits.

    1. ``answers`` of finished calls settle their effects.
    2. ``deliveries`` are handled, each handler once for all of its messages.
    3. ``finish`` saves the effects, the deferrals and the outbox.
    """

    def __init__(
        self,
        tx: Connection,
        service: str,
        handlers: Handlers,
        codec: Codec,
        saga_ids: Iterable[str],
        *,
        now: datetime,
        new_id: NewId,
        jitter: random.Random,
    ) -> None:
        self._tx = tx
        self._service = service
        self._handlers = handlers
        self._codec = codec
        self._now = now
        self._new_id = new_id
        self._jitter = jitter
        self._book: Book = effects.load(tx, saga_ids) if handlers.steps else Book()
        self.out = Outgoing()

    def answers(self, answers: Sequence[Answer]) -> None:
        """Settle the effects whose calls have come back."""
        for _, group in _by(answers, lambda answer: name(answer.call.handler)):
            handler = group[0].call.handler
            for turn in _rounds(group, lambda answer: answer.call.delivery):
                if isinstance(handler, ExternalStep):
                    self._finish_step(handler, turn)
                else:
                    self._finish_compensation(handler, turn)

    def deliveries(self, deliveries: Sequence[tuple[str, Delivery]]) -> None:
        """Handle messages by handler name; two messages of one saga for one handler are handled one after the other."""
        for handler_name, group in _by(deliveries, lambda pair: pair[0]):
            for turn in _rounds([delivery for _, delivery in group], lambda delivery: delivery):
                self._dispatch(handler_name, turn)

    def due(self, deliveries: Sequence[tuple[str, Delivery]]) -> None:
        """Handle deferred messages whose time has come; calls that are still under way are left to them."""
        again: list[tuple[str, Delivery]] = []
        for handler_name, delivery in deliveries:
            step = self._handlers.step(handler_name)
            if isinstance(step, ExternalStep):
                self._due_call(step, delivery)
            else:
                again.append((handler_name, delivery))
        self.deliveries(again)

    def finish(self) -> Outgoing:
        """Save effects, deferrals and outbox in the transaction, and return what is to be done after the commit."""
        effects.save(self._tx, self._book, now=self._now)
        deferred.save(self._tx, list(self.out.deferrals.values()), now=self._now)
        deferred.remove(self._tx, self.out.handled)
        for saga_id, steps in self.out.closing:
            deferred.advance(self._tx, saga_id, steps, now=self._now)
        deferred.wake(self._tx, self.out.settled_saga_ids, now=self._now)
        outbox.save(self._tx, self.out.rows)
        return self.out

    # Steps

    def _dispatch(self, handler_name: str, group: list[Delivery]) -> None:
        for handler in (*self._handlers.steps, *self._handlers.reactions, *self._handlers.compensations):
            if name(handler) != handler_name:
                continue
            if isinstance(handler, Reaction):
                handler.apply([delivery.message for delivery in group], self._tx)
                self._mark_handled(handler_name, group)
            elif isinstance(handler, Step):
                self._run_step(handler, group)
            elif isinstance(handler, ExternalStep):
                self._start_step(handler, group)
            else:
                self._compensate(handler, group)
            return
        if handler_name != FENCE:
            raise Undeliverable(f"{self._service} has no handler {handler_name}.")
        for delivery in group:
            self._fence(delivery)

    def _run_step(self, step: Step[Any, Any], group: list[Delivery]) -> None:
        fresh = [each for each in group if self._may_run(step, each.message)]
        if fresh:
            rows = step.load([each.message for each in fresh], self._tx)
            for each in fresh:
                saga_id = each.message.saga_id
                answer = step.decide(each.message, rows, self._reply_envelope(each.message, self._new_id()))
                state = _state_of(step, answer)
                self._book.put(effects.Effect(saga_id=saga_id, step=step.name, state=state, attempt=each.attempt))
                self._emit(answer, each.raw)
            step.save(rows, self._tx)
        self._mark_handled(step.name, group)

    def _may_run(self, step: AnyStep, message: Message) -> bool:
        return effects.on_trigger(self._book.get(message.saga_id, step.name)) is OnTrigger.RUN

    def _start_step(self, step: ExternalStep[Any, Any, Any, Any], group: list[Delivery]) -> None:
        self._begin_calls(step, [each for each in group if self._may_run(step, each.message)])

    def _begin_calls(self, step: ExternalStep[Any, Any, Any, Any], group: list[Delivery]) -> None:
        if not group:
            return
        requests = step.call.prepare([each.message for each in group], self._tx)
        deadline_at = self._now + step.call.deadline
        for each in group:
            saga_id = each.message.saga_id
            effect = effects.started(
                self._book.get(saga_id, step.name), saga_id=saga_id, step=step.name, deadline_at=deadline_at
            )
            self._book.put(effect)
            self._defer(step.name, each, attempt=effect.attempt, due_at=deadline_at, reason="call under way")
            self.out.calls.append(
                PendingCall(
                    handler=step,
                    delivery=each,
                    request=requests[saga_id],
                    key=f"{saga_id}:{step.name}",
                    attempt=effect.attempt,
                    deadline_at=deadline_at,
                )
            )

    def _due_call(self, step: ExternalStep[Any, Any, Any, Any], delivery: Delivery) -> None:
        effect = self._book.get(delivery.message.saga_id, step.name)
        what = effects.on_due(effect, self._now)
        if what is OnDue.CALL:
            self._begin_calls(step, [delivery])
        elif what is OnDue.FORGET or effect is None:
            self._mark_handled(step.name, [delivery])
        elif what is OnDue.WAIT:
            self._defer(step.name, delivery, attempt=effect.attempt, due_at=effect.deadline_at, reason="call under way")
        else:
            deadline_at = self._now + step.call.deadline
            self._defer(step.name, delivery, attempt=effect.attempt, due_at=deadline_at, reason="asking the provider")
            self.out.calls.append(
                PendingCall(
                    handler=step,
                    delivery=delivery,
                    request=None,
                    key=f"{effect.saga_id}:{step.name}",
                    attempt=effect.attempt,
                    deadline_at=deadline_at,
                    asks=True,
                )
            )

    def _finish_step(self, step: ExternalStep[Any, Any, Any, Any], group: list[Answer]) -> None:
        open_answers = [answer for answer in group if self._is_open(step, answer)]
        self._mark_handled(step.name, [answer.call.delivery for answer in group if not self._is_open(step, answer)])
        known = [answer for answer in open_answers if answer.failure is None and answer.outcome is not None]
        rows = step.load([each.call.delivery.message for each in known], self._tx) if known else None
        for answer in open_answers:
            if answer.failure is not None:
                self._call_failed(step, answer)
            elif answer.outcome is None:
                self._settle(step, answer, EffectState.FENCED)
            else:
                message = answer.call.delivery.message
                decided = step.decide(
                    message, answer.outcome, rows, self._reply_envelope(message, self._new_id())
                )
                closing = self._settle(step, answer, _state_of(step, decided))
                if not closing:
                    self._emit(decided, answer.call.delivery.raw)
        if known:
            step.save(rows, self._tx)

    def _is_open(self, step: AnyStep, answer: Answer) -> bool:
        effect = self._book.get(answer.call.delivery.message.saga_id, step.name)
        return effect is not None and effect.state is EffectState.STARTED

    def _settle(self, step: AnyStep, answer: Answer, state: EffectState) -> bool:
        saga_id = answer.call.delivery.message.saga_id
        effect = self._book.get(saga_id, step.name)
        assert effect is not None, "an open answer has its effect"
        self._book.put(effects.settled(effect, state))
        self._mark_handled(step.name, [answer.call.delivery], always=True)
        if effect.closing:
            self.out.settled_saga_ids.add(saga_id)
        return effect.closing

    def _call_failed(self, step: ExternalStep[Any, Any, Any, Any], answer: Answer) -> None:
        call, failure = answer.call, answer.failure
        assert failure is not None, "only a failed call gets here"
        effect = self._book.get(call.delivery.message.saga_id, step.name)
        assert effect is not None, "an open answer has its effect"
        assert effect.deadline_at is not None, "a call has a deadline"
        attempt, delivery = effect.attempt, call.delivery
        if effect.closing:
            due_at = max(effect.deadline_at, self._now + timedelta(seconds=SETTLE_AGAIN_S))
            self._defer(step.name, delivery, attempt=attempt, due_at=due_at, reason=failure.reason)
        elif step.retry.is_exhausted(attempt):
            self._defer(step.name, delivery, attempt=attempt, due_at=None, reason=HELD)
            self.dead_letter(delivery.raw, step.name, failure.reason, attempt)
        else:
            wait_s = max(step.retry.delay_s(attempt, self._jitter.random()), failure.retry_after_s or 0.0)
            due_at = self._now + timedelta(seconds=wait_s)
            self._defer(step.name, delivery, attempt=attempt, due_at=due_at, reason=failure.reason)

    # Compensations

    def _compensate(self, compensation: AnyCompensation, group: list[Delivery]) -> None:
        undo: list[Delivery] = []
        answer: list[Delivery] = []
        for delivery in group:
            saga_id = delivery.message.saga_id
            found = effects.on_compensation([self._book.get(saga_id, step) for step in compensation.undoes])
            if found is OnCompensation.SETTLE:
                self._close(saga_id, compensation.undoes, delivery, name(compensation))
            else:
                (undo if found is OnCompensation.UNDO else answer).append(delivery)
        if isinstance(compensation, ExternalCompensation):
            self._begin_compensation_calls(compensation, undo)
            self._answer_compensation(compensation, [(each, None) for each in answer])
            return
        if undo or answer:
            rows = compensation.load([each.message for each in (*undo, *answer)], self._tx)
            for each, undoes in (*((each, True) for each in undo), *((each, False) for each in answer)):
                reply_envelope = self._command_reply_envelope(each.message)
                self._emit(compensation.decide(each.message, undoes, rows, reply_envelope), each.raw)
                self._mark_undone(compensation, each.message.saga_id)
            compensation.save(rows, self._tx)
            self._mark_handled(name(compensation), [*undo, *answer])

    def _mark_undone(self, compensation: AnyCompensation, saga_id: str) -> None:
        for step in compensation.undoes:
            self._book.put(effects.undone(saga_id, step, self._book.get(saga_id, step)))

    def _begin_compensation_calls(
        self, compensation: ExternalCompensation[Any, Any, Any, Any], group: list[Delivery]
    ) -> None:
        if not group:
            return
        requests = compensation.call.prepare([each.message for each in group], self._tx)
        deadline_at = self._now + compensation.call.deadline
        for each in group:
            self._defer(name(compensation), each, attempt=each.attempt, due_at=deadline_at, reason="call under way")
            self.out.calls.append(
                PendingCall(
                    handler=compensation,
                    delivery=each,
                    request=requests[each.message.saga_id],
                    key=f"{each.message.saga_id}:{compensation.undoes[0]}:undo",
                    attempt=each.attempt,
                    deadline_at=deadline_at,
                )
            )

    def _finish_compensation(
        self, compensation: ExternalCompensation[Any, Any, Any, Any], group: list[Answer]
    ) -> None:
        answered: list[tuple[Delivery, Any]] = []
        for answer in group:
            delivery, saga_id = answer.call.delivery, answer.call.delivery.message.saga_id
            found = effects.on_compensation([self._book.get(saga_id, step) for step in compensation.undoes])
            if found is not OnCompensation.UNDO:
                answered.append((delivery, None))
            elif answer.failure is None:
                answered.append((delivery, answer.outcome))
            else:
                self._retry(name(compensation), delivery, answer.failure.reason, answer.failure.retry_after_s)
        self._answer_compensation(compensation, answered)

    def _answer_compensation(
        self, compensation: ExternalCompensation[Any, Any, Any, Any], group: list[tuple[Delivery, Any]]
    ) -> None:
        if not group:
            return
        rows = compensation.load([delivery.message for delivery, _ in group], self._tx)
        for delivery, outcome in group:
            reply_envelope = self._command_reply_envelope(delivery.message)
            self._emit(compensation.decide(delivery.message, outcome, rows, reply_envelope), delivery.raw)
            self._mark_undone(compensation, delivery.message.saga_id)
        compensation.save(rows, self._tx)
        self._mark_handled(name(compensation), [delivery for delivery, _ in group], always=True)

    # Fences

    def _fence(self, delivery: Delivery) -> None:
        command = delivery.message
        assert isinstance(command, FenceSaga), "the codec made it one"
        unknown = [step for step in command.steps if self._handlers.step(step) is None]
        if unknown:
            raise Undeliverable(f"{self._service} has no step {', '.join(unknown)}; look at the saga's definition.")
        if self._close(command.saga_id, command.steps, delivery, FENCE):
            return
        outcomes = []
        for step in command.steps:
            effect = self._book.get(command.saga_id, step)
            assert effect is not None, "it was fenced above"
            outcomes.append(StepOutcome(step=step, state=effect.state.value))
        reply_envelope = self._command_reply_envelope(command)
        self._emit(SagaFenced(**reply_envelope, service=self._service, steps=tuple(outcomes)), delivery.raw)
        self._mark_handled(FENCE, [delivery])

    def _close(self, saga_id: str, steps: Iterable[str], delivery: Delivery, handler_name: str) -> bool:
        """Fence the steps; where a call may be under way, let the command wait until it is settled, and say so."""
        started: list[datetime] = []
        for step in steps:
            effect = effects.fenced(saga_id, step, self._book.get(saga_id, step))
            self._book.put(effect)
            if effect.state is EffectState.STARTED:
                started.append(effect.deadline_at or self._now)
        if not started:
            return False
        look_again_at = max(*started, self._now + timedelta(seconds=SETTLE_AGAIN_S))
        if not delivery.is_deferred:
            self.out.closing.append((saga_id, tuple(steps)))
        self._defer(handler_name, delivery, attempt=delivery.attempt, due_at=look_again_at, reason="not settled yet")
        return True

    # What every handler needs

    def fail(self, handler_name: str, delivery: Delivery, reason: str) -> None:
        """A handler raised for this message: try again later, or give it up to the dead-letter topic."""
        self._retry(handler_name, delivery, reason, None)

    def give_up(self, handler_name: str, delivery: Delivery, reason: str) -> None:
        """This service can do nothing with the message: to its dead-letter topic at once."""
        self.dead_letter(delivery.raw, None, reason, delivery.attempt)
        self._mark_handled(handler_name, [delivery], always=True)

    def dead_letter(self, raw: RawMessage, step: str | None, reason: str, attempts: int) -> None:
        """Send the original bytes to the step's dead-letter topic, or to the service's own where no step is meant."""
        letter = DeadLetter(service=self._service, step=step, reason=reason, attempts=attempts)
        self.out.rows.append(dead_letter_row(raw, letter, row_id=self._new_id()))

    def _retry(self, handler_name: str, delivery: Delivery, reason: str, retry_after_s: float | None) -> None:
        policy, step = self._handlers.retry_of(handler_name)
        if policy.is_exhausted(delivery.attempt):
            self.dead_letter(delivery.raw, step, reason, delivery.attempt)
            effect = self._book.get(delivery.message.saga_id, handler_name)
            if effect is not None and effect.state is EffectState.STARTED:
                self._defer(handler_name, delivery, attempt=delivery.attempt, due_at=None, reason=HELD)
            else:
                self._mark_handled(handler_name, [delivery], always=True)
            return
        wait_s = max(policy.delay_s(delivery.attempt, self._jitter.random()), retry_after_s or 0.0)
        due_at = self._now + timedelta(seconds=wait_s)
        self._defer(handler_name, delivery, attempt=delivery.attempt + 1, due_at=due_at, reason=reason)

    def _defer(
        self, handler_name: str, delivery: Delivery, *, attempt: int, due_at: datetime | None, reason: str
    ) -> None:
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

    def _mark_handled(self, handler_name: str, group: Iterable[Delivery], *, always: bool = False) -> None:
        for delivery in group:
            key = (delivery.message.message_id, handler_name)
            self.out.deferrals.pop(key, None)
            if delivery.is_deferred or always:
                self.out.handled.append(key)

    def _reply_envelope(self, cause: Message, message_id: str) -> Any:
        return envelope(cause, message_id=message_id, at=self._now)

    def _command_reply_envelope(self, command: Message) -> Any:
        return self._reply_envelope(command, derived_id(command.message_id, "reply"))

    def _emit(self, message: Message, cause: RawMessage) -> None:
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
            )
        )


def _by(items: Sequence[Item], key: Callable[[Item], Key]) -> list[tuple[Key, list[Item]]]:
    """Group items by key, keys and items in the order in which they came."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())


def _rounds(items: list[Item], delivery_of: Callable[[Item], Delivery]) -> list[list[Item]]:
    """Split items so that no saga is twice in a round; nearly always there is one round."""
    rounds: list[list[Item]] = []
    seen: Counter[str] = Counter()
    for item in items:
        saga_id = delivery_of(item).message.saga_id
        if seen[saga_id] == len(rounds):
            rounds.append([])
        rounds[seen[saga_id]].append(item)
        seen[saga_id] += 1
    return rounds


def _state_of(step: AnyStep, answer: Message) -> EffectState:
    if isinstance(answer, step.succeeds_with):
        return EffectState.DONE
    if step.rejected_with is not None and isinstance(answer, step.rejected_with):
        return EffectState.REJECTED
    raise TypeError(f"{step.name} answered with {name_of(type(answer))}; declare it as its success or its rejection.")
