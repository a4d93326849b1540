"""``python -m chassis.process.reconcile PACKAGE TIME``: bring a database restored to TIME up to what Kafka knows.

It is not enough to read everything again from TIME. Nothing orders messages of different partitions, or of events and
commands. So the last units could now go to another order than the one whose reply promised them. Therefore the replies
that the service has published since TIME are decided again first, in the order of their publication, and must come out
the same. It never publishes, and never makes a provider act: it queries the outcome of the call that was made.
"""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from confluent_kafka import KafkaException
from sqlalchemy import Connection, Engine

from chassis.http.downstream import Unavailable
from chassis.postgres.transient import utc_now
from chassis.process.awaited_replay import AwaitedReplay
from chassis.process.published import LAG_MAX, Published, PublishedReply, Trigger, published_since
from chassis.process.service import consumed_topics, open_dependencies
from chassis.process.topic_reader import CannotReconcile, Reader
from chassis.saga import deferred, effects, outbox
from chassis.saga.batch import Batch
from chassis.saga.deferred import RawMessage
from chassis.saga.effects import Effect, EffectState, LoadedEffects
from chassis.saga.handlers import Handlers
from chassis.saga.outbox import OutboxRow
from chassis.saga.steps import AnyExternalStep, AwaitedStep, ExternalStep, Step
from chassis.saga.unit_of_work import CallResult, Delivery, PendingCall
from chassis.settings import Settings
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from chassis.wire.kafka import KafkaLogin
from messages.contract import Message
from messages.saga import SagaFenced, StepAwaited, StepContradicted

USAGE = "Usage: python -m chassis.process.reconcile PACKAGE TIME, for example inventory 2026-11-21T09:30:00Z.\n"


@dataclass(slots=True)
class Reconciled:
    """How many replies the database knew, how many were decided again alike, and which could not be.

    ``found_at_providers`` are calls that were made, and of which neither the database nor a reply knew. ``open_steps``
    are those of the database whose outcome was still to come.
    """

    open_steps: int = 0
    known: int = 0
    repeated: int = 0
    found_at_providers: int = 0
    open: list[PublishedReply] = field(default_factory=list)


class OutcomeUnknown(Exception):
    """The provider no longer knows the call, so its outcome is not available."""


