"""One seeded schedule: orders through every service's real handlers and the real tracker, until everything is at rest.

While faults are on, processes crash, pause and lose partitions to one another, messages come twice and in any order,
calls fail, hang and lose their answers. Then all faults end, and what must be true is checked.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any

import checkout.handlers
import inventory.handlers
import inventory.tables
import ledger.handlers
import loyalty.handlers
import loyalty.tables
import payment.handlers
import shipping.handlers
from chassis.saga.handlers import Handlers
from chassis.saga.steps import Handler, Step, name
from chassis.wire.codec import Codec
from messages.contract import Message
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest.consumer_progress import ConsumerProgress
from saga_tracker.ingest.decoding import topics
from saga_tracker.ingest.recorder import Recorder
from sqlalchemy import Connection

from proof.broker import Broker
from proof.checks import Rest, Violation, violations
from proof.customers import CUSTOMERS, SKUS, Customers
from proof.databases import Database
from proof.operator import Operator
from proof.providers import Courier, Gateway
from proof.schedule import BEGINNING, Schedule
from proof.schemas import LocalRegistry
from proof.service_process import ZOMBIE_S, Process, Service
from proof.tracker_process import Due, Follower

ORDERS = (1, 1, 1, 2)
"""How many orders a schedule has: many small ones find more than a few large ones."""
ACTS = (0, 0, 2, 10)
"""How often an operator comes by while faults are on."""
PARTITION_COUNT = 2
PROCESSES = 2
FAULTS_MAX_S = 120.0
BROKEN_S = 60.0
"""How long a handler may be broken, longer than all its attempts."""
REDRIVES_MAX = 20
"""How often everything that is parked at rest is redriven before it is said to be parked for ever."""
LOOKS_EVERY = timedelta(minutes=10)
"""An operator comes by at least so often."""
FIRST_ORDERS_S = 5.0
ROUNDS_MAX = 20_000
STEPS_TOLD_MAX = 15
REST_WITHIN = timedelta(hours=2)


class NotAtRest(Exception):
    """A schedule goes on and on."""


class Poison(Exception):
    """A handler that fails as nobody foresaw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one schedule came to."""

    seed: int
    states: Counter[str]
    faults: Counter[str]
    violations: list[Violation]
    virtual_s: float
    trace: tuple[str, ...]


@cache
def _codec() -> Codec:
    """Return one codec for all schedules: it only remembers schemas, and learning them takes a twentieth of each."""
    return Codec(LocalRegistry())


@dataclass(slots=True, kw_only=True)
class Simulation:
    """Everything that takes part in one schedule."""

    database: Database
    schedule: Schedule
    broker: Broker = field(default_factory=lambda: Broker(PARTITION_COUNT))
    codec: Codec = field(default_factory=_codec)
    gateway: Gateway = field(init=False)
    courier: Courier = field(init=False)
    services: dict[str, list[Process]] = field(init=False)
    trackers: list[Follower] = field(init=False)
    due: Due = field(default_factory=Due)
    customers: Customers = field(init=False)
    operator: Operator = field(init=False)
    is_redriven: bool = field(init=False)
    """Whether operators redrive until nothing is parked any more."""
    redrives_left: int = REDRIVES_MAX
    looks_at: datetime = BEGINNING + LOOKS_EVERY
    broken_until: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chance = self.schedule.chance
        self.database.empty()
        self.gateway = Gateway(chance, chance.choice((0.0, 0.1, 0.3)))
        self.courier = Courier(chance, chance.choice((0.0, 0.2)))
        declared: dict[str, Sequence[Handler]] = {
            "checkout": checkout.handlers.HANDLERS,
            "payment": payment.handlers.handlers(self.gateway),
            "inventory": inventory.handlers.HANDLERS,
            "loyalty": loyalty.handlers.HANDLERS,
            "shipping": shipping.handlers.handlers(self.courier),
            "ledger": ledger.handlers.HANDLERS,
        }
        self.services = {name: self._processes(name, handlers) for name, handlers in declared.items()}
        factor = chance.choice((0.25, 0.5, 1.0))
        self.trackers = [self._follower(number, factor) for number in range(PROCESSES)]
        self.trackers[0].begin()
        self.customers = Customers(database=self.database, schedule=self.schedule, broker=self.broker, codec=self.codec)
        self.operator = Operator(database=self.database, schedule=self.schedule, due=self.due)
        self.is_redriven = chance.random() < 0.7
        self._stock()

    def _follower(self, number: int, timeout_factor: float) -> Follower:
        return Follower(
            number=number,
            recorder=Recorder(DEFINITIONS, self.codec, timeout_factor=timeout_factor),
            database=self.database,
            topics=tuple(topics(DEFINITIONS)),
            broker=self.broker,
            schedule=self.schedule,
            taken=self._taken,
            due=self.due,
        )

    def _processes(self, name: str, declared: Sequence[Handler]) -> list[Process]:
        handlers = Handlers.of(self._failing(each) for each in declared)
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
        )
        processes = [Process(service=service, number=number) for number in range(PROCESSES)]
        for partition in range(PARTITION_COUNT):
            processes[partition % PROCESSES].own(partition)
        return processes

    def _failing(self, handler: Handler) -> Handler:
        """Let a local step fail now and then, in its step or in its compensation."""
        if not isinstance(handler, Step):
            return handler

        def failing(what: str, load: Callable[[Any, Connection], Any]) -> Callable[[Any, Connection], Any]:
            def load_or_fail(messages: Sequence[Message], tx: Connection) -> Any:
                if self._is_broken(what) or self.schedule.strikes("a handler fails", 0.03):
                    raise Poison("nobody foresaw this")
                return load(messages, tx)

            return load_or_fail

        compensation = handler.compensation
        if compensation is not None:
            compensation = replace(compensation, load=failing(name(compensation), compensation.load))
        return replace(handler, load=failing(handler.name, handler.load), compensation=compensation)

    def _is_broken(self, name: str) -> bool:
        schedule = self.schedule
        if schedule.strikes("a handler is broken for a while", 0.02):
            self.broken_until[name] = schedule.now + schedule.within(BROKEN_S)
        return schedule.are_faults_on and schedule.now < self.broken_until.get(name, BEGINNING)

    def _stock(self) -> None:
        chance = self.schedule.chance
        with self.database.connection("inventory", 0).begin() as tx:
            inventory.tables.receive(tx, {sku: chance.choice((2, 50)) for sku in SKUS})
        with self.database.connection("loyalty", 0).begin() as tx:
            loyalty.tables.grant(tx, {customer: chance.choice((20, 500)) for customer in CUSTOMERS})

    def _taken(self) -> ConsumerProgress:
        return ConsumerProgress(
            offsets={name: dict(processes[0].service.committed) for name, processes in self.services.items()}
        )

    # The schedule

    def run(self) -> Result:
        """Let everything happen, and check what must be true in the end."""
        self._plan()
        found: list[Violation] = []
        states: Counter[str] = Counter()
        try:
            self._until_rest()
            rest = self._rest()
            states.update(rest.states.values())
            found = violations(rest)
        except Exception as error:  # whatever any part raised is what the schedule found
            found = [Violation(invariant="nothing raises", says=f"{type(error).__name__}: {error}")]
        finally:
            for actor in self._actors:
                actor.turn.end()
        return Result(
            seed=self.schedule.seed,
            states=states,
            faults=self.schedule.faults,
            violations=[replace(each, steps=self._last_steps(each.saga_id)) for each in found],
            virtual_s=(self.schedule.now - BEGINNING).total_seconds(),
            trace=tuple(line for _, line in self.schedule.trace),
        )

    def _rest(self) -> Rest:
        return Rest(
            rows=self.database.everything(),
            orders=self.customers.orders,
            gateway=self.gateway,
            courier=self.courier,
            broker=self.broker,
            codec=self.codec,
            is_redriven=self.is_redriven,
        )

    @property
    def _actors(self) -> list[Process | Follower]:
        return [*(each for processes in self.services.values() for each in processes), *self.trackers]

    def _last_steps(self, saga_id: str) -> tuple[str, ...]:
        lines = [line for about, line in self.schedule.trace if not saga_id or about in ("", saga_id)]
        return tuple(lines[-STEPS_TOLD_MAX:])

    def _plan(self) -> None:
        schedule, chance = self.schedule, self.schedule.chance
        for _ in range(chance.choice(ORDERS)):
            schedule.at(schedule.now + schedule.within(FIRST_ORDERS_S), self.customers.submit)
        end_s = chance.uniform(1, FAULTS_MAX_S)
        for _ in range(chance.choice(ACTS)):
            schedule.at(schedule.now + schedule.within(end_s), self.operator.act_on_parked)
        schedule.at(schedule.now + timedelta(seconds=end_s), self._end_faults)

    def _end_faults(self) -> None:
        self.schedule.are_faults_on = False
        self.schedule.note("all faults end")

    def _until_rest(self) -> None:
        """Let whoever is ready take a turn, one after the other; where nobody is, time goes on to what comes next."""
        schedule, actors = self.schedule, self._actors
        for _ in range(ROUNDS_MAX):
            ready = [each for each in actors if each.is_ready]
            if ready:
                actor = schedule.chance.choice(ready)
                actor.turn.run(actor.step)
                if schedule.are_faults_on:
                    self._disturb(actor)
                schedule.advance(schedule.now + schedule.within(0.1))
                continue
            next_at = self._next_at()
            if next_at is None:
                if self._is_tidy(actors) and not self._is_redriven_again():
                    return
                continue
            if next_at > BEGINNING + REST_WITHIN:
                break
            if next_at > self.looks_at:  # what asks again and again has a parked saga, which an operator looks at
                self.looks_at += LOOKS_EVERY
                self.operator.act_at_rest()
                continue
            schedule.advance(next_at)
        raise NotAtRest(f"Not at rest after {ROUNDS_MAX} rounds or {REST_WITHIN}.")

    def _is_tidy(self, actors: Sequence[Process | Follower]) -> bool:
        """Remove what was published; what is in an outbox then nobody knows of, and the sweeps publish it."""
        for each in actors:
            each.tidy()
        if not self.database.has_leftovers():
            return True
        for each in actors:
            each.take_leftovers()
        return not any(each.unpublished or each.is_ready for each in actors)

    def _is_redriven_again(self) -> bool:
        if not self.is_redriven or not self.redrives_left:
            return False
        self.redrives_left -= 1
        return self.operator.act_at_rest()

    def _next_at(self) -> datetime | None:
        due = [when for processes in self.services.values() for when in processes[0].service.due_at.values()]
        found = [
            when for when in (*due, self.due.at, self.due.plan_at) if when is not None and when > self.schedule.now
        ]
        return min([*found, *([self.schedule.next_at] if self.schedule.next_at else [])], default=None)

    def _disturb(self, actor: Process | Follower) -> None:
        schedule, chance = self.schedule, self.schedule.chance
        if actor.turn.is_open and chance.random() < 0.7:
            self._hand_over(actor)
        if schedule.strikes("rebalance with a zombie owner", 0.01):
            self._hand_over(chance.choice(self._actors))
        if schedule.strikes("a process stands still", 0.02):
            process = chance.choice(self._actors)
            process.paused_until = schedule.now + schedule.within(40)
            schedule.at(process.paused_until, lambda: None)  # so that time stops there
            schedule.note(f"{process.name} stands still")
        if schedule.strikes("a process is killed", 0.015):
            chance.choice(self._actors).kill()

    def _hand_over(self, old: Process | Follower) -> None:
        """Give its partitions to another process; the old owner goes on for a while, for it does not know yet."""
        schedule = self.schedule
        if isinstance(old, Follower):
            heir = next(each for each in self.trackers if each is not old)
            if old.offsets and not heir.offsets and not heir.turn.is_open:
                heir.turn.run(heir.begin)
                schedule.at(schedule.now + schedule.within(ZOMBIE_S), old.lose)
                schedule.note(f"{heir.name} takes over from {old.name}, which goes on as a zombie")
            return
        new = next(each for each in self.services[old.service.name] if each is not old)
        taken = sorted(old.partitions - new.partitions)
        if new.turn.is_open:
            return
        for partition in taken:
            new.take_over(partition)
            schedule.note(f"{new.name} takes partition {partition} over from {old.name}, which goes on as a zombie")
            schedule.at(schedule.now + schedule.within(ZOMBIE_S), partial(old.lose, partition))


def simulate(seed: int, database: Database, *, is_traced: bool = False) -> Result:
    """Run the schedule of one seed; one that breaks a promise is run again, to tell its last steps."""
    random.seed(seed)
    result = Simulation(database=database, schedule=Schedule(seed=seed, is_traced=is_traced)).run()
    return simulate(seed, database, is_traced=True) if result.violations and not is_traced else result
