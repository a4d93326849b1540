"""What must be true when a schedule has come to rest, read from the databases, the providers and the broker's logs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from saga_tracker.definitions import newest
from sqlalchemy import text

from proof.databases import TRACKER

if TYPE_CHECKING:
    from proof.simulation import Simulation

ORDER = newest("order")
STEPS = tuple(step.name for step in ORDER.steps)
CONFIRMED, CANCELLED, REVIEW = "CONFIRMED", "CANCELLED_COMPENSATED", "NEEDS_REVIEW"
SERVICES = ("payment", "inventory", "loyalty", "shipping", "ledger")


def rows(simulation: Simulation, schema: str, query: str) -> list[Any]:
    """Return what a query finds in one service's database."""
    connection = simulation.connections[schema]
    with connection.begin():
        return list(connection.execute(text(query)))


def states(simulation: Simulation) -> Counter[str]:
    """Return how many sagas are in which state."""
    return Counter(row.state for row in rows(simulation, TRACKER, "SELECT state FROM sagas"))


def violations(simulation: Simulation) -> list[str]:
    """Return everything that is not as it must be."""
    sagas = {row.saga_id: row for row in rows(simulation, TRACKER, "SELECT * FROM sagas")}
    found = [f"{saga_id[-6:]} has no saga" for saga_id in simulation.orders if saga_id not in sagas]
    known = {saga_id: saga for saga_id, saga in sagas.items() if saga_id in simulation.orders}
    found += _ends(simulation, known)
    found += _effects(simulation, known)
    found += _money(simulation, known)
    found += _shipments(simulation, known)
    found += _stock(simulation, known)
    found += _points(simulation, known)
    found += _ledger(simulation, known)
    found += _messages(simulation, known)
    found += _leftovers(simulation, known)
    return found


def _ends(simulation: Simulation, sagas: dict[str, Any]) -> Iterator[str]:
    orders = {row.order_id: row.state for row in rows(simulation, "checkout", "SELECT order_id, state FROM orders")}
    for saga_id, saga in sagas.items():
        expected = "PENDING" if saga.state == REVIEW else saga.state
        if saga.state not in (CONFIRMED, CANCELLED, REVIEW) or (saga.state == REVIEW and not saga.reason):
            yield f"{saga_id[-6:]} is {saga.state} in {saga.phase} {saga.step} for ever"
        if orders.get(saga_id) != expected:
            yield f"{saga_id[-6:]} is {saga.state}, but checkout says {orders.get(saga_id)}"


def _effects(simulation: Simulation, sagas: dict[str, Any]) -> Iterator[str]:
    effects: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for service in SERVICES:
        for row in rows(simulation, service, "SELECT saga_id, step, state FROM effects"):
            effects[row.saga_id][row.step] = row.state
    for saga_id, saga in sagas.items():
        found = effects[saga_id]
        if saga.state == CONFIRMED and [found.get(step) for step in STEPS] != ["DONE"] * len(STEPS):
            yield f"{saga_id[-6:]} is confirmed, but its effects are {found}"
        if saga.state == CANCELLED and {"DONE", "STARTED"} & set(found.values()):
            yield f"{saga_id[-6:]} is cancelled, but its effects are {found}"
        if saga.state == REVIEW and "STARTED" in found.values() and not _is_held(simulation, saga_id):
            yield f"{saga_id[-6:]} is parked, and nobody will ever settle {found}"


def _is_held(simulation: Simulation, saga_id: str) -> bool:
    query = f"SELECT 1 FROM deferred WHERE saga_id = '{saga_id}'"  # noqa: S608 - an id of our own
    return any(rows(simulation, service, query) for service in ("payment", "shipping"))


def _money(simulation: Simulation, sagas: dict[str, Any]) -> Iterator[str]:
    done, amounts = simulation.gateway.done, simulation.gateway.amounts
    payments = {row.saga_id: row.state for row in rows(simulation, "payment", "SELECT saga_id, state FROM payments")}
    for saga_id, saga in sagas.items():
        count = {kind: done[(saga_id, kind)] for kind in ("authorized", "captured", "voided", "refunded")}
        payable = simulation.orders[saga_id].payable_minor
        if max(count.values()) > 1 or (count["voided"] and count["captured"]):
            yield f"{saga_id[-6:]}: the gateway did {count}"
        if saga.state == CONFIRMED and (
            count != {"authorized": 1, "captured": 1, "voided": 0, "refunded": 0}
            or amounts[(saga_id, "captured")] != payable
            or payments.get(saga_id) != "CAPTURED"
        ):
            yield f"{saga_id[-6:]} is confirmed at {payable}; the gateway did {count}, payment {payments.get(saga_id)}"
        if saga.state == CANCELLED and (
            count["authorized"] != count["voided"] + count["refunded"] or count["captured"] != count["refunded"]
        ):
            yield f"{saga_id[-6:]} is cancelled; the gateway did {count}"


def _shipments(simulation: Simulation, sagas: dict[str, Any]) -> Iterator[str]:
    done = simulation.courier.done
    for saga_id, saga in sagas.items():
        booked, cancelled = done[(saga_id, "booked")], done[(saga_id, "cancelled")]
        if booked > 1 or cancelled > booked:
            yield f"{saga_id[-6:]}: {booked} shipments booked, {cancelled} cancelled"
        if saga.state == CONFIRMED and (booked, cancelled) != (1, 0):
            yield f"{saga_id[-6:]} is confirmed; {booked} shipments booked, {cancelled} cancelled"
        if saga.state == CANCELLED and booked != cancelled:
            yield f"{saga_id[-6:]} is cancelled; {booked} shipments booked, {cancelled} cancelled"


