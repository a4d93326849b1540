"""The commands that every service understands, whatever its steps are: fence a saga, run a step again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

from messages.contract import Message
from messages.saga import FenceSaga, RedriveStep, SagaFenced, StepOutcome, StepRedriven

from chassis.saga import effects
from chassis.saga.deferred import Deferral
from chassis.saga.effects import EffectState, LoadedEffects, OnRedrive
from chassis.saga.handlers import FENCE, REDRIVE, Handlers
from chassis.saga.unit_of_work import Delivery, Undeliverable, UnitOfWork
from chassis.saga.waiting import UNPROCESSABLE, WaitingMessages

SETTLE_AGAIN_S = 2.0
"""How long an answer to a fence waits before it looks again whether the call has been settled."""
RESUMED, NOTHING_PARKED = "RESUMED", "NOTHING_HELD"


class BuiltInCommands:
    """The kit's own handlers, on the effects and the line of one batch."""

    def __init__(
        self,
        service: str,
        handlers: Handlers,
        book: LoadedEffects,
        line: WaitingMessages,
        turn: UnitOfWork,
        *,
        now: datetime,
    ) -> None:
        self._service = service
        self._handlers = handlers
        self._book = book
        self._line = line
        self._turn = turn
        self._now = now

    def handle(self, delivery: Delivery) -> None:
        """Do what the command says. Raises Undeliverable where it names a step of somebody else."""
        if isinstance(delivery.message, FenceSaga):
            self._fence(delivery, delivery.message)
        else:
            assert isinstance(delivery.message, RedriveStep), "the codec made it one of the two"
            self._redrive(delivery, delivery.message)

    def close(self, saga_id: str, steps: Collection[str], delivery: Delivery, handler_name: str) -> bool:
        """Fence the steps; where a call may be under way, let the command wait until it is settled, and say so.

        What is to settle it may be held because nobody could read it: each such command that comes lets it be read
        once more.
        """
        over: list[datetime] = []
        started: list[str] = []
        for step in steps:
            before = self._book.get(saga_id, step)
            effect = effects.fenced(saga_id, step, before)
            self._book.put(effect)
            if effect.state is not EffectState.STARTED:
                continue
            over.append(effect.deadline_at or self._now)
            if effect != before:
                started.append(step)
        self._line.wake(saga_id, lambda row: row.handler in started, self._now)
        self.drop(saga_id, steps)
        if over and delivery.row is None:
            self._line.wake(saga_id, lambda row: row.handler == UNPROCESSABLE and row.is_parked, self._now)
        if over:
            again_at = max(*over, self._now + timedelta(seconds=SETTLE_AGAIN_S))
            self._turn.defer(
                handler_name, delivery, attempt=delivery.attempt, due_at=again_at, reason="not settled yet"
            )
        return bool(over)

    def drop(self, saga_id: str, steps: Collection[str]) -> None:
        """Let go what waits for these steps and can never run, and what nobody could read: its dead letter is out.

        While a call may be under way the latter stays: it may be the trigger that is to settle the call.
        """
        found = [self._book.get(saga_id, step.name) for step in self._handlers.steps]
        is_settled = all(effect is None or effect.state is not EffectState.STARTED for effect in found)
        for row in self._line.of_saga(saga_id):
            effect = self._book.get(saga_id, row.handler)
            may_run = effect is None or effect.state is EffectState.STARTED
            if (row.handler == UNPROCESSABLE and is_settled) or (row.handler in steps and not may_run):
                self._line.remove(row.key)

    def _fence(self, delivery: Delivery, command: FenceSaga) -> None:
        self._check(command.steps)
        if self.close(command.saga_id, command.steps, delivery, FENCE):
            return
        outcomes = []
        for step in command.steps:
            effect = self._book.get(command.saga_id, step)
            assert effect is not None, "it was fenced above"
            outcomes.append(StepOutcome(step=step, state=effect.state.value))
        reply_envelope = self._turn.command_reply_envelope(command)
        self._turn.emit(SagaFenced(**reply_envelope, service=self._service, steps=tuple(outcomes)), delivery.raw)
        self._turn.mark_handled(FENCE, [delivery])

    def _redrive(self, delivery: Delivery, command: RedriveStep) -> None:
        self._check([command.step] if command.step else [])
        effect = self._book.get(command.saga_id, command.step)
        what = effects.on_redrive(effect)
        if what is OnRedrive.WAIT:
            again_at = self._now + timedelta(seconds=SETTLE_AGAIN_S)
            self._turn.defer(REDRIVE, delivery, attempt=delivery.attempt, due_at=again_at, reason="not settled yet")
            return
        if what is OnRedrive.TELL:
            assert effect is not None, "only an effect that is there has something to tell"
            self._tell(delivery, command, effect.state.value)
            return
        found = [row for row in self._line.of_saga(command.saga_id) if self._is_meant(row, command)]
        for row in found:
            if row.is_parked and row.redrive < command.attempt:
                self._resume(row, command)
        resumed = any(row.redrive >= command.attempt or row.is_parked for row in found)
        self._tell(delivery, command, RESUMED if resumed else NOTHING_PARKED)

    def _is_meant(self, row: Deferral, command: RedriveStep) -> bool:
        """A step's own trigger, or what could not be read: it may be the trigger. Without a step, all that is held."""
        if row.message_id == command.message_id:
            return False
        return not command.step or row.handler in (command.step, UNPROCESSABLE)

    def _resume(self, row: Deferral, command: RedriveStep) -> None:
        effect = self._book.get(row.saga_id, row.handler)
        if effect is not None and effect.state is EffectState.STARTED:
            self._book.put(effects.resumed(effect))
        self._line.resume(replace(row, attempt=1, redrive=command.attempt, reason="redriven"), self._now)

    def _tell(self, delivery: Delivery, command: RedriveStep, outcome: str) -> None:
        reply: Message = StepRedriven(
            **self._turn.command_reply_envelope(command),
            step=command.step,
            attempt=command.attempt,
            outcome=outcome,
            service=self._service,
        )
        self._turn.emit(reply, delivery.raw)
        self._turn.mark_handled(REDRIVE, [delivery])

    def _check(self, steps: Collection[str]) -> None:
        unknown = [step for step in steps if self._handlers.step(step) is None]
        if unknown:
            raise Undeliverable(f"{self._service} has no step {', '.join(unknown)}; look at the saga's definition.")
