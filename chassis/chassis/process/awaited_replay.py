"""Brings the awaited steps of a restored database up to what their service has published about them.

What it published is what counts: an attempt was begun, evidence contradicted it, a fence was replied to, a step or its
undo was settled. A provider is queried for the details of an outcome that is known, and makes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine

from chassis.http.downstream import Unavailable
from chassis.process.topic_reader import CannotReconcile
from chassis.saga import attempt_rows, effects
from chassis.saga.answers import Proven, is_storable
from chassis.saga.attempt_rows import StoredAttempt
from chassis.saga.attempts import Outcome
from chassis.saga.awaited import stray_undo, undo_step
from chassis.saga.awaited_decisions import contradicted_id
from chassis.saga.awaited_restore import RestoredSteps
from chassis.saga.batch import Batch
from chassis.saga.built_in_commands import IN_DOUBT
from chassis.saga.deferred import RawMessage
from chassis.saga.effects import OPEN, EffectState
from chassis.saga.handlers import Handlers
from chassis.saga.steps import AnyAwaited, AwaitedStep, AwaitedUndo
from chassis.saga.triggers import StepKey
from messages.contract import Message
from messages.saga import SagaFenced, StepAwaited, StepContradicted

REFRESHED_MAX = 500
"""Steps of one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedMessages:
    """What a service has published and read about its awaited steps.

    ``fenced`` are the steps that a fence names, ``contradictions`` what it has published about evidence, by saga and
    effect. ``triggers`` are the messages that it has read, by saga and type.
    """

    fenced: Collection[StepKey] = ()
    contradictions: Mapping[StepKey, Sequence[StepContradicted]] = field(default_factory=dict)
    triggers: Mapping[tuple[str, type[Message]], RawMessage] = field(default_factory=dict)


