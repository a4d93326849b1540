"""The audit over real databases with the services' own tables, and over the real simulators' own records.

The unit tests check each invariant's query; here damage is planted where it would happen.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy
from confluent_kafka import Producer
from psycopg import sql

from baraza.audit import providers, report, sources
from baraza.audit.report import Report
from baraza.audit.sources import Sources
from bench_providers import SUBSTITUTES
from chassis.postgres import migrations
from chassis.values.address import destination
from chassis.wire.envelope import new_id
from saga_tracker.definitions import newest
from simulators.testing import running
from stack import Stack
from stack.contract import AUDIT, package_of
from support.postgres import scratch_database
from support.waiting import until

SERVICES = (
    "checkout", "payment", "inventory", "loyalty", "shipping", "ledger", "saga_tracker", "merchant", "risk", "notifier",
    "members", "mobile-money",
)  # fmt: skip
PRICE_MINOR = 450
POINTS = 100
PAYABLE_MINOR = 2 * PRICE_MINOR - POINTS
PARTS = ("A", "B", None, "C", None, "D", "US", None)
ADDRESS = {"name": "A", "street": "B", "city": "C", "postal_code": "D", "country": "US"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedStack:
    """Every database, with a confirmed and a compensated order that are consistent."""

    origin: Sources
    connections: Mapping[str, psycopg.Connection[Any]]
    confirmed: str
    compensated: str

    def execute(self, service: str, statement: str, *values: Any) -> None:
        """Run a statement in a service's database."""
        self.connections[service].execute(statement, values)

    def damage(self, service: str, statement: str, *values: Any) -> None:
        """Run a statement as only a superuser can: triggers do not refuse it."""
        with unguarded(self.connections[service]):
            self.execute(service, statement, *values)

    def post(self, url: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a provider a request with a key of its own."""
        answer = httpx.post(f"{url}{path}", json=body, headers={"Idempotency-Key": new_id()}, trust_env=False)
        answer.raise_for_status()
        content: dict[str, Any] = answer.json()
        return content

    def authorize(self, saga_id: str, amount_minor: int = PAYABLE_MINOR, currency: str = "USD") -> str:
        """Let the gateway authorize the order's price and return the authorization's id."""
        body = {"amount_minor": amount_minor, "currency": currency, "token": "tok_1", "reference": saga_id}
        return str(self.post(self.origin.gateway_url, "/v1/authorizations", body)["id"])

    def book(self, saga_id: str, *, quantity: int = 2, street: str = "B") -> str:
        """Let the courier book a shipment and return its tracking number."""
        lines = [{"sku": "tea", "quantity": quantity}]
        body = {"reference": saga_id, "ship_to": {**ADDRESS, "street": street}, "lines": lines}
        return str(self.post(self.origin.courier_url, "/v1/shipments", body)["tracking_number"])

    def verdict(self) -> Report:
        """Return the verdict without waiting."""
        return report.run(self.origin, timeout_s=0.0)

    def broken(self) -> set[tuple[str, str]]:
        """Return the audit's findings as (invariant, offending id)."""
        return {
            (finding.invariant.name, offender)
            for finding in self.verdict().findings
            for offender, _problem in finding.offenders
        }


@contextmanager
def unguarded(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Disable the triggers of this connection's statements in the block."""
    connection.execute("SET session_replication_role = replica")
    yield
    connection.execute("RESET session_replication_role")


@pytest.fixture(scope="module")
def origin(infrastructure: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    """A database for each service with its own migrations, and both providers."""
    with ExitStack() as opened:
        databases = {}
        for service in SERVICES:
            engine = opened.enter_context(scratch_database(infrastructure))
            migrations.upgrade(package_of(service), engine)
            url = engine.url.set(drivername="postgresql")
            databases[service] = url.render_as_string(hide_password=False)
        addresses = {}
        for name in ("gateway", "courier"):
            records = {
                "BARAZA_SIMULATOR_RECORDS": str(tmp_path_factory.getbasetemp() / f"audited-{name}.db"),
                "BARAZA_COURIER_DAY_S": "0",
            }
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
def audited(
    origin: Sources, connections: Mapping[str, psycopg.Connection[Any]], tmp_path_factory: pytest.TempPathFactory
) -> AuditedStack:
    """Two orders in databases and providers' records that are otherwise empty."""
    for connection in connections.values():
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        with unguarded(connection):
            for (table,) in found:
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


def _plant(audited: AuditedStack, saga_id: str, state: str, effect: str) -> None:
    lines = json.dumps([{"sku": "tea", "quantity": 2, "unit_price_minor": PRICE_MINOR}])
    is_done = effect == "DONE"
    audited.execute(
        "checkout",
        "INSERT INTO orders (order_id, customer_id, client_id, state, currency, lines, points_to_burn, total_minor,"
        " payable_minor, rate_points, rate_minor, destination, submitted_at)"
        " VALUES (%s, 'ann', 'shop', %s, 'USD', %s, %s, %s, %s, 1, 1, %s, now())",
        *(saga_id, state, lines, POINTS, 2 * PRICE_MINOR, PAYABLE_MINOR, destination(saga_id, *PARTS)),
    )
    audited.execute(
        "saga_tracker",
        "INSERT INTO sagas (saga_id, saga_type, saga_version, subject, state, phase, step, partition, progress,"
        " version, started_at, updated_at)"
        " VALUES (%s, 'order', 1, 'ann', %s, 'ENDED', 'post_ledger', 0, '{}', 1, now(), now())",
        *(saga_id, state),
    )
    for step in newest("order").steps:
        audited.execute(
            step.service,
            "INSERT INTO effects (saga_id, step, state, updated_at) VALUES (%s, %s, %s, now())",
            *(saga_id, step.name, effect),
        )
        if step.compensation and not is_done:
            _reply(audited, saga_id, step.name)
    audited.execute(
        "inventory",
        "INSERT INTO reservations (saga_id, skus, quantities, state) VALUES (%s, '{tea}', '{2}', %s)",
        *(saga_id, "RESERVED" if is_done else "RELEASED"),
    )
    audited.execute(
        "loyalty",
        "INSERT INTO burns (saga_id, customer_id, points, state) VALUES (%s, 'ann', %s, %s)",
        *(saga_id, POINTS, "BURNED" if is_done else "RESTORED"),
    )
    for kind in ("POST",) if is_done else ("POST", "REVERSE"):
        debited, credited = ("gateway_receivable", "sales") if kind == "POST" else ("sales", "gateway_receivable")
        for account, debit, credit in ((debited, PAYABLE_MINOR, 0), (credited, 0, PAYABLE_MINOR)):
            audited.execute(
                "ledger",
                "INSERT INTO entries (saga_id, kind, account, debit_minor, credit_minor, currency, posted_at)"
                " VALUES (%s, %s, %s, %s, %s, 'USD', now())",
                *(saga_id, kind, account, debit, credit),
            )


def _reply(audited: AuditedStack, saga_id: str, step: str) -> None:
    audited.execute(
        "saga_tracker",
        "INSERT INTO timeline (saga_id, message_id, recorded_at, occurred_at, kind, type, service, step, late)"
        " VALUES (%s, %s, now(), now(), 'reply', 'Undone', 'a service', %s, false)",
        *(saga_id, new_id(), step),
    )


def _at_providers(audited: AuditedStack) -> None:
    """Let the providers do for both orders what their rows state, and store the providers' ids in the rows."""
    gateway, courier = audited.origin.gateway_url, audited.origin.courier_url
    for saga_id, payment, shipment in (
        (audited.confirmed, "CAPTURED", "BOOKED"),
        (audited.compensated, "REFUNDED", "CANCELLED"),
    ):
        capture = audited.post(gateway, f"/v1/authorizations/{audited.authorize(saga_id)}/capture", {})["capture_id"]
        tracking_number = audited.book(saga_id)
        if payment == "REFUNDED":
            audited.post(gateway, f"/v1/captures/{capture}/refund", {})
            audited.post(courier, f"/v1/shipments/{tracking_number}/cancel", {})
        audited.execute(
            "payment",
            "INSERT INTO payments (saga_id, state, currency, amount_minor) VALUES (%s, %s, 'USD', %s)",
            *(saga_id, payment, PAYABLE_MINOR),
        )
        audited.execute(
            "shipping",
            "INSERT INTO shipments (saga_id, state, tracking_number) VALUES (%s, %s, %s)",
            *(saga_id, shipment, tracking_number),
        )


PARKED_A_WEEK_AGO = """
    UPDATE sagas SET state = 'NEEDS_REVIEW', reason = 'odd', updated_at = now() - interval '169 hours'
    WHERE saga_id = %s
"""
IN_ANOTHER_CURRENCY = """
    WITH other AS (
        INSERT INTO accounts (path, chart, code, kind, currency, lanes, opened_at)
        SELECT 'shop:' || code || ':KWD', chart, code, kind, 'KWD', 1, opened_at FROM accounts RETURNING id, code
    )
    UPDATE transfer_entries SET account_id = other.id
    FROM transfers, accounts, other
    WHERE transfer_id = transfers.id AND accounts.id = account_id AND other.code = accounts.code AND saga_id = %s
"""
DELETE_ENTRIES = """
    DELETE FROM transfer_entries USING transfers, accounts
    WHERE transfer_id = transfers.id AND accounts.id = account_id AND saga_id = %s
"""
DAMAGE = [
    ("orders-have-sagas", "saga_tracker", "DELETE FROM sagas WHERE saga_id = %s", "confirmed"),
    ("orders-have-sagas", "checkout", "UPDATE orders SET state = 'PENDING' WHERE order_id = %s", "confirmed"),
    ("orders-have-sagas", "checkout", "DELETE FROM orders WHERE order_id = %s", "compensated"),
    ("sagas-end", "saga_tracker", "UPDATE sagas SET state = 'PENDING' WHERE saga_id = %s", "confirmed"),
    ("sagas-end", "saga_tracker", "UPDATE sagas SET state = 'NEEDS_REVIEW' WHERE saga_id = %s", "confirmed"),
    ("confirmed-ran", "ledger", "DELETE FROM effects WHERE saga_id = %s", "confirmed"),
    ("cancelled-undone", "loyalty", "UPDATE effects SET state = 'DONE' WHERE saga_id = %s", "compensated"),
    ("effects-settled", "shipping", "UPDATE effects SET state = 'STARTED' WHERE saga_id = %s", "compensated"),
    ("parked-in-time", "saga_tracker", PARKED_A_WEEK_AGO, "confirmed"),
    (
        "priced-right",
        "checkout",
        "UPDATE orders SET total_minor = 901, payable_minor = 801 WHERE order_id = %s",
        "confirmed",
    ),
    ("priced-right", "checkout", "UPDATE orders SET rate_points = 1, rate_minor = 2 WHERE order_id = %s", "confirmed"),
    ("charged-the-price", "payment", "UPDATE payments SET amount_minor = 8 WHERE saga_id = %s", "compensated"),
    ("charged-the-price", "payment", "UPDATE payments SET currency = 'KWD' WHERE saga_id = %s", "confirmed"),
    ("charged-the-price", "checkout", "UPDATE orders SET currency = 'KWD' WHERE order_id = %s", "confirmed"),
    ("charged-the-price", "ledger", IN_ANOTHER_CURRENCY, "compensated"),
    (
        "parcels-are-the-orders",
        "checkout",
        "UPDATE orders SET destination = 'elsewhere' WHERE order_id = %s",
        "confirmed",
    ),
    ("held-is-done", "inventory", "UPDATE effects SET state = 'UNDONE' WHERE saga_id = %s", "confirmed"),
    ("payments-agree", "payment", "UPDATE payments SET state = 'VOIDED' WHERE saga_id = %s", "confirmed"),
    ("reserved-for-orders", "inventory", "UPDATE reservations SET quantities = '{1}' WHERE saga_id = %s", "confirmed"),
    (
        "held-for-a-saga",
        "inventory",
        "UPDATE reservations SET state = 'RESERVED' WHERE saga_id = %s",
        "compensated",
    ),
    ("burned-for-orders", "loyalty", "UPDATE burns SET points = 99 WHERE saga_id = %s", "confirmed"),
    ("shipments-agree", "shipping", "UPDATE shipments SET state = 'CANCELLED' WHERE saga_id = %s", "confirmed"),
    ("ledger-balances", "ledger", f"{DELETE_ENTRIES} AND code = 'sales'", "confirmed"),
    ("ledger-is-the-gateways", "ledger", DELETE_ENTRIES, "confirmed"),
]


def test_consistent_orders_are_green(audited: AuditedStack) -> None:
    verdict = audited.verdict()

    assert verdict.is_green, verdict.to_json()
    assert verdict.states == {"CANCELLED_COMPENSATED": 1, "CONFIRMED": 1}
    checked = {finding.invariant.name: finding.checked for finding in verdict.findings}
    assert checked["effects-settled"] == 2 * len(newest("order").steps)
    assert checked["compensated-once"] == sum(1 for step in newest("order").steps if step.compensation)


@pytest.mark.parametrize(("invariant", "service", "damage", "order"), DAMAGE)
def test_damage_in_a_database_is_found(
    audited: AuditedStack, invariant: str, service: str, damage: str, order: str
) -> None:
    saga_id = getattr(audited, order)
    audited.damage(service, damage, saga_id)

    assert (invariant, saga_id) in audited.broken()


def test_stock_that_was_never_received_is_found(audited: AuditedStack) -> None:
    audited.execute("inventory", "UPDATE stock SET on_hand = 9 WHERE sku = 'tea'")

    assert audited.broken() == {("stock-conserved", "tea")}


def test_points_that_were_never_granted_are_found(audited: AuditedStack) -> None:
    audited.execute("loyalty", "UPDATE accounts SET balance = 201 WHERE customer_id = 'ann'")

    assert audited.broken() == {("points-conserved", "ann")}


def test_stock_that_was_overwritten_by_hand_is_on_record(audited: AuditedStack) -> None:
    """The trigger makes a movement of it, as of every change by a release that has no movements."""
    audited.execute("inventory", "UPDATE stock SET received = 18, on_hand = 16 WHERE sku = 'tea'")

    moved = audited.connections["inventory"].execute("SELECT kind, units FROM stock_movements ORDER BY made_at")
    assert moved.fetchall() == [("OPENED", 10), ("CORRECTED", 8)]
    assert audited.broken() == set()


@pytest.mark.parametrize(
    ("service", "invariant", "item"), [("inventory", "stock-conserved", "tea"), ("loyalty", "points-conserved", "ann")]
)
def test_a_movement_that_is_gone_is_found(audited: AuditedStack, service: str, invariant: str, item: str) -> None:
    table = {"inventory": "stock_movements", "loyalty": "account_movements"}[service]
    audited.execute(service, f"DELETE FROM {table}")  # noqa: S608 - our own table names

    assert audited.broken() == {(invariant, item)}


def test_another_amount_or_currency_at_the_gateway_is_found_also_of_a_parked_order(audited: AuditedStack) -> None:
    _park(audited)
    for amount_minor, currency in ((PAYABLE_MINOR + 1, "USD"), (PAYABLE_MINOR, "KWD")):
        audited.authorize(audited.confirmed, amount_minor, currency)

    charged = next(each for each in audited.verdict().findings if each.invariant.name == "charged-the-price")
    assert charged.total == 2


@pytest.mark.parametrize("odd", [{"quantity": 1}, {"street": "Elsewhere"}])
def test_a_parcel_with_other_contents_or_to_another_address_is_found(
    audited: AuditedStack, odd: dict[str, Any]
) -> None:
    audited.book(audited.confirmed, **odd)

    assert ("parcels-are-the-orders", audited.confirmed) in audited.broken()


def test_what_a_parked_order_holds_is_compared_with_its_steps(audited: AuditedStack) -> None:
    _park(audited)
    assert audited.broken() == set()

    audited.execute("loyalty", "UPDATE effects SET state = 'UNDONE' WHERE saga_id = %s", audited.confirmed)
    audited.execute("payment", "UPDATE payments SET state = 'VOIDED' WHERE saga_id = %s", audited.confirmed)

    assert {("held-is-done", audited.confirmed), ("payments-agree", audited.confirmed)} <= audited.broken()


def _park(audited: AuditedStack) -> None:
    """Park the confirmed order after its last step."""
    parked = "UPDATE sagas SET state = 'NEEDS_REVIEW', reason = 'odd', updated_at = now() WHERE saga_id = %s"
    audited.execute("saga_tracker", parked, audited.confirmed)
    audited.execute("checkout", "UPDATE orders SET state = 'PENDING' WHERE order_id = %s", audited.confirmed)


def test_a_second_authorization_is_found_at_the_gateway(audited: AuditedStack) -> None:
    audited.authorize(audited.confirmed)

    assert {("captured-once", audited.confirmed), ("charged-once", audited.confirmed)} <= audited.broken()


def test_an_open_authorization_of_a_cancelled_order_is_found_at_the_gateway(audited: AuditedStack) -> None:
    audited.authorize(audited.compensated)

    assert ("nothing-kept", audited.compensated) in audited.broken()


def test_a_second_capture_is_found_at_the_gateway(audited: AuditedStack) -> None:
    authorization = audited.authorize(audited.confirmed)
    audited.post(audited.origin.gateway_url, f"/v1/authorizations/{authorization}/capture", {})

    assert ("ledger-is-the-gateways", audited.confirmed) in audited.broken()


@pytest.mark.parametrize("order", ["confirmed", "compensated"])
def test_a_surplus_shipment_is_found_at_the_courier(audited: AuditedStack, order: str) -> None:
    saga_id = getattr(audited, order)
    audited.book(saga_id)

    assert ("shipped-once", saga_id) in audited.broken()


def test_a_shipment_without_a_saga_is_found_at_the_courier(audited: AuditedStack) -> None:
    audited.book("unknown")

    assert ("providers-know-sagas", "unknown") in audited.broken()


def test_a_provider_inside_of_the_process_is_audited_by_its_own_records(audited: AuditedStack) -> None:
    for service, package in SUBSTITUTES.items():
        engine = sqlalchemy.create_engine(audited.origin.databases[service].replace("://", "+psycopg://"))
        migrations.upgrade(package, engine)
        engine.dispose()
    assert audited.verdict().is_green

    audited.execute(
        "payment",
        "INSERT INTO gateway_records (id, reference, state, amount_minor) VALUES ('second', %s, 'open', %s)",
        *(audited.confirmed, PAYABLE_MINOR),
    )
    audited.execute(
        "shipping", "INSERT INTO courier_records (id, reference, state) VALUES ('second', 'unknown', 'live')"
    )

    audited.execute("payment", "INSERT INTO merchant_charges VALUES ('third', 'stripe', 77, false, 9, 9, 0)")
    audited.execute(
        "mobile-money",
        "INSERT INTO money_entries (provider, short_code, receipt, kind, amount_minor, own_id, at)"
        " VALUES ('daraja', '600100', 'P000000001', 'pay_out', -900, 'unknown', now())",
    )

    expected = {
        ("charged-once", audited.confirmed), ("providers-know-sagas", "unknown"), ("charged-as-booked", "77"),
        ("sacco-payouts-are-the-providers", "P000000001"),
    }  # fmt: skip
    assert expected <= audited.broken()


RETURNED_MINOR, RETURNED_POINTS = PAYABLE_MINOR // 2, POINTS // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedReturn:
    """A completed return of one of the two pieces of the confirmed order, by its id and the providers' numbers."""

    return_id: str
    collection_id: str
    refund_id: str


def _plant_return(audited: AuditedStack) -> PlantedReturn:
    """Let the providers collect and refund a piece, and store what the services would."""
    return_id, order_id = new_id(), audited.confirmed
    lines = [{"sku": "tea", "quantity": 1}]
    body = {"reference": return_id, "collect_from": ADDRESS, "lines": lines}
    collection_id = str(audited.post(audited.origin.courier_url, "/v1/collections", body)["collection_id"])
    until(
        lambda: [row["state"] for row in providers.records(audited.origin.courier_url, "collection")],
        "the parcel has arrived",
        holds=lambda states: states == ["arrived"],
    )
    (capture_id,) = (
        row["id"] for row in providers.records(audited.origin.gateway_url, "capture") if row["reference"] == order_id
    )
    refund = {"amount_minor": RETURNED_MINOR}
    refund_id = str(audited.post(audited.origin.gateway_url, f"/v1/captures/{capture_id}/refund", refund)["refund_id"])
    _plant_rows_of_return(audited, PlantedReturn(return_id=return_id, collection_id=collection_id, refund_id=refund_id))
    return PlantedReturn(return_id=return_id, collection_id=collection_id, refund_id=refund_id)


def _plant_rows_of_return(audited: AuditedStack, planted: PlantedReturn) -> None:
    return_id, order_id = planted.return_id, audited.confirmed
    lines = json.dumps([{"sku": "tea", "quantity": 1, "unit_price_minor": PRICE_MINOR}])
    received = json.dumps([{"sku": "tea", "good": 1, "damaged": 0}])
    audited.execute(
        "saga_tracker",
        "INSERT INTO sagas (saga_id, saga_type, saga_version, subject, state, phase, step, partition, progress,"
        " version, started_at, updated_at)"
        " VALUES (%s, 'return_order', 1, 'ann', 'CONFIRMED', 'ENDED', 'post_ledger', 0, '{}', 1, now(), now())",
        return_id,
    )
    for step in newest("return_order").steps:
        audited.execute(
            step.service,
            "INSERT INTO effects (saga_id, step, state, updated_at) VALUES (%s, %s, 'DONE', now())",
            *(return_id, step.name),
        )
    audited.execute(
        "checkout",
        "INSERT INTO returns (return_id, order_id, customer_id, state, lines, received, currency, refund_minor,"
        " points_minor, points, reason, requested_at, approved_at, decided_at)"
        " VALUES (%s, %s, 'ann', 'COMPLETED', %s, %s, 'USD', %s, %s, %s, '', now(), now(), now())",
        *(return_id, order_id, lines, received, RETURNED_MINOR, PRICE_MINOR - RETURNED_MINOR, RETURNED_POINTS),
    )
    audited.execute(
        "shipping",
        "INSERT INTO collections (saga_id, step, order_id, state, collection_id, received, refund_minor)"
        " VALUES (%s, 'collect_parcel', %s, 'ARRIVED', %s, %s, %s)",
        *(return_id, order_id, planted.collection_id, received, RETURNED_MINOR),
    )
    audited.execute(
        "inventory",
        "INSERT INTO restocks (saga_id, step, sku, units) VALUES (%s, 'restock_inventory', 'tea', 1)",
        return_id,
    )
    audited.execute("inventory", "UPDATE stock SET on_hand = on_hand + 1 WHERE sku = 'tea'")
    audited.execute(
        "payment",
        "INSERT INTO refunds (saga_id, step, order_id, amount_minor, currency, refund_id)"
        " VALUES (%s, 'refund_payment', %s, %s, 'USD', %s)",
        *(return_id, order_id, RETURNED_MINOR, planted.refund_id),
    )
    audited.execute(
        "loyalty",
        "INSERT INTO credits (saga_id, step, order_id, customer_id, points)"
        " VALUES (%s, 'restore_loyalty_points', %s, 'ann', %s)",
        *(return_id, order_id, RETURNED_POINTS),
    )
    audited.execute("loyalty", "UPDATE accounts SET balance = balance + %s WHERE customer_id = 'ann'", RETURNED_POINTS)


def test_a_return_is_read_from_every_service_and_provider(audited: AuditedStack) -> None:
    """The old table of the ledger, by which this stack's orders are posted, knows no return: only that is found."""
    planted = _plant_return(audited)

    assert audited.broken() == {
        ("posted-as-returned", planted.return_id),
        ("ledger-is-the-gateways", audited.confirmed),
    }


@pytest.mark.parametrize(
    ("invariant", "service", "damage"),
    [
        ("returns-have-sagas", "checkout", "UPDATE returns SET state = 'ARRIVED' WHERE return_id = %s"),
        ("returns-priced-right", "checkout", "UPDATE returns SET refund_minor = 7 WHERE return_id = %s"),
        ("refunded-as-returned", "payment", "UPDATE refunds SET refund_id = 'another' WHERE saga_id = %s"),
        ("credited-as-returned", "loyalty", "UPDATE credits SET points = 7 WHERE saga_id = %s"),
        ("restocked-as-arrived", "inventory", "UPDATE restocks SET units = 2 WHERE saga_id = %s"),
        ("parcels-are-the-returns", "shipping", "UPDATE collections SET received = '[]' WHERE saga_id = %s"),
    ],
)
def test_damage_to_a_return_is_found(audited: AuditedStack, invariant: str, service: str, damage: str) -> None:
    planted = _plant_return(audited)
    audited.damage(service, damage, planted.return_id)

    assert (invariant, planted.return_id) in audited.broken()


def test_a_step_that_was_compensated_twice_is_found(audited: AuditedStack) -> None:
    _reply(audited, audited.compensated, "reserve_inventory")

    assert audited.broken() == {("compensated-once", audited.compensated)}


def test_an_unpublished_message_is_found(audited: AuditedStack) -> None:
    audited.execute(
        "payment",
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, headers)"
        " VALUES ('stuck', 'payment.events', %s, 'PaymentCaptured', '', '[]')",
        audited.confirmed,
    )

    assert audited.broken() == {("outboxes-drained", audited.confirmed)}
    assert audited.verdict().moving == {"messages in the outbox of payment": 1}


@pytest.mark.parametrize("due_at", [datetime(2026, 1, 1, tzinfo=UTC), None])
def test_a_deferred_message_is_found(audited: AuditedStack, due_at: datetime | None) -> None:
    audited.execute(
        "shipping",
        "INSERT INTO deferred (message_id, handler, saga_id, topic, partition, headers, payload, attempt, due_at,"
        " reason, created_at)"
        " VALUES ('waits', 'book_shipment', %s, 'loyalty.events', 0, '[]', '', 1, %s, '', now())",
        *(audited.confirmed, due_at),
    )

    assert audited.broken() == {("deferred-drained", audited.confirmed)}


def test_dead_letters_are_read_to_their_end(infrastructure: Stack, audited: AuditedStack) -> None:
    saga_id = new_id()
    producer = Producer(infrastructure.kafka().options())
    producer.produce("book_shipment.dlq", key=saga_id, value=b"whatever")
    assert producer.flush(30.0) == 0

    found = [(topic, key) for topic, _, _, key in sources.dead_letters(infrastructure.kafka(AUDIT))]

    assert found.count(("book_shipment.dlq", saga_id)) == 1


def test_a_database_that_cannot_be_read_is_named(audited: AuditedStack) -> None:
    nowhere = {**audited.origin.databases, "ledger": "postgresql://audit@127.0.0.1:1/ledger"}
    origin = Sources(
        databases=nowhere, gateway_url=audited.origin.gateway_url, courier_url=audited.origin.courier_url, kafka=None
    )

    with pytest.raises(providers.Unreadable, match="The database of ledger cannot be read"):
        report.run(origin, timeout_s=0.0)


def test_records_that_cannot_be_read_are_named(audited: AuditedStack) -> None:
    origin = Sources(
        databases=audited.origin.databases,
        gateway_url="http://127.0.0.1:1",
        courier_url=audited.origin.courier_url,
        kafka=None,
    )

    with pytest.raises(providers.Unreadable, match=r"The records at http://127\.0\.0\.1:1 cannot be read"):
        report.run(origin, timeout_s=0.0)
