"""What every schedule has: each service's processes, the tracker's, an operator, and what disturbs them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from chassis.saga.handlers import Handlers
from chassis.saga.steps import Handler
from chassis.wire.codec import Codec
from proof.broker import Broker
from proof.databases import Database
from proof.disturbances import Disturbances
from proof.failing_handlers import FailingHandlers
from proof.operator import Operator
from proof.outages import KAFKA, Outages
from proof.schedule import Schedule
from proof.schemas import shared_codec
from proof.service import Service
from proof.service_process import Process
from proof.tracker_process import NextWakeUp, TrackerProcess
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest.deadlines import Deadlines
from saga_tracker.ingest.decoding import topics
from saga_tracker.ingest.operator_acts import OperatorActs
from saga_tracker.ingest.recorder import Recorder
from saga_tracker.model.consumption import ServiceObservation
from saga_tracker.model.saga import scaled
from saga_tracker.store.cache import SagaCache
from saga_tracker.store.consumed_offsets import TopicPartition

PARTITION_COUNT = 2
PROCESSES = 2


@dataclass(slots=True, kw_only=True)
class Deployment:
    """The processes of one schedule, and what is around them."""

    database: Database
    schedule: Schedule
    broker: Broker = field(default_factory=lambda: Broker(PARTITION_COUNT))
    codec: Codec = field(default_factory=shared_codec)
    services: dict[str, list[Process]] = field(init=False)
    trackers: list[TrackerProcess] = field(init=False)
    next_wake_up: NextWakeUp = field(default_factory=NextWakeUp)
    operator: Operator = field(init=False)
    is_redriven: bool = field(init=False)
    """Whether operators redrive until no saga is parked any more."""
    disturbances: Disturbances = field(init=False)
    outages: Outages = field(init=False)
    timeout_factor: float = field(init=False)
    failing: FailingHandlers = field(init=False)

    def tracker(self, number: int) -> TrackerProcess:
        """Return a process of the tracker."""
        definitions, cache = scaled(DEFINITIONS, self.timeout_factor), SagaCache()
        return TrackerProcess(
            number=number,
            recorder=Recorder(definitions, self.codec, cache),
            deadlines=Deadlines(definitions, self.codec, cache),
            operator_acts=OperatorActs(definitions, self.codec, cache),
            database=self.database,
            topics=tuple(topics(DEFINITIONS)),
            broker=self.broker,
            schedule=self.schedule,
            groups=self._groups,
            timeout_max_s=max(step.timeout_s for each in definitions.values() for step in each.steps),
            outages=self.outages,
            next_wake_up=self.next_wake_up,
        )

    def processes(self, name: str, declared: Sequence[Handler]) -> list[Process]:
        """Return the processes of a service that has these handlers."""
        handlers = Handlers.of(self.failing.wrap(each) for each in declared)
        read = {f"{event.OWNER}.events" for event in handlers.events}
        read |= {f"{name}.commands"} if handlers.commands else set()
        service = Service(
            name=name,
            handlers=handlers,
            database=self.database,
            topics=tuple(sorted(read)),
            codec=self.codec,
            broker=self.broker,
            schedule=self.schedule,
            outages=self.outages,
        )
        processes = [Process(service=service, number=number) for number in range(PROCESSES)]
        for partition in range(PARTITION_COUNT):
            processes[partition % PROCESSES].own(partition)
        return processes

    def _groups(self, partitions: Collection[TopicPartition]) -> dict[str, ServiceObservation]:
        if self.outages.is_away(KAFKA):
            return {}
        return {name: _group(processes, partitions) for name, processes in self.services.items()}


def _group(processes: Sequence[Process], partitions: Collection[TopicPartition]) -> ServiceObservation:
    service = processes[0].service
    return ServiceObservation(
        members=frozenset(each.member for each in processes if each.member is not None),
        committed={each: service.committed.get(each, 0) for each in partitions if each[0] in service.topics},
    )
