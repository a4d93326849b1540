"""The tracker's process in a schedule: the real recorder in its transactions, with the offsets in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from messaging.outbox import OutboxRow
from saga_tracker import tables
from saga_tracker.reading import Record
from saga_tracker.recording import Recorder
from saga_tracker.tables import Place
from saga_tracker.taken import Taken
from sqlalchemy import Connection, text

from messaging import outbox
from proof.broker import Broker
from proof.schedule import Schedule

FETCH_MAX = 6
NEXT_DEADLINE = text("SELECT min(deadline_at) FROM sagas")


@dataclass(slots=True, kw_only=True)
class Follower:
    """The tracker. A second owner of its partitions is a batch that is recorded again, from an older offset.

    ``taken`` tells what the services' groups have committed, as Kafka would.
    """

    recorder: Recorder
    connection: Connection
    topics: tuple[str, ...]
    broker: Broker
    schedule: Schedule
    taken: Callable[[], Taken]
    offsets: dict[Place, int] = field(default_factory=dict)
    unpublished: list[OutboxRow] = field(default_factory=list)
    delivered: list[str] = field(default_factory=list)
    deadline_at: datetime | None = None
    paused_until: datetime | None = None
    lagging_until: dict[str, datetime] = field(default_factory=dict)

    def begin(self) -> None:
        """Take every partition: publish what was left over, go on at the stored offsets."""
        places = [(topic, number) for topic in self.topics for number in range(self.broker.partition_count)]
        with self.connection.begin():
            tables.begin_offsets(self.connection, dict.fromkeys(places, 0))
            self.offsets = tables.offsets(self.connection, places)
            self.unpublished = outbox.leftovers(self.connection, None, age=timedelta(0))
        self.delivered = []

    @property
    def is_paused(self) -> bool:
        """Say whether it stands still just now."""
        schedule = self.schedule
        return self.paused_until is not None and schedule.now < self.paused_until and schedule.are_faults_on

    @property
    def is_idle(self) -> bool:
        """Say whether it can do nothing now: nothing waits for it, or it stands still."""
        if self.is_paused:
            return True
        if self.unpublished or self.delivered:
            return False
        return all(offset >= self.broker.end(place) for place, offset in self.offsets.items())

    def step(self) -> bool:
        """Record what was read, or the deadlines that passed; say whether there was anything to do."""
        schedule = self.schedule
        if self.is_paused:
            return False
        moved = self._publish()
        batch = self._fetch()
        if batch:
            self._record(batch)
            return True
        if self.deadline_at is not None and self.deadline_at <= schedule.now:
            return self._sweep() or moved
        if self.delivered:
            with self.connection.begin():
                outbox.remove(self.connection, self.delivered)
            self.delivered = []
            return True
        return moved

    def _fetch(self) -> list[Record]:
        chance, batch = self.schedule.chance, []
        if self.schedule.strikes("a topic lags behind the others", 0.02):
            self.lagging_until[chance.choice(self.topics)] = self.schedule.now + self.schedule.within(20)
        for place in chance.sample(sorted(self.offsets), len(self.offsets)):
            offset = self.offsets[place]
            if offset >= self.broker.end(place) or chance.random() < 0.5 or self._lags(place[0]):
                continue
            if offset and self.schedule.strikes("a batch of a zombie tracker", 0.05):
                offset = max(0, offset - chance.randint(1, FETCH_MAX))
            batch.extend(self.broker.read(place, offset, chance.randint(1, FETCH_MAX)))
        return batch

    def _lags(self, topic: str) -> bool:
        return self.schedule.are_faults_on and self.lagging_until.get(topic, self.schedule.now) > self.schedule.now

    def _record(self, batch: Sequence[Record]) -> None:
        with self.connection.begin() as transaction:
            outbox.remove(self.connection, self.delivered)
            recorded = self.recorder.record(self.connection, batch, now=self.schedule.now)
            if crashes := self.schedule.strikes("the tracker crashes before the commit", 0.01):
                transaction.rollback()
        if not crashes:
            self.schedule.note(f"the tracker records {', '.join(_name(record) for record in batch)}")
        self._after_commit(recorded.rows, crashes=crashes)
        if not crashes:
            self.offsets.update(recorded.offsets)

    def _sweep(self) -> bool:
        """Record deadlines up to when everything is recorded: an answer that waits to be read is in time."""
        until: dict[int, datetime] = {}
        for number in range(self.broker.partition_count):
            unread = [
                record.timestamp_s
                for (topic, partition), offset in self.offsets.items()
                if partition == number
                for record in self.broker.read((topic, partition), offset, 1)
            ]
            until[number] = datetime.fromtimestamp(min(unread), UTC) if unread else self.schedule.now
        with self.connection.begin():
            outbox.remove(self.connection, self.delivered)
            rows = self.recorder.sweep(self.connection, until, self.taken(), now=self.schedule.now)
            rows += self.recorder.wake_orphans(self.connection, list(until), now=self.schedule.now)
        self.schedule.note("the tracker looks for deadlines that passed")
        self._after_commit(rows, crashes=False)
        return bool(rows)

    def _after_commit(self, rows: Sequence[OutboxRow], *, crashes: bool) -> None:
        if not crashes:
            for row in rows:
                self.schedule.note(f"the tracker commits {row.type.rpartition('.')[2]} to {row.topic}")
            self.delivered = []
            self.unpublished.extend(rows)
            crashes = self.schedule.strikes("the tracker crashes between commit and publish", 0.02)
        if crashes:
            self.begin()
        elif not self.schedule.strikes("publication delayed", 0.1):
            self._publish()
        with self.connection.begin():
            self.deadline_at = self.connection.execute(NEXT_DEADLINE).scalar_one()

    def _publish(self) -> bool:
        published = bool(self.unpublished)
        for row in self.unpublished:
            self.broker.publish(row, now=self.schedule.now)
            if self.schedule.strikes("published twice", 0.03):
                self.broker.publish(row, now=self.schedule.now)
            self.delivered.append(row.id)
        self.unpublished = []
        return published


def _name(record: Record) -> str:
    kind = dict(record.raw.headers).get("ce_type", b"?").decode().rpartition(".")[2]
    return f"{kind}@{record.raw.topic}"
