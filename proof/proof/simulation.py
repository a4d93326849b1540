"""One seeded schedule: orders through every service's real handlers and the real tracker, until all is at rest.

While faults are on, processes crash, pause and lose partitions to one another. Messages arrive twice and in any order;
calls fail, hang and lose their answers. Then all faults end, and the invariants are checked.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
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
from proof import rebuilding
from proof.broker import Broker
from proof.callback_inbox import CallbackInbox
from proof.checks import CONFIRMED, FinalState, Violation
from proof.customers import CUSTOMERS, SKUS, Customers
from proof.databases import Database
from proof.disturbances import Disturbances
from proof.failing_handlers import FailingHandlers
from proof.operator import Operator
from proof.outages import KAFKA, Outages
from proof.parcels import PickupCourier
from proof.providers import Courier, Gateway
from proof.return_checks import violations
from proof.returns import Returns, is_announced
from proof.schedule import BEGINNING, Schedule
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

ORDERS = (1, 1, 1, 2)
"""The number of orders in a schedule: many small schedules find more than a few large ones."""
ACTS = (0, 0, 2, 10)
"""The number of an operator's acts while faults are on."""
PARTITION_COUNT = 2
PROCESSES = 2
FAULTS_MAX_S = 120.0
REDRIVES_MAX = 20
"""After so many redrives at rest, a saga that is still parked counts as parked for ever."""
OPERATOR_EVERY = timedelta(minutes=10)
"""An operator acts at least this often."""
FAULTS_AGAIN_MAX_S = 20.0
"""Undeliverable messages come within the first seconds of these."""
REDRIVES_AGAIN_MAX = 2
"""No redrive makes a message deliverable; more of them find nothing more."""
FIRST_ORDERS_S = 5.0
ROUNDS_MAX = 20_000
STEPS_SHOWN_MAX = 15
REST_WITHIN = timedelta(hours=2)
RETURNS_REST_WITHIN = timedelta(days=60)
"""Parcels take up to ten days."""


class NotAtRest(Exception):
    """A schedule does not come to rest."""


@dataclass(slots=True, kw_only=True)
class Result:
    """The result of one schedule."""

    seed: int
    faults: Counter[str]
    states: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    virtual_s: float = 0.0
    trace: tuple[str, ...] = ()


@cache
def _codec() -> Codec:
    """Return one codec for all schedules. It caches schemas only, and to fetch them takes a twentieth of a schedule."""
    return Codec(LocalRegistry())


