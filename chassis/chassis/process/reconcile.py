"""``python -m chassis.process.reconcile PACKAGE TIME``: bring a database restored to TIME up to what Kafka knows.

Reading everything again from TIME is not enough. The last units could now go to another order than the one that was
told it has them, since nothing orders messages of different partitions, or of events and commands. So whatever the
service has published since is decided again first, in the order in which it was published, and must come out the same.
It never publishes, and never has a provider do anything: it asks what became of the call that was made.
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
from messages.contract import Message
from messages.saga import SagaFenced
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

BEHIND_MAX = timedelta(minutes=10)
"""What the service handled after TIME may be this much older; one that lagged further behind needs an earlier TIME."""
TIMEOUT_S = 10.0
READ_AT_ONCE = 500

Trigger: TypeAlias = tuple[str, type[Message]]
"""A saga's id and the type of the event that begins a step."""

USAGE = "Usage: python -m chassis.process.reconcile PACKAGE TIME, for example inventory 2026-11-21T09:30:00Z.\n"


class CannotReconcile(Exception):
    """Nothing was changed; the message says what stands in the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedReply:
    """One answer of the service, and what caused it: None where that is older than what was read."""

    message: Message
    published_at_ms: int
    cause: RawMessage | None


@dataclass(slots=True)
class Reconciled:
    """What came of every answer: the database knew it, it was decided again alike, or it could not be."""

    known: int = 0
    repeated: int = 0
    open: list[PublishedReply] = field(default_factory=list)


class OutcomeUnknown(Exception):
    """The provider does not know the call any more; its answer cannot be had again."""


class Replay:
    """Decides again what a service has said. Every answer is a transaction of its own, so it may be broken off."""

    def __init__(
        self, service: str, handlers: Handlers, engine: Engine, codec: Codec, triggers: Mapping[Trigger, RawMessage]
    ) -> None:
        self._service = service
        self._handlers = handlers
        self._engine = engine
        self._codec = codec
        self._triggers = triggers
        self._random = random.Random()

    def run(self, said: Sequence[PublishedReply]) -> Reconciled:
        """Repeat them in the order given.

        What does not come out as it did waits, and all of its saga behind it, until nothing else is left: units that
        it needs may have been given back by an answer of another partition.
        """
        done = Reconciled()
        waiting = list(said)
        while waiting:
            behind: list[PublishedReply] = []
            blocked: set[str] = set()
            for each in waiting:
                known = None if each.message.saga_id in blocked else self._repeat(each)
                if known is None:
                    blocked.add(each.message.saga_id)
                    behind.append(each)
                elif known:
                    done.known += 1
                else:
                    done.repeated += 1
            if len(behind) == len(waiting):
                break
            waiting = behind
        done.open = waiting
        return done

    def _repeat(self, said: PublishedReply) -> bool | None:
        """Return whether the database knew the answer already; None where it would be another one now."""
        step = self._handlers.step(self._handlers.answers.get(type(said.message), ""))
        refused = step is not None and type(said.message) is step.rejected_with
        known = None
        # A refusal of the service's own leaves its effect and nothing else; decided again, it might be none.
        if not refused or isinstance(step, ExternalStep):
            known = self._transact(lambda tx: self._decide(tx, said))
        if known is None and refused and step is not None:
            known = self._transact(lambda tx: self._note_refusal(tx, said.message.saga_id, step.name))
        return known

    def _transact(self, what: Callable[[Connection], bool | None]) -> bool | None:
        with self._engine.connect() as tx, tx.begin() as transaction:
            try:
                known = what(tx)
            except OutcomeUnknown:
                known = None
            if known is None:
                transaction.rollback()
        return known

    def _note_refusal(self, tx: Connection, saga_id: str, step: str) -> bool:
        book = effects.load(tx, [saga_id])
        if book.get(saga_id, step) is not None:
            return True
        book.put(Effect(saga_id=saga_id, step=step, state=EffectState.REJECTED, attempt=1))
        effects.save(tx, book, now=utc_now())
        return False

    def _decide(self, tx: Connection, said: PublishedReply) -> bool | None:
        saga_id, step = said.message.saga_id, self._handlers.answers.get(type(said.message), "")
        before = effects.load(tx, [saga_id])
        if said.cause is None:
            return True if before.get(saga_id, step) is not None else None
        for trigger in self._unannounced(said.message, before):
            self._deliver(tx, *trigger)
        cause = self._codec.decode(said.cause.value)
        effect = before.get(saga_id, step)
        if type(cause) in self._handlers.commands:
            rows = self._deliver(tx, self._handlers.for_message(type(cause))[0], cause, said.cause)
        elif effect is None:
            rows = self._deliver(tx, step, cause, said.cause)
        elif effect.state is EffectState.STARTED:
            rows = self._settle(tx, effect, cause, said.cause)
        else:
            return True
        after = effects.load(tx, [saga_id])
        if (step and after.get(saga_id, step) is None) or not all(self._is_alike(row, said.message) for row in rows):
            return None
        return before == after

    def _unannounced(self, message: Message, book: LoadedEffects) -> Iterator[tuple[str, Message, RawMessage]]:
        """Yield the triggers of steps that had run when their saga was fenced, and whose answers came too late to be
        announced: the fence's own answer tells of them.
        """
        for outcome in message.steps if isinstance(message, SagaFenced) else ():
            step = self._handlers.step(outcome.step)
            if step is None or outcome.state == EffectState.FENCED or book.get(message.saga_id, step.name) is not None:
                continue
            raw = self._triggers.get((message.saga_id, step.on))
            if raw is not None:
                yield step.name, self._codec.decode(raw.value), raw

    def _deliver(self, tx: Connection, handler: str, message: Message, raw: RawMessage) -> list[OutboxRow]:
        """Handle a message and the answers to the calls that it leads to; return what would be published."""
        # It may have waited to be tried again at that time; it was, and this is what came of it.
        deferred.remove(tx, [(message.message_id, handler)])
        batch = self._batch(tx, message.saga_id)
        batch.deliveries([(handler, Delivery(message=message, raw=raw))])
        out = batch.finish()
        outbox.remove(tx, [row.id for row in out.rows])
        return [*out.rows, *(self._answered(tx, out.calls) if out.calls else ())]

    def _settle(self, tx: Connection, effect: Effect, message: Message, raw: RawMessage) -> list[OutboxRow]:
        """Handle the answer to a call that was under way at the time to which the database was restored."""
        step = self._handlers.step(effect.step)
        assert isinstance(step, ExternalStep), "only a step that calls a provider is ever STARTED"
        call = PendingCall(
            handler=step, delivery=Delivery(message=message, raw=raw), request=None,
            attempt=effect.attempt, deadline_at=utc_now(), is_query=True,
        )  # fmt: skip
        return self._answered(tx, [call])

    def _answered(self, tx: Connection, calls: Sequence[PendingCall]) -> list[OutboxRow]:
        batch = self._batch(tx, calls[0].delivery.message.saga_id)
        batch.settle([CallResult(call=call, outcome=_asked(call)) for call in calls])
        rows = batch.finish().rows
        outbox.remove(tx, [row.id for row in rows])
        return rows

    def _batch(self, tx: Connection, saga_id: str) -> Batch:
        return Batch(
            tx, self._service, self._handlers, self._codec, [saga_id], now=utc_now(), new_id=new_id, jitter=self._random
        )

    def _is_alike(self, row: OutboxRow, said: Message) -> bool:
        if row.type != said.FULL_NAME:
            return False
        told = self._codec.decode(row.payload)
        return not (isinstance(told, SagaFenced) and isinstance(said, SagaFenced)) or told.steps == said.steps


def _asked(call: PendingCall) -> object:
    """Return what became of a call, as its provider remembers it. Raises Otherwise where it does not."""
    try:
        outcome = call.handler.call.find(call.key)
    except Unavailable as failure:
        raise CannotReconcile(
            f"A provider does not say what became of {call.key} ({failure.reason}). Run this again when it does."
        ) from failure
    if outcome is None:
        raise OutcomeUnknown(call.key)
    return outcome


class Reader:
    """Reads whole stretches of topics as the service's own login, and sets the places where the service goes on."""

    def __init__(self, login: KafkaLogin, group: str) -> None:
        self._group = group
        self._admin = AdminClient(login.options())
        self._consumer = Consumer({**login.options(), "group.id": group, "enable.auto.commit": False})

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def check_nobody_works(self) -> None:
        """Raise CannotReconcile while a process of the service runs: it would decide at the same time."""
        found = self._admin.describe_consumer_groups([self._group])[self._group].result(TIMEOUT_S)
        if found.members:
            names = ", ".join(sorted(member.client_id for member in found.members))
            raise CannotReconcile(f"{self._group} still runs ({names}). Stop every process of it first.")

    def places(self, topics: Iterable[str], since: datetime) -> list[TopicPartition]:
        """Return where each partition of the topics was at that time; its end where nothing has come since."""
        listed = self._admin.list_topics(timeout=TIMEOUT_S).topics
        at_ms = int(since.timestamp() * 1_000)
        asked = [TopicPartition(topic, number, at_ms) for topic in topics for number in listed[topic].partitions]
        found = self._consumer.offsets_for_times(asked, timeout=TIMEOUT_S)
        return [
            place if place.offset >= 0 else TopicPartition(place.topic, place.partition, self._end(place))
            for place in found
        ]

    def read(self, places: Sequence[TopicPartition]) -> Iterator[tuple[int, RawMessage]]:
        """Yield every message from these places to the present ends, with the time at which it was published."""
        ends = {(place.topic, place.partition): self._end(place) for place in places}
        unread = [place for place in places if place.offset < ends[place.topic, place.partition]]
        behind = {(place.topic, place.partition) for place in unread}
        if unread:
            self._consumer.assign(unread)
        while behind:
            messages = self._consumer.consume(READ_AT_ONCE, TIMEOUT_S)
            if not messages:
                raise CannotReconcile(f"Kafka gave nothing for {TIMEOUT_S:.0f} s, and there is more; see to it first.")
            for message in messages:
                if message.error() is not None:
                    raise CannotReconcile(f"Kafka does not let {self._group} read on: {message.error()}.")
                raw = raw_of(message)
                if raw.offset < ends[raw.topic, raw.partition]:
                    yield message.timestamp()[1], raw
                if raw.offset + 1 >= ends[raw.topic, raw.partition]:
                    behind.discard((raw.topic, raw.partition))
        self._consumer.unassign()

    def go_on_from(self, places: Sequence[TopicPartition]) -> None:
        """Let the service take messages from these places on when it starts, or from where it is if that is earlier."""
        there = self._consumer.committed(list(places), timeout=TIMEOUT_S)
        back = [place for place, now in zip(places, there, strict=True) if now.offset > place.offset]
        if back:
            self._consumer.commit(offsets=back, asynchronous=False)

    def _end(self, place: TopicPartition) -> int:
        return self._consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)[1]