def _stock(simulation: Simulation, sagas: dict[str, Any]) -> Iterator[str]:
    reserved: Counter[str] = Counter()
    held: dict[str, dict[str, int]] = {}
    for row in rows(simulation, "inventory", "SELECT * FROM reservations WHERE state = 'RESERVED'"):
        held[row.saga_id] = dict(zip(row.skus, row.quantities, strict=True))
        reserved.update(held[row.saga_id])
    for row in rows(simulation, "inventory", "SELECT * FROM stock"):
        if row.received != row.on_hand + reserved[row.sku]:
            yield f"{row.sku}: {row.received} received, {row.on_hand} on hand, {reserved[row.sku]} reserved"
    for saga_id, saga in sagas.items():
        lines = {line.sku: line.quantity for line in simulation.orders[saga_id].lines}
        if saga.state == CONFIRMED and held.get(saga_id) != lines:
            yield f"{saga_id[-6:]} is confirmed for {lines}, reserved is {held.get(saga_id)}"
        if saga.state == CANCELLED and saga_id in held:
            yield f"{saga_id[-6:]} is cancelled, but {held[saga_id]} is reserved"


def _points(simulation: Simulation, sagas: dict[str, Any]) -> Iterator[str]:
    burned: Counter[str] = Counter()
    held: dict[str, int] = {}
    for row in rows(simulation, "loyalty", "SELECT * FROM burns WHERE state = 'BURNED'"):
        burned[row.customer_id] += row.points
        held[row.saga_id] = row.points
    for row in rows(simulation, "loyalty", "SELECT * FROM accounts"):
        if row.granted != row.balance + burned[row.customer_id]:
            yield f"{row.customer_id}: {row.granted} granted, {row.balance} left, {burned[row.customer_id]} burned"
    for saga_id, saga in sagas.items():
        expected = simulation.orders[saga_id].points_to_burn if saga.state == CONFIRMED else 0
        if saga.state in (CONFIRMED, CANCELLED) and held.get(saga_id, 0) != expected:
            yield f"{saga_id[-6:]} is {saga.state}; {held.get(saga_id, 0)} points burned instead of {expected}"


def _ledger(simulation: Simulation, sagas: dict[str, Any]) -> Iterator[str]:
    posted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows(simulation, "ledger", "SELECT * FROM entries"):
        posted[row.saga_id][row.account] += row.debit_minor - row.credit_minor
    for saga_id, saga in sagas.items():
        net = posted[saga_id]
        payable = simulation.orders[saga_id].payable_minor if saga.state == CONFIRMED else 0
        if sum(net.values()):
            yield f"{saga_id[-6:]}: debits and credits differ: {dict(net)}"
        if saga.state in (CONFIRMED, CANCELLED) and net["gateway_receivable"] != payable:
            yield f"{saga_id[-6:]} is {saga.state}; the ledger has {net['gateway_receivable']} instead of {payable}"


def _messages(simulation: Simulation, sagas: dict[str, Any]) -> Iterator[str]:
    """The last event comes once (by id) and last, and every step is said once to be undone, in reverse order."""
    ends: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
    undone: defaultdict[str, dict[str, tuple[datetime, str]]] = defaultdict(dict)
    for record in simulation.broker.all():
        if record.raw.topic.endswith(".dlq"):
            continue
        message = simulation.codec.decode(record.raw.value)
        if record.raw.topic == "saga.events":
            ends[message.saga_id][message.message_id] = message.occurred_at
        elif getattr(message, "undone", False):
            undone[message.saga_id][message.message_id] = (message.occurred_at, str(getattr(message, "step", "")))
    for saga_id, saga in sagas.items():
        expected = 1 if saga.state in (CONFIRMED, CANCELLED) else 0
        if len(ends[saga_id]) != expected:
            yield f"{saga_id[-6:]} is {saga.state}, with {len(ends[saga_id])} last events"
        replies = sorted(undone[saga_id].values())
        order = [STEPS.index(step) for _, step in replies]
        if order != sorted(set(order), reverse=True):
            yield f"{saga_id[-6:]} was compensated in the order {', '.join(step for _, step in replies)}"
        if replies and ends[saga_id] and replies[-1][0] > min(ends[saga_id].values()):
            yield f"{saga_id[-6:]}: {replies[-1][1]} was undone after the saga's last event"


def _leftovers(simulation: Simulation, sagas: dict[str, Any]) -> Iterator[str]:
    for schema in simulation.connections:
        for row in rows(simulation, schema, "SELECT type, aggregateid FROM outbox"):
            yield f"{schema} has left {row.type} of {row.aggregateid[-6:]} in its outbox"
    for schema in SERVICES:
        for row in rows(simulation, schema, "SELECT saga_id, handler, reason FROM deferred"):
            saga = sagas.get(row.saga_id)
            if saga is None or saga.state != REVIEW:
                yield f"{schema} holds {row.handler} of {row.saga_id[-6:]} for ever: {row.reason}"
