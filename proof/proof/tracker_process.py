"""The tracker's process in a schedule: the real recorder in its transactions, with the offsets in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from proof.broker import Broker
from proof.connections import ProcessConnection
from proof.databases import NEXT_WAKE_UPS, TRACKER, Database
from proof.observation import Groups, Observation
from proof.outages import KAFKA, POSTGRESQL, Outages
from proof.schedule import BEGINNING, Schedule
from proof.tasks import ZOMBIE_S, Crash, SimulatedTask
from saga_tracker.ingest.deadlines import Deadlines
from saga_tracker.ingest.operator_acts import OperatorActs
from saga_tracker.ingest.recorder import OffsetGap, Recorder
from saga_tracker.ingest.records import Record
from saga_tracker.store import consumed_offsets
from saga_tracker.store.conflicts import Overtaken
from saga_tracker.store.consumed_offsets import TopicPartition

FETCH_MAX = 6
TICK_S = 1.0
"""The interval between two sweeps for deadlines."""
APPLY_S = 0.5
"""The interval between two batches of a plan."""


@dataclass(slots=True, kw_only=True)
class NextWakeUp:
    """The first saga's deadline, and the time at which a plan continues. All processes of the tracker share it."""

    at: datetime | None = None
    plan_at: datetime | None = None

    def update(self, rows: Sequence[tuple[datetime | None, ...]] | None) -> None:
        """Take the times from the rows of a follow-up query; None changes nothing."""
        if rows is not None:
            ((self.at, self.plan_at),) = rows


