"""A service's process in a schedule: its real handlers in the kit's transactions; around them everything may go wrong.

What a process keeps in memory (messages read, calls under way, rows to publish) is lost in a crash; what it committed
is in PostgreSQL. It does what ``messaging.worker`` does, in the same order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from messages.contract import Message
from messaging.calls import START_MARGIN
from messaging.codec import Codec
from messaging.deferred import RawMessage
from messaging.downstream import Unavailable
from messaging.handlers import Handlers
from messaging.handling import Batch
from messaging.outbox import OutboxRow
from messaging.turn import Answer, Delivery, Outgoing, PendingCall
from messaging.worker import DUE_MAX, Work
from saga_tracker.tables import Place
from sqlalchemy import Connection, text

from messaging import deferred, outbox
from proof.broker import Broker
from proof.schedule import Schedule

CLIENT_TIMEOUT_S = 2.0
FETCH_MAX = 4
START_DELAY_S = 2.0
"""How long a call may wait for a thread; longer than the kit's margin allows, so that some are not begun."""
ZOMBIE_S = 8.0
"""How long a process that lost its partitions may go on before it notices."""
NEXT_DUE = text("SELECT min(due_at) FROM deferred")


class Crash(Exception):
    """The process ends here."""


@dataclass(slots=True, kw_only=True)
class Service:
    """What the processes of one service share: the database, and the offsets that Kafka keeps for their group."""

    name: str
    handlers: Handlers
    connection: Connection
    topics: tuple[str, ...]
    codec: Codec
    broker: Broker
    schedule: Schedule
    committed: dict[Place, int] = field(default_factory=dict)
    due_at: datetime | None = None

    def look(self) -> None:
        """See when the next deferred message is due."""
        with self.connection.begin():
            self.due_at = self.connection.execute(NEXT_DUE).scalar_one()


