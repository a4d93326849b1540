"""One seeded schedule: orders through every service's real handlers and the real tracker, until everything is at rest.

While faults are on, processes crash, pause and lose partitions to one another, messages come twice and in any order,
calls fail, hang and lose their answers. Then all faults end, and what must be true is checked.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import checkout.handlers
import checkout.tables
import inventory.handlers
import inventory.tables
import ledger.handlers
import loyalty.handlers
import loyalty.tables
import payment.handlers
import shipping.handlers
from messages.checkout import Address, OrderCancellationRequested, OrderLine, OrderSubmitted
from messages.contract import Message
from messages.saga import CancelSaga
from messaging.codec import Codec
from messaging.envelope import headers
from messaging.handlers import Handlers
from messaging.outbox import OutboxRow
from messaging.steps import Handler, Step
from saga_tracker.definitions import DEFINITIONS, newest
from saga_tracker.reading import topics
from saga_tracker.recording import Recorder
from saga_tracker.taken import Taken
from sqlalchemy import Connection, insert

from messaging import outbox
from proof import checks, databases
from proof.broker import Broker
from proof.databases import TRACKER
from proof.follower import Follower
from proof.participant import ZOMBIE_S, Process, Service
from proof.providers import Courier, Gateway
from proof.schedule import BEGINNING, Schedule
from proof.schemas import LocalRegistry

ORDERS_MAX = 4
PARTITION_COUNT = 2
PROCESSES = 2
FAULTS_MAX_S = 120.0
QUIET_ROUNDS = 12
"""Rounds in which nobody found anything to do, before time jumps to the next thing that is due."""
ROUNDS_MAX = 20_000
REST_WITHIN = timedelta(hours=2)
ADDRESS = Address(name="A", street="B", city="C", postal_code="D", country="KE")
SKUS = ("tea", "salt")
CUSTOMERS = ("amina", "juma")
ORDER = newest("order")


class Poison(Exception):
    """A handler that fails as nobody foresaw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one schedule came to."""

    seed: int
    orders: int
    states: Counter[str]
    faults: Counter[str]
    violations: list[str]
    virtual_s: float
    trace: list[str]


@dataclass(slots=True, kw_only=True)
class Simulation:
    """Everything that takes part in one schedule."""

    connections: Mapping[str, Connection]
    schedule: Schedule
    broker: Broker = field(default_factory=lambda: Broker(PARTITION_COUNT))
    codec: Codec = field(default_factory=lambda: Codec(LocalRegistry()))
    gateway: Gateway = field(init=False)
    courier: Courier = field(init=False)
    services: dict[str, list[Process]] = field(init=False)
    tracker: Follower = field(init=False)
    orders: dict[str, OrderSubmitted] = field(default_factory=dict)
    left_to_submit: int = 0

    def __post_init__(self) -> None:
        chance = self.schedule.chance
        databases.empty(self.connections)
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
        self.tracker = Follower(
            recorder=Recorder(DEFINITIONS, self.codec, timeout_factor=chance.choice((0.25, 0.5, 1.0))),
            connection=self.connections[TRACKER],
            topics=tuple(topics(DEFINITIONS)),
            broker=self.broker,
            schedule=self.schedule,
            taken=self._taken,
        )
        self.tracker.begin()
        self._stock()

    def _processes(self, name: str, declared: Sequence[Handler]) -> list[Process]:
        handlers = Handlers.of(self._failing(each) for each in declared)
        read = {f"{event.OWNER}.events" for event in handlers.events}
        read |= {f"{name}.commands"} if handlers.commands else set()
        service = Service(
            name=name,
            handlers=handlers,
            connection=self.connections[name],
            topics=tuple(sorted(read)),
            codec=self.codec,
            broker=self.broker,
            schedule=self.schedule,
        )
        processes = [Process(service=service, number=number) for number in range(PROCESSES)]
        for partition in range(PARTITION_COUNT):
            processes[partition % PROCESSES].take_over(partition)
        return processes

    def _failing(self, handler: Handler) -> Handler:
        """Let a local step fail now and then, in its step or in its compensation."""
        if not isinstance(handler, Step):
            return handler

        def failing(load: Callable[[Any, Connection], Any]) -> Callable[[Any, Connection], Any]:
            def load_or_fail(messages: Sequence[Message], tx: Connection) -> Any:
                if self.schedule.strikes("a handler fails", 0.03):
                    raise Poison("nobody foresaw this")
                return load(messages, tx)

            return load_or_fail

        compensation = handler.compensation
        if compensation is not None:
            compensation = replace(compensation, load=failing(compensation.load))
        return replace(handler, load=failing(handler.load), compensation=compensation)

    def _stock(self) -> None:
        chance = self.schedule.chance
        with self.connections["inventory"].begin():
            inventory.tables.receive(self.connections["inventory"], {sku: chance.choice((2, 50)) for sku in SKUS})
        with self.connections["loyalty"].begin():
            points = {customer: chance.choice((20, 500)) for customer in CUSTOMERS}
            loyalty.tables.grant(self.connections["loyalty"], points)

    def _taken(self) -> Taken:
        return Taken(offsets={name: dict(processes[0].service.committed) for name, processes in self.services.items()})

    # Orders

    def submit(self) -> None:
        """Take in one order, as checkout does: the order and its event in one transaction."""
        chance = self.schedule.chance
        skus = chance.sample(SKUS, chance.randint(1, len(SKUS)))
        lines = tuple(OrderLine(sku=sku, quantity=chance.randint(1, 2), unit_price_minor=100) for sku in skus)
        total = sum(line.quantity * line.unit_price_minor for line in lines)
        points = chance.choice((0, 30))
        saga_id = self.schedule.new_id()
        event = OrderSubmitted(
            **self._envelope(saga_id),
            customer_id=chance.choice(CUSTOMERS),
            currency="KES",
            lines=lines,
            points_to_burn=points,
            total_minor=total,
            payable_minor=total - points,
            payment_token="tok",
            ship_to=ADDRESS,
        )
        self.orders[saga_id] = event
        self.left_to_submit -= 1
        row = {
            "order_id": saga_id, "customer_id": event.customer_id, "client_id": "c", "state": "PENDING",
            "currency": event.currency, "lines": [], "points_to_burn": points, "total_minor": total,
            "payable_minor": event.payable_minor, "submitted_at": self.schedule.now,
        }  # fmt: skip
        self.send("checkout", "checkout.events", event, lambda tx: tx.execute(insert(checkout.tables.orders), row))

    def cancel(self, saga_id: str) -> None:
        """Ask to cancel, as the customer or as staff."""
        if self.schedule.chance.random() < 0.5:
            wish = OrderCancellationRequested(**self._envelope(saga_id), reason="changed_mind")
            self.send("checkout", "checkout.events", wish, lambda _tx: None)
        else:
            command = CancelSaga(**self._envelope(saga_id), actor="support-7", reason="asked")
            self.broker.publish(self._row("saga.commands", command), now=self.schedule.now)
        self.schedule.faults["cancellation"] += 1
        self.schedule.note(f"somebody asks to cancel {saga_id[-6:]}")

    def send(self, service: str, topic: str, message: Message, also: Callable[[Connection], object]) -> None:
        """Write a message into a service's outbox; one of its processes publishes it."""
        connection, row = self.connections[service], self._row(topic, message)
        with connection.begin():
            also(connection)
            outbox.save(connection, [row])
        self.schedule.note(f"{service} sends {message.FULL_NAME.rpartition('.')[2]} of {message.saga_id[-6:]}")

        def publish() -> None:
            self.broker.publish(row, now=self.schedule.now)
            with connection.begin():
                outbox.remove(connection, [row.id])

        late = self.schedule.strikes("publication delayed", 0.1)
        self.schedule.at(self.schedule.now + self.schedule.within(30 if late else 0.1), publish)

    def _envelope(self, saga_id: str) -> Any:
        return {
            "message_id": self.schedule.new_id(), "saga_id": saga_id, "saga_type": ORDER.name,
            "saga_version": ORDER.version, "causation_id": None, "occurred_at": self.schedule.now,
        }  # fmt: skip

    def _row(self, topic: str, message: Message) -> OutboxRow:
        return OutboxRow(
            id=message.message_id,
            topic=topic,
            saga_id=message.saga_id,
            type=message.FULL_NAME,
            payload=self.codec.encode(topic, message),
            headers=headers(message, source="proof", traceparent=b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01"),
            partition=None,
        )

    # The schedule

    def run(self) -> Result:
        """Let everything happen, and check what must be true in the end."""
        self._plan()
        violations: list[str] = []
        try:
            violations += self._until_rest()
            violations += checks.violations(self)
        except Exception as error:  # whatever any part raised is what the schedule found
            violations.append(f"{type(error).__name__}: {error}")
        return Result(
            seed=self.schedule.seed,
            orders=len(self.orders),
            states=checks.states(self),
            faults=self.schedule.faults,
            violations=violations,
            virtual_s=(self.schedule.now - BEGINNING).total_seconds(),
            trace=self.schedule.trace,
        )

    def _plan(self) -> None:
        schedule, chance = self.schedule, self.schedule.chance
        self.left_to_submit = chance.randint(1, ORDERS_MAX)
        for _ in range(self.left_to_submit):
            schedule.at(schedule.now + schedule.within(20), self._submit_and_perhaps_cancel)
        schedule.at(schedule.now + timedelta(seconds=chance.uniform(1, FAULTS_MAX_S)), self._end_faults)

    def _submit_and_perhaps_cancel(self) -> None:
        before = set(self.orders)
        self.submit()
        (saga_id,) = set(self.orders) - before
        if self.schedule.strikes("cancelled", 0.2):
            self.schedule.at(self.schedule.now + self.schedule.within(20), lambda: self.cancel(saga_id))

    def _end_faults(self) -> None:
        self.schedule.are_faults_on = False
        self.schedule.note("all faults end")

    def _until_rest(self) -> list[str]:
        schedule, quiet = self.schedule, 0
        actors: list[Process | Follower] = [each for processes in self.services.values() for each in processes]
        actors += [self.tracker] * 3
        for _ in range(ROUNDS_MAX):
            actor = schedule.chance.choice(actors)
            if actor.step():
                quiet = 0
                self._disturb()
                schedule.advance(schedule.now + schedule.within(0.1))
                continue
            quiet += 1
            if quiet < QUIET_ROUNDS:
                continue
            quiet = 0
            next_at = self._next_at()
            if next_at is None and all(each.is_idle for each in actors):
                return []
            if next_at is not None and next_at > BEGINNING + REST_WITHIN:
                break
            if next_at is None or next_at <= schedule.now or not all(each.is_idle for each in actors):
                next_at = schedule.now + schedule.within(0.5)
            schedule.advance(next_at)
        return [f"Not at rest after {ROUNDS_MAX} rounds or {REST_WITHIN}."]

    def _next_at(self) -> datetime | None:
        due = [processes[0].service.due_at for processes in self.services.values()]
        found = [when for when in (*due, self.tracker.deadline_at, self.schedule.next_at) if when is not None]
        return min(found, default=None)

    def _disturb(self) -> None:
        schedule, chance = self.schedule, self.schedule.chance
        if schedule.strikes("rebalance with a zombie owner", 0.01):
            self._rebalance(chance.choice(list(self.services.values())), chance.randrange(PARTITION_COUNT))
        if schedule.strikes("a process stands still", 0.01):
            process = chance.choice(chance.choice(list(self.services.values())))
            process.paused_until = schedule.now + schedule.within(40)
            schedule.at(process.paused_until, lambda: None)  # so that time stops there
            schedule.note(f"{process.name} stands still")
        if schedule.strikes("the tracker stands still", 0.005):
            self.tracker.paused_until = schedule.now + schedule.within(60)
            schedule.at(self.tracker.paused_until, lambda: None)
            schedule.note("the tracker stands still")
        if schedule.strikes("a process is killed", 0.01):
            chance.choice(chance.choice(list(self.services.values()))).crash()

    def _rebalance(self, processes: Sequence[Process], partition: int) -> None:
        """Give a partition to the other process; the old owner goes on for a while, for it does not know yet."""
        old = next(each for each in processes if partition in each.partitions)
        new = next(each for each in processes if partition not in each.partitions or each is not old)
        if partition in new.partitions:
            return
        new.take_over(partition)
        self.schedule.note(f"{new.name} takes partition {partition} over from {old.name}, which goes on as a zombie")

        def notice() -> None:
            old.partitions.discard(partition)
            old.fetched = [raw for raw in old.fetched if raw.partition != partition]

        self.schedule.at(self.schedule.now + self.schedule.within(ZOMBIE_S), notice)


def simulate(seed: int, connections: Mapping[str, Connection]) -> Result:
    """Run the schedule of one seed."""
    random.seed(seed)
    return Simulation(connections=connections, schedule=Schedule(seed=seed)).run()
