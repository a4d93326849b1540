"""What one transaction of a service does with a batch: claim the effects, load, decide, save, write the outbox.

It knows neither Kafka nor threads: deliveries and answers come in, rows and calls to make go out. So the same code runs
under a real broker and under a simulated one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from messages.contract import Message, name_of
from sqlalchemy import Connection

from chassis.http.downstream import NotTried
from chassis.saga import deferred, effects, outbox
from chassis.saga.built_in_commands import SETTLE_AGAIN_S, BuiltInCommands
from chassis.saga.deferred import RawMessage
from chassis.saga.effects import EffectState, LoadedEffects, OnCompensation, OnDue, OnTrigger
from chassis.saga.handlers import Handlers
from chassis.saga.steps import (
    AnyCompensation,
    AnyStep,
    ExternalCompensation,
    ExternalStep,
    Reaction,
    Step,
    name,
)
from chassis.saga.unit_of_work import BLOCKED, Answer, Delivery, Outgoing, PendingCall, Undeliverable, UnitOfWork
from chassis.saga.waiting import WaitingMessages
from chassis.wire.codec import Codec
from chassis.wire.envelope import (
    NewId,
)

Item = TypeVar("Item")
Key = TypeVar("Key")


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
        self._now = now
        self._new_id = new_id
        wanted = frozenset(saga_ids)
        pending = effects.submit_load(tx, wanted) if handlers.steps else None
        self._line = WaitingMessages.of(deferred.load(tx, wanted))
        self._book = LoadedEffects() if pending is None else effects.loaded(pending)
        self.turn = UnitOfWork(service, handlers, codec, self._book, self._line, now=now, new_id=new_id, jitter=jitter)
        self._kit = BuiltInCommands(service, handlers, self._book, self._line, self.turn, now=now)

    def answers(self, answers: Sequence[Answer]) -> None:
        """Settle the effects whose calls have come back."""
        for round_ in _rounds(answers, lambda answer: (answer.call.delivery, answer)):
            for _, group in _by(round_, lambda answer: name(answer.call.handler)):
                handler = group[0].call.handler
                if isinstance(handler, ExternalStep):
                    self._finish_step(handler, group)
                else:
                    self._finish_compensation(handler, group)

    def deliveries(self, deliveries: Sequence[tuple[str, Delivery]]) -> None:
        """Handle messages by handler name; those of one saga one after the other, and none before one that waits."""
        for round_ in _rounds(deliveries, lambda pair: (pair[1], pair[1].raw)):
            for handler_name, group in _by([each for each in round_ if self._may_go(*each)], lambda pair: pair[0]):
                self._dispatch(handler_name, [delivery for _, delivery in group])

    def due(self, deliveries: Sequence[tuple[str, Delivery]]) -> None:
        """Handle deferred messages whose time has come, but for those that an answer has dealt with meanwhile."""
        for round_ in _rounds(deliveries, lambda pair: (pair[1], pair[1].raw)):
            wanted = [pair for pair in round_ if pair[1].row and self._line.is_due(pair[1].row, self._now)]
            for handler_name, group in _by(wanted, lambda pair: pair[0]):
                step, found = self._handlers.step(handler_name), [delivery for _, delivery in group]
                if isinstance(step, ExternalStep):
                    for delivery in found:
                        self._due_call(step, delivery)
                else:
                    self._dispatch(handler_name, found)

    def failed(self, handler_name: str, delivery: Delivery, error: Exception) -> None:
        """A handler raised for this message: try again later, or give it up."""
        if delivery.row is not None and not self._line.is_due(delivery.row, self._now):
            return
        if isinstance(error, Undeliverable):
            self.turn.give_up(handler_name, delivery, str(error), error.detail)
        else:
            self.turn.fail(handler_name, delivery, f"{type(error).__name__} in {handler_name}", str(error))

    def unread(self, raw: RawMessage, reason: str, detail: str, *, row: deferred.Deferral | None = None) -> None:
        """Give up what nobody here can read or waits for; ``row`` is the deferral of one that was deferred before."""
        if row is None or self._line.is_due(row.key, self._now):
            self.turn.unread(raw, reason, detail, row=row)

    def forget(self, row: deferred.Deferral) -> None:
        """Let a deferred message go that nobody here waits for any more."""
        self._line.remove(row.key)

    def finish(self) -> Outgoing:
        """Save effects, deferrals and outbox in the transaction, and return what is to be done after the commit."""
        effects.save(self._tx, self._book, now=self._now)
        self._line.move_up(self._now)
        deferred.rename(self._tx, self._line.renamed)
        deferred.remove(self._tx, self._line.removed)
        deferred.save(self._tx, self._line.changed, now=self._now)
        outbox.save(self._tx, self.turn.out.rows)
        return self.turn.out

    def _may_go(self, handler_name: str, delivery: Delivery) -> bool:
        """Say whether a message from Kafka may be handled now: it does not wait already, and behind nothing."""
        message, is_command = delivery.message, delivery.raw.is_command
        if self._line.get((message.message_id, handler_name)) is not None:
            return False
        if is_command or not self._line.is_blocked(message.saga_id, message.message_id):
            return True
        step = self._handlers.step(handler_name)
        if step is None or self._may_run(step, message):
            self.turn.defer(handler_name, delivery, attempt=1, due_at=None, reason=BLOCKED, behind=True)
        return False

    # Steps

    def _dispatch(self, handler_name: str, group: list[Delivery]) -> None:
        for handler in (*self._handlers.steps, *self._handlers.reactions, *self._handlers.compensations):
            if name(handler) != handler_name:
                continue
            if isinstance(handler, Reaction):
                handler.apply([delivery.message for delivery in group], self._tx)
                self.turn.mark_handled(handler_name, group)
            elif isinstance(handler, Step):
                self._run_step(handler, group)
            elif isinstance(handler, ExternalStep):
                self._start_step(handler, group)
            else:
                self._compensate(handler, group)
            return
        if handler_name not in self._handlers.built_in:
            raise Undeliverable(f"{self._service} has no handler {handler_name}.")
        for delivery in group:
            self._kit.handle(delivery)

    def _run_step(self, step: Step[Any, Any], group: list[Delivery]) -> None:
        fresh = [each for each in group if self._may_run(step, each.message)]
        if fresh:
            rows = step.load([each.message for each in fresh], self._tx)
            for each in fresh:
                saga_id = each.message.saga_id
                answer = step.decide(each.message, rows, self.turn.reply_envelope(each.message, self._new_id()))
                state = _state_of(step, answer)
                self._book.put(effects.Effect(saga_id=saga_id, step=step.name, state=state, attempt=each.attempt))
                self.turn.emit(answer, each.raw)
            step.save(rows, self._tx)
        self.turn.mark_handled(step.name, group)

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
            self.turn.defer(step.name, each, attempt=effect.attempt, due_at=deadline_at, reason="call under way")
            self.turn.out.calls.append(
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
            self.turn.mark_handled(step.name, [delivery])
        elif what is OnDue.WAIT:
            at = effect.deadline_at
            self.turn.defer(step.name, delivery, attempt=effect.attempt, due_at=at, reason="call under way")
        else:
            at = deadline_at = self._now + step.call.deadline
            self.turn.defer(step.name, delivery, attempt=effect.attempt, due_at=at, reason="asking the provider")
            self.turn.out.calls.append(
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
        self._pass_over(step, [answer for answer in group if not self._is_open(step, answer)])
        known = [answer for answer in open_answers if answer.failure is None and answer.outcome is not None]
        rows = step.load([each.call.delivery.message for each in known], self._tx) if known else None
        for answer in open_answers:
            if answer.failure is not None:
                self._call_failed(step, answer)
            elif answer.outcome is None:
                self._settle(step, answer, EffectState.FENCED)
            else:
                message = answer.call.delivery.message
                decided = step.decide(message, answer.outcome, rows, self.turn.reply_envelope(message, self._new_id()))
                closing = self._settle(step, answer, _state_of(step, decided))
                if not closing:
                    self.turn.emit(decided, answer.call.delivery.raw)
        if known:
            step.save(rows, self._tx)

    def _pass_over(self, step: ExternalStep[Any, Any, Any, Any], group: list[Answer]) -> None:
        """Answers to what is settled already change nothing; one that the effect denies is told to people.

        A process that stood still in the middle of a call may have made it after its provider was asked.
        """
        for answer in group:
            delivery = answer.call.delivery
            effect = self._book.get(delivery.message.saga_id, step.name)
            if answer.outcome is not None and effect is not None and effect.state is EffectState.FENCED:
                reason = f"{step.name} is FENCED, but its provider answered after it was asked"
                self.turn.dead_letter(delivery.raw, None, reason, effect.attempt, detail=repr(answer.outcome))
        self.turn.mark_handled(step.name, [answer.call.delivery for answer in group])

    def _is_open(self, step: AnyStep, answer: Answer) -> bool:
        effect = self._book.get(answer.call.delivery.message.saga_id, step.name)
        return effect is not None and effect.state is EffectState.STARTED

    def _settle(self, step: AnyStep, answer: Answer, state: EffectState) -> bool:
        saga_id = answer.call.delivery.message.saga_id
        effect = self._book.get(saga_id, step.name)
        assert effect is not None, "an open answer has its effect"
        self._book.put(effects.settled(effect, state))
        self.turn.mark_handled(step.name, [answer.call.delivery])
        if effect.closing:
            self._line.wake(saga_id, lambda row: row.raw.is_command, self._now)
        return effect.closing

    def _call_failed(self, step: ExternalStep[Any, Any, Any, Any], answer: Answer) -> None:
        call, failure = answer.call, answer.failure
        assert failure is not None, "only a failed call gets here"
        effect = self._book.get(call.delivery.message.saga_id, step.name)
        assert effect is not None, "an open answer has its effect"
        assert effect.deadline_at is not None, "a call has a deadline"
        attempt, delivery = effect.attempt, call.delivery
        if call.attempt != attempt and not call.asks:
            return  # A later call is under way, which the row waits for.
        if isinstance(failure, NotTried) and not call.asks:
            self._book.put(effects.not_called(effect))
        if effect.closing:
            due_at = max(effect.deadline_at, self._now + timedelta(seconds=SETTLE_AGAIN_S))
            self.turn.defer(step.name, delivery, attempt=attempt, due_at=due_at, reason=failure.reason)
        else:
            self.turn.retry(step.name, replace(delivery, attempt=attempt), failure)

    # Compensations

    def _compensate(self, compensation: AnyCompensation, group: list[Delivery]) -> None:
        undo: list[Delivery] = []
        answer: list[Delivery] = []
        for delivery in group:
            saga_id = delivery.message.saga_id
            found = effects.on_compensation([self._book.get(saga_id, step) for step in compensation.undoes])
            if found is OnCompensation.SETTLE:
                self._kit.close(saga_id, compensation.undoes, delivery, name(compensation))
            else:
                (undo if found is OnCompensation.UNDO else answer).append(delivery)
        if isinstance(compensation, ExternalCompensation):
            self._begin_compensation_calls(compensation, undo)
            self._answer_compensation(compensation, [(each, None) for each in answer])
            return
        if undo or answer:
            rows = compensation.load([each.message for each in (*undo, *answer)], self._tx)
            for each, undoes in (*((each, True) for each in undo), *((each, False) for each in answer)):
                reply_envelope = self.turn.command_reply_envelope(each.message)
                self.turn.emit(compensation.decide(each.message, undoes, rows, reply_envelope), each.raw)
                self._mark_undone(compensation, each.message.saga_id)
            compensation.save(rows, self._tx)
            self.turn.mark_handled(name(compensation), [*undo, *answer])

    def _mark_undone(self, compensation: AnyCompensation, saga_id: str) -> None:
        for step in compensation.undoes:
            self._book.put(effects.undone(saga_id, step, self._book.get(saga_id, step)))
        self._kit.drop(saga_id, compensation.undoes)

    def _begin_compensation_calls(
        self, compensation: ExternalCompensation[Any, Any, Any, Any], group: list[Delivery]
    ) -> None:
        if not group:
            return
        requests = compensation.call.prepare([each.message for each in group], self._tx)
        deadline_at = self._now + compensation.call.deadline
        for each in group:
            self.turn.defer(name(compensation), each, attempt=each.attempt, due_at=deadline_at, reason="call under way")
            self.turn.out.calls.append(
                PendingCall(
                    handler=compensation,
                    delivery=each,
                    request=requests[each.message.saga_id],
                    key=f"{each.message.saga_id}:{compensation.undoes[0]}:undo",
                    attempt=each.attempt,
                    deadline_at=deadline_at,
                )
            )

    def _finish_compensation(self, compensation: ExternalCompensation[Any, Any, Any, Any], group: list[Answer]) -> None:
        answered: list[tuple[Delivery, Any]] = []
        for answer in group:
            delivery, saga_id = answer.call.delivery, answer.call.delivery.message.saga_id
            found = effects.on_compensation([self._book.get(saga_id, step) for step in compensation.undoes])
            if found is not OnCompensation.UNDO:
                answered.append((delivery, None))
            elif answer.failure is None:
                answered.append((delivery, answer.outcome))
            elif self._waits_for(answer):
                self.turn.retry(name(compensation), delivery, answer.failure)
        self._answer_compensation(compensation, answered)

    def _waits_for(self, answer: Answer) -> bool:
        """Say whether the command still waits for this call: it may have been given up, or called again."""
        row = self._line.get((answer.call.delivery.message.message_id, name(answer.call.handler)))
        return row is not None and row.attempt == answer.call.attempt

    def _answer_compensation(
        self, compensation: ExternalCompensation[Any, Any, Any, Any], group: list[tuple[Delivery, Any]]
    ) -> None:
        if not group:
            return
        rows = compensation.load([delivery.message for delivery, _ in group], self._tx)
        for delivery, outcome in group:
            reply_envelope = self.turn.command_reply_envelope(delivery.message)
            self.turn.emit(compensation.decide(delivery.message, outcome, rows, reply_envelope), delivery.raw)
            self._mark_undone(compensation, delivery.message.saga_id)
        compensation.save(rows, self._tx)
        self.turn.mark_handled(name(compensation), [delivery for delivery, _ in group])


def _by(items: Sequence[Item], key: Callable[[Item], Key]) -> list[tuple[Key, list[Item]]]:
    """Group items by key, keys and items in the order in which they came."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())


def _rounds(items: Sequence[Item], look: Callable[[Item], tuple[Delivery, object]]) -> list[list[Item]]:
    """Split items so that no round has two things of one saga; nearly always there is one round.

    ``look`` tells an item's delivery, and the thing that it is about: one message may be for two handlers.
    """
    rounds: list[list[Item]] = []
    places: dict[str, dict[int, int]] = {}
    for item in items:
        delivery, thing = look(item)
        seen = places.setdefault(delivery.message.saga_id, {})
        place = seen.setdefault(id(thing), len(seen))
        if place == len(rounds):
            rounds.append([])
        rounds[place].append(item)
    return rounds


def _state_of(step: AnyStep, answer: Message) -> EffectState:
    if isinstance(answer, step.succeeds_with):
        return EffectState.DONE
    if step.rejected_with is not None and isinstance(answer, step.rejected_with):
        return EffectState.REJECTED
    raise TypeError(f"{step.name} answered with {name_of(type(answer))}; declare it as its success or its rejection.")
