"""Returns in a schedule: customers request them for confirmed orders, as checkout's API does, and cancel some."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from psycopg.errors import LockNotAvailable

from chassis.wire.codec import Codec
from checkout import return_tables
from checkout.return_tables import NewReturn
from checkout.returns import CountedReturn, PlacedOrder, priced, refusals_of
from checkout.tables import StoredResponse
from messages.checkout import OrderLine, ReturnCancellationRequested, ReturnRequested
from messages.saga import CancelSaga, StepAwaited
from proof.broker import Broker
from proof.customers import ADDRESS, API, Customers
from proof.outages import KAFKA, POSTGRESQL
from proof.parcels import PickupCourier
from proof.schedule import Schedule
from saga_tracker.definitions import newest

RETURN = newest("return_order")
COUNTS = (0, 1, 1, 2, 3)
"""The number of returns of a schedule that has a confirmed order."""
WITHIN_S = (5.0, 5.0, 86_400.0)
CANCELLED_WITHIN_S = (10.0, 86_400.0, 4 * 86_400.0)


@dataclass(slots=True, kw_only=True)
class Returns:
    """The returns of one schedule: their events by saga."""

    customers: Customers
    courier: PickupCourier
    requested: dict[str, ReturnRequested] = field(default_factory=dict)

    @property
    def _schedule(self) -> Schedule:
        return self.customers.schedule

    def plan(self, confirmed: Collection[str]) -> bool:
        """Plan some returns of these orders; return whether there are any."""
        schedule, chance = self._schedule, self._schedule.chance
        if not confirmed:
            return False
        count = chance.choice(COUNTS)
        for _ in range(count):
            order_id, wait = chance.choice(sorted(confirmed)), schedule.within(chance.choice(WITHIN_S))
            schedule.at(schedule.now + wait, lambda order_id=order_id: self._request(order_id))  # type: ignore[misc]
        return bool(count)

    def _request(self, order_id: str) -> None:
        """Request a return of some pieces of an order, unless checkout's API refuses it."""
        schedule, customers = self._schedule, self.customers
        if (back_at := customers.outages.back_at(POSTGRESQL)) is not None:
            schedule.at(back_at, lambda: self._request(order_id))
            return
        with customers.database.connection("checkout", API).begin() as tx:
            found = return_tables.load_placed_order(tx, order_id)
        assert found is not None, "the customer has placed it"
        order, counted = found
        if (new := self._chosen(order, counted)) is None:
            return
        event = ReturnRequested(
            **customers.envelope(new.return_id, RETURN),
            order_id=order_id,
            customer_id=order.customer_id,
            currency=order.currency,
            lines=tuple(
                OrderLine(sku=line.sku, quantity=line.quantity, unit_price_minor=line.unit_price_minor)
                for line in new.lines
            ),
            collect_from=ADDRESS,
            reason=new.reason,
        )
        self.requested[new.return_id] = event
        response = StoredResponse(order_id=new.return_id, fingerprint=b"", status=202, body="")
        key = ("c", new.return_id)
        customers.send("checkout.events", event, lambda tx: return_tables.insert_requested(tx, new, key, response))
        if schedule.chance.random() < 0.4:
            wait = schedule.within(schedule.chance.choice(CANCELLED_WITHIN_S))
            schedule.at(schedule.now + wait, lambda: self._cancel(new.return_id))

    def _chosen(self, order: PlacedOrder, counted: Sequence[CountedReturn]) -> NewReturn | None:
        chance, now = self._schedule.chance, self._schedule.now
        lines = [(line.sku, chance.randint(0, line.quantity)) for line in order.lines]
        wanted = [(sku, quantity) for sku, quantity in lines if quantity]
        if not wanted or list(refusals_of(order, counted, wanted, at=now)):
            return None
        return NewReturn(
            return_id=self._schedule.new_id(),
            order=order,
            lines=priced(order, wanted),
            reason="does not fit",
            requested_at=now,
        )

    def _cancel(self, return_id: str) -> None:
        """Request a cancellation as the customer, whom checkout refuses it once the parcel arrived, or as staff."""
        schedule, customers = self._schedule, self.customers
        if (back_at := customers.outages.back_at(POSTGRESQL) or customers.outages.back_at(KAFKA)) is not None:
            schedule.at(back_at, lambda: self._cancel(return_id))
            return
        schedule.note(f"a cancellation of return {return_id[-6:]} is requested", return_id)
        if schedule.chance.random() < 0.3:
            command = CancelSaga(**customers.envelope(return_id, RETURN), actor="support-7", reason="asked")
            customers.broker.publish(customers.row("saga.commands", command), now=schedule.now)
            return
        try:
            with customers.database.connection("checkout", API).begin() as tx:
                is_in_time = return_tables.request_cancellation(tx, return_id, now=schedule.now)
        except LockNotAvailable:
            # A worker that stands still holds the row: checkout answers 503, and the customer tries again.
            schedule.at(schedule.now + timedelta(seconds=1), lambda: self._cancel(return_id))
            return
        if is_in_time:
            request = ReturnCancellationRequested(**customers.envelope(return_id, RETURN), reason="customer_request")
            customers.send("checkout.events", request, lambda _tx: None)


def is_announced(broker: Broker, codec: Codec, key: str) -> bool:
    """Return whether the broker has the StepAwaited of the attempt with this key."""
    for partition in range(broker.partition_count):
        for record in broker.read(("shipping.events", partition), 0):
            message = codec.decode(record.raw.value)
            if isinstance(message, StepAwaited) and message.key == key:
                return True
    return False
