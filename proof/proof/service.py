"""What the processes of one service share in a schedule: its database, its topics and its group's offsets in Kafka."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from chassis.saga.handlers import Handlers
from chassis.wire.codec import Codec
from proof.broker import Broker
from proof.calls import CallTransport
from proof.databases import Database
from proof.outages import Outages
from proof.schedule import Schedule
from saga_tracker.store.consumed_offsets import TopicPartition


@dataclass(slots=True, kw_only=True)
class Service:
    """One service. ``due_at`` is when the next deferred message of each partition is due.

    ``committed`` has its group's offsets now, ``commits`` every one of them with its time.
    """

    name: str
    handlers: Handlers
    database: Database
    topics: tuple[str, ...]
    codec: Codec
    broker: Broker
    schedule: Schedule
    outages: Outages
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    commits: list[tuple[datetime, TopicPartition, int]] = field(default_factory=list)
    due_at: dict[int, datetime] = field(default_factory=dict)
    transport: CallTransport = field(init=False)

    def __post_init__(self) -> None:
        self.transport = CallTransport(schedule=self.schedule)

    def commit(self, topic_partition: TopicPartition, offset: int) -> None:
        """Commit an offset of its group."""
        self.committed[topic_partition] = offset
        self.commits.append((self.schedule.now, topic_partition, offset))

    def consumed_at(self, topic_partition: TopicPartition, offset: int) -> datetime | None:
        """Return when it had consumed the message at an offset; None where it has not."""
        return next((at for at, each, end in self.commits if each == topic_partition and end > offset), None)
