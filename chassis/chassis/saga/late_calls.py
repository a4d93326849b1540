"""Calls that came back after their effect was fenced: reported, queried once more, undone where they had an effect.

No call of ours is sent after its deadline, and a provider is queried only then. A process or a provider that stood
still in between can break that. What such a call did must neither stay unknown nor stay done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from chassis.saga.built_in_commands import SETTLE_AGAIN_S
from chassis.saga.deferred import RawMessage
from chassis.saga.effects import Effect, EffectState
from chassis.saga.handlers import Handlers
from chassis.saga.steps import NETWORK, AnyExternalStep, answer, name, request_of
from chassis.saga.unit_of_work import CallResult, Delivery, PendingCall, UnitOfWork
from chassis.saga.waiting import QUERIED_AGAIN
from chassis.wire.codec import Codec
from chassis.wire.envelope import TRACEPARENT, child_traceparent, derived_id, envelope, header, headers

QUERY_EVERY_MAX = timedelta(minutes=5)
"""A provider that stays away, or answers what has no meaning, is queried this often, until it answers."""
QUERY_ATTEMPTS_COUNTED = 12
"""Enough to reach QUERY_EVERY_MAX."""
UNDO_REASON = "its call came back after it was fenced"


class LateCalls:
    """The results, in one unit of work, of calls and queries whose effect is settled already."""

    def __init__(self, tx: Connection, unit_of_work: UnitOfWork, handlers: Handlers, codec: Codec) -> None:
        self._tx = tx
        self._unit_of_work = unit_of_work
        self._handlers = handlers
        self._codec = codec

    def settle(self, step: AnyExternalStep, group: Sequence[CallResult]) -> None:
        """Take these results. Those whose effect is not FENCED change nothing: its outcome is known."""
        for result in group:
            delivery = result.call.delivery
            effect = self._unit_of_work.loaded.get(delivery.message.saga_id, step.name)
            if effect is None or effect.state is not EffectState.FENCED:
                self._unit_of_work.mark_handled(step.name, [delivery])
            elif result.call.is_query:
                self._take_query(step, result, effect)
            elif result.failure is None or not result.failure.certain_no_effect:
                self._report(step, result, effect)
                self._defer(step, delivery, NETWORK)
            elif not self.is_queried_again(step, delivery):
                self._unit_of_work.mark_handled(step.name, [delivery])

    def is_queried_again(self, step: AnyExternalStep, delivery: Delivery) -> bool:
        """Return whether the provider is to be queried once more about this trigger's call."""
        row = self._unit_of_work.waiting.get((delivery.message.message_id, step.name))
        return row is not None and row.reason == QUERIED_AGAIN

    def query(self, step: AnyExternalStep, delivery: Delivery, effect: Effect) -> None:
        """Plan a query about the call. The deferral of its trigger repeats it after a crash."""
        deadline_at = self._unit_of_work.deadline_of(step)
        self._defer(step, delivery, deadline_at - self._unit_of_work.now, attempt=delivery.attempt)
        self._unit_of_work.out.calls.append(
            PendingCall(
                handler=step,
                delivery=delivery,
                request=None,
                attempt=effect.attempt,
                deadline_at=deadline_at,
                is_query=True,
            )
        )

    def _take_query(self, step: AnyExternalStep, result: CallResult, effect: Effect) -> None:
        delivery = result.call.delivery
        is_awaited = self.is_queried_again(step, delivery)
        if result.failure is None:
            if result.outcome is not None:
                if not is_awaited:
                    self._report(step, result, effect)
                self._undo(step, result, effect)
            self._unit_of_work.mark_handled(step.name, [delivery])
        elif is_awaited:
            wait = min(timedelta(seconds=SETTLE_AGAIN_S) * 2 ** (delivery.attempt - 1), QUERY_EVERY_MAX)
            self._defer(step, delivery, wait, attempt=delivery.attempt + 1)

    def _defer(self, step: AnyExternalStep, delivery: Delivery, wait: timedelta, *, attempt: int = 1) -> None:
        """Let the next query wait: a request that was sent just before its call came back may still be on its way."""
        due_at, attempt = self._unit_of_work.now + wait, min(attempt, QUERY_ATTEMPTS_COUNTED)
        self._unit_of_work.defer(step.name, delivery, attempt=attempt, due_at=due_at, reason=QUERIED_AGAIN)

    def _report(self, step: AnyExternalStep, result: CallResult, effect: Effect) -> None:
        reason = f"{step.name} is FENCED, but its call came back after its provider was queried"
        detail = repr(result.outcome) if result.failure is None else f"no outcome: {result.failure.reason}"
        self._unit_of_work.dead_letter(result.call.delivery.raw, None, reason, effect.attempt, detail=detail)

    def _undo(self, step: AnyExternalStep, result: CallResult, effect: Effect) -> None:
        """Record what the provider did, announce nothing, and let the step's compensation run."""
        message = result.call.delivery.message
        unpublished = self._unit_of_work.reply_envelope(message, self._unit_of_work.new_id())
        _, state = answer(step, message, result.outcome, unpublished)
        if state is EffectState.DONE:
            request = request_of(step, message)
            rows = step.load([request], self._tx)
            step.record(request, result.outcome, rows)
            step.save(rows, self._tx)
            self._unit_of_work.loaded.put(replace(effect, state=EffectState.DONE))
            self._compensate(step, result.call.delivery)

    def _compensate(self, step: AnyExternalStep, delivery: Delivery) -> None:
        """Defer the command that undoes the step, as if the tracker had sent it. The tracker's saga may be over."""
        for owner in self._handlers.steps:
            compensation = owner.compensation
            if compensation is None or step.name not in compensation.undoes:
                continue
            service, cause = self._unit_of_work.service, delivery.message
            command_type: Any = compensation.on
            command = command_type(
                **envelope(
                    cause, message_id=derived_id(cause.message_id, step.name, "undo"), at=self._unit_of_work.now
                ),
                step=owner.name,
                attempt=1,
                reason=UNDO_REASON,
            )
            topic = f"{service}.commands"
            trace = child_traceparent(header(delivery.raw.headers, TRACEPARENT))
            raw = RawMessage(
                topic=topic,
                partition=delivery.raw.partition,
                key=cause.saga_id.encode(),
                value=self._codec.encode(topic, command),
                headers=headers(command, source=service, traceparent=trace),
            )
            self._unit_of_work.defer(
                name(compensation),
                Delivery(message=command, raw=raw),
                attempt=1,
                due_at=self._unit_of_work.now,
                reason=UNDO_REASON,
            )
