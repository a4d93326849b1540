"""What the processes of one service share in a schedule: its database, its topics and its group's offsets in Kafka."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from chassis.saga.handlers import Handlers
from chassis.wire.codec import Codec
from proof.broker import Broker
from proof.calls import CallTransport
from proof.databases import Database
from proof.schedule import Schedule
from saga_tracker.store.consumed_offsets import TopicPartition


@dataclass(slots=True, kw_only=True)
class Service:
    """One service. ``due_at`` is when the next deferred message of each partition is due."""

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
