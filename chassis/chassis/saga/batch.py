"""What one transaction of a service does with its work: claim the effects, load, decide, save, write the outbox.

It knows neither Kafka nor threads: deliveries and call results go in, rows and pending calls come out. So the same code
runs under a real broker and under a simulated one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection

from chassis.http.downstream import Unavailable
from chassis.saga import attempt_rows, deferred, effects, evidence, outbox
from chassis.saga.attempt_rows import LoadedAttempts
from chassis.saga.awaited_restore import RestoredSteps
from chassis.saga.awaited_steps import AGAIN_AFTER_ERROR, AwaitedSteps
from chassis.saga.built_in_commands import BuiltInCommands
from chassis.saga.compensations import Compensations
from chassis.saga.effects import LoadedEffects
from chassis.saga.evidence import StoredEvidence
from chassis.saga.handlers import Handlers
from chassis.saga.late_calls import LateCalls
from chassis.saga.routing import Unprocessable, Work
from chassis.saga.step_calls import StepCalls
from chassis.saga.steps import COMMIT_ALLOWANCE, AwaitedStep, ExternalStep, Reaction, Step, answer, name, request_of
from chassis.saga.triggers import StepKey, StepRequest
from chassis.saga.unit_of_work import BLOCKED, AwaitedResult, CallResult, Delivery, Outgoing, Undeliverable, UnitOfWork
from chassis.saga.waiting import WaitingMessages
from chassis.wire.codec import Codec
from chassis.wire.envelope import NewId
from messages.contract import Message

Item = TypeVar("Item")
Key = TypeVar("Key")


class Batch:
    """One batch in one transaction. Make one, :meth:`handle` its work, then :meth:`finish`; the caller commits."""

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
        allowance: timedelta = COMMIT_ALLOWANCE,
    ) -> None:
        self._tx = tx
        self._handlers = handlers
        self._now = now
        wanted = frozenset(saga_ids)
        pending = effects.submit_load(tx, wanted) if handlers.steps else None
        self._waiting = WaitingMessages.of(deferred.load(tx, wanted))
        self._loaded = LoadedEffects() if pending is None else effects.loaded(pending)
        self._unit_of_work = UnitOfWork(
            service,
            handlers,
            codec,
            self._loaded,
            self._waiting,
            now=now,
            new_id=new_id,
            jitter=jitter,
            allowance=allowance,
        )
        self._attempts = attempt_rows.load(tx, wanted) if handlers.awaited else LoadedAttempts()
        self._awaited_steps = AwaitedSteps(tx, self._unit_of_work, self._attempts, codec)
        self._built_in = BuiltInCommands(handlers, self._unit_of_work, self._awaited_steps)
        self._step_calls = StepCalls(tx, self._unit_of_work, LateCalls(tx, self._unit_of_work, handlers, codec))
        self._compensations = Compensations(tx, self._unit_of_work, self._built_in, self._awaited_steps)

    @property
    def restored_steps(self) -> RestoredSteps:
        """The awaited steps of a restored database, which take over what their service has published."""
        return RestoredSteps(self._unit_of_work, self._attempts, self._awaited_steps)

    def handle(self, work: Work) -> None:
        """Handle the work.

        1. The rows that several handlers share are locked for all of them.
        2. The results of finished calls, and evidence, settle their effects; providers are queried that are due.
        3. Deferred messages that are due are handled, then those from Kafka, each handler once for all of its messages.
        4. What no handler wants is discarded; what cannot be processed is dead-lettered and parked.
        """
        # 1.
        self._lock((*work.due, *work.deliveries))
        # 2.
        self.settle(work.results)
        self.settle_awaited(work.awaited_results, work.evidence)
        self.query(work.awaited_due)
        # 3.
        self.due(work.due)
        self.deliveries(work.deliveries)
        # 4.
        for row in work.unwanted:
            self._waiting.remove(row.key)
        for each in work.unprocessable:
            self.park_unprocessable(each)

    def settle(self, results: Sequence[CallResult]) -> None:
        """Settle the effects whose calls have come back."""
        for round_ in _rounds(results, lambda result: (result.call.delivery, result)):
            for _, group in _by_handler(round_, lambda result: name(result.call.handler)):
                handler = group[0].call.handler
                if isinstance(handler, ExternalStep):
                    self._step_calls.settle(handler, group)
                else:
                    self._compensations.settle(handler, group)

    def settle_awaited(self, results: Sequence[AwaitedResult], pieces: Sequence[StoredEvidence]) -> None:
        """Take answers about attempts, and decide about stored evidence; what is decided about already is left out."""
        for result in results:
            self._awaited_steps.settle(result.call.step, result)
        fates, strange = [], []
        for piece in evidence.lock(self._tx, [each.id for each in pieces]) if pieces else ():
            step = self._handlers.awaited.get(piece.step)
            if step is None:
                raise Undeliverable(f"{self._unit_of_work.service} has no awaited step {piece.step} any more.")
            fate = self._awaited_steps.take(step, piece)
            if fate is None:
                strange.append(piece.id)
            else:
                fates.append((piece.id, fate))
        self._awaited_steps.flush()
        evidence.handle(self._tx, fates, now=self._now)
        evidence.unmatch(self._tx, strange, now=self._now)

    def query(self, due: Sequence[StepKey]) -> None:
        """Go on with the ladders that are due."""
        for saga_id, step_name in due:
            step = self._handlers.awaited.get(step_name)
            if step is not None:
                self._awaited_steps.due(step, saga_id)
        self._awaited_steps.flush()

    def deliveries(self, deliveries: Sequence[tuple[str, Delivery]]) -> None:
        """Handle messages by handler name; those of one saga in order, and none before one that waits."""
        for round_ in _rounds(deliveries, lambda pair: (pair[1], pair[1].raw)):
            going = [each for each in round_ if self._may_go(*each)]
            for handler_name, group in _by_handler(going, lambda pair: pair[0]):
                self._dispatch(handler_name, [delivery for _, delivery in group])

    def due(self, deliveries: Sequence[tuple[str, Delivery]]) -> None:
        """Handle deferred messages that are due, except those that a call's result has settled in this batch."""
        for round_ in _rounds(deliveries, lambda pair: (pair[1], pair[1].raw)):
            wanted = [pair for pair in round_ if pair[1].row and self._waiting.is_due(pair[1].row, self._now)]
            for handler_name, group in _by_handler(wanted, lambda pair: pair[0]):
                step, found = self._handlers.step(handler_name), [delivery for _, delivery in group]
                if isinstance(step, ExternalStep):
                    for delivery in found:
                        self._step_calls.repeat(step, delivery)
                else:
                    self._dispatch(handler_name, found)

    def park_unprocessable(self, message: Unprocessable) -> None:
        """Dead-letter and park what cannot be decoded or must not be handled."""
        if message.row is None or self._waiting.is_due(message.row.key, self._now):
            self._unit_of_work.park_unprocessable(message.raw, message.reason, message.detail, row=message.row)

    def record_failure(self, piece: Work, error: Exception) -> None:
        """Record that handling this piece raised: its messages are retried later, dead-lettered or parked."""
        for handler_name, delivery in (*piece.deliveries, *piece.due):
            self.record_failed_delivery(handler_name, delivery, error)
        failure = Unavailable(f"{type(error).__name__} in an answer", detail=str(error))
        self.settle([CallResult(call=each.call, failure=failure) for each in piece.results])
        for key in piece.awaited_due:
            self._awaited_steps.postpone(key)
        if piece.evidence:
            again_at = self._now + AGAIN_AFTER_ERROR
            evidence.postpone(self._tx, [each.id for each in piece.evidence], until=again_at)

    def record_failed_delivery(self, handler_name: str, delivery: Delivery, error: Exception) -> None:
        """Record that a handler raised for this message."""
        if delivery.row is not None and not self._waiting.is_due(delivery.row, self._now):
            return
        if isinstance(error, Undeliverable):
            self._unit_of_work.park(handler_name, delivery, str(error), error.detail)
        else:
            reason = f"{type(error).__name__} in {handler_name}"
            self._unit_of_work.retry(handler_name, delivery, Unavailable(reason, detail=str(error)))

    def finish(self) -> Outgoing:
        """Save effects, deferrals and outbox in the transaction, and return what is to follow the commit."""
        self._awaited_steps.flush()
        effects.save(self._tx, self._loaded, now=self._now)
        attempt_rows.save(self._tx, self._attempts)
        self._waiting.unblock(self._now)
        deferred.rename(self._tx, self._waiting.renamed)
        deferred.remove(self._tx, self._waiting.removed)
        deferred.save(self._tx, self._waiting.changed, now=self._now)
        outbox.save(self._tx, self._unit_of_work.out.rows)
        return self._unit_of_work.out

    def _lock(self, deliveries: Sequence[tuple[str, Delivery]]) -> None:
        """Lock shared rows in one order, where this batch would lock them more than once."""
        if not self._handlers.locks:
            return
        for lock, group in _by(deliveries, lambda pair: self._handlers.locks.get(pair[0])):
            loads = {(handler_name, delivery.row is None) for handler_name, delivery in group}
            saga_ids = {delivery.message.saga_id for _, delivery in group}
            if lock is not None and (len(loads) > 1 or len(saga_ids) < len(group)):
                lock([self._request(*each) for each in group], self._tx)

    def _request(self, handler_name: str, delivery: Delivery) -> StepRequest | Message:
        """Return what a message asks of its handler: a step's request, or a compensation's command itself."""
        step = self._handlers.step(handler_name)
        return delivery.message if step is None else request_of(step, delivery.message)

    def _may_go(self, handler_name: str, delivery: Delivery) -> bool:
        """Return whether a message from Kafka may be handled now: it does not wait already, and nothing blocks it."""
        message, is_command = delivery.message, delivery.raw.is_command
        if self._waiting.get((message.message_id, handler_name)) is not None:
            return False
        if is_command or not self._waiting.is_blocked(message.saga_id, message.message_id):
            return True
        step = self._handlers.step(handler_name)
        if step is None or self._loaded.may_run(message.saga_id, step.name):
            self._unit_of_work.defer(handler_name, delivery, attempt=1, due_at=None, reason=BLOCKED, is_blocked=True)
        return False

    def _dispatch(self, handler_name: str, group: list[Delivery]) -> None:
        handler = self._handlers.by_name.get(handler_name)
        if isinstance(handler, Step):
            self._run_step(handler, group)
        elif isinstance(handler, ExternalStep):
            self._step_calls.start(handler, group)
        elif isinstance(handler, AwaitedStep):
            self._awaited_steps.start(handler, group)
        elif isinstance(handler, Reaction):
            besides = handler.apply([delivery.message for delivery in group], self._tx)
            self._unit_of_work.emit_besides(besides or (), group)
            self._unit_of_work.mark_handled(handler_name, group)
        elif handler is not None:
            self._compensations.compensate(handler, group)
        elif handler_name in self._handlers.built_in:
            for delivery in group:
                self._built_in.handle(delivery)
        else:
            raise Undeliverable(f"{self._unit_of_work.service} has no handler {handler_name}.")
        self._awaited_steps.flush()

    def _run_step(self, step: Step[Any, Any], group: list[Delivery]) -> None:
        unit_of_work = self._unit_of_work
        fresh = [each for each in group if self._loaded.may_run(each.message.saga_id, step.name)]
        if fresh:
            requests = [request_of(step, each.message) for each in fresh]
            rows = step.load(requests, self._tx)
            for each, request in zip(fresh, requests, strict=True):
                envelope = unit_of_work.reply_envelope(each.message, unit_of_work.new_id())
                outcome = step.decide(request, rows, envelope)
                reply, state = answer(step, each.message, outcome, envelope)
                effect = effects.Effect(saga_id=request.saga_id, step=step.name, state=state, attempt=each.attempt)
                self._loaded.put(effect)
                unit_of_work.emit(reply, each.raw)
            unit_of_work.emit_besides(step.save(rows, self._tx) or (), fresh)
        unit_of_work.mark_handled(step.name, group)


def _by(items: Sequence[Item], key: Callable[[Item], Key]) -> list[tuple[Key, list[Item]]]:
    """Group items by key, keys and items in their order."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())


def _by_handler(items: Sequence[Item], handler_name: Callable[[Item], str]) -> list[tuple[str, list[Item]]]:
    """Group items by handler, the handlers in one order in every batch: what they lock, they lock in that order."""
    return sorted(_by(items, handler_name), key=lambda group: group[0])


def _rounds(items: Sequence[Item], look: Callable[[Item], tuple[Delivery, object]]) -> list[list[Item]]:
    """Split items so that no round has two subjects of one saga; nearly always there is one round.

    ``look`` returns an item's delivery and its subject: items for two handlers of one message share their subject.
    """
    rounds: list[list[Item]] = []
    seen: dict[str, dict[int, int]] = {}
    for item in items:
        delivery, subject = look(item)
        subjects = seen.setdefault(delivery.message.saga_id, {})
        number = subjects.setdefault(id(subject), len(subjects))
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(item)
    return rounds
