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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from sqlalchemy import Connection, Engine

from chassis.http.downstream import Unavailable
from chassis.postgres.transient import utc_now
from chassis.process.intake import raw_of
from chassis.process.service import consumed_topics, open_dependencies
from chassis.saga import deferred, effects, outbox
from chassis.saga.batch import Batch
from chassis.saga.deferred import RawMessage
from chassis.saga.effects import Effect, EffectState, LoadedEffects
from chassis.saga.handlers import Handlers
from chassis.saga.outbox import OutboxRow
from chassis.saga.steps import ExternalStep
from chassis.saga.unit_of_work import CallResult, Delivery, PendingCall
from chassis.settings import Settings
from chassis.wire.codec import Codec, Undecodable
from chassis.wire.envelope import new_id
from chassis.wire.kafka import KafkaLogin
from messages.contract import Message
from messages.saga import SagaFenced

LAG_MAX = timedelta(minutes=10)
"""What the service handled after TIME may be this much older. A service that lagged further needs an earlier TIME."""
TIMEOUT_S = 10.0
READ_SIZE_MAX = 500

Trigger: TypeAlias = tuple[str, type[Message]]
"""A saga's id and the type of the event that triggers a step."""

USAGE = "Usage: python -m chassis.process.reconcile PACKAGE TIME, for example inventory 2026-11-21T09:30:00Z.\n"


