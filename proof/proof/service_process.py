"""A service's process in a schedule: its real handlers in the kit's transactions; around them everything may go wrong.

What a process keeps in memory (messages read, calls under way, rows to publish) is lost in a crash; what it committed
is in PostgreSQL. It does what ``chassis.process.worker`` does, in the same order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import psycopg
from chassis.http.downstream import Unavailable
from chassis.postgres.transient import ATTEMPTS_MAX, is_transient
from chassis.process.worker import DUE_MAX, SWEEP_EVERY_S, Unprocessable, Work
from chassis.saga import deferred, outbox
from chassis.saga.batch import Batch
from chassis.saga.deferred import Deferral, RawMessage
from chassis.saga.handlers import Handlers
from chassis.saga.outbox import OutboxRow
from chassis.saga.publisher import LEFTOVER_AGE
from chassis.saga.unit_of_work import Answer, Delivery, Outgoing, PendingCall
from chassis.saga.waiting import UNPROCESSABLE
from chassis.wire.codec import Codec
from messages.contract import Message
from saga_tracker.store.consumed_offsets import TopicPartition
from sqlalchemy.exc import DBAPIError, OperationalError

from proof.broker import Broker
from proof.calls import CallTransport
from proof.connections import ProcessConnection
from proof.databases import NEXT_DUE, Database
from proof.schedule import Schedule
from proof.tasks import Crash, SimulatedTask

UNREADABLE = "a release that cannot read it"
FETCH_MAX = 4
ZOMBIE_S = 8.0
"""How long a process that lost its partitions may go on before it notices, or stand still in a transaction."""


@dataclass(slots=True, kw_only=True)
class Service:
    """What the processes of one service share: the database, and the offsets that Kafka keeps for their group."""

    name: str
    handlers: Handlers
    database: Database
    topics: tuple[str, ...]
    codec: Codec
    broker: Broker
    schedule: Schedule
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    due_at: dict[int, datetime] = field(default_factory=dict)
    transport: CallTransport = field(init=False)

    def __post_init__(self) -> None:
        self.transport = CallTransport(schedule=self.schedule)


@dataclass(slots=True, kw_only=True)
class Process:
    """One process of a service."""

    service: Service
    number: int
    connection: ProcessConnection = field(init=False)
    task: SimulatedTask = field(init=False)
    partitions: set[int] = field(default_factory=set)
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    fetched: list[RawMessage] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    unpublished: list[OutboxRow] = field(default_factory=list)
    delivered: list[str] = field(default_factory=list)
    paused_until: datetime | None = None
    generation: int = 0
    _read_up_to: int = -1

    def __post_init__(self) -> None:
        self.connection = self.service.database.connection(self.service.name, self.number, follow_up=NEXT_DUE)
        self.task = self.connection.task = SimulatedTask(self.service.schedule)

    @property
    def name(self) -> str:
        """Its name in a trace."""
        return f"{self.service.name}/{self.number}"

    @property
    def is_paused(self) -> bool:
        """Say whether it stands still just now."""
        schedule = self.service.schedule
        return self.paused_until is not None and schedule.now < self.paused_until and schedule.are_faults_on

    @property
    def is_ready(self) -> bool:
        """Say whether there is anything that it could do now."""
        if self.task.is_suspended or self.is_paused:
            return False
        if self.fetched or self.answers or self.unpublished:
            return True
        if self._has_due():
            return True
        if self._read_up_to == self.service.broker.appended_count:
            return False
        if any(self._unread()):
            return True
        self._read_up_to = self.service.broker.appended_count
        return False

    def _has_due(self) -> bool:
        due_at = self.service.due_at
        if not due_at:
            return False
        now = self.service.schedule.now
        return any(due_at[partition] <= now for partition in self.partitions if partition in due_at)

    def _unread(self) -> Iterator[TopicPartition]:
        end, positions = self.service.broker.end, self.positions
        for partition in sorted(self.partitions):
            for topic in self.service.topics:
                place = topic, partition
                if positions[place] < end(place):
                    yield place

    # Partitions and crashes

    def own(self, partition: int) -> None:
        """Become the owner of a partition, and go on where the group committed."""
        self.partitions.add(partition)
        self._read_up_to = -1
        for topic in self.service.topics:
            self.positions[(topic, partition)] = self.service.committed.get((topic, partition), 0)

    def take_over(self, partition: int) -> None:
        """Become the owner of a partition that had one: publish what is left over for it."""
        self.own(partition)
        self._take_leftovers({partition})

    def lose(self, partition: int) -> None:
        """Notice that a partition is somebody else's now."""
        self.partitions.discard(partition)
        self.fetched = [raw for raw in self.fetched if raw.partition != partition]

    def take_leftovers(self) -> None:
        """Publish what nobody in memory knows of, and wake what is settled, as the worker's sweep does."""
        self._take_leftovers(self.partitions)
        if self.service.handlers.steps and self.partitions:
            with self.connection.begin() as tx:
                deferred.wake_settled(tx, self.partitions, now=self.service.schedule.now)
            self._look()

    def _take_leftovers(self, partitions: set[int]) -> None:
        if not partitions:
            return
        with self.connection.begin() as tx:
            left = outbox.leftovers(tx, partitions, age=timedelta(0))
        on_their_way = {row.id for row in self.unpublished} | set(self.delivered)
        self.unpublished.extend(row for row in left if row.id not in on_their_way)

    def kill(self) -> None:
        """Kill it, wherever it stands."""
        if self.task.is_suspended:
            self.task.kill()
        else:
            self.crash()

    def crash(self) -> None:
        """Lose everything in memory, and begin again."""
        self.task.plan_faults()
        self.service.schedule.note(f"{self.name} crashes and starts again")
        self.generation += 1
        self.fetched, self.answers, self.unpublished, self.delivered = [], [], [], []
        for partition in sorted(self.partitions):
            self.take_over(partition)

    # The loop

    def step(self) -> None:
        """Do one round of the loop."""
        try:
            self._publish()
            self._fetch()
            due = self._take_due()
            if not (self.fetched or self.answers or due):
                return
            raws, self.fetched = self.fetched, []
            answers, self.answers = self.answers, []
            ends = dict(self.positions)
            new, again = self._sort(raws), self._read_again(due)
            if work := replace(again, deliveries=new.deliveries, unread=(*again.unread, *new.unread), answers=answers):
                self._handle(work)
            self._store_offsets(ends)
        except (Crash, DBAPIError):
            self.crash()

    def tidy(self) -> None:
        """Remove what was published from the outbox."""
        if self.delivered:
            with self.connection.begin() as tx:
                outbox.remove(tx, self.delivered)
            self.delivered = []

    def _fetch(self) -> None:
        service, chance = self.service, self.service.schedule.chance
        unread = list(self._unread())
        for place in chance.sample(unread, chance.randint(1, len(unread))) if unread else ():
            position = self.positions[place]
            if position and service.schedule.strikes("redelivered", 0.05):
                position = max(0, position - chance.randint(1, FETCH_MAX))
            records = service.broker.read(place, position, chance.randint(1, FETCH_MAX))
            self.positions[place] = position + len(records)
            self.fetched.extend(record.raw for record in records)

    def _sort(self, raws: Sequence[RawMessage]) -> Work:
        deliveries: list[tuple[str, Delivery]] = []
        unread: list[Unprocessable] = []
        for raw in raws:
            found = self._recognise(raw)
            if found is None:
                unread.append(Unprocessable(raw=raw, reason=UNREADABLE))
            else:
                deliveries.extend((name, Delivery(message=message, raw=raw)) for name, message in found)
        return Work(deliveries=deliveries, unread=unread)

    def _read_again(self, rows: Sequence[Deferral]) -> Work:
        due: list[tuple[str, Delivery]] = []
        unread: list[Unprocessable] = []
        unwanted: list[Deferral] = []
        for row in rows:
            found = self._recognise(row.raw)
            if found is None:
                unread.append(Unprocessable(raw=row.raw, reason=UNREADABLE, row=row))
                continue
            wanted = [(name, message) for name, message in found if row.handler in (name, UNPROCESSABLE)]
            due.extend((name, Delivery.of(row, message)) for name, message in wanted)
            unwanted.extend(() if wanted else (row,))
        return Work(due=due, unread=unread, unwanted=unwanted)

    def _recognise(self, raw: RawMessage) -> list[tuple[str, Message]] | None:
        """Return a message by handler; None where this process cannot read what another one can."""
        message_type = self.service.codec.type_of(raw.value)
        names = () if message_type is None else self.service.handlers.for_message(message_type)
        if not names:
            return []
        if self.service.schedule.strikes("a message cannot be read", 0.01):
            return None
        message = self.service.codec.decode(raw.value)
        return [(name, message) for name in names]

    def _take_due(self) -> list[Deferral]:
        now = self.service.schedule.now
        if not self._has_due():
            return []
        with self.connection.begin() as tx:
            return deferred.due(tx, self.partitions, now=now, limit=DUE_MAX)

    def _handle(self, work: Work) -> None:
        delivered, self.delivered = self.delivered, []
        try:
            self._after_commit(self._transact(work, delivered, lambda batch: _feed(batch, work)))
        except Crash:
            raise
        except Exception as error:  # as the worker does: the batch is taken apart to find whom it concerns
            if is_transient(error):
                raise
            self.delivered = delivered + self.delivered
            for single in work.single():
                self._handle_single(single)

    def _handle_single(self, single: Work) -> None:
        try:
            out = self._transact(single, (), lambda batch: _feed(batch, single))
        except Crash:
            raise
        except Exception as error:  # its handler raised for this very message
            if is_transient(error):
                raise
            cause = error
            self.service.schedule.note(f"{self.name} fails: {type(cause).__name__}: {cause}")

            def give_up_or_defer(batch: Batch) -> None:
                for handler_name, delivery in (*single.deliveries, *single.due):
                    batch.failed(handler_name, delivery, cause)
                failure = Unavailable(f"{type(cause).__name__} in an answer", detail=str(cause))
                batch.answers([Answer(call=each.call, failure=failure) for each in single.answers])

            out = self._transact(single, (), give_up_or_defer)
        self._after_commit(out)

    def _transact(self, work: Work, delivered: Sequence[str], feed: Callable[[Batch], None]) -> Outgoing:
        """Run the transaction, again and again while PostgreSQL is away, as ``chassis.postgres.transient`` does."""
        for _ in range(ATTEMPTS_MAX - 1):
            try:
                return self._transact_once(work, delivered, feed)
            except DBAPIError as error:
                if not is_transient(error):
                    raise
                self.service.schedule.note(f"{self.name} tries again: {error.orig}")
                self.task.sleep(self.service.schedule.chance.random())
        return self._transact_once(work, delivered, feed)

    def _transact_once(self, work: Work, delivered: Sequence[str], feed: Callable[[Batch], None]) -> Outgoing:
        service, schedule = self.service, self.service.schedule
        stops = schedule.strikes("stands still in a transaction", 0.02)
        fails = schedule.strikes("PostgreSQL fails", 0.02)
        self.task.plan_faults(stops_for_s=schedule.chance.uniform(0.1, ZOMBIE_S) if stops else 0.0, fails=fails)
        with self.connection.begin() as tx:
            outbox.remove(tx, delivered)
            batch = Batch(
                tx,
                service.name,
                service.handlers,
                service.codec,
                sorted(work.saga_ids),
                now=schedule.now,
                new_id=schedule.new_id,
                jitter=random.Random(schedule.chance.random()),
            )
            feed(batch)
            out = batch.finish()
            if schedule.strikes("crash before the commit", 0.01):
                raise Crash
        self.task.plan_faults()
        self._look()
        self._note(work, out)
        if schedule.strikes("crash between commit and publish", 0.02):
            raise Crash
        if schedule.strikes("the answer to a commit is lost", 0.01):
            self._sweep_later()
            raise OperationalError("COMMIT", {}, psycopg.OperationalError("no answer to the commit"))
        return out

    def _look(self) -> None:
        if self.connection.follow_up_rows is not None:
            self.service.due_at = dict(self.connection.follow_up_rows)

    def _sweep_later(self) -> None:
        """Let the sweep find what nobody in memory knows of: it takes what is old enough."""
        schedule = self.service.schedule

        def sweep() -> None:
            if self.task.is_suspended:
                schedule.at(schedule.now + timedelta(seconds=SWEEP_EVERY_S), sweep)
            else:
                self.take_leftovers()

        schedule.at(schedule.now + LEFTOVER_AGE + timedelta(seconds=SWEEP_EVERY_S), sweep)

    def _note(self, work: Work, out: Outgoing) -> None:
        if not self.service.schedule.is_traced:
            return
        for handler_name, delivery in (*work.deliveries, *work.due):
            again = " again" if delivery.row else ""
            line = f"{self.name} handles {handler_name}{again} of {_short(delivery.message)}"
            self.service.schedule.note(line, delivery.message.saga_id)
        for answer in work.answers:
            what = answer.failure.reason if answer.failure else type(answer.outcome).__name__
            saga_id = answer.call.delivery.message.saga_id
            self.service.schedule.note(f"{self.name} is answered {answer.call.key}: {what}", saga_id)
        for each in work.unread:
            self.service.schedule.note(f"{self.name} cannot read a message on {each.raw.topic}", each.saga_id)
        for row in out.rows:
            line = f"{self.name} commits {row.type.rpartition('.')[2]} to {row.topic}"
            self.service.schedule.note(line, row.saga_id)

    def _after_commit(self, out: Outgoing) -> None:
        self.unpublished.extend(out.rows)
        if not self.service.schedule.strikes("publication delayed", 0.1):
            self._publish()
        for call in out.calls:
            self._begin(call)

    def _publish(self) -> None:
        """Publish in order; a crash in between leaves the rest in the outbox, and what was published there as well."""
        schedule = self.service.schedule
        while self.unpublished:
            row = self.unpublished.pop(0)
            self.service.broker.publish(row, now=schedule.now)
            if schedule.strikes("published twice", 0.03):
                self.service.broker.publish(row, now=schedule.now)
            if schedule.strikes("crash between publish and removal", 0.01):
                raise Crash
            self.delivered.append(row.id)

    def _store_offsets(self, ends: dict[TopicPartition, int]) -> None:
        if self.service.schedule.strikes("offsets not committed", 0.1):
            return
        for place, position in ends.items():
            if place[1] in self.partitions:
                self.service.committed[place] = position

    def _begin(self, call: PendingCall) -> None:
        generation = self.generation

        def is_alive() -> bool:
            return self.generation == generation

        def answered(answer: Answer) -> None:
            if is_alive():
                self.answers.append(answer)

        self.service.transport.begin(call, answered, is_alive)


def _feed(batch: Batch, work: Work) -> None:
    batch.answers(work.answers)
    batch.due(work.due)
    batch.deliveries(work.deliveries)
    for row in work.unwanted:
        batch.forget(row)
    for each in work.unread:
        batch.unread(each.raw, each.reason, each.detail, row=each.row)


def _short(message: Message) -> str:
    return f"{message.FULL_NAME.rpartition('.')[2]} {message.message_id[-6:]} of saga {message.saga_id[-6:]}"
