"""Customers in a schedule: they submit orders as checkout's API does, and cancel some of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.values.json_text import compact
from chassis.wire.codec import Codec
from chassis.wire.envelope import headers
from messages.checkout import Address, OrderCancellationRequested, OrderLine, OrderSubmitted
from messages.contract import Message
from messages.saga import CancelSaga
from proof.broker import Broker
from proof.databases import Database
from proof.outages import KAFKA, POSTGRESQL, Outages
from proof.schedule import Schedule
from saga_tracker.definitions import newest
from saga_tracker.model.saga import SagaDefinition

API = 2
"""The number of the connection that checkout's API uses."""
ADDRESS = Address(name="A", street="B", city="C", postal_code="D", country="KE", street_2=None, region=None, phone=None)
SKUS = ("tea", "salt")
CUSTOMERS = ("amina", "juma")
ORDER = newest("order")
INSERT_ORDER = text("""
    INSERT INTO orders (order_id, customer_id, client_id, state, currency, lines, points_to_burn, total_minor,
                        payable_minor, submitted_at)
    VALUES (:order_id, :customer_id, 'c', 'PENDING', 'KES', CAST(:lines AS jsonb), :points_to_burn, :total_minor,
            :payable_minor, :submitted_at)
""")


@dataclass(slots=True, kw_only=True)
class Customers:
    """All customers, and their orders: the events by saga."""

    database: Database
    schedule: Schedule
    broker: Broker
    codec: Codec
    outages: Outages
    orders: dict[str, OrderSubmitted] = field(default_factory=dict)

    def submit(self) -> None:
        """Submit one order, as checkout does: the order and its event in one transaction."""
        if (back_at := self.outages.back_at(POSTGRESQL)) is not None:
            self.schedule.at(back_at, self.submit)
            return
        chance = self.schedule.chance
        skus = chance.sample(SKUS, chance.randint(1, len(SKUS)))
        lines = tuple(OrderLine(sku=sku, quantity=chance.randint(1, 2), unit_price_minor=100) for sku in skus)
        total = sum(line.quantity * line.unit_price_minor for line in lines)
        points = chance.choice((0, 30))
        saga_id = self.schedule.new_id()
        event = OrderSubmitted(
            **self.envelope(saga_id),
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
        row = {
            "order_id": saga_id, "customer_id": event.customer_id, "lines": compact([asdict(line) for line in lines]),
            "points_to_burn": points, "total_minor": total, "payable_minor": event.payable_minor,
            "submitted_at": self.schedule.now,
        }  # fmt: skip
        self.send("checkout.events", event, lambda tx: tx.execute(INSERT_ORDER, row))
        if self.schedule.strikes("cancelled", 0.2):
            self.schedule.at(self.schedule.now + self.schedule.within(20), lambda: self.cancel(saga_id))

    def cancel(self, saga_id: str) -> None:
        """Request a cancellation, as the customer or as staff."""
        if (back_at := self.outages.back_at(POSTGRESQL) or self.outages.back_at(KAFKA)) is not None:
            self.schedule.at(back_at, lambda: self.cancel(saga_id))
            return
        if self.schedule.chance.random() < 0.5:
            request = OrderCancellationRequested(**self.envelope(saga_id), reason="changed_mind")
            self.send("checkout.events", request, lambda _tx: None)
        else:
            command = CancelSaga(**self.envelope(saga_id), actor="support-7", reason="asked")
            self.broker.publish(self.row("saga.commands", command), now=self.schedule.now)
        self.schedule.note(f"a cancellation of saga {saga_id[-6:]} is requested", saga_id)

    def send(self, topic: str, message: Message, also: Callable[[Connection], object]) -> None:
        """Write a message to checkout's outbox, as its API does; then plan its publication and its removal."""
        connection, row = self.database.connection("checkout", API), self.row(topic, message)
        with connection.begin() as tx:
            also(tx)
            outbox.save(tx, [row])
        line = f"checkout sends {message.FULL_NAME.rpartition('.')[2]} of saga {message.saga_id[-6:]}"
        self.schedule.note(line, message.saga_id)

        def publish() -> None:
            if (back_at := self.outages.back_at(KAFKA)) is not None:
                self.schedule.at(back_at, publish)
                return
            self.broker.publish(row, now=self.schedule.now)
            with connection.begin() as tx:
                outbox.remove(tx, [row.id])

        late = self.schedule.strikes("publication delayed", 0.1)
        self.schedule.at(self.schedule.now + self.schedule.within(30 if late else 0.1), publish)

    def envelope(self, saga_id: str, saga: SagaDefinition = ORDER) -> Any:
        """Return the envelope of a message of checkout's API."""
        return {
            "message_id": self.schedule.new_id(), "saga_id": saga_id, "saga_type": saga.name,
            "saga_version": saga.version, "causation_id": None,
            "occurred_at": self.schedule.now + self.outages.checkouts_clock,
        }  # fmt: skip

    def row(self, topic: str, message: Message) -> OutboxRow:
        """Return a message as an outbox has it."""
        return OutboxRow(
            id=message.message_id,
            topic=topic,
            saga_id=message.saga_id,
            type=message.FULL_NAME,
            payload=self.codec.encode(topic, message),
            headers=headers(message, source="proof", traceparent=b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01"),
            partition=None,
        )