@dataclass(slots=True, kw_only=True)
class TrackerProcess:
    """One process of the tracker. A second one is idle, and after a rebalance both act as owners for a while."""

    number: int
    recorder: Recorder
    deadlines: Deadlines
    operator_acts: OperatorActs
    database: Database
    topics: tuple[str, ...]
    broker: Broker
    schedule: Schedule
    groups: Groups
    timeout_max_s: float
    outages: Outages
    next_wake_up: NextWakeUp
    connection: ProcessConnection = field(init=False)
    task: SimulatedTask = field(init=False)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    unpublished: list[OutboxRow] = field(default_factory=list)
    delivered: list[str] = field(default_factory=list)
    paused_until: datetime | None = None
    lagging_until: dict[str, datetime] = field(default_factory=dict)
    sweep_at: datetime = BEGINNING
    apply_at: datetime = BEGINNING
    _read_up_to: int = -1
    _observation: Observation = field(init=False)

    def __post_init__(self) -> None:
        self.connection = self.database.connection(TRACKER, self.number, follow_up=NEXT_WAKE_UPS)
        self.task = self.connection.task = SimulatedTask(self.schedule)
        self._observation = Observation(
            schedule=self.schedule,
            groups=self.groups,
            kept_s=self.timeout_max_s,
            offsets=lambda: None if self.is_paused or self.task.is_suspended else self.offsets,
            is_needed=lambda: self.next_wake_up.at is not None,
        )

    @property
    def name(self) -> str:
        """Its name in a trace."""
        return f"tracker/{self.number}"

    def begin(self) -> None:
        """Take every partition: publish leftovers and continue at the stored offsets. After a crash, do it again."""
        is_done = False
        while not is_done:
            with suppress(Crash):
                self._begin()
                is_done = True

    def _begin(self) -> None:
        topic_partitions = [(topic, number) for topic in self.topics for number in range(self.broker.partition_count)]
        with self.connection.begin() as tx:
            consumed_offsets.begin(tx, dict.fromkeys(topic_partitions, 0))
            self.offsets = consumed_offsets.load(tx, topic_partitions)
            self.recorder.begin(self.offsets)
            self.unpublished = outbox.leftovers(tx, None, age=timedelta(0))
        self.delivered = []
        self._read_up_to = -1

    def lose(self) -> None:
        """Notice that its partitions have another owner now."""
        self.offsets = {}

    def kill(self) -> None:
        """Kill it, wherever it stands."""
        if self.task.is_suspended:
            self.task.kill()
        else:
            self.task.run(self._restart)

    def _restart(self) -> None:
        self.task.plan_faults()
        self.schedule.note(f"{self.name} crashes and starts again")
        self.unpublished, self.delivered = [], []
        self._observation.begin_anew()
        if self.offsets:
            self.begin()

    @property
    def is_paused(self) -> bool:
        """Whether it is paused now."""
        schedule, until = self.schedule, self.paused_until
        return self.outages.is_away(POSTGRESQL) or bool(until and schedule.now < until and schedule.are_faults_on)

    @property
    def is_ready(self) -> bool:
        """Whether it has something to do now."""
        if self.task.is_suspended or self.is_paused:
            return False
        if self._may_sweep() or self._may_apply():
            return True
        has_read = self._read_up_to == self.broker.appended_count
        if self.outages.is_away(KAFKA) or (has_read and not self.unpublished):
            return False
        if self.unpublished or any(not self._lags(topic) for topic, _ in self._unfetched()):
            return True
        if not self.lagging_until:
            self._read_up_to = self.broker.appended_count
        return False

    def _may_sweep(self) -> bool:
        now, due_at = self.schedule.now, self.next_wake_up.at
        return bool(self.offsets) and due_at is not None and due_at <= now and self.sweep_at <= now

    def _may_apply(self) -> bool:
        now, plan_at = self.schedule.now, self.next_wake_up.plan_at
        return bool(self.offsets) and plan_at is not None and plan_at <= now and self.apply_at <= now

    def _unfetched(self) -> Iterator[TopicPartition]:
        end = self.broker.end
        return (topic_partition for topic_partition, offset in self.offsets.items() if offset < end(topic_partition))

    def step(self) -> None:
        """Record the messages that were read, continue with a plan, or record the deadlines that passed."""
        try:
            self._publish()
            batch = [] if self.outages.is_away(KAFKA) else self._fetch()
            if batch:
                self._record(batch)
            elif self._may_apply():
                self._apply()
            elif self._may_sweep():
                self._sweep()
        except (Crash, DBAPIError, OffsetGap, Overtaken):
            self._restart()

    def take_leftovers(self) -> None:
        """Publish outbox rows that are in no process's memory, as the worker's sweep does."""
        if self.offsets:
            with self.connection.begin() as tx:
                self.unpublished += outbox.leftovers(tx, None, age=timedelta(0))

    def tidy(self) -> None:
        """Remove published rows from the outbox."""
        if self.delivered:
            with self.connection.begin() as tx:
                outbox.remove(tx, self.delivered)
            self.delivered = []

    def _fetch(self) -> list[Record]:
        chance, schedule = self.schedule.chance, self.schedule
        if schedule.strikes("a topic lags behind the others", 0.02):
            topic, until = chance.choice(self.topics), schedule.now + schedule.within(20)
            self.lagging_until[topic] = until
            schedule.at(until, lambda: None)  # so that virtual time stops there
        batch: list[Record] = []
        unfetched = [each for each in sorted(self._unfetched()) if not self._lags(each[0])]
        for topic_partition in chance.sample(unfetched, chance.randint(1, len(unfetched))) if unfetched else ():
            offset = self.offsets[topic_partition]
            if offset and schedule.strikes("a batch of a zombie tracker", 0.05):
                offset = max(0, offset - chance.randint(1, FETCH_MAX))
            batch.extend(self.broker.read(topic_partition, offset, chance.randint(1, FETCH_MAX)))
        return batch

    def _lags(self, topic: str) -> bool:
        until = self.lagging_until.get(topic)
        return until is not None and self.schedule.are_faults_on and until > self.schedule.now

    def _begin_transaction(self) -> None:
        """Plan the faults of the transaction that begins."""
        stops = self.schedule.strikes("the tracker stands still in a transaction", 0.02)
        fails = self.schedule.strikes("PostgreSQL fails the tracker", 0.01)
        self.task.plan_faults(stops_for_s=self.schedule.chance.uniform(0.1, ZOMBIE_S) if stops else 0.0, fails=fails)

    def _record(self, batch: Sequence[Record]) -> None:
        schedule, delivered = self.schedule, self.delivered
        self._begin_transaction()
        with self.connection.begin() as tx:
            outbox.remove(tx, delivered)
            recorded = self.recorder.record(tx, batch, now=schedule.now)
            if schedule.strikes("the tracker crashes before the commit", 0.01):
                raise Crash
        self.recorder.committed(recorded)
        if schedule.is_traced:
            for record in batch:
                saga_id = (record.raw.key or b"").decode()
                schedule.note(f"{self.name} records {_name(record)} of saga {saga_id[-6:]}", saga_id)
        self._after_commit(recorded.rows, delivered)
        for record in batch:
            if record.topic_partition in self.offsets:
                topic_partition = record.topic_partition
                self.offsets[topic_partition] = max(self.offsets[topic_partition], record.offset + 1)

    def _sweep(self) -> None:
        """Record deadlines up to the time to which all is recorded: an answer that is still unfetched is in time."""
        until = _recorded_until(self.broker, self._unfetched(), self.offsets, self.outages.answered_until(KAFKA))
        self.sweep_at = self.schedule.now + timedelta(seconds=TICK_S)
        self.schedule.at(self.sweep_at, lambda: None)  # so that virtual time stops there

        self._observation.observe_if_due()

        def sweep(tx: Connection) -> list[OutboxRow]:
            rows = self.deadlines.sweep(tx, until, self._observation.history, now=self.schedule.now)
            return rows + self.deadlines.wake_orphans(tx, list(until), now=self.schedule.now)

        self._tick(sweep, "records deadlines that passed")

    def _apply(self) -> None:
        """Apply the next batch of an operator's plan."""
        self.apply_at = self.schedule.now + timedelta(seconds=APPLY_S)
        self.schedule.at(self.apply_at, lambda: None)  # so that virtual time stops there

        def apply(tx: Connection) -> list[OutboxRow]:
            partitions = range(self.broker.partition_count)
            rows = self.operator_acts.apply_next(tx, partitions, now=self.schedule.now)
            if self.schedule.strikes("the tracker crashes before the commit", 0.01):
                raise Crash
            return rows

        self._tick(apply, "continues with a plan")

    def _tick(self, work: Callable[[Connection], list[OutboxRow]], what: str) -> None:
        """Run some work in one transaction, which also removes the published rows."""
        delivered = self.delivered
        self._begin_transaction()
        with self.connection.begin() as tx:
            outbox.remove(tx, delivered)
            rows = work(tx)
        self.schedule.note(f"{self.name} {what}")
        self._after_commit(rows, delivered)

    def _after_commit(self, rows: Sequence[OutboxRow], removed: Sequence[str]) -> None:
        schedule = self.schedule
        self.task.plan_faults()
        self.delivered = [each for each in self.delivered if each not in removed]
        self.next_wake_up.update(self.connection.follow_up_rows)
        self._observation.continue_while_needed()
        if schedule.is_traced:
            for row in rows:
                line = f"{self.name} commits {row.type.rpartition('.')[2]} to {row.topic}"
                schedule.note(line, row.saga_id)
        if schedule.strikes("the tracker crashes between commit and publish", 0.02):
            raise Crash
        self.unpublished.extend(rows)
        if not schedule.strikes("publication delayed", 0.1):
            self._publish()

    def _publish(self) -> None:
        if self.outages.is_away(KAFKA):
            return
        for row in self.unpublished:
            self.broker.publish(row, now=self.schedule.now)
            if self.schedule.strikes("published twice", 0.03):
                self.broker.publish(row, now=self.schedule.now)
            self.delivered.append(row.id)
        self.unpublished = []


def _recorded_until(
    broker: Broker, unfetched: Iterable[TopicPartition], offsets: Mapping[TopicPartition, int], answered_until: datetime
) -> dict[int, datetime]:
    """Return up to when all is recorded, by partition: to the first unfetched message, or to Kafka's last answer."""
    until = dict.fromkeys(range(broker.partition_count), answered_until)
    for topic_partition in unfetched:
        (first,) = broker.read(topic_partition, offsets[topic_partition], 1)
        _, number = topic_partition
        until[number] = min(until[number], datetime.fromtimestamp(first.timestamp_ms / 1000, UTC))
    return until


def _name(record: Record) -> str:
    kind = dict(record.raw.headers).get("ce_type", b"?").decode().rpartition(".")[2]
    return f"{kind}@{record.raw.topic}"