@dataclass(slots=True, kw_only=True)
class Simulation:
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
    redrives_left: int = REDRIVES_MAX
    operator_at: datetime = BEGINNING + OPERATOR_EVERY
    rest_by: datetime = BEGINNING + REST_WITHIN
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
            on_change=self._faults_again,
            is_announced=lambda key: is_announced(self.broker, self.codec, key),
        )
        declared: dict[str, Sequence[Handler]] = {
            "checkout": checkout.handlers.HANDLERS,
            "payment": payment.handlers.handlers(self.gateway),
            "inventory": inventory.handlers.HANDLERS,
            "loyalty": loyalty.handlers.HANDLERS,
            "shipping": (*shipping.handlers.handlers(self.courier), collecting(self.pickups)),
            "ledger": ledger.handlers.HANDLERS,
        }
        steps = [step for each in DEFINITIONS.values() for step in each.steps]
        self.outages = Outages(schedule=self.schedule, services=sorted({step.service for step in steps}))
        self.services = {name: self._processes(name, handlers) for name, handlers in declared.items()}
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

    # The schedule

    def run(self) -> Result:
        """Run the schedule to rest, and check the invariants.

        1. Orders are placed, and faults happen.
        2. Pieces of most orders that were confirmed are returned, and faults happen again for days.
        3. In half of the schedules messages come then that no service must handle, and faults happen again.
        4. The tracker's database is emptied and rebuilt from the broker's logs.

        The figures are those of 1., of 2. and the undeliverable messages, so that 3. changes no other figure.
        """
        # 1.
        self._plan()
        result = Result(seed=self.schedule.seed, faults=self.schedule.faults)
        found: list[Violation] = []
        try:
            self._until_rest()
            final = self._final_state()
            result.states.update(final.order_states.values())
            found = violations(final)
            # 2.
            if not found and self._plan_returns(final):
                self._until_rest()
                final = self._final_state(order_states_before=final.order_states)
                result.states.update(f"return {state}" for state in final.return_states.values())
                found = violations(final)
            result.virtual_s = self._virtual_s
            # 3.
            self.schedule.faults = Counter()
            if not found and self._plan_undeliverable():
                self._until_rest()
                found = violations(self._final_state(states_before=final.states))
            # 4.
            found = found or rebuilding.violations(self.database, self.broker, self.codec, now=self.schedule.now)
        except Exception as error:  # any exception is what the schedule found
            found = [Violation(invariant="nothing raises", says=f"{type(error).__name__}: {error}")]
        finally:
            for actor in self.disturbances.processes:
                actor.task.abandon()
        result.faults.update(self.undeliverable.counts)
        result.virtual_s = result.virtual_s or self._virtual_s
        result.violations = [replace(each, steps=self._last_steps(each.saga_id)) for each in found]
        result.trace = tuple(line for _, line in self.schedule.trace)
        return result

    @property
    def _virtual_s(self) -> float:
        return (self.schedule.now - BEGINNING).total_seconds()

    def _final_state(
        self,
        *,
        order_states_before: Mapping[str, str] | None = None,
        states_before: Mapping[str, str] | None = None,
    ) -> FinalState:
        return FinalState(
            rows=self.database.everything(),
            orders=self.customers.orders,
            returns=self.returns.requested,
            pickups=self.pickups,
            gateway=self.gateway,
            courier=self.courier,
            broker=self.broker,
            codec=self.codec,
            is_redriven=self.is_redriven,
            undeliverable=self.undeliverable,
            outages=self.outages,
            services={name: processes[0].service for name, processes in self.services.items()},
            timeout_factor=self.timeout_factor,
            order_states_before=order_states_before,
            states_before=states_before,
        )

    def _last_steps(self, saga_id: str) -> tuple[str, ...]:
        lines = [line for about, line in self.schedule.trace if not saga_id or about in ("", saga_id)]
        return tuple(lines[-STEPS_SHOWN_MAX:])

    def _plan(self) -> None:
        schedule, chance = self.schedule, self.schedule.chance
        for outage in self.outages.planned:
            for process in self.services.get(outage.of, ()):
                schedule.at(outage.began_at, process.kill)
        for _ in range(chance.choice(ORDERS)):
            schedule.at(schedule.now + schedule.within(FIRST_ORDERS_S), self.customers.submit)
        end_s = chance.uniform(1, FAULTS_MAX_S)
        for _ in range(chance.choice(ACTS)):
            schedule.at(schedule.now + schedule.within(end_s), self.operator.act_on_parked)
        schedule.at(schedule.now + timedelta(seconds=end_s), self._end_faults)

    def _plan_returns(self, final: FinalState) -> bool:
        """Plan returns of confirmed orders, and faults among them; return whether there are any."""
        schedule, chance = self.schedule, self.schedule.chance
        confirmed = {saga_id for saga_id, state in final.order_states.items() if state == CONFIRMED}
        if not self.returns.plan(confirmed):
            return False
        self._faults_again(FAULTS_MAX_S)
        for _ in range(chance.choice(ACTS)):
            schedule.at(schedule.now + schedule.within(FAULTS_MAX_S), self.operator.act_on_parked)
        self.redrives_left = REDRIVES_MAX
        self.rest_by = schedule.now + RETURNS_REST_WITHIN
        self.operator_at = schedule.now + OPERATOR_EVERY
        return True

    def _faults_again(self, seconds: float = FAULTS_AGAIN_MAX_S) -> None:
        """Let faults happen for a while again."""
        schedule = self.schedule
        schedule.are_faults_on = True
        schedule.at(schedule.now + timedelta(seconds=schedule.chance.uniform(1, seconds)), self._end_faults)

    def _plan_undeliverable(self) -> bool:
        """Plan undeliverable messages and faults among them; return whether there are any."""
        schedule = self.schedule
        if not self.undeliverable.plan():
            return False
        self._faults_again()
        self.redrives_left = min(self.redrives_left, REDRIVES_AGAIN_MAX)
        self.rest_by = schedule.now + REST_WITHIN
        self.operator_at = max(self.operator_at, self.rest_by)
        return True

    def _end_faults(self) -> None:
        self.schedule.are_faults_on = False
        self.schedule.note("all faults end")

    def _until_rest(self) -> None:
        """Run one ready process after the other; where none is ready, advance to the next event."""
        schedule, actors = self.schedule, self.disturbances.processes
        for _ in range(ROUNDS_MAX):
            ready = [each for each in actors if each.is_ready]
            if ready:
                actor = schedule.chance.choice(ready)
                actor.task.run(actor.step)
                if schedule.are_faults_on:
                    self.disturbances.strike(actor)
                schedule.advance(schedule.now + schedule.within(0.1))
                continue
            next_at = self._next_at()
            if next_at is None:
                if self._is_tidy(actors) and not self._redrive_again():
                    return
                continue
            if next_at > self.rest_by:
                break
            if next_at > self.operator_at:  # repeated retries belong to a parked saga, on which an operator acts
                has_acted = self.operator.act_at_rest()
                self.operator_at = (self.operator_at if has_acted else next_at) + OPERATOR_EVERY
                continue
            schedule.advance(next_at)
        raise NotAtRest(f"Not at rest after {ROUNDS_MAX} rounds, or by {self.rest_by}.")

    def _is_tidy(self, actors: Sequence[Process | TrackerProcess]) -> bool:
        """Remove published rows, then let the sweeps publish what is left over; return whether nothing is left."""
        for each in actors:
            each.tidy()
        if not self.database.has_leftovers():
            return True
        for each in actors:
            each.take_leftovers()
        return not any(each.unpublished or each.is_ready for each in actors)

    def _redrive_again(self) -> bool:
        if not self.is_redriven or not self.redrives_left:
            return False
        self.redrives_left -= 1
        return self.operator.act_at_rest()

    def _next_at(self) -> datetime | None:
        due = [when for processes in self.services.values() for when in processes[0].service.next_due_at]
        found = [
            when
            for when in (*due, self.next_wake_up.at, self.next_wake_up.plan_at)
            if when is not None and when > self.schedule.now
        ]
        return min([*found, *([self.schedule.next_at] if self.schedule.next_at else [])], default=None)


def _group(processes: Sequence[Process], partitions: Collection[TopicPartition]) -> ServiceObservation:
    service = processes[0].service
    return ServiceObservation(
        members=frozenset(each.member for each in processes if each.member is not None),
        committed={each: service.committed.get(each, 0) for each in partitions if each[0] in service.topics},
    )


def simulate(seed: int, database: Database, *, is_traced: bool = False) -> Result:
    """Run the schedule of one seed; one that breaks an invariant is run again with a trace, for its last steps."""
    random.seed(seed)
    result = Simulation(database=database, schedule=Schedule(seed=seed, is_traced=is_traced)).run()
    return simulate(seed, database, is_traced=True) if result.violations and not is_traced else result