def said_since(
    reader: Reader, service: str, handlers: Handlers, codec: Codec, since: datetime
) -> tuple[list[PublishedReply], dict[Trigger, RawMessage]]:
    """Return what the service has answered since then, in the order of its publishing, with the causes; and the
    triggers of its steps, by saga and type.
    """
    if not handlers.steps:
        return [], {}
    answers: dict[str, tuple[int, Message]] = {}
    wanted = {*handlers.answers, SagaFenced}
    for published_at_ms, raw in reader.read(reader.places([f"{service}.events"], since)):
        message = _read(codec, raw, wanted)
        if message is not None:
            answers.setdefault(message.message_id, (published_at_ms, message))
    causes: dict[str, RawMessage] = {}
    triggers: dict[Trigger, RawMessage] = {}
    for _, raw in reader.read(reader.places(consumed_topics(service, handlers), since - BEHIND_MAX)):
        message = _read(codec, raw, handlers.events | handlers.commands)
        if message is not None:
            causes[message.message_id] = raw
            triggers[message.saga_id, type(message)] = raw
    said = [
        PublishedReply(message=message, published_at_ms=published_at_ms, cause=causes.get(message.causation_id or ""))
        for published_at_ms, message in sorted(answers.values(), key=lambda pair: pair[0])
    ]
    return said, triggers


