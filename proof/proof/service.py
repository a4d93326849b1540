"""What the processes of one service share in a schedule: its database, its topics and its group's offsets in Kafka."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chassis.process.callbacks import CallbackAdapter
from chassis.saga.handlers import Handlers
from chassis.wire.codec import Codec
from proof.awaited_calls import AwaitedCallTransport
from proof.broker import Broker
from proof.calls import CallTransport
from proof.databases import Database
from proof.outages import Outages
from proof.schedule import Schedule
from saga_tracker.store.consumed_offsets import TopicPartition


@dataclass(slots=True, kw_only=True)
class Service:
    """One service. ``due_at`` is when something of a kind is due next, by partition; that of orphans is 0.

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
    due_at: dict[str, dict[int, datetime]] = field(default_factory=dict)
    adapters: Sequence[CallbackAdapter] = ()
    sweeps: list[Callable[[], None]] = field(default_factory=list)
    """Of its processes: each plans its next sweep, as the worker does every few seconds."""
    transport: CallTransport = field(init=False)
    awaited_transport: AwaitedCallTransport = field(init=False)

    def __post_init__(self) -> None:
        self.transport = CallTransport(schedule=self.schedule)
        self.awaited_transport = AwaitedCallTransport(schedule=self.schedule)

    def sweep_later(self) -> None:
        """Let every process sweep: the one that lost an answer may not own the partition any more."""
        for sweep in self.sweeps:
            sweep()

    def look(self, rows: Sequence[tuple[Any, ...]] | None) -> None:
        """Take in when things are due, as a follow-up query has found it; None changes nothing."""
        if rows is not None:
            self.due_at = {}
            for what, partition, due_at in rows:
                self.due_at.setdefault(what, {})[partition] = due_at

    @property
    def next_due_at(self) -> Iterator[datetime]:
        """Yield when something is due next."""
        return (due_at for by_partition in self.due_at.values() for due_at in by_partition.values())

    def is_due(self, what: str, partitions: Collection[int]) -> bool:
        """Return whether something of that kind is due now in one of these partitions."""
        due_at, now = self.due_at.get(what, {}), self.schedule.now
        return any(due_at[each] <= now for each in partitions if each in due_at)

    def commit(self, topic_partition: TopicPartition, offset: int) -> None:
        """Commit an offset of its group."""
        self.committed[topic_partition] = offset
        self.commits.append((self.schedule.now, topic_partition, offset))

    def consumed_at(self, topic_partition: TopicPartition, offset: int) -> datetime | None:
        """Return when it had consumed the message at an offset; None where it has not."""
        return next((at for at, each, end in self.commits if each == topic_partition and end > offset), None)
