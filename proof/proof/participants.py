"""The participants of one schedule: every service's processes, the tracker's, customers, operators and providers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cache

import checkout.handlers
import inventory.handlers
import inventory.tables
import ledger.handlers
import loyalty.handlers
import loyalty.tables
import payment.handlers
import shipping.handlers
from chassis.saga.handlers import Handlers
from chassis.saga.steps import Handler
from chassis.wire.codec import Codec
from proof.broker import Broker
from proof.callback_inbox import CallbackInbox
from proof.customers import CUSTOMERS, SKUS, Customers
from proof.databases import Database
from proof.disturbances import Disturbances
from proof.failing_handlers import FailingHandlers
from proof.operator import Operator
from proof.outages import KAFKA, Outages
from proof.parcels import PickupCourier
from proof.providers import Courier, Gateway
from proof.returns import Returns, is_announced
from proof.schedule import Schedule
from proof.schemas import LocalRegistry
from proof.service import Service
from proof.service_process import Process
from proof.tracker_process import NextWakeUp, TrackerProcess
from proof.undeliverable import UndeliverableMessages
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest.deadlines import Deadlines
from saga_tracker.ingest.decoding import topics
from saga_tracker.ingest.operator_acts import OperatorActs
from saga_tracker.ingest.recorder import Recorder
from saga_tracker.model.consumption import ServiceObservation
from saga_tracker.model.saga import scaled
from saga_tracker.store.cache import SagaCache
from saga_tracker.store.consumed_offsets import TopicPartition
from shipping.callbacks import CourierCallbacks
from shipping.collecting import collecting

PARTITION_COUNT = 2
PROCESSES = 2
FAULTS_AGAIN_MAX_S = 20.0
"""How long faults happen once more at most, after those among the orders."""


@cache
def _codec() -> Codec:
    """Return one codec for all schedules. It caches schemas only, and to fetch them takes a twentieth of a schedule."""
    return Codec(LocalRegistry())


@dataclass(slots=True, kw_only=True)
class Participants:
    """All participants of one schedule."""

    database: Database
    schedule: Schedule
    broker: Broker = field(default_factory=lambda: Broker(PARTITION_COUNT))
    codec: Codec = field(default_factory=_codec)
    gateway: Gateway = field(init=False)
    courier: Courier = field(init=False)
    pickups: PickupCourier = field(init=False)
    inbox: CallbackInbox = field(init=False)
    services: dict[str, list[Process]] = field(init=False)
    trackers: list[TrackerProcess] = field(init=False)
    next_wake_up: NextWakeUp = field(default_factory=NextWakeUp)
    customers: Customers = field(init=False)
    returns: Returns = field(init=False)
    operator: Operator = field(init=False)
    is_redriven: bool = field(init=False)
    """Whether operators redrive until no saga is parked any more."""
    disturbances: Disturbances = field(init=False)
    outages: Outages = field(init=False)
    timeout_factor: float = field(init=False)
    undeliverable: UndeliverableMessages = field(init=False)
    _failing: FailingHandlers = field(init=False)

    def __post_init__(self) -> None:
        chance = self.schedule.chance
        self._failing = FailingHandlers(self.schedule)
        self.database.empty()
        self.gateway = Gateway(chance, chance.choice((0.0, 0.1, 0.3)))
        self.courier = Courier(chance, chance.choice((0.0, 0.2)))
        self.pickups = PickupCourier(
            schedule=self.schedule,
            send=lambda body: self.inbox.take(body),
            on_change=lambda: self.schedule.begin_faults(FAULTS_AGAIN_MAX_S),
            is_announced=lambda key: is_announced(self.broker, self.codec, key),
        )
        steps = [step for each in DEFINITIONS.values() for step in each.steps]
        self.outages = Outages(schedule=self.schedule, services=sorted({step.service for step in steps}))
        self.services = {name: self._processes(name, handlers) for name, handlers in self._declared().items()}
        shipping_service = self.services["shipping"][0].service
        shipping_service.adapters = (CourierCallbacks(secrets=tuple),)
        self.inbox = CallbackInbox(
            database=self.database, service=shipping_service, adapter=shipping_service.adapters[0]
        )
        self.timeout_factor = chance.choice((0.25, 0.5, 1.0))
        self.trackers = [self._tracker(number) for number in range(PROCESSES)]
        self.disturbances = Disturbances(schedule=self.schedule, services=self.services, trackers=self.trackers)
        self.trackers[0].begin()
        self.customers = Customers(
            database=self.database, schedule=self.schedule, broker=self.broker, codec=self.codec, outages=self.outages
        )
        self.returns = Returns(customers=self.customers, courier=self.pickups)
        self.operator = Operator(database=self.database, schedule=self.schedule, next_wake_up=self.next_wake_up)
        services = [processes[0].service for processes in self.services.values()]
        self.undeliverable = UndeliverableMessages(
            schedule=self.schedule, broker=self.broker, codec=self.codec, services=services
        )
        self.is_redriven = chance.random() < 0.7
        self._stock_up()

    def _declared(self) -> dict[str, Sequence[Handler]]:
        """Return the handlers of every service."""
        return {
            "checkout": checkout.handlers.HANDLERS,
            "payment": payment.handlers.handlers(self.gateway),
            "inventory": inventory.handlers.HANDLERS,
            "loyalty": loyalty.handlers.HANDLERS,
            "shipping": (*shipping.handlers.handlers(self.courier), collecting(self.pickups)),
            "ledger": ledger.handlers.HANDLERS,
        }

    def _tracker(self, number: int) -> TrackerProcess:
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

    def _processes(self, name: str, declared: Sequence[Handler]) -> list[Process]:
        handlers = Handlers.of(self._failing.wrap(each) for each in declared)
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

    def _stock_up(self) -> None:
        chance = self.schedule.chance
        with self.database.connection("inventory", 0).begin() as tx:
            inventory.tables.open_balances(tx, "staff", {sku: chance.choice((2, 50)) for sku in SKUS}, "")
        with self.database.connection("loyalty", 0).begin() as tx:
            points = {customer: chance.choice((20, 500)) for customer in CUSTOMERS}
            loyalty.tables.open_balances(tx, "staff", points, "")

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