def _read(codec: Codec, raw: RawMessage, wanted: Collection[type[Message]]) -> Message | None:
    """Return the message if it is of a wanted type; what nobody can read has led to nothing here either."""
    try:
        return codec.decode(raw.value) if codec.type_of(raw.value) in wanted else None
    except Undecodable:
        return None


def reconcile(settings: Settings, package: str, since: datetime) -> Reconciled:
    """Bring the service's database up to what it has said, and let it go on from ``since``.

    1. Nobody else may work on it.
    2. Read what the service has said since, and decide it again.
    3. Only when all of it came out as it did: set its group's offsets back, so that all else is handled at its start.
    """
    parts = open_dependencies(settings)
    handlers = Handlers.of(importlib.import_module(f"{package}.main").build(parts).handlers)
    reader = Reader(KafkaLogin.of(settings), settings.service)
    try:
        # 1.
        reader.check_nobody_works()
        # 2.
        said, triggers = said_since(reader, settings.service, handlers, parts.codec, since)
        done = Replay(settings.service, handlers, parts.engine, parts.codec, triggers).run(said)
        # 3.
        if not done.open:
            reader.go_on_from(reader.places(consumed_topics(settings.service, handlers), since - BEHIND_MAX))
    finally:
        reader.close()
    return done


def main() -> int:
    """Reconcile and say what came of it: exit status 1 where something was not to be had, 2 on a wrong call."""
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
    sys.stdout.write(f"{done.known} answers were known, {done.repeated} were decided again.\n")
    for each in done.open:
        why = "its cause is older than what was read" if each.cause is None else "it would be another answer now"
        sys.stderr.write(f"{each.message.saga_id} {type(each.message).__name__}: {why}.\n")
    if done.open:
        sys.stderr.write(
            "The offsets were left as they are. Enter what came in by hand since then (stock, points), or give an "
            "earlier time, and run this again.\n"
        )
    return 1 if done.open else 0


if __name__ == "__main__":
    raise SystemExit(main())