class Replay:
    """Decides published replies again. Each is a transaction of its own, so a replay may be interrupted."""

    def __init__(
        self,
        service: str,
        handlers: Handlers,
        engine: Engine,
        codec: Codec,
        read: Published,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._service = service
        self._handlers = handlers
        self._engine = engine
        self._codec = codec
        self._read = read
        self._clock = clock
        self._triggers = read.triggers
        self._awaited = AwaitedReplay(handlers, self._batch, read.awaited)
        self._random = random.Random()

    def run(self) -> Reconciled:
        """Decide the replies again in the order in which they were published.

        A reply that comes out differently waits, and so do the later ones of its saga. They are decided again after
        all others, because a reply of another partition may have returned the units that it needs.
        """
        done = Reconciled(open_steps=self._awaited.refresh(self._engine))
        waiting = list(self._read.replies)
        while waiting:
            open_: list[PublishedReply] = []
            blocked: set[str] = set()
            for each in waiting:
                known = None if each.message.saga_id in blocked else self._repeat(each)
                if known is None:
                    blocked.add(each.message.saga_id)
                    open_.append(each)
                elif known:
                    done.known += 1
                else:
                    done.repeated += 1
            if len(open_) == len(waiting):
                break
            waiting = open_
        done.open = waiting
        return done

    def recover(self, triggers: Mapping[Trigger, RawMessage]) -> int:
        """Settle the calls that were made for these triggers and that the database lacks; return how many.

        A fence that is read before its step's trigger would find no effect, and promise that the step never ran. So
        the provider is queried for each trigger that has none. What it did is decided as if its answer had come now,
        and published by the service at its start. A trigger whose call never arrived may be fenced.
        """
        found = 0
        for (_, event), raw in triggers.items():
            for step in self._handlers.steps:
                if isinstance(step, ExternalStep) and any(trigger.on is event for trigger in step.triggers):
                    found += self._transact(partial(self._recover, step=step, raw=raw)) is False
        return found

    def _recover(self, tx: Connection, *, step: AnyExternalStep, raw: RawMessage) -> bool | None:
        """Return False where the outcome of a call was found, True where the database knows the step already."""
        message = self._codec.decode(raw.value)
        is_its = any(trigger.serves(message) for trigger in step.triggers)
        if not is_its or effects.load(tx, [message.saga_id]).get(message.saga_id, step.name) is not None:
            return True
        deferred.remove(tx, [(message.message_id, step.name)])
        batch = self._batch(tx, message.saga_id)
        batch.deliveries([(step.name, Delivery(message=message, raw=raw))])
        calls = batch.finish().calls
        if not calls:
            return True
        outcomes = [CallResult(call=call, outcome=outcome_of(call)) for call in calls]
        batch = self._batch(tx, message.saga_id)
        batch.settle(outcomes)
        batch.finish()
        return False

    def _repeat(self, reply: PublishedReply) -> bool | None:
        """Return whether the database knew the reply already; None where the decision would be another one now."""
        step = self._handlers.step(self._handlers.answers.get(type(reply.message), ""))
        is_rejection = self._handlers.is_rejection(reply.message)
        known = None
        # A local step's rejection leaves its effect and nothing else; decided again, it might be no rejection.
        if not is_rejection or isinstance(step, ExternalStep | AwaitedStep):
            known = self._transact(lambda tx: self._decide(tx, reply))
        if known is None and is_rejection and step is not None and not isinstance(step, AwaitedStep):
            known = self._transact(lambda tx: self._save_rejection(tx, reply.message.saga_id, step.name))
        return known

    def _transact(self, transaction: Callable[[Connection], bool | None]) -> bool | None:
        with self._engine.connect() as tx, tx.begin() as begun:
            try:
                known = transaction(tx)
            except OutcomeUnknown:
                known = None
            if known is None:
                begun.rollback()
        return known

    def _save_rejection(self, tx: Connection, saga_id: str, step: str) -> bool:
        loaded = effects.load(tx, [saga_id])
        if loaded.get(saga_id, step) is not None:
            return True
        loaded.put(Effect(saga_id=saga_id, step=step, state=EffectState.REJECTED, attempt=1))
        effects.save(tx, loaded, now=self._clock())
        return False

    def _decide(self, tx: Connection, reply: PublishedReply) -> bool | None:
        """Decide a reply again, and return whether the database knew it.

        1. A message about an attempt, or about the outcome of an awaited step, is taken over as it is.
        2. Steps that ran before a fence and were never announced run again.
        3. What caused the reply is handled once more, and must lead to the same.
        """
        message, saga_id = reply.message, reply.message.saga_id
        step = self._handlers.answers.get(type(message), "")
        before = effects.load(tx, [saga_id])
        raw = reply.cause or self._deferred(tx, message)
        # 1.
        if isinstance(message, StepAwaited | StepContradicted):
            return self._awaited.take(tx, message, raw)
        is_settled = self._awaited.settle(tx, message, raw)
        if is_settled is None or self._awaited.is_outcome(message):
            return None if is_settled is None else not is_settled
        if self._awaited.is_out_of_doubt(tx, message):
            return True
        if raw is None:
            return True if _is_shown(message, step, before) else None
        # 2.
        for trigger in self._unannounced(message, before):
            self._deliver(tx, *trigger)
        # 3.
        rows = self._led_to(tx, before.get(saga_id, step), step, raw, message)
        if rows is None:
            return True
        after = effects.load(tx, [saga_id])
        if (step and after.get(saga_id, step) is None) or not all(self._is_alike(row, message) for row in rows):
            return None
        return before == after

    def _led_to(
        self, tx: Connection, effect: Effect | None, step: str, raw: RawMessage, published: Message
    ) -> list[OutboxRow] | None:
        """Handle what caused a reply once more; None where the effect of its step is known."""
        cause = self._codec.decode(raw.value)
        if type(cause) in self._handlers.commands:
            return self._deliver(tx, self._handlers.for_message(type(cause))[0], cause, raw)
        if effect is None:
            return self._deliver(tx, step, cause, raw, published)
        return self._settle(tx, effect, cause, raw) if effect.state is EffectState.STARTED else None

    def _deferred(self, tx: Connection, message: Message) -> RawMessage | None:
        """Return the cause of a message where it waits in the database: a fence may wait for an outcome for days."""
        found = (row.raw for row in deferred.load(tx, [message.saga_id]) if row.message_id == message.causation_id)
        return next(found, None)

    def _unannounced(self, message: Message, loaded: LoadedEffects) -> Iterator[tuple[str, Message, RawMessage]]:
        """Yield the triggers of steps that ran before their saga was fenced, and whose replies were never published.

        The outcomes of those steps are in the reply to the fence.
        """
        for outcome in message.steps if isinstance(message, SagaFenced) else ():
            step = self._handlers.step(outcome.step)
            if step is None or isinstance(step, AwaitedStep) or outcome.state == EffectState.FENCED:
                continue
            if loaded.get(message.saga_id, step.name) is not None:
                continue
            for trigger in step.triggers:
                raw = self._triggers.get((message.saga_id, trigger.on)) if trigger.saga == message.saga_type else None
                if raw is not None:
                    yield step.name, self._codec.decode(raw.value), raw

    def _deliver(
        self, tx: Connection, handler: str, message: Message, raw: RawMessage, published: Message | None = None
    ) -> list[OutboxRow]:
        """Handle a message and the results of the calls that it leads to; return what would be published."""
        # At TIME it may have been deferred for a retry; the retry took place, and led to this reply.
        deferred.remove(tx, [(message.message_id, handler)])
        batch = self._batch(tx, message.saga_id, _restoring(self._handlers, handler, published))
        batch.deliveries([(handler, Delivery(message=message, raw=raw))])
        out = batch.finish()
        # What is published besides is of another saga or of none. Its id is the same again, and it stays to be sent.
        own = [row for row in out.rows if row.saga_id == message.saga_id]
        outbox.remove(tx, [row.id for row in own])
        return [*own, *(self._answered(tx, out.calls) if out.calls else ())]

    def _settle(self, tx: Connection, effect: Effect, message: Message, raw: RawMessage) -> list[OutboxRow]:
        """Handle the result of a call that was under way at TIME."""
        step = self._handlers.step(effect.step)
        assert isinstance(step, ExternalStep), "only a step that calls a provider is ever STARTED"
        call = PendingCall(
            handler=step, delivery=Delivery(message=message, raw=raw), request=None,
            attempt=effect.attempt, deadline_at=self._clock(), is_query=True,
        )  # fmt: skip
        return self._answered(tx, [call])

    def _answered(self, tx: Connection, calls: Sequence[PendingCall]) -> list[OutboxRow]:
        batch = self._batch(tx, calls[0].delivery.message.saga_id)
        batch.settle([CallResult(call=call, outcome=outcome_of(call)) for call in calls])
        rows = batch.finish().rows
        outbox.remove(tx, [row.id for row in rows])
        return rows

    def _batch(self, tx: Connection, saga_id: str, handlers: Handlers | None = None) -> Batch:
        return Batch(
            tx,
            self._service,
            handlers or self._handlers,
            self._codec,
            [saga_id],
            now=self._clock(),
            new_id=new_id,
            jitter=self._random,
        )

    def _is_alike(self, row: OutboxRow, published: Message) -> bool:
        if row.type != published.FULL_NAME:
            return False
        decided = self._codec.decode(row.payload)
        if isinstance(decided, SagaFenced) and isinstance(published, SagaFenced):
            return decided.steps == published.steps
        return True


def _restoring(handlers: Handlers, step_name: str, published: Message | None) -> Handlers:
    """Return handlers whose step takes over the outcome of its published success, where it can."""
    step = handlers.step(step_name)
    if not isinstance(step, Step) or (restore := step.restore) is None or published is None:
        return handlers
    of_saga = (each for each in step.triggers if each.saga == published.saga_type)
    trigger = next((each for each in of_saga if each.succeeds_with is type(published)), None)
    if trigger is None or trigger.restore is None:
        return handlers
    shown = trigger.restore(published)
    restoring = replace(step, decide=lambda request, rows, _envelope: restore(request, rows, shown))
    others = tuple(restoring if each is step else each for each in handlers.steps)
    return Handlers(others, handlers.reactions)


def _is_shown(message: Message, step: str, loaded: LoadedEffects) -> bool:
    """Return whether the effects show what a reply reports."""
    if not isinstance(message, SagaFenced):
        return loaded.get(message.saga_id, step) is not None
    found = [(each.state, loaded.get(message.saga_id, each.step)) for each in message.steps]
    return all(effect is not None and effect.state in (state, EffectState.UNDONE) for state, effect in found)


def outcome_of(call: PendingCall) -> object:
    """Return the outcome of a call as its provider has recorded it. Raises OutcomeUnknown where it has not."""
    try:
        outcome = call.handler.call.find(call.key)
    except Unavailable as failure:
        raise CannotReconcile(
            f"A provider did not return the outcome of {call.key} ({failure.reason}). Run this again when it answers."
        ) from failure
    if outcome is None:
        raise OutcomeUnknown(call.key)
    return outcome


def reconcile(settings: Settings, package: str, since: datetime) -> Reconciled:
    """Bring the service's database up to the replies that it has published, and let it continue from ``since``.

    1. Check that no process of the service runs.
    2. Read the replies that it has published since, decide them again, and settle the calls of which none knows.
    3. Only if all came out the same, set its group's offsets back, so that it handles everything else at its start.
    """
    dependencies = open_dependencies(settings)
    handlers = Handlers.of(importlib.import_module(f"{package}.main").build(dependencies).handlers)
    reader = Reader(KafkaLogin.of(settings), settings.service)
    try:
        # 1.
        reader.check_stopped()
        # 2.
        read = published_since(reader, settings.service, handlers, dependencies.codec, since)
        replay = Replay(settings.service, handlers, dependencies.engine, dependencies.codec, read)
        done = replay.run()
        if not done.open:
            possible = read.may_be_called(reader.committed(consumed_topics(settings.service, handlers)))
            done.found_at_providers = replay.recover(possible)
        # 3.
        if not done.open:
            reader.commit_back(reader.offsets_at(consumed_topics(settings.service, handlers), since - LAG_MAX))
    finally:
        reader.close()
    return done


def main() -> int:
    """Reconcile and print the result. Exit status: 1 where a reply could not be decided again, 2 on wrong usage."""
    try:
        package, since = sys.argv[1], datetime.fromisoformat(sys.argv[2])
    except (IndexError, ValueError):
        sys.stderr.write(USAGE)
        return 2
    since = since if since.tzinfo else since.replace(tzinfo=UTC)
    try:
        done = reconcile(Settings(), package, since)
    except (CannotReconcile, KafkaException) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{done.known} replies were known, {done.repeated} were decided again.\n")
    if done.open_steps:
        sys.stdout.write(f"{done.open_steps} steps wait for an outcome; their providers are queried at the start.\n")
    if done.found_at_providers:
        sys.stdout.write(f"{done.found_at_providers} calls without a reply were found at their providers.\n")
    for each in done.open:
        why = "its cause is older than what was read" if each.cause is None else "the decision would be another now"
        sys.stderr.write(f"{each.message.saga_id} {type(each.message).__name__}: {why}.\n")
    if done.open:
        sys.stderr.write(
            "The offsets were not changed. Enter again what was entered by hand since then (stock, points), or give an "
            "earlier time, and run this again.\n"
        )
    return 1 if done.open else 0


if __name__ == "__main__":
    raise SystemExit(main())
