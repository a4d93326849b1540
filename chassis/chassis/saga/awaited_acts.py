"""What must follow a decision about an awaited step: messages to publish, calls to plan, commands to wake.

It makes no call. The host makes it after the commit, and that of a new attempt only once Kafka has its announcement.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from chassis.saga import outbox
from chassis.saga.attempt_rows import AwaitedStepRow, LoadedAttempts
from chassis.saga.awaited import Act
from chassis.saga.awaited_decisions import Decided, accepted_id, contradicted_id
from chassis.saga.awaited_messages import awaited, contradicted
from chassis.saga.steps import AnyAwaited, AwaitedStray, AwaitedUndo, StrayAttempt, request_of
from chassis.saga.triggers import StepKey
from chassis.saga.unit_of_work import AwaitedAct, AwaitedPendingCall, UnitOfWork
from chassis.wire.codec import Codec
from messages.contract import Message

STRAY = "the provider did what belongs to no step; undo it there by hand"


class AwaitedActs:
    """What follows the decisions of one unit of work."""

    def __init__(self, tx: Connection, unit_of_work: UnitOfWork, rows: LoadedAttempts, codec: Codec) -> None:
        self._tx = tx
        self._unit_of_work = unit_of_work
        self._rows = rows
        self._codec = codec
        self._now = unit_of_work.now
        self._triggers: dict[bytes | None, Message] = {}
        self._unprepared: dict[str, tuple[AnyAwaited, list[int]]] = {}
        """The places in the outgoing calls of those without their requests yet, by the name of the step's effect."""
        self._announced: list[int] = []
        """The places of those whose attempt was announced in an earlier batch."""

    def trigger(self, key: StepKey) -> Message:
        """Return what triggered a step that was begun; it is decoded once."""
        value = row_of(self._rows, key).trigger.value
        message = self._triggers.get(value)
        if message is None:
            message = self._triggers[value] = self._codec.decode(value)
        return message

    def carry_out(self, decided: Decided, act: Act) -> None:
        """Plan what a decision demands."""
        match act:
            case Act.SEND:
                self._plan(decided, AwaitedAct.SEND, after=self._announce(decided))
            case Act.SEND_AGAIN:
                self._plan(decided, AwaitedAct.SEND, after=decided.announced_by, is_announced=True)
            case Act.QUERY:
                self._plan(decided, AwaitedAct.QUERY)
            case Act.CANCEL:
                # Without its announcement a restored service would begin the attempt anew, and this would void it.
                self._plan(decided, AwaitedAct.CANCEL, after=decided.announced_by, is_announced=True)
            case Act.WAKE:
                saga_id = decided.effect.saga_id
                self._unit_of_work.waiting.wake(saga_id, lambda row: row.raw.is_command, self._now)
            case Act.CONTRADICT:
                self._contradict(decided)
            case Act.PUBLISH | Act.UNDO_ATTEMPT:
                pass  # The event of the outcome is made with its record; the undo of an attempt is a step of its own.

    def _announce(self, decided: Decided) -> str:
        """Publish that an attempt is begun, and return the id that Kafka must acknowledge before its call.

        What undoes a stray success is announced by the contradiction that led to it.
        """
        message_id = decided.announced_by
        if isinstance(decided.step, AwaitedStray):
            return message_id
        self._publish_awaited(decided, message_id, since=self._now)
        return message_id

    def accept(self, decided: Decided, reference: str) -> None:
        """Publish the provider's reference of the present attempt, once the provider has accepted it.

        No StepAwaited announces the undo of a stray success, so none is published here.
        """
        if not isinstance(decided.step, AwaitedStray):
            since = decided.change.after.current.first_sent_at or self._now
            self._publish_awaited(decided, accepted_id(decided.effect), since=since, reference=reference)

    def _publish_awaited(
        self, decided: Decided, message_id: str, *, since: datetime, reference: str | None = None
    ) -> None:
        envelope = self._unit_of_work.reply_envelope(self.trigger(decided.key), message_id)
        message = awaited(decided, self._unit_of_work.service, envelope, since=since, reference=reference)
        self._unit_of_work.emit(message, row_of(self._rows, decided.key).trigger)

    def call_person(self, decided: Decided) -> None:
        """Dead-letter a success that belongs to no step and that no call undoes."""
        reason = f"{decided.owner}: {STRAY}"
        self._unit_of_work.dead_letter(row_of(self._rows, decided.key).trigger, None, reason, decided.number)

    def _contradict(self, decided: Decided) -> None:
        effect = decided.effect
        message_id = contradicted_id(effect.saga_id, effect.step, decided.number)
        envelope = self._unit_of_work.reply_envelope(self.trigger(decided.key), message_id)
        message = contradicted(decided, self._unit_of_work.service, envelope)
        self._unit_of_work.emit(message, row_of(self._rows, decided.key).trigger)

    def prepared(self, step: AnyAwaited, saga_id: str) -> object:
        """Return the request to the provider of a step that was begun."""
        return step.call.prepare([self._requested(step, saga_id)], self._tx)[saga_id]

    def prepare(self) -> None:
        """Prepare the calls that were planned, each step once for all of its sagas.

        The steps come in one order in every batch: what they lock, they lock in that order. A call waits for an earlier
        announcement of its attempt only where Kafka may lack that.
        """
        calls = self._unit_of_work.out.awaited_calls
        if self._announced:
            unacknowledged = outbox.stored(self._tx, {calls[place].after or "" for place in self._announced})
            for place in self._announced:
                if calls[place].after not in unacknowledged:
                    calls[place] = replace(calls[place], after=None)
            self._announced.clear()
        for _, (step, places) in sorted(self._unprepared.items(), key=lambda item: item[0]):
            saga_ids = dict.fromkeys(calls[place].saga_id for place in places)
            requests = step.call.prepare([self._requested(step, saga_id) for saga_id in saga_ids], self._tx)
            for place in places:
                calls[place] = replace(calls[place], request=requests[calls[place].saga_id])
        self._unprepared.clear()

    def _requested(self, step: AnyAwaited, saga_id: str) -> object:
        """Return what the request to the provider is made of: the step's request, a command, or a stray attempt."""
        key = (saga_id, step.name)
        match step:
            case AwaitedUndo():
                return self.trigger(key)
            case AwaitedStray(of=step, number=number):
                stored = self._rows.stored((saga_id, step.name), number)
                return StrayAttempt(
                    saga_id=saga_id, step=step.name, number=number, key=stored.key, provider_id=stored.provider_id
                )
            case step:
                return request_of(step, self.trigger(key))

    def _plan(self, decided: Decided, act: AwaitedAct, *, after: str | None = None, is_announced: bool = False) -> None:
        effect, step, calls = decided.effect, decided.step, self._unit_of_work.out.awaited_calls
        if is_announced:
            self._announced.append(len(calls))
        if act is AwaitedAct.SEND or step.call.takes_request:
            self._unprepared.setdefault(step.name, (step, []))[1].append(len(calls))
        stored = self._rows.stored(decided.key, effect.attempt)
        deadline_at = effect.deadline_at if act is AwaitedAct.SEND else None
        calls.append(
            AwaitedPendingCall(
                step=step,
                saga_id=effect.saga_id,
                number=effect.attempt,
                act=act,
                key=stored.key,
                provider_id=stored.provider_id,
                deadline_at=deadline_at or self._unit_of_work.deadline_of(step),
                after=after,
            )
        )


def row_of(rows: LoadedAttempts, key: StepKey) -> AwaitedStepRow:
    """Return the row of a step that was begun."""
    row = rows.step(key)
    assert row is not None, "a step that was begun has its row"
    return row