class CannotReconcile(Exception):
    """Nothing was changed; the message names what prevents it, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedReply:
    """A reply that the service has published. ``cause`` is None where it is older than the messages that were read."""

    message: Message
    published_at_ms: int
    cause: RawMessage | None


@dataclass(slots=True)
class Reconciled:
    """How many replies the database knew, how many were decided again alike, and which could not be."""

    known: int = 0
    repeated: int = 0
    open: list[PublishedReply] = field(default_factory=list)


class OutcomeUnknown(Exception):
    """The provider no longer knows the call, so its outcome is not available."""


class Replay:
    """Decides published replies again. Each is a transaction of its own, so a replay may be interrupted."""

    def __init__(
        self, service: str, handlers: Handlers, engine: Engine, codec: Codec, triggers: Mapping[Trigger, RawMessage]
    ) -> None:
        self._service = service
        self._handlers = handlers
        self._engine = engine
        self._codec = codec
        self._triggers = triggers
        self._random = random.Random()

    def run(self, replies: Sequence[PublishedReply]) -> Reconciled:
        """Decide the replies again in the order given.

        A reply that comes out differently waits, and so do the later ones of its saga. They are decided again after
        all others, because a reply of another partition may have returned the units that it needs.
        """
        done = Reconciled()
        waiting = list(replies)
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

    def _repeat(self, reply: PublishedReply) -> bool | None:
        """Return whether the database knew the reply already; None where the decision would be another one now."""
        step = self._handlers.step(self._handlers.answers.get(type(reply.message), ""))
        is_rejection = self._handlers.is_rejection(reply.message)
        known = None
        # A local step's rejection leaves its effect and nothing else; decided again, it might be no rejection.
        if not is_rejection or isinstance(step, ExternalStep):
            known = self._transact(lambda tx: self._decide(tx, reply))
        if known is None and is_rejection and step is not None:
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
        effects.save(tx, loaded, now=utc_now())
        return False

    def _decide(self, tx: Connection, reply: PublishedReply) -> bool | None:
        saga_id, step = reply.message.saga_id, self._handlers.answers.get(type(reply.message), "")
        before = effects.load(tx, [saga_id])
        if reply.cause is None:
            return True if before.get(saga_id, step) is not None else None
        for trigger in self._unannounced(reply.message, before):
            self._deliver(tx, *trigger)
        cause = self._codec.decode(reply.cause.value)
        effect = before.get(saga_id, step)
        if type(cause) in self._handlers.commands:
            rows = self._deliver(tx, self._handlers.for_message(type(cause))[0], cause, reply.cause)
        elif effect is None:
            rows = self._deliver(tx, step, cause, reply.cause)
        elif effect.state is EffectState.STARTED:
            rows = self._settle(tx, effect, cause, reply.cause)
        else:
            return True
        after = effects.load(tx, [saga_id])
        if (step and after.get(saga_id, step) is None) or not all(self._is_alike(row, reply.message) for row in rows):
            return None
        return before == after

    def _unannounced(self, message: Message, loaded: LoadedEffects) -> Iterator[tuple[str, Message, RawMessage]]:
        """Yield the triggers of steps that ran before their saga was fenced, and whose replies were never published.

        The outcomes of those steps are in the reply to the fence.
        """
        for outcome in message.steps if isinstance(message, SagaFenced) else ():
            step = self._handlers.step(outcome.step)
            if step is None or outcome.state == EffectState.FENCED:
                continue
            if loaded.get(message.saga_id, step.name) is not None:
                continue
            for trigger in step.triggers:
                raw = self._triggers.get((message.saga_id, trigger.on)) if trigger.saga == message.saga_type else None
                if raw is not None:
                    yield step.name, self._codec.decode(raw.value), raw

    def _deliver(self, tx: Connection, handler: str, message: Message, raw: RawMessage) -> list[OutboxRow]:
        """Handle a message and the results of the calls that it leads to; return what would be published."""
        # At TIME it may have been deferred for a retry; the retry took place, and led to this reply.
        deferred.remove(tx, [(message.message_id, handler)])
        batch = self._batch(tx, message.saga_id)
        batch.deliveries([(handler, Delivery(message=message, raw=raw))])
        out = batch.finish()
        outbox.remove(tx, [row.id for row in out.rows])
        return [*out.rows, *(self._answered(tx, out.calls) if out.calls else ())]

    def _settle(self, tx: Connection, effect: Effect, message: Message, raw: RawMessage) -> list[OutboxRow]:
        """Handle the result of a call that was under way at TIME."""
        step = self._handlers.step(effect.step)
        assert isinstance(step, ExternalStep), "only a step that calls a provider is ever STARTED"
        call = PendingCall(
            handler=step, delivery=Delivery(message=message, raw=raw), request=None,
            attempt=effect.attempt, deadline_at=utc_now(), is_query=True,
        )  # fmt: skip
        return self._answered(tx, [call])

    def _answered(self, tx: Connection, calls: Sequence[PendingCall]) -> list[OutboxRow]:
        batch = self._batch(tx, calls[0].delivery.message.saga_id)
        batch.settle([CallResult(call=call, outcome=outcome_of(call)) for call in calls])
        rows = batch.finish().rows
        outbox.remove(tx, [row.id for row in rows])
        return rows

    def _batch(self, tx: Connection, saga_id: str) -> Batch:
        return Batch(
            tx, self._service, self._handlers, self._codec, [saga_id], now=utc_now(), new_id=new_id, jitter=self._random
        )

    def _is_alike(self, row: OutboxRow, published: Message) -> bool:
        if row.type != published.FULL_NAME:
            return False
        decided = self._codec.decode(row.payload)
        if isinstance(decided, SagaFenced) and isinstance(published, SagaFenced):
            return decided.steps == published.steps
        return True


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


class Reader:
    """Reads ranges of topics with the service's own login, and sets the offsets at which the service continues."""

    def __init__(self, login: KafkaLogin, group: str) -> None:
        self._group = group
        self._admin = AdminClient(login.options())
        self._consumer = Consumer({**login.options(), "group.id": group, "enable.auto.commit": False})

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def check_stopped(self) -> None:
        """Raise CannotReconcile while a process of the service runs, since it would decide at the same time."""
        found = self._admin.describe_consumer_groups([self._group])[self._group].result(TIMEOUT_S)
        if found.members:
            names = ", ".join(sorted(member.client_id for member in found.members))
            raise CannotReconcile(f"{self._group} still runs ({names}). Stop all its processes first.")

    def offsets_at(self, topics: Iterable[str], since: datetime) -> list[TopicPartition]:
        """Return the offset of each partition of the topics at that time: its end where it has no later message."""
        listed = self._admin.list_topics(timeout=TIMEOUT_S).topics
        at_ms = int(since.timestamp() * 1_000)
        times = [TopicPartition(topic, number, at_ms) for topic in topics for number in listed[topic].partitions]
        found = self._consumer.offsets_for_times(times, timeout=TIMEOUT_S)
        return [
            each if each.offset >= 0 else TopicPartition(each.topic, each.partition, self._end(each)) for each in found
        ]

    def read(self, begins: Sequence[TopicPartition]) -> Iterator[tuple[int, RawMessage]]:
        """Yield every message from these offsets to the present ends, with the time at which it was published."""
        ends = {(begin.topic, begin.partition): self._end(begin) for begin in begins}
        left = [begin for begin in begins if begin.offset < ends[begin.topic, begin.partition]]
        unfinished = {(begin.topic, begin.partition) for begin in left}
        if left:
            self._consumer.assign(left)
        while unfinished:
            messages = self._consumer.consume(READ_SIZE_MAX, TIMEOUT_S)
            if not messages:
                raise CannotReconcile(
                    f"Kafka returned nothing for {TIMEOUT_S:.0f} s, although more is stored. Run ./baraza status."
                )
            for message in messages:
                if message.error() is not None:
                    raise CannotReconcile(f"{self._group} cannot read from Kafka: {message.error()}.")
                raw = raw_of(message)
                if raw.offset < ends[raw.topic, raw.partition]:
                    yield message.timestamp()[1], raw
                if raw.offset + 1 >= ends[raw.topic, raw.partition]:
                    unfinished.discard((raw.topic, raw.partition))
        self._consumer.unassign()

    def commit_back(self, offsets: Sequence[TopicPartition]) -> None:
        """Commit these offsets for the service, except where the committed offset is an earlier one."""
        committed = self._consumer.committed(list(offsets), timeout=TIMEOUT_S)
        back = [offset for offset, now in zip(offsets, committed, strict=True) if now.offset > offset.offset]
        if back:
            self._consumer.commit(offsets=back, asynchronous=False)

    def _end(self, topic_partition: TopicPartition) -> int:
        return self._consumer.get_watermark_offsets(topic_partition, timeout=TIMEOUT_S)[1]


