"""Compensations in one unit of work: undo what was done, reply where there is nothing to undo, wait for a call.

A compensation fences its steps where they have not run, so that a trigger that comes later is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from chassis.http.downstream import TooLate
from chassis.saga import effects
from chassis.saga.awaited_steps import AwaitedSteps
from chassis.saga.built_in_commands import COMES_LATER, BuiltInCommands
from chassis.saga.effects import EffectState, OnCompensation
from chassis.saga.steps import (
    AnyAwaitedCompensation,
    AnyCompensation,
    AnyExternalCompensation,
    AwaitedCompensation,
    AwaitedUndo,
    Compensation,
    ExternalCompensation,
    name,
)
from chassis.saga.unit_of_work import CallResult, Delivery, PendingCall, UnitOfWork

UNDO_FAILED = "its undo failed for good at the provider"
"""The reason of a dead letter: a person has to undo the step."""


class Compensations:
    """The compensations of one unit of work, local ones and those that call a provider."""

    def __init__(
        self, tx: Connection, unit_of_work: UnitOfWork, built_in: BuiltInCommands, awaited_steps: AwaitedSteps
    ) -> None:
        self._awaited_steps = awaited_steps
        self._tx = tx
        self._unit_of_work = unit_of_work
        self._loaded = unit_of_work.loaded
        self._built_in = built_in

    def compensate(self, compensation: AnyCompensation, group: Sequence[Delivery]) -> None:
        """Carry out these commands; one whose step may have a call under way is deferred until that is settled."""
        undo: list[Delivery] = []
        reply: list[Delivery] = []
        for delivery in group:
            saga_id = delivery.message.saga_id
            what = self._decision(compensation, saga_id)
            if what is OnCompensation.SETTLE:
                self._built_in.close(saga_id, compensation.undoes, delivery, name(compensation))
            else:
                (undo if what is OnCompensation.UNDO else reply).append(delivery)
        if isinstance(compensation, AwaitedCompensation):
            undo = self._undone_later(compensation, undo)
        if isinstance(compensation, ExternalCompensation):
            self._begin(compensation, undo)
            self._finish(compensation, [(each, None) for each in reply])
        elif undo or reply:
            self._undo_locally(compensation, undo, reply)

    def settle(self, compensation: AnyExternalCompensation, group: Sequence[CallResult]) -> None:
        """Finish the compensations whose calls have come back, and retry those that failed."""
        finished: list[tuple[Delivery, Any]] = []
        late: list[Delivery] = []
        for result in group:
            delivery = result.call.delivery
            if self._decision(compensation, delivery.message.saga_id) is not OnCompensation.UNDO:
                finished.append((delivery, None))
            elif result.failure is None:
                finished.append((delivery, result.outcome))
            elif self._is_awaited(result):
                if isinstance(result.failure, TooLate):
                    late.append(delivery)
                else:
                    self._unit_of_work.retry(name(compensation), delivery, result.failure)
        self._begin(compensation, late)
        self._finish(compensation, finished)

    def _decision(self, compensation: AnyCompensation, saga_id: str) -> OnCompensation:
        return effects.on_compensation([self._loaded.get(saga_id, step) for step in compensation.undoes])

    def _undone_later(self, compensation: AnyAwaitedCompensation, group: Sequence[Delivery]) -> list[Delivery]:
        """Begin the undos of these commands, and return the commands whose undo is proven by now.

        A command whose undo is open waits without a due time: what settles it wakes the command. One whose undo failed
        for good is dead-lettered, as a command whose retries are exhausted.
        """
        undo = AwaitedUndo(step=compensation.undoes[0], compensation=compensation)
        proven: list[Delivery] = []
        for each in group:
            effect = self._loaded.get(each.message.saga_id, undo.name)
            if effect is not None and effect.state is EffectState.DONE:
                proven.append(each)
            elif effect is not None and effect.state is EffectState.REJECTED:
                self._unit_of_work.dead_letter(each.raw, undo.step, UNDO_FAILED, effect.attempt)
                self._unit_of_work.mark_handled(name(compensation), [each])
            else:
                self._awaited_steps.begin_undo(undo, each)
                self._unit_of_work.defer(
                    name(compensation), each, attempt=each.attempt, due_at=None, reason=COMES_LATER, is_blocked=True
                )
        return proven

    def _undo_locally(
        self,
        compensation: Compensation[Any, Any] | AnyAwaitedCompensation,
        undo: Sequence[Delivery],
        reply: Sequence[Delivery],
    ) -> None:
        rows = compensation.load([each.message for each in (*undo, *reply)], self._tx)
        for each, undoes in (*((each, True) for each in undo), *((each, False) for each in reply)):
            envelope = self._unit_of_work.command_reply_envelope(each.message)
            self._unit_of_work.emit(compensation.decide(each.message, undoes, rows, envelope), each.raw)
            self._mark_undone(compensation, each.message.saga_id)
        compensation.save(rows, self._tx)
        self._unit_of_work.mark_handled(name(compensation), [*undo, *reply])

    def _begin(self, compensation: AnyExternalCompensation, group: Sequence[Delivery]) -> None:
        if not group:
            return
        requests = compensation.call.prepare([each.message for each in group], self._tx)
        deadline_at, handler_name = self._unit_of_work.deadline_of(compensation), name(compensation)
        for each in group:
            self._unit_of_work.defer(
                handler_name, each, attempt=each.attempt, due_at=deadline_at, reason="call under way"
            )
            self._unit_of_work.out.calls.append(
                PendingCall(
                    handler=compensation,
                    delivery=each,
                    request=requests[each.message.saga_id],
                    attempt=each.attempt,
                    deadline_at=deadline_at,
                )
            )

    def _is_awaited(self, result: CallResult) -> bool:
        """Return whether the command still waits for this call: its retries may be exhausted, or a later call begun."""
        row = self._unit_of_work.waiting.get((result.call.delivery.message.message_id, name(result.call.handler)))
        return row is not None and row.attempt == result.call.attempt

    def _finish(self, compensation: AnyExternalCompensation, group: Sequence[tuple[Delivery, Any]]) -> None:
        if not group:
            return
        rows = compensation.load([delivery.message for delivery, _ in group], self._tx)
        for delivery, outcome in group:
            envelope = self._unit_of_work.command_reply_envelope(delivery.message)
            self._unit_of_work.emit(compensation.decide(delivery.message, outcome, rows, envelope), delivery.raw)
            self._mark_undone(compensation, delivery.message.saga_id)
        compensation.save(rows, self._tx)
        self._unit_of_work.mark_handled(name(compensation), [delivery for delivery, _ in group])

    def _mark_undone(self, compensation: AnyCompensation, saga_id: str) -> None:
        for step in compensation.undoes:
            self._loaded.put(effects.undone(saga_id, step, self._loaded.get(saga_id, step)))
        self._built_in.drop(saga_id, compensation.undoes)
