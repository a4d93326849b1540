"""What a process of a service reads: its partitions, its positions in them, and messages that it cannot decode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from chassis.saga.deferred import RawMessage
from chassis.wire.codec import Codec, Undecodable
from messages.contract import Message
from proof.databases import DEFERRED
from proof.outages import KAFKA
from proof.schedule import Schedule
from proof.service import Service
from saga_tracker.store.consumed_offsets import TopicPartition

UNREADABLE = "a release that cannot read it"
FETCH_MAX = 4
COMMIT_AGAIN_S = 1.0
"""Kafka's client commits what is stored at intervals: an offset that was not committed is, with the next ones."""


@dataclass(slots=True, kw_only=True)
class Intake:
    """The partitions of one process, and the messages that it has fetched from them and not handled."""

    service: Service
    partitions: set[int] = field(default_factory=set)
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    fetched: list[RawMessage] = field(default_factory=list)
    _stored: dict[TopicPartition, int] = field(default_factory=dict)
    _read_up_to: int = -1

    def own(self, partition: int) -> None:
        """Become the owner of a partition, and go on where the group committed."""
        self.partitions.add(partition)
        self._stored = {}
        self._read_up_to = -1
        for topic in self.service.topics:
            self.positions[(topic, partition)] = self.service.committed.get((topic, partition), 0)

    def lose(self, partition: int) -> None:
        """Notice that another process owns a partition now."""
        self.partitions.discard(partition)
        self.fetched = [raw for raw in self.fetched if raw.partition != partition]

    def has_unfetched(self) -> bool:
        """Return whether there is anything to fetch."""
        if self.service.outages.is_away(KAFKA):
            return False
        if self._read_up_to == self.service.broker.appended_count:
            return False
        if any(self._unfetched()):
            return True
        self._read_up_to = self.service.broker.appended_count
        return False

    def has_due(self) -> bool:
        """Return whether a deferred message of these partitions is due."""
        return self.service.is_due(DEFERRED, self.partitions)

    def fetch(self) -> None:
        """Read a little of some partitions; now and then messages come again."""
        if self.service.outages.is_away(KAFKA):
            return
        service, chance = self.service, self.service.schedule.chance
        unfetched = list(self._unfetched())
        for topic_partition in chance.sample(unfetched, chance.randint(1, len(unfetched))) if unfetched else ():
            position = self.positions[topic_partition]
            if position and service.schedule.strikes("redelivered", 0.05):
                position = max(0, position - chance.randint(1, FETCH_MAX))
            records = service.broker.read(topic_partition, position, chance.randint(1, FETCH_MAX))
            self.positions[topic_partition] = position + len(records)
            self.fetched.extend(record.raw for record in records)

    def store_offsets(self, ends: Mapping[TopicPartition, int]) -> None:
        """Commit the positions of the partitions that it still owns."""
        schedule = self.service.schedule
        self._stored = dict(ends)
        if schedule.strikes("offsets not committed", 0.1):
            schedule.at(schedule.now + timedelta(seconds=COMMIT_AGAIN_S), partial(self._commit, self._stored))
        else:
            self._commit(self._stored)

    def _commit(self, ends: Mapping[TopicPartition, int]) -> None:
        """Commit what was stored, unless the process has lost it or has stored more since."""
        if ends is not self._stored:
            return
        for topic_partition, position in ends.items():
            if topic_partition[1] in self.partitions:
                self.service.commit(topic_partition, position)

    def _unfetched(self) -> Iterator[TopicPartition]:
        end, positions = self.service.broker.end, self.positions
        for partition in sorted(self.partitions):
            for topic in self.service.topics:
                topic_partition = topic, partition
                if positions[topic_partition] < end(topic_partition):
                    yield topic_partition


@dataclass(slots=True, kw_only=True)
class FaultyDecoder:
    """Decodes messages; now and then one that this process cannot read and another one can."""

    codec: Codec
    schedule: Schedule

    def type_of(self, payload: bytes | None) -> type[Message] | None:
        """Return the message's type."""
        return self.codec.type_of(payload)

    def decode(self, payload: bytes | None) -> Message:
        """Return the message. Raises Undecodable."""
        if self.schedule.strikes("a message cannot be read", 0.01):
            raise Undecodable(UNREADABLE)
        return self.codec.decode(payload)
