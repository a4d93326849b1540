"""The calls of external steps: when one is made, repeated or queried, and what its result settles.

It only plans calls. The host of the transaction makes them after the commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from chassis.http.downstream import NotTried, TooLate
from chassis.saga import effects
from chassis.saga.built_in_commands import SETTLE_AGAIN_S
from chassis.saga.effects import Effect, EffectState, OnDue
from chassis.saga.late_calls import LateCalls
from chassis.saga.steps import AnyExternalStep, NoCall, answer, request_of
from chassis.saga.unit_of_work import CallResult, Delivery, PendingCall, UnitOfWork
from messages.contract import Message


class StepCalls:
    """The calls of external steps in one unit of work."""

    def __init__(self, tx: Connection, unit_of_work: UnitOfWork, late_calls: LateCalls) -> None:
        self._tx = tx
        self._unit_of_work = unit_of_work
        self._late_calls = late_calls
        self._loaded = unit_of_work.loaded
        self._now = unit_of_work.now

    def start(self, step: AnyExternalStep, group: Sequence[Delivery]) -> None:
        """Claim the effects of these triggers and plan their first calls; one whose effect exists does nothing."""
        self._begin(step, [each for each in group if self._loaded.may_run(each.message.saga_id, step.name)])

    def repeat(self, step: AnyExternalStep, delivery: Delivery) -> None:
        """Plan another call, or a query of its outcome, where the deferral of a trigger is due."""
        effect = self._loaded.get(delivery.message.saga_id, step.name)
        what = effects.on_due(effect, self._now)
        if what is OnDue.CALL:
            self._begin(step, [delivery])
        elif what is OnDue.DISCARD and effect is not None and self._late_calls.is_queried_again(step, delivery):
            self._late_calls.query(step, delivery, effect)
        elif what is OnDue.DISCARD or effect is None:
            self._unit_of_work.mark_handled(step.name, [delivery])
        elif what is OnDue.WAIT:
            self._defer(step, delivery, effect, effect.deadline_at, "call under way")
        else:
            deadline_at = self._unit_of_work.deadline_of(step)
            self._defer(step, delivery, effect, deadline_at, "querying the provider")
            self._plan(step, delivery, effect, deadline_at, is_query=True)

    def settle(self, step: AnyExternalStep, group: Sequence[CallResult]) -> None:
        """Settle the effects of these results: decide on an outcome, retry a failure, fence what never happened."""
        open_results = [result for result in group if self._is_open(step, result)]
        self._late_calls.settle(step, [result for result in group if not self._is_open(step, result)])
        known = [result for result in open_results if result.failure is None and result.outcome is not None]
        rows = step.load([request_of(step, each.call.delivery.message) for each in known], self._tx) if known else None
        for result in open_results:
            if result.failure is not None:
                self._retry(step, result)
            elif result.outcome is None:
                self._close(step, result, EffectState.FENCED)
            else:
                self._decide(step, result, rows)
        if known:
            step.save(rows, self._tx)

    def _begin(self, step: AnyExternalStep, group: Sequence[Delivery]) -> None:
        if not group:
            return
        requests = step.call.prepare([request_of(step, each.message) for each in group], self._tx)
        deadline_at = self._unit_of_work.deadline_of(step)
        self._finish(step, [each for each in group if isinstance(requests[each.message.saga_id], NoCall)], requests)
        for each in group:
            if isinstance(requests[each.message.saga_id], NoCall):
                continue
            saga_id = each.message.saga_id
            before = self._loaded.get(saga_id, step.name)
            effect = effects.started(before, saga_id=saga_id, step=step.name, deadline_at=deadline_at)
            self._loaded.put(effect)
            self._defer(step, each, effect, deadline_at, "call under way")
            self._plan(step, each, effect, deadline_at, request=requests[saga_id])

    def _finish(self, step: AnyExternalStep, group: Sequence[Delivery], known: Mapping[str, NoCall[Any]]) -> None:
        """Settle the effects of these triggers at once: there is nothing to call their provider for."""
        if not group:
            return
        rows = step.load([request_of(step, each.message) for each in group], self._tx)
        for each in group:
            saga_id = each.message.saga_id
            reply, state = self._outcome(step, each, known[saga_id].outcome, rows)
            self._loaded.put(Effect(saga_id=saga_id, step=step.name, state=state, attempt=each.attempt))
            self._unit_of_work.emit(reply, each.raw)
        step.save(rows, self._tx)
        self._unit_of_work.mark_handled(step.name, group)

    def _outcome(
        self, step: AnyExternalStep, delivery: Delivery, outcome: object, rows: Any
    ) -> tuple[Message, EffectState]:
        """Take an outcome into the rows, and return the event of it and the state of the effect."""
        message = delivery.message
        envelope = self._unit_of_work.reply_envelope(message, self._unit_of_work.new_id())
        step.record(request_of(step, message), outcome, rows)
        return answer(step, message, outcome, envelope)

    def _defer(
        self, step: AnyExternalStep, delivery: Delivery, effect: Effect, due_at: datetime | None, reason: str
    ) -> None:
        self._unit_of_work.defer(step.name, delivery, attempt=effect.attempt, due_at=due_at, reason=reason)

    def _plan(
        self,
        step: AnyExternalStep,
        delivery: Delivery,
        effect: Effect,
        deadline_at: datetime,
        *,
        request: Any = None,
        is_query: bool = False,
    ) -> None:
        self._unit_of_work.out.calls.append(
            PendingCall(
                handler=step,
                delivery=delivery,
                request=request,
                attempt=effect.attempt,
                deadline_at=deadline_at,
                is_query=is_query,
            )
        )

    def _is_open(self, step: AnyExternalStep, result: CallResult) -> bool:
        return self._loaded.is_started(result.call.delivery.message.saga_id, step.name)

    def _effect(self, step: AnyExternalStep, result: CallResult) -> Effect:
        effect = self._loaded.get(result.call.delivery.message.saga_id, step.name)
        assert effect is not None, "an open result has its effect"
        return effect

    def _decide(self, step: AnyExternalStep, result: CallResult, rows: Any) -> None:
        reply, state = self._outcome(step, result.call.delivery, result.outcome, rows)
        is_closing = self._close(step, result, state)
        if not is_closing:
            self._unit_of_work.emit(reply, result.call.delivery.raw)

    def _close(self, step: AnyExternalStep, result: CallResult, state: EffectState) -> bool:
        """Settle the effect, and return whether its saga is being fenced: then its commands go on at once."""
        effect = self._effect(step, result)
        self._loaded.put(effects.settled(effect, state))
        self._unit_of_work.mark_handled(step.name, [result.call.delivery])
        if effect.closing:
            self._unit_of_work.waiting.wake(effect.saga_id, lambda row: row.raw.is_command, self._now)
        return effect.closing

    def _retry(self, step: AnyExternalStep, result: CallResult) -> None:
        call, failure, effect = result.call, result.failure, self._effect(step, result)
        assert failure is not None, "only a failed call is retried"
        assert effect.deadline_at is not None, "a call has a deadline"
        if call.attempt != effect.attempt and not call.is_query:
            return  # A later call is under way, which the row waits for.
        if isinstance(failure, NotTried) and not call.is_query:
            self._loaded.put(effects.not_called(effect))
        if effect.closing:
            due_at = max(effect.deadline_at, self._now + timedelta(seconds=SETTLE_AGAIN_S))
            self._defer(step, call.delivery, effect, due_at, failure.reason)
        elif isinstance(failure, TooLate):
            self._begin(step, [call.delivery])
        else:
            self._unit_of_work.retry(step.name, replace(call.delivery, attempt=effect.attempt), failure)
