"""The participants of one schedule: every service's processes, the tracker's, customers, operators and providers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import checkout.handlers
import inventory.handlers
import inventory.tables
import ledger.handlers
import loyalty.handlers
import loyalty.tables
import payment.handlers
import shipping.handlers
from chassis.saga.steps import Handler
from proof.callback_inbox import CallbackInbox
from proof.customers import CUSTOMERS, SKUS, Customers
from proof.deployment import PROCESSES, Deployment
from proof.disturbances import Disturbances
from proof.failing_handlers import FailingHandlers
from proof.operator import Operator
from proof.outages import Outages
from proof.parcels import PickupCourier
from proof.providers import Courier, Gateway
from proof.returns import Returns, is_announced
from proof.undeliverable import UndeliverableMessages
from saga_tracker.definitions import DEFINITIONS
from shipping.callbacks import CourierCallbacks
from shipping.collecting import collecting

FAULTS_AGAIN_MAX_S = 20.0
"""How long faults happen once more at most, after those among the orders."""


@dataclass(slots=True, kw_only=True)
class Participants(Deployment):
    """All participants of one schedule."""

    gateway: Gateway = field(init=False)
    courier: Courier = field(init=False)
    pickups: PickupCourier = field(init=False)
    inbox: CallbackInbox = field(init=False)
    customers: Customers = field(init=False)
    returns: Returns = field(init=False)
    undeliverable: UndeliverableMessages = field(init=False)

    def __post_init__(self) -> None:
        chance = self.schedule.chance
        self.failing = FailingHandlers(self.schedule)
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
        self.services = {name: self.processes(name, handlers) for name, handlers in self._declared().items()}
        shipping_service = self.services["shipping"][0].service
        shipping_service.adapters = (CourierCallbacks(secrets=tuple),)
        self.inbox = CallbackInbox(
            database=self.database, service=shipping_service, adapter=shipping_service.adapters[0]
        )
        self.timeout_factor = chance.choice((0.25, 0.5, 1.0))
        self.trackers = [self.tracker(number) for number in range(PROCESSES)]
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

    def _stock_up(self) -> None:
        chance = self.schedule.chance
        with self.database.connection("inventory", 0).begin() as tx:
            inventory.tables.open_balances(tx, "staff", {sku: chance.choice((2, 50)) for sku in SKUS}, "")
        with self.database.connection("loyalty", 0).begin() as tx:
            points = {customer: chance.choice((20, 500)) for customer in CUSTOMERS}
            loyalty.tables.open_balances(tx, "staff", points, "")
