"""The audit over real databases with the services' own tables, and over the real simulators' own records.

What each invariant finds is tried on its query in the unit tests; here damage is planted where it would happen.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy
from baraza.audit import report, sources
from baraza.audit.report import Report
from baraza.audit.sources import Sources
from bench_providers import SUBSTITUTES
from chassis.postgres import migrations
from chassis.wire.envelope import new_id
from confluent_kafka import Producer
from psycopg import sql
from saga_tracker.definitions import newest
from simulators.testing import running
from stack.contract import AUDIT
from support.postgres import scratch_database

from stack import Stack

SERVICES = ("checkout", "payment", "inventory", "loyalty", "shipping", "ledger", "saga_tracker")
PRICE_MINOR = 450
POINTS = 100
PAYABLE_MINOR = 2 * PRICE_MINOR - POINTS
ADDRESS = {"name": "A", "street": "B", "city": "C", "postal_code": "D", "country": "US"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedStack:
    """Every database, and a confirmed and a compensated order in them with everything as it must be."""

    origin: Sources
    connections: Mapping[str, psycopg.Connection[Any]]
    confirmed: str
    compensated: str

    def execute(self, service: str, statement: str, *values: Any) -> None:
        """Run a statement in a service's database."""
        self.connections[service].execute(statement, values)

    def ask(self, url: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Let a provider do something, under a key of its own."""
        answer = httpx.post(f"{url}{path}", json=body, headers={"Idempotency-Key": new_id()}, trust_env=False)
        answer.raise_for_status()
        told: dict[str, Any] = answer.json()
        return told

    def authorize(self, saga_id: str) -> str:
        """Let the gateway authorize what the order costs and return the authorization's id."""
        body = {"amount_minor": PAYABLE_MINOR, "currency": "USD", "token": "tok_1", "reference": saga_id}
        return str(self.ask(self.origin.gateway_url, "/v1/authorizations", body)["id"])

    def book(self, saga_id: str) -> str:
        """Let the courier book a shipment and return its tracking number."""
        body = {"reference": saga_id, "ship_to": ADDRESS, "lines": [{"sku": "tea", "quantity": 2}]}
        return str(self.ask(self.origin.courier_url, "/v1/shipments", body)["tracking_number"])

    def audited(self) -> Report:
        """Return the verdict, without waiting for anything."""
        return report.run(self.origin, timeout_s=0.0)

    def broken(self) -> set[tuple[str, str]]:
        """Return what the audit finds as (invariant, offending id)."""
        return {
            (finding.invariant.name, offender)
            for finding in self.audited().findings
            for offender, _problem in finding.offenders
        }


@pytest.fixture(scope="module")
def origin(infrastructure: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    """A database for each service with its own migrations, and both providers."""
    with ExitStack() as opened:
        databases = {}
        for service in SERVICES:
            engine = opened.enter_context(scratch_database(infrastructure))
            migrations.upgrade(service, engine)
            url = engine.url.set(drivername="postgresql")
            databases[service] = url.render_as_string(hide_password=False)
        addresses = {}
        for name in ("gateway", "courier"):
            records = {"BARAZA_SIMULATOR_RECORDS": str(tmp_path_factory.getbasetemp() / f"audited-{name}.db")}
            addresses[name] = opened.enter_context(running(name, records)).url
        yield Sources(
            databases=databases, gateway_url=addresses["gateway"], courier_url=addresses["courier"], kafka=None
        )


@pytest.fixture(scope="module")
def connections(origin: Sources) -> Iterator[Mapping[str, psycopg.Connection[Any]]]:
    """A connection to each database."""
    with ExitStack() as opened:
        yield {
            service: opened.enter_context(psycopg.connect(url, autocommit=True))
            for service, url in origin.databases.items()
        }


@pytest.fixture
def world(
    origin: Sources, connections: Mapping[str, psycopg.Connection[Any]], tmp_path_factory: pytest.TempPathFactory
) -> AuditedStack:
    """Two orders in databases and providers' records that hold nothing else."""
    for connection in connections.values():
        for (table,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            if "alembic" not in table:
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
    for name in ("gateway", "courier"):
        with closing(sqlite3.connect(tmp_path_factory.getbasetemp() / f"audited-{name}.db")) as records:
            records.execute("DELETE FROM records")
            records.commit()
    built = AuditedStack(origin=origin, connections=connections, confirmed=new_id(), compensated=new_id())
    _plant(built, built.confirmed, "CONFIRMED", "DONE")
    _plant(built, built.compensated, "CANCELLED_COMPENSATED", "UNDONE")
    _at_providers(built)
    built.execute("inventory", "INSERT INTO stock (sku, received, on_hand) VALUES ('tea', 10, 8)")
    built.execute("loyalty", "INSERT INTO accounts (customer_id, granted, balance) VALUES ('ann', 300, 200)")
    return built


def _plant(world: AuditedStack, saga_id: str, state: str, effect: str) -> None:
    lines = json.dumps([{"sku": "tea", "quantity": 2, "unit_price_minor": PRICE_MINOR}])
    is_done = effect == "DONE"
    world.execute(
        "checkout",
        "INSERT INTO orders (order_id, customer_id, client_id, state, currency, lines, points_to_burn, total_minor,"
        " payable_minor, submitted_at) VALUES (%s, 'ann', 'shop', %s, 'USD', %s, %s, %s, %s, now())",
        *(saga_id, state, lines, POINTS, 2 * PRICE_MINOR, PAYABLE_MINOR),
    )
    world.execute(
        "saga_tracker",
        "INSERT INTO sagas (saga_id, saga_type, saga_version, subject, state, phase, step, partition, progress,"
        " version, started_at, updated_at)"
        " VALUES (%s, 'order', 1, 'ann', %s, 'ENDED', 'post_ledger', 0, '{}', 1, now(), now())",
        *(saga_id, state),
    )
    for step in newest("order").steps:
        world.execute(
            step.service,
            "INSERT INTO effects (saga_id, step, state, updated_at) VALUES (%s, %s, %s, now())",
            *(saga_id, step.name, effect),
        )
        if step.compensation and not is_done:
            _reply(world, saga_id, step.name)
    world.execute(
        "inventory",
        "INSERT INTO reservations (saga_id, skus, quantities, state) VALUES (%s, '{tea}', '{2}', %s)",
        *(saga_id, "RESERVED" if is_done else "RELEASED"),
    )
    world.execute(
        "loyalty",
        "INSERT INTO burns (saga_id, customer_id, points, state) VALUES (%s, 'ann', %s, %s)",
        *(saga_id, POINTS, "BURNED" if is_done else "RESTORED"),
    )
    for kind in ("POST",) if is_done else ("POST", "REVERSE"):
        debited, credited = ("gateway_receivable", "sales") if kind == "POST" else ("sales", "gateway_receivable")
        for account, debit, credit in ((debited, PAYABLE_MINOR, 0), (credited, 0, PAYABLE_MINOR)):
            world.execute(
                "ledger",
                "INSERT INTO entries (saga_id, kind, account, debit_minor, credit_minor, currency, posted_at)"
                " VALUES (%s, %s, %s, %s, %s, 'USD', now())",
                *(saga_id, kind, account, debit, credit),
            )


def _reply(world: AuditedStack, saga_id: str, step: str) -> None:
    world.execute(
        "saga_tracker",
        "INSERT INTO timeline (saga_id, message_id, recorded_at, occurred_at, kind, type, service, step, late)"
        " VALUES (%s, %s, now(), now(), 'reply', 'Undone', 'a service', %s, false)",
        *(saga_id, new_id(), step),
    )


def _at_providers(world: AuditedStack) -> None:
    """Let the providers do for both orders what their rows say, and note the providers' names of it in the rows."""
    gateway, courier = world.origin.gateway_url, world.origin.courier_url
    for saga_id, payment, shipment in (
        (world.confirmed, "CAPTURED", "BOOKED"),
        (world.compensated, "REFUNDED", "CANCELLED"),
    ):
        capture = world.ask(gateway, f"/v1/authorizations/{world.authorize(saga_id)}/capture", {})["capture_id"]
        tracking_number = world.book(saga_id)
        if payment == "REFUNDED":
            world.ask(gateway, f"/v1/captures/{capture}/refund", {})
            world.ask(courier, f"/v1/shipments/{tracking_number}/cancel", {})
        world.execute(
            "payment",
            "INSERT INTO payments (saga_id, state, currency, amount_minor) VALUES (%s, %s, 'USD', %s)",
            *(saga_id, payment, PAYABLE_MINOR),
        )
        world.execute(
            "shipping",
            "INSERT INTO shipments (saga_id, state, tracking_number) VALUES (%s, %s, %s)",
            *(saga_id, shipment, tracking_number),
        )


DAMAGE = [
    ("orders-have-sagas", "saga_tracker", "DELETE FROM sagas WHERE saga_id = %s", "confirmed"),
    ("orders-have-sagas", "checkout", "UPDATE orders SET state = 'PENDING' WHERE order_id = %s", "confirmed"),
    ("orders-have-sagas", "checkout", "DELETE FROM orders WHERE order_id = %s", "compensated"),
    ("sagas-end", "saga_tracker", "UPDATE sagas SET state = 'PENDING' WHERE saga_id = %s", "confirmed"),
    ("sagas-end", "saga_tracker", "UPDATE sagas SET state = 'NEEDS_REVIEW' WHERE saga_id = %s", "confirmed"),
    ("confirmed-ran", "ledger", "DELETE FROM effects WHERE saga_id = %s", "confirmed"),
    ("cancelled-undone", "loyalty", "UPDATE effects SET state = 'DONE' WHERE saga_id = %s", "compensated"),
    ("effects-settled", "shipping", "UPDATE effects SET state = 'STARTED' WHERE saga_id = %s", "compensated"),
    ("payments-agree", "payment", "UPDATE payments SET state = 'VOIDED' WHERE saga_id = %s", "confirmed"),
    ("reserved-for-orders", "inventory", "UPDATE reservations SET quantities = '{1}' WHERE saga_id = %s", "confirmed"),
    (
        "reserved-for-orders",
        "inventory",
        "UPDATE reservations SET state = 'RESERVED' WHERE saga_id = %s",
        "compensated",
    ),
    ("burned-for-orders", "loyalty", "UPDATE burns SET points = 99 WHERE saga_id = %s", "confirmed"),
    ("shipments-agree", "shipping", "UPDATE shipments SET state = 'CANCELLED' WHERE saga_id = %s", "confirmed"),
    ("ledger-balances", "ledger", "DELETE FROM entries WHERE account = 'sales' AND saga_id = %s", "confirmed"),
    ("ledger-is-the-gateways", "ledger", "DELETE FROM entries WHERE saga_id = %s", "confirmed"),
]


def test_a_world_as_it_must_be_is_green(world: AuditedStack) -> None:
    verdict = world.audited()

    assert verdict.is_green, verdict.to_json()
    assert verdict.states == {"CANCELLED_COMPENSATED": 1, "CONFIRMED": 1}
    checked = {finding.invariant.name: finding.checked for finding in verdict.findings}
    assert checked["effects-settled"] == 2 * len(newest("order").steps)
    assert checked["compensated-once"] == sum(1 for step in newest("order").steps if step.compensation)


@pytest.mark.parametrize(("invariant", "service", "damage", "order"), DAMAGE)
def test_damage_in_a_database_is_found(
    world: AuditedStack, invariant: str, service: str, damage: str, order: str
) -> None:
    saga_id = getattr(world, order)
    world.execute(service, damage, saga_id)

    assert (invariant, saga_id) in world.broken()


def test_stock_that_came_from_nowhere_is_found(world: AuditedStack) -> None:
    world.execute("inventory", "UPDATE stock SET on_hand = 9 WHERE sku = 'tea'")

    assert world.broken() == {("stock-conserved", "tea")}


def test_points_that_came_from_nowhere_are_found(world: AuditedStack) -> None:
    world.execute("loyalty", "UPDATE accounts SET balance = 201 WHERE customer_id = 'ann'")

    assert world.broken() == {("points-conserved", "ann")}


def test_a_second_authorization_is_found_at_the_gateway(world: AuditedStack) -> None:
    world.authorize(world.confirmed)

    assert {("captured-once", world.confirmed), ("charged-once", world.confirmed)} <= world.broken()


def test_money_that_a_cancelled_order_still_holds_is_found_at_the_gateway(world: AuditedStack) -> None:
    world.authorize(world.compensated)

    assert ("nothing-kept", world.compensated) in world.broken()


def test_a_second_capture_is_found_at_the_gateway(world: AuditedStack) -> None:
    authorization = world.authorize(world.confirmed)
    world.ask(world.origin.gateway_url, f"/v1/authorizations/{authorization}/capture", {})

    assert ("ledger-is-the-gateways", world.confirmed) in world.broken()


@pytest.mark.parametrize("order", ["confirmed", "compensated"])
def test_a_shipment_too_many_is_found_at_the_courier(world: AuditedStack, order: str) -> None:
    saga_id = getattr(world, order)
    world.book(saga_id)

    assert ("shipped-once", saga_id) in world.broken()


def test_a_shipment_for_nobody_is_found_at_the_courier(world: AuditedStack) -> None:
    world.book("nobody")

    assert ("shipped-once", "nobody") in world.broken()


def test_a_provider_inside_of_the_process_is_audited_by_its_own_records(world: AuditedStack) -> None:
    for service, package in SUBSTITUTES.items():
        engine = sqlalchemy.create_engine(world.origin.databases[service].replace("://", "+psycopg://"))
        migrations.upgrade(package, engine)
        engine.dispose()
    assert world.audited().is_green

    world.execute(
        "payment",
        "INSERT INTO gateway_records (id, reference, state, amount_minor) VALUES ('second', %s, 'open', %s)",
        *(world.confirmed, PAYABLE_MINOR),
    )
    world.execute("shipping", "INSERT INTO courier_records (id, reference, state) VALUES ('second', 'nobody', 'live')")

    assert {("charged-once", world.confirmed), ("shipped-once", "nobody")} <= world.broken()


def test_a_step_that_was_compensated_twice_is_found(world: AuditedStack) -> None:
    _reply(world, world.compensated, "reserve_inventory")

    assert world.broken() == {("compensated-once", world.compensated)}


def test_a_message_that_never_left_is_found(world: AuditedStack) -> None:
    world.execute(
        "payment",
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, headers)"
        " VALUES ('stuck', 'payment.events', %s, 'PaymentCaptured', '', '[]')",
        world.confirmed,
    )

    assert world.broken() == {("outboxes-drained", world.confirmed)}
    assert world.audited().moving == {"messages in the outbox of payment": 1}


@pytest.mark.parametrize("due_at", [datetime(2026, 1, 1, tzinfo=UTC), None])
def test_a_message_that_still_waits_is_found(world: AuditedStack, due_at: datetime | None) -> None:
    world.execute(
        "shipping",
        "INSERT INTO deferred (message_id, handler, saga_id, topic, partition, headers, payload, attempt, due_at,"
        " reason, created_at)"
        " VALUES ('waits', 'book_shipment', %s, 'loyalty.events', 0, '[]', '', 1, %s, '', now())",
        *(world.confirmed, due_at),
    )

    assert world.broken() == {("deferred-drained", world.confirmed)}


def test_dead_letters_are_read_to_their_end(infrastructure: Stack, world: AuditedStack) -> None:
    saga_id = new_id()
    producer = Producer(infrastructure.kafka().options())
    producer.produce("book_shipment.dlq", key=saga_id, value=b"whatever")
    assert producer.flush(30.0) == 0

    found = [(topic, key) for topic, _, _, key in sources.dead_letters(infrastructure.kafka(AUDIT))]

    assert found.count(("book_shipment.dlq", saga_id)) == 1


def test_a_database_that_cannot_be_read_is_named(world: AuditedStack) -> None:
    nowhere = {**world.origin.databases, "ledger": "postgresql://audit@127.0.0.1:1/ledger"}
    origin = Sources(
        databases=nowhere, gateway_url=world.origin.gateway_url, courier_url=world.origin.courier_url, kafka=None
    )

    with pytest.raises(sources.Unreadable, match="The database of ledger cannot be read"):
        report.run(origin, timeout_s=0.0)


def test_records_that_cannot_be_read_are_named(world: AuditedStack) -> None:
    origin = Sources(
        databases=world.origin.databases,
        gateway_url="http://127.0.0.1:1",
        courier_url=world.origin.courier_url,
        kafka=None,
    )

    with pytest.raises(sources.Unreadable, match=r"The records at http://127\.0\.0\.1:1 cannot be read"):
        report.run(origin, timeout_s=0.0)
