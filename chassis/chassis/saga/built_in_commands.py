"""The commands that every service understands, whatever its steps are: fence a saga, run a step again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

from chassis.saga import effects
from chassis.saga.awaited_steps import AwaitedSteps
from chassis.saga.deferred import Deferral
from chassis.saga.effects import OPEN, Effect, EffectState, OnFence, OnRedrive
from chassis.saga.handlers import FENCE, REDRIVE, Handlers
from chassis.saga.steps import AwaitedStray
from chassis.saga.unit_of_work import Delivery, Undeliverable, UnitOfWork
from chassis.saga.waiting import QUERIED_AGAIN, UNPROCESSABLE
from chassis.wire.envelope import derived_id
from messages.contract import Envelope, Message
from messages.saga import FenceSaga, RedriveStep, SagaFenced, StepOutcome, StepRedriven

SETTLE_AGAIN_S = 2.0
"""How long the reply to a fence is deferred before it checks again whether the call is settled."""
RESUMED, NOTHING_PARKED = "RESUMED", "NOTHING_HELD"
IN_DOUBT = "IN_DOUBT"
"""The reply's state of a step whose outcome comes later; the command is replied to once more when it is settled."""
COMES_LATER = "waits for an outcome that comes later"


class BuiltInCommands:
    """The built-in handlers, on the effects and the waiting messages of one unit of work."""

    def __init__(self, handlers: Handlers, unit_of_work: UnitOfWork, awaited_steps: AwaitedSteps | None = None) -> None:
        self._handlers = handlers
        self._awaited_steps = awaited_steps
        self._unit_of_work = unit_of_work
        self._loaded = unit_of_work.loaded
        self._waiting = unit_of_work.waiting
        self._now = unit_of_work.now

    def handle(self, delivery: Delivery) -> None:
        """Carry out the command. Raises Undeliverable where it names a step of another service."""
        if isinstance(delivery.message, FenceSaga):
            self._fence(delivery, delivery.message)
        else:
            assert isinstance(delivery.message, RedriveStep), "the codec made it one of the two"
            self._redrive(delivery, delivery.message)

    def close(self, saga_id: str, steps: Collection[str], delivery: Delivery, handler_name: str) -> bool:
        """Fence the steps. Where a call may be under way, defer the command until it is settled, and return True.

        Where a step is in doubt the command has no due time: what settles the step wakes it.

        The message that is to settle the call may be parked as unprocessable: each such command from Kafka lets it be
        routed once more.
        """
        over = []
        started: list[str] = []
        in_doubt = self._is_any(saga_id, steps, OnFence.DOUBT)
        for step in steps:
            before = self._loaded.get(saga_id, step)
            effect = self._closed(saga_id, step, before)
            if effect.state is not EffectState.STARTED:
                continue
            over.append(effect.deadline_at or self._now)
            if effect != before:
                started.append(step)
        self._waiting.wake(saga_id, lambda row: row.handler in started, self._now)
        self.drop(saga_id, steps)
        if over and delivery.row is None:
            self._waiting.wake(saga_id, lambda row: row.handler == UNPROCESSABLE and row.is_parked, self._now)
        if over:
            again_at = max(*over, self._now + timedelta(seconds=SETTLE_AGAIN_S))
            self._unit_of_work.defer(
                handler_name, delivery, attempt=delivery.attempt, due_at=again_at, reason="not settled yet"
            )
        elif in_doubt:
            self._unit_of_work.defer(
                handler_name, delivery, attempt=delivery.attempt, due_at=None, reason=COMES_LATER, is_blocked=True
            )
        return bool(over) or in_doubt

    def _closed(self, saga_id: str, step: str, before: Effect | None) -> Effect:
        """Fence a step, and return its effect."""
        declared = self._handlers.awaited.get(step)
        if declared is None or before is None or self._awaited_steps is None:
            self._loaded.put(effects.fenced(saga_id, step, before))
        else:
            self._awaited_steps.close(declared, saga_id)
        effect = self._loaded.get(saga_id, step)
        assert effect is not None, "it was fenced"
        return effect

    def drop(self, saga_id: str, steps: Collection[str]) -> None:
        """Discard what waits for these steps and can never run, and what is unprocessable: its dead letter is out.

        While a call may be under way the unprocessable stays: it may be the trigger that is to settle the call.
        """
        found = [self._loaded.get(saga_id, step.name) for step in self._handlers.steps]
        is_settled = all(effect is None or effect.state not in OPEN for effect in found)
        for row in self._waiting.of_saga(saga_id):
            effect = self._loaded.get(saga_id, row.handler)
            may_run = effect is None or effect.state in OPEN
            is_over = row.handler in steps and not may_run and row.reason != QUERIED_AGAIN
            if (row.handler == UNPROCESSABLE and is_settled) or is_over:
                self._waiting.remove(row.key)

    def _fence(self, delivery: Delivery, command: FenceSaga) -> None:
        self._check(command.steps)
        unit_of_work = self._unit_of_work
        if not self.close(command.saga_id, command.steps, delivery, FENCE):
            envelope = unit_of_work.command_reply_envelope(command)
            unit_of_work.emit(self._fenced(command, envelope), delivery.raw)
            unit_of_work.mark_handled(FENCE, [delivery])
        elif not self._is_any(command.saga_id, command.steps, OnFence.WAIT):
            envelope = unit_of_work.reply_envelope(command, derived_id(command.message_id, "in doubt"))
            unit_of_work.emit(self._fenced(command, envelope), delivery.raw)

    def _fenced(self, command: FenceSaga, envelope: Envelope) -> SagaFenced:
        """Return the reply to a fence, with the state of each of its steps."""
        outcomes = []
        for step in command.steps:
            effect = self._loaded.get(command.saga_id, step)
            assert effect is not None, "it was fenced before"
            is_in_doubt = effects.on_fence(effect) is OnFence.DOUBT
            outcomes.append(StepOutcome(step=step, state=IN_DOUBT if is_in_doubt else effect.state.value))
        return SagaFenced(**envelope, service=self._unit_of_work.service, steps=tuple(outcomes))

    def _is_any(self, saga_id: str, steps: Collection[str], wanted: OnFence) -> bool:
        return any(effects.on_fence(self._loaded.get(saga_id, step)) is wanted for step in steps)

    def _redrive(self, delivery: Delivery, command: RedriveStep) -> None:
        self._check([command.step] if command.step else [])
        effect = self._loaded.get(command.saga_id, command.step)
        declared = self._handlers.awaited.get(command.step)
        what = effects.on_redrive(effect, is_awaited=declared is not None)
        self._resume_strays(command)
        if what is OnRedrive.WAIT:
            again_at = self._now + timedelta(seconds=SETTLE_AGAIN_S)
            self._unit_of_work.defer(
                REDRIVE, delivery, attempt=delivery.attempt, due_at=again_at, reason="not settled yet"
            )
            return
        if what is OnRedrive.REPORT:
            assert effect is not None, "only a stored effect has a state to report"
            self._report(delivery, command, effect.state.value)
            return
        if declared is not None and effect is not None and self._awaited_steps is not None:
            self._awaited_steps.resume(declared, command.saga_id, command.attempt)
            self._report(delivery, command, RESUMED)
            return
        found = [row for row in self._waiting.of_saga(command.saga_id) if self._is_meant(row, command)]
        for row in found:
            if row.is_parked and row.redrive < command.attempt:
                self._resume(row, command)
        resumed = any(row.redrive >= command.attempt or row.is_parked for row in found)
        self._report(delivery, command, RESUMED if resumed else NOTHING_PARKED)

    def _is_meant(self, row: Deferral, command: RedriveStep) -> bool:
        """Return whether the redrive concerns this row: the step's own trigger, or what is unprocessable, which may be
        that trigger. Without a step it concerns everything that is parked.
        """
        if row.message_id == command.message_id:
            return False
        return not command.step or row.handler in (command.step, UNPROCESSABLE)

    def _resume(self, row: Deferral, command: RedriveStep) -> None:
        effect = self._loaded.get(row.saga_id, row.handler)
        if effect is not None and effect.state is EffectState.STARTED:
            self._loaded.put(effects.resumed(effect))
        self._waiting.resume(replace(row, attempt=1, redrive=command.attempt, reason="redriven"), self._now)

    def _resume_strays(self, command: RedriveStep) -> None:
        """Begin the ladders of the step's stray attempts anew whose undo is still open."""
        for each in self._handlers.awaited.values():
            effect = self._loaded.get(command.saga_id, each.name)
            is_open = effect is not None and effect.state in OPEN
            if is_open and isinstance(each, AwaitedStray) and each.step == command.step and self._awaited_steps:
                self._awaited_steps.resume(each, command.saga_id, command.attempt)

    def _report(self, delivery: Delivery, command: RedriveStep, outcome: str) -> None:
        reply: Message = StepRedriven(
            **self._unit_of_work.command_reply_envelope(command),
            step=command.step,
            attempt=command.attempt,
            outcome=outcome,
            service=self._unit_of_work.service,
        )
        self._unit_of_work.emit(reply, delivery.raw)
        self._unit_of_work.mark_handled(REDRIVE, [delivery])

    def _check(self, steps: Collection[str]) -> None:
        unknown = [step for step in steps if self._handlers.step(step) is None]
        if unknown:
            service = self._unit_of_work.service
            raise Undeliverable(f"{service} has no step {', '.join(unknown)}; look at the saga's definition.")