def published_since(
    reader: Reader, service: str, handlers: Handlers, codec: Codec, since: datetime
) -> tuple[list[PublishedReply], dict[Trigger, RawMessage]]:
    """Return the replies that the service has published since then, in that order, and the triggers of its steps.

    The triggers are by saga and type.
    """
    if not handlers.steps:
        return [], {}
    published: dict[str, tuple[int, Message]] = {}
    wanted = {*handlers.answers, SagaFenced}
    for published_at_ms, raw in reader.read(reader.offsets_at([f"{service}.events"], since)):
        message = _read(codec, raw, wanted)
        if message is not None:
            published.setdefault(message.message_id, (published_at_ms, message))
    causes: dict[str, RawMessage] = {}
    triggers: dict[Trigger, RawMessage] = {}
    for _, raw in reader.read(reader.offsets_at(consumed_topics(service, handlers), since - LAG_MAX)):
        message = _read(codec, raw, handlers.events | handlers.commands)
        if message is not None:
            causes[message.message_id] = raw
            triggers[message.saga_id, type(message)] = raw
    replies = [
        PublishedReply(message=message, published_at_ms=published_at_ms, cause=causes.get(message.causation_id or ""))
        for published_at_ms, message in sorted(published.values(), key=lambda pair: pair[0])
    ]
    return replies, triggers


def _read(codec: Codec, raw: RawMessage, wanted: Collection[type[Message]]) -> Message | None:
    """Return the message if it is of a wanted type. What cannot be decoded has led to no reply either."""
    try:
        return codec.decode(raw.value) if codec.type_of(raw.value) in wanted else None
    except Undecodable:
        return None


def reconcile(settings: Settings, package: str, since: datetime) -> Reconciled:
    """Bring the service's database up to the replies that it has published, and let it continue from ``since``.

    1. Check that no process of the service runs.
    2. Read the replies that it has published since, and decide them again.
    3. Only if all came out the same, set its group's offsets back, so that it handles everything else at its start.
    """
    dependencies = open_dependencies(settings)
    handlers = Handlers.of(importlib.import_module(f"{package}.main").build(dependencies).handlers)
    reader = Reader(KafkaLogin.of(settings), settings.service)
    try:
        # 1.
        reader.check_stopped()
        # 2.
        replies, triggers = published_since(reader, settings.service, handlers, dependencies.codec, since)
        done = Replay(settings.service, handlers, dependencies.engine, dependencies.codec, triggers).run(replies)
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