class AwaitedReplay:
    """Takes over, message by message, what a service has published about its awaited steps."""

    def __init__(
        self, handlers: Handlers, batch: Callable[[Connection, str], Batch], messages: AwaitedMessages
    ) -> None:
        self._handlers = handlers
        self._batch = batch
        self._messages = messages

    def refresh(self, engine: Engine) -> int:
        """Take the database's open attempts for sent until now, as some were, and return how many steps there are.

        Otherwise a statement from before the restore would prove that a request never arrived which was sent later.
        """
        count, key = 0, ("", "")
        while self._handlers.awaited:
            with engine.begin() as tx:
                keys = attempt_rows.open_after(tx, key, limit=REFRESHED_MAX)
                for saga_id, name in keys:
                    step = self._handlers.awaited.get(name)
                    if step is not None:
                        batch = self._batch(tx, saga_id)
                        closing = (saga_id, name) in self._messages.fenced
                        batch.restored_steps.begin(step, saga_id, {}, trigger=None, closing=closing)
                        batch.finish()
            if not keys:
                break
            count, key = count + len(keys), keys[-1]
        return count

    def take(self, tx: Connection, message: StepAwaited | StepContradicted, cause: RawMessage | None) -> bool | None:
        """Take over a message about an attempt. Return whether the database knew it; None where that is impossible."""
        step = self._handlers.awaited.get(effect_of(message))
        if step is None:
            return None
        batch = self._batch(tx, message.saga_id)
        steps = batch.restored_steps
        before = steps.find(step, message.saga_id)
        if isinstance(message, StepContradicted):
            is_new = steps.contradict(step, message.saga_id, message.attempt, Outcome(message.proven))
            if message.undone_by_service:
                is_new = self._undo_stray(steps, step, message) or is_new
        elif before is not None and before.attempt(message.attempt) is not None:
            return True
        else:
            is_new = True
            begun = {message.attempt: message.since}
            closing = (message.saga_id, step.name) in self._messages.fenced
            if not steps.begin(step, message.saga_id, begun, trigger=cause, closing=closing):
                return None
        batch.finish()
        return not is_new

    def _undo_stray(self, steps: RestoredSteps, step: AnyAwaited, message: StepContradicted) -> bool:
        """Take over the undo that the contradiction has announced, and return whether that was new."""
        stray = self._handlers.awaited.get(stray_undo(step.name, message.attempt))
        if stray is None or steps.find(stray, message.saga_id) is not None:
            return False
        trigger = steps.trigger(step, message.saga_id)
        return steps.begin(stray, message.saga_id, {1: message.occurred_at}, trigger=trigger)

    def settle(self, tx: Connection, message: Message, cause: RawMessage | None) -> bool | None:
        """Settle the steps that a message of the service shows to be settled.

        Return whether any was; None where that is impossible.
        """
        ends = list(self._ends(message))
        if not ends:
            return False
        batch = self._batch(tx, message.saga_id)
        settled = False
        for step, state in ends:
            found = self._settle(batch.restored_steps, step, state, message, cause)
            if found is None:
                return None
            settled = settled or found
        batch.finish()
        return settled

    def is_out_of_doubt(self, tx: Connection, message: Message) -> bool:
        """Return whether every step that a reply to a fence left in doubt is settled by now.

        The reply is then history. Its fence is replied to once more, as any that waits for an outcome.
        """
        doubted = (
            [each.step for each in message.steps if each.state == IN_DOUBT] if isinstance(message, SagaFenced) else []
        )
        found = effects.load(tx, [message.saga_id]) if doubted else effects.LoadedEffects()
        states = [None if (effect := found.get(message.saga_id, each)) is None else effect.state for each in doubted]
        return bool(states) and all(state is not None and state not in OPEN for state in states)

    def is_outcome(self, message: Message) -> bool:
        """Return whether the message is the event of an awaited step's outcome."""
        return (self._handlers.triggers.answered_by(message) or "") in self._handlers.awaited

    def _ends(self, message: Message) -> Iterator[tuple[AnyAwaited, EffectState]]:
        """Yield the awaited steps, and undos, whose end the message shows."""
        own = self._handlers.awaited
        if isinstance(message, SagaFenced):
            for each in message.steps:
                if each.step in own and each.state not in (IN_DOUBT, EffectState.UNDONE):
                    yield own[each.step], EffectState(each.state)
            return
        if self.is_outcome(message):
            state = EffectState.REJECTED if self._handlers.is_rejection(message) else EffectState.DONE
            yield own[self._handlers.triggers.answered_by(message) or ""], state
            return
        for step in own.values():
            if isinstance(step, AwaitedUndo) and type(message) in step.compensation.replies and _is_undone(message):
                yield step, EffectState.DONE

    def _settle(
        self, steps: RestoredSteps, step: AnyAwaited, state: EffectState, message: Message, cause: RawMessage | None
    ) -> bool | None:
        saga_id = message.saga_id
        before = steps.find(step, saga_id)
        if before is None:
            if state is EffectState.FENCED:
                return False  # It had not run; the fence is read again.
            closing = (saga_id, step.name) in self._messages.fenced
            trigger = self._trigger(step, message, cause)
            if not steps.begin(step, saga_id, {1: message.occurred_at}, trigger=trigger, closing=closing):
                return None
            before = steps.find(step, saga_id)
            assert before is not None, "it was begun"
        is_paused = before.effect.state is EffectState.PAUSED
        if before.effect.state not in OPEN and not (is_paused and state is EffectState.DONE):
            return False
        contradicting = [each.attempt for each in self._contradictions(step, message) if _succeeds_at(each, message)]
        number = contradicting[0] if contradicting else before.effect.attempt
        answer = queried(step, steps.attempt(step, saga_id, number), steps.prepared(step, saga_id))
        answer = None if answer is None else steps.judged(step, saga_id, answer)
        is_alike = answer is not None and (answer.outcome is Outcome.SUCCEEDED) == (state is EffectState.DONE)
        assumed = Proven(outcome=Outcome.SUCCEEDED if state is EffectState.DONE else Outcome.REFUSED)
        proof = answer if answer is not None and is_alike else assumed
        steps.settle(step, saga_id, state, number=number, contradicts=bool(contradicting), proof=proof)
        if answer is not None and not is_alike and not self._contradictions(step, message):
            steps.prove(step, saga_id, number, answer)
        return True

    def _trigger(self, step: AnyAwaited, message: Message, cause: RawMessage | None) -> RawMessage | None:
        if not isinstance(step, AwaitedStep):
            return cause
        found = (each for each in step.triggers if each.saga == message.saga_type)
        return next((raw for each in found if (raw := self._messages.triggers.get((message.saga_id, each.on)))), None)

    def _contradictions(self, step: AnyAwaited, message: Message) -> Sequence[StepContradicted]:
        return self._messages.contradictions.get((message.saga_id, step.name), ())


def effect_of(message: StepAwaited | StepContradicted) -> str:
    """Return the name of the effect that a message is about: the step's own, or its undo's."""
    undo = undo_step(message.step)
    if isinstance(message, StepAwaited):
        return undo if message.undo else message.step
    is_undos = message.message_id == contradicted_id(message.saga_id, undo, message.attempt)
    return undo if is_undos else message.step


def queried(step: AnyAwaited, attempt: StoredAttempt, request: object) -> Proven | None:
    """Return what the step's provider proves of an attempt now; None where it proves nothing."""
    try:
        answer = step.call.answer_query(request, attempt.key, attempt.provider_id)
    except Unavailable as failure:
        raise CannotReconcile(
            f"A provider did not return the details of {attempt.key} ({failure.reason}). "
            f"Run this again when it answers."
        ) from failure
    return answer if isinstance(answer, Proven) and is_storable(answer) else None


def _is_undone(message: Message) -> bool:
    return bool(getattr(message, "undone", False))


def _succeeds_at(contradicted: StepContradicted, message: Message) -> bool:
    """Return whether the contradicting evidence is what settled the step: both were published of one decision."""
    return contradicted.proven == Outcome.SUCCEEDED and contradicted.occurred_at == message.occurred_at