@dataclass(slots=True, kw_only=True)
class Process:
    """One process of a service."""

    service: Service
    number: int
    partitions: set[int] = field(default_factory=set)
    positions: dict[Place, int] = field(default_factory=dict)
    fetched: list[RawMessage] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    unpublished: list[OutboxRow] = field(default_factory=list)
    delivered: list[str] = field(default_factory=list)
    paused_until: datetime | None = None
    generation: int = 0

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
    def is_idle(self) -> bool:
        """Say whether it can do nothing now: nothing is in its memory and nothing waits for it, or it stands still."""
        if self.is_paused:
            return True
        if self.fetched or self.answers or self.unpublished or self.delivered:
            return False
        places = ((topic, partition) for topic in self.service.topics for partition in self.partitions)
        return all(self.positions.get(place, 0) >= self.service.broker.end(place) for place in places)

    # Partitions and crashes

    def take_over(self, partition: int) -> None:
        """Become the owner of a partition: publish what is left over for it, go on where the group committed."""
        service = self.service
        self.partitions.add(partition)
        for topic in service.topics:
            self.positions[(topic, partition)] = service.committed.get((topic, partition), 0)
        with service.connection.begin():
            left = outbox.leftovers(service.connection, {partition}, age=timedelta(0))
        on_their_way = {row.id for row in self.unpublished} | set(self.delivered)
        self.unpublished.extend(row for row in left if row.id not in on_their_way)

    def crash(self) -> None:
        """Lose everything in memory, and begin again."""
        self.service.schedule.note(f"{self.name} crashes and starts again")
        self.generation += 1
        self.fetched, self.answers, self.unpublished, self.delivered = [], [], [], []
        for partition in sorted(self.partitions):
            self.take_over(partition)

    # The loop

    def step(self) -> bool:
        """Do one round of the loop, and say whether there was anything to do."""
        if self.is_paused:
            return False
        try:
            moved = self._publish()
            self._fetch()
            due = self._take_due()
            if not (self.fetched or self.answers or due or self.delivered):
                return moved
            raws, self.fetched = self.fetched, []
            answers, self.answers = self.answers, []
            delivered, self.delivered = self.delivered, []
            work = Work(deliveries=self._sort(raws), due=due, answers=answers)
            self._handle(work, delivered)
            self._store_offsets()
        except Crash:
            self.crash()
        return True

    def _fetch(self) -> None:
        service, chance = self.service, self.service.schedule.chance
        for partition in sorted(self.partitions):
            for topic in chance.sample(service.topics, len(service.topics)):
                place = (topic, partition)
                position = self.positions.get(place, 0)
                if position >= service.broker.end(place) or chance.random() < 0.4:
                    continue
                if position and service.schedule.strikes("redelivered", 0.05):
                    position = max(0, position - chance.randint(1, FETCH_MAX))
                records = service.broker.read(place, position, chance.randint(1, FETCH_MAX))
                self.positions[place] = position + len(records)
                self.fetched.extend(record.raw for record in records)

    def _sort(self, raws: Sequence[RawMessage]) -> list[tuple[str, Delivery]]:
        found: list[tuple[str, Delivery]] = []
        for raw in raws:
            message_type = self.service.codec.type_of(raw.value)
            names = () if message_type is None else self.service.handlers.for_message(message_type)
            found.extend((name, Delivery(message=self.service.codec.decode(raw.value), raw=raw)) for name in names)
        return found

    def _take_due(self) -> list[tuple[str, Delivery]]:
        service, now = self.service, self.service.schedule.now
        if service.due_at is None or service.due_at > now or not self.partitions:
            return []
        with service.connection.begin():
            rows = deferred.due(service.connection, self.partitions, now=now, limit=DUE_MAX)
        return [
            (
                row.handler,
                Delivery.of(row, service.codec.decode(row.raw.value)),
            )
            for row in rows
        ]

    def _handle(self, work: Work, delivered: Sequence[str]) -> None:
        try:
            out = self._transact(work, delivered, lambda batch: _feed(batch, work))
        except Crash:
            raise
        except Exception:  # as the worker does: the batch is taken apart to find whom it concerns
            self.delivered.extend(delivered)
            for single in work.single():
                self._handle_single(single)
        else:
            self._after_commit(out)

    def _handle_single(self, single: Work) -> None:
        def feed(batch: Batch) -> None:
            _feed(batch, single)

        try:
            out = self._transact(single, (), feed)
        except Crash:
            raise
        except Exception as error:  # its handler raised for this very message
            reason = f"{type(error).__name__}: {error}"
            self.service.schedule.note(f"{self.name} fails: {reason}")

            def give_up_or_defer(batch: Batch) -> None:
                for handler_name, delivery in (*single.deliveries, *single.due):
                    batch.turn.fail(handler_name, delivery, reason)
                failure = Unavailable(reason, None, False)
                batch.answers([Answer(call=each.call, failure=failure) for each in single.answers])

            out = self._transact(single, (), give_up_or_defer)
        self._after_commit(out)

    def _transact(self, work: Work, delivered: Sequence[str], feed: Callable[[Batch], None]) -> Outgoing:
        service, schedule = self.service, self.service.schedule
        with service.connection.begin() as transaction:
            outbox.remove(service.connection, delivered)
            batch = Batch(
                service.connection,
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
                transaction.rollback()
                raise Crash
        service.look()
        self._note(work, out)
        if schedule.strikes("crash between commit and publish", 0.02):
            raise Crash
        return out

    def _note(self, work: Work, out: Outgoing) -> None:
        for handler_name, delivery in (*work.deliveries, *work.due):
            again = " again" if delivery.row else ""
            self.service.schedule.note(f"{self.name} handles {handler_name}{again} of {_short(delivery.message)}")
        for answer in work.answers:
            what = answer.failure.reason if answer.failure else type(answer.outcome).__name__
            self.service.schedule.note(f"{self.name} is answered {answer.call.key}: {what}")
        for row in out.rows:
            self.service.schedule.note(f"{self.name} commits {row.type.rpartition('.')[2]} to {row.topic}")

    def _after_commit(self, out: Outgoing) -> None:
        self.unpublished.extend(out.rows)
        if not self.service.schedule.strikes("publication delayed", 0.1):
            self._publish()
        for call in out.calls:
            self._begin(call)

    def _publish(self) -> bool:
        """Publish in order; a crash in between leaves the rest in the outbox, and what was published there as well."""
        schedule, published = self.service.schedule, bool(self.unpublished)
        while self.unpublished:
            row = self.unpublished.pop(0)
            self.service.broker.publish(row, now=schedule.now)
            if schedule.strikes("published twice", 0.03):
                self.service.broker.publish(row, now=schedule.now)
            if schedule.strikes("crash between publish and removal", 0.01):
                raise Crash
            self.delivered.append(row.id)
        return published

    def _store_offsets(self) -> None:
        if self.service.schedule.strikes("offsets not committed", 0.1):
            return
        for place, position in self.positions.items():
            if place[1] in self.partitions:
                self.service.committed[place] = position

    # Calls

    def _begin(self, call: PendingCall) -> None:
        """Plan how a call goes: when it begins, when it arrives, when and whether the answer comes."""
        schedule, generation = self.service.schedule, self.generation
        delay = schedule.within(START_DELAY_S if schedule.strikes("no thread free", 0.1) else 0.1)

        def arrive_answer(answer: Answer) -> None:
            if self.generation == generation:
                self.answers.append(answer)

        def fail(reason: str, retry_after_s: float | None = None) -> Callable[[], None]:
            return lambda: arrive_answer(Answer(call=call, failure=Unavailable(reason, retry_after_s)))

        def begin() -> None:
            if self.generation != generation:
                return
            if schedule.now > call.deadline_at - START_MARGIN and not call.asks:
                fail("no free thread in time")()
                return
            gives_up_at = schedule.now + timedelta(seconds=CLIENT_TIMEOUT_S)
            if schedule.strikes("5xx", 0.15):
                schedule.at(schedule.now + schedule.within(0.5), fail("503", schedule.chance.choice((None, 3.0))))
            elif schedule.strikes("slower than the timeout", 0.1):
                latest = gives_up_at if call.asks else min(call.deadline_at, gives_up_at + schedule.within(1.0))
                schedule.at(schedule.now + (latest - schedule.now) * schedule.chance.random(), lambda: _run(call))
                schedule.at(gives_up_at, fail("no answer in time"))
            elif schedule.strikes("answer lost", 0.1):
                schedule.at(schedule.now + schedule.within(1.0), lambda: _run(call))
                schedule.at(schedule.now + timedelta(seconds=1.5), fail("connection reset"))
            else:
                schedule.at(schedule.now + schedule.within(1.0), self._answer(call, arrive_answer))

        schedule.at(schedule.now + delay, begin)

    def _answer(self, call: PendingCall, answered: Callable[[Answer], None]) -> Callable[[], None]:
        def answer() -> None:
            outcome = _run(call)
            schedule = self.service.schedule
            schedule.at(schedule.now + schedule.within(0.5), lambda: answered(Answer(call=call, outcome=outcome)))

        return answer


def _feed(batch: Batch, work: Work) -> None:
    batch.answers(work.answers)
    batch.due(work.due)
    batch.deliveries(work.deliveries)


def _run(call: PendingCall) -> object:
    if call.asks:
        return call.handler.call.find(call.key)
    return call.handler.call.run(call.request, call.key)


def _short(message: Message) -> str:
    return f"{message.FULL_NAME.rpartition('.')[2]} {message.message_id[-6:]} of saga {message.saga_id[-6:]}"
