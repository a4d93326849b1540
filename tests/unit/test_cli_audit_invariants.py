"""Every invariant of the audit, on a small consistent data set and on each kind of damage to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from baraza.audit import payments, scratch, sources
from baraza.audit.console import show
from baraza.audit.invariant import Invariant
from baraza.audit.invariants import INVARIANTS
from baraza.audit.report import Report, judge
from saga_tracker.definitions import DEFINITIONS
from support.payment_rows import PAID, PAYMENT_DAMAGE
from support.returned_rows import (
    CONTRADICTED,
    PARKED_RETURN,
    REFUND_UNKNOWN,
    RETURN_DAMAGE,
    RETURNED,
    SETTLED,
    SHORT,
    SURPLUS,
)
from support.sacco_rows import SACCO, SACCO_DAMAGE

CONSISTENT = """
    INSERT INTO sagas VALUES ('confirmed', 'order', 1, 'CONFIRMED', NULL, 400, 0),
        ('refused', 'order', 1, 'CANCELLED_COMPENSATED', NULL, 400, 0),
        ('refunded', 'order', 1, 'CANCELLED_COMPENSATED', NULL, 400, 0),
        ('parked', 'order', 1, 'NEEDS_REVIEW', 'the courier is odd', 6, 0);
    INSERT INTO orders VALUES
        ('confirmed', 'CONFIRMED', 'ann', 900, 100, 'a-lot', 'USD', 1000, 1000, 1, 1, 'north'),
        ('refused', 'CANCELLED_COMPENSATED', 'ann', 500, 0, 'a-lot', 'JPY', 500, 500, 1, 1, NULL),
        ('refunded', 'CANCELLED_COMPENSATED', 'ben', 700, 50, 'a-lot', 'JPY', 775, 775, 2, 3, 'north'),
        ('parked', 'PENDING', 'ben', 300, 0, 'a-lot', 'USD', 300, 300, 1, 1, 'north');
    INSERT INTO effects SELECT 'confirmed', step, service, 'DONE' FROM steps
        WHERE saga_type = 'order' AND saga_version = 1;
    INSERT INTO effects SELECT 'refunded', step, service, 'UNDONE' FROM steps
        WHERE saga_type = 'order' AND saga_version = 1;
    INSERT INTO effects VALUES ('refused', 'authorize_payment', 'payment', 'REJECTED'),
        ('parked', 'authorize_payment', 'payment', 'DONE'), ('parked', 'reserve_inventory', 'inventory', 'DONE'),
        ('parked', 'burn_loyalty_points', 'loyalty', 'DONE'), ('parked', 'book_shipment', 'shipping', 'STARTED');
    INSERT INTO strays VALUES ('refused', 'authorize_payment:stray:1', 'payment', 'DONE');
    INSERT INTO replies SELECT 'refunded', step FROM steps
        WHERE saga_type = 'order' AND saga_version = 1 AND undone_by IS NULL;
    INSERT INTO payments VALUES ('confirmed', 'authorize_payment', 'CAPTURED', 900, 'USD'),
        ('refused', 'authorize_payment', 'DECLINED', 500, 'JPY'),
        ('refunded', 'authorize_payment', 'REFUNDED', 700, 'JPY'),
        ('parked', 'authorize_payment', 'AUTHORIZED', 300, 'USD');
    INSERT INTO authorizations VALUES ('auth-1', 'confirmed', 'captured', 900, 'USD'),
        ('auth-2', 'refunded', 'refunded', 700, 'JPY'), ('auth-3', 'parked', 'open', 300, NULL);
    INSERT INTO captures VALUES ('cap-1', 'confirmed', 900, 'USD'), ('cap-2', 'refunded', 700, 'JPY');
    INSERT INTO refunds VALUES ('ref-2', 'refunded', 700, 'JPY');
    INSERT INTO reservations VALUES ('confirmed', 'reserve_inventory', 'RESERVED', 'a-lot'),
        ('refunded', 'reserve_inventory', 'RELEASED', 'a-lot'),
        ('parked', 'reserve_inventory', 'RESERVED', 'a-lot');
    INSERT INTO stock VALUES ('tea', 10, 4, 6, 10), ('milk', 5, 5, 0, 5);
    INSERT INTO burns VALUES ('confirmed', 'burn_loyalty_points', 'ann', 100, 'BURNED'),
        ('refunded', 'burn_loyalty_points', 'ben', 50, 'RESTORED'),
        ('parked', 'burn_loyalty_points', 'ben', 0, 'BURNED');
    INSERT INTO accounts VALUES ('ann', 150, 50, 100, 150), ('ben', 80, 80, 0, 80);
    INSERT INTO shipments VALUES ('confirmed', 'book_shipment', 'BOOKED', 'box-1'),
        ('refunded', 'book_shipment', 'CANCELLED', 'box-2');
    INSERT INTO parcels VALUES ('box-1', 'confirmed', 'live', 'a-lot', 'north'),
        ('box-2', 'refunded', 'cancelled', NULL, NULL);
    INSERT INTO ledger VALUES ('confirmed', 'post_ledger', 1000, 1000, 900, 900, 100, 1, 0, 'USD', 1),
        ('refunded', 'post_ledger', 1550, 1550, 0, 700, 75, 1, 1, 'JPY', 1),
        ('posted', 'post_manual_posting', 60, 60, 60, 60, 0, 1, 0, 'USD', 1);
    INSERT INTO sagas VALUES ('posted', 'manual_posting', 1, 'CONFIRMED', NULL, 1, 0),
        ('not posted', 'manual_posting', 1, 'CANCELLED_COMPENSATED', NULL, 1, 0);
    INSERT INTO effects SELECT 'posted', step, service, 'DONE' FROM steps WHERE saga_type = 'manual_posting';
    INSERT INTO effects VALUES ('not posted', 'hold_manual_posting', 'ledger', 'REJECTED');
    INSERT INTO manual_postings VALUES ('posted', 'POSTED', 'fin-1', 'fin-2'),
        ('not posted', 'FAILED', 'fin-1', 'fin-2'), ('asked', 'PROPOSED', 'fin-1', NULL),
        ('unwanted', 'REFUSED', 'fin-1', 'fin-1');
    INSERT INTO manual_transfers VALUES ('posted', 1);
    INSERT INTO deferred VALUES ('shipping', 'message-1', 'parked', 1);
    INSERT INTO deferred VALUES ('payment', 'message-4', 'confirmed', 1);
    INSERT INTO consumed VALUES ('book_shipment.dlq', 0, 1), ('payment.dlq', 0, 2);
    INSERT INTO dead_letters VALUES ('book_shipment.dlq', 0, 0, 'parked'), ('payment.dlq', 0, 0, 'confirmed'),
        ('payment.dlq', 0, 1, 'nobody');
    INSERT INTO letters VALUES ('book_shipment.dlq', 0, 0, 'parked', 'shipping', 0, NULL),
        ('payment.dlq', 0, 0, 'confirmed', 'payment', 0, 'CLOSED'),
        ('payment.dlq', 0, 1, 'nobody', 'payment', 0, 'CLOSED');
    INSERT INTO resolutions VALUES ('refunded', 'ops-1', 'ops-2');
"""

DAMAGE = [
    ("orders-have-sagas", "DELETE FROM orders WHERE order_id = 'refused'"),
    ("orders-have-sagas", "UPDATE orders SET order_id = 'lost', state = 'PENDING' WHERE order_id = 'refused'"),
    ("orders-have-sagas", "UPDATE orders SET state = 'PENDING' WHERE order_id = 'confirmed'"),
    ("orders-have-sagas", "UPDATE orders SET state = 'CONFIRMED' WHERE order_id = 'parked'"),
    ("sagas-end", "UPDATE sagas SET state = 'PENDING' WHERE saga_id = 'refused'"),
    ("sagas-end", "UPDATE sagas SET reason = NULL WHERE saga_id = 'parked'"),
    ("sagas-end", "UPDATE sagas SET saga_version = 9 WHERE saga_id = 'refused'"),
    ("confirmed-ran", "DELETE FROM effects WHERE saga_id = 'confirmed' AND step = 'post_ledger'"),
    ("confirmed-ran", "UPDATE effects SET state = 'FENCED' WHERE saga_id = 'confirmed' AND step = 'post_ledger'"),
    ("cancelled-undone", "UPDATE effects SET state = 'DONE' WHERE saga_id = 'refunded' AND step = 'book_shipment'"),
    ("effects-settled", "UPDATE effects SET state = 'STARTED' WHERE saga_id = 'refused'"),
    ("strays-undone", "UPDATE strays SET state = 'SENT'"),
    ("strays-undone", "UPDATE strays SET state = 'REJECTED'"),
    ("effects-settled", "INSERT INTO effects VALUES ('confirmed', 'paint_it_blue', 'payment', 'DONE')"),
    ("effects-settled", "INSERT INTO effects VALUES ('nobody', 'book_shipment', 'shipping', 'DONE')"),
    ("compensated-once", "INSERT INTO replies VALUES ('refunded', 'reserve_inventory')"),
    ("compensated-once", "INSERT INTO replies VALUES ('confirmed', 'reserve_inventory')"),
    ("compensated-once", "INSERT INTO replies VALUES ('refused', 'reserve_inventory')"),
    ("captured-once", "UPDATE captures SET amount_minor = 899 WHERE id = 'cap-1'"),
    ("captured-once", "DELETE FROM captures WHERE id = 'cap-1'"),
    ("captured-once", "INSERT INTO captures VALUES ('cap-9', 'confirmed', 900, 'USD')"),
    ("captured-once", "INSERT INTO authorizations VALUES ('auth-9', 'confirmed', 'open', 900, 'USD')"),
    ("captured-once", "INSERT INTO refunds VALUES ('ref-9', 'confirmed', 900, 'USD')"),
    ("nothing-kept", "DELETE FROM refunds WHERE id = 'ref-2'"),
    ("nothing-kept", "INSERT INTO authorizations VALUES ('auth-9', 'refused', 'open', 500, 'JPY')"),
    ("charged-once", "INSERT INTO authorizations VALUES ('auth-9', 'refunded', 'voided', 700, 'JPY')"),
    ("providers-know-sagas", "INSERT INTO authorizations VALUES ('auth-9', 'nobody', 'open', 700, 'USD')"),
    ("payments-agree", "UPDATE payments SET state = 'VOIDED' WHERE saga_id = 'confirmed'"),
    ("payments-agree", "DELETE FROM payments WHERE saga_id = 'refunded'"),
    ("payments-agree", "INSERT INTO payments VALUES ('ghost', 'authorize_payment', 'CAPTURED', 900, 'USD')"),
    ("stock-conserved", "UPDATE stock SET on_hand = 5 WHERE sku = 'tea'"),
    ("stock-conserved", "UPDATE stock SET reserved = 1 WHERE sku = 'milk'"),
    ("stock-conserved", "INSERT INTO stock VALUES ('salt', NULL, NULL, 3, 0)"),
    ("stock-conserved", "UPDATE stock SET on_hand = -1, reserved = 11 WHERE sku = 'tea'"),
    ("reserved-for-orders", "DELETE FROM reservations WHERE saga_id = 'confirmed'"),
    ("reserved-for-orders", "UPDATE reservations SET lines = 'another' WHERE saga_id = 'confirmed'"),
    ("held-for-a-saga", "UPDATE reservations SET state = 'RESERVED' WHERE saga_id = 'refunded'"),
    ("held-for-a-saga", "INSERT INTO reservations VALUES ('nobody', 'reserve_inventory', 'RESERVED', 'a-lot')"),
    ("points-conserved", "UPDATE accounts SET balance = 49 WHERE customer_id = 'ann'"),
    ("points-conserved", "INSERT INTO accounts VALUES ('cid', NULL, NULL, 7, 0)"),
    ("burned-for-orders", "UPDATE burns SET points = 99 WHERE saga_id = 'confirmed'"),
    ("burned-for-orders", "UPDATE burns SET customer_id = 'ben' WHERE saga_id = 'confirmed'"),
    ("held-for-a-saga", "UPDATE burns SET state = 'BURNED' WHERE saga_id = 'refunded'"),
    ("shipped-once", "UPDATE parcels SET state = 'cancelled' WHERE tracking_number = 'box-1'"),
    ("shipped-once", "UPDATE parcels SET state = 'live' WHERE tracking_number = 'box-2'"),
    ("shipped-once", "INSERT INTO parcels VALUES ('box-9', 'confirmed', 'live', NULL, NULL)"),
    ("providers-know-sagas", "INSERT INTO parcels VALUES ('box-9', 'nobody', 'live', NULL, NULL)"),
    ("shipments-agree", "UPDATE shipments SET tracking_number = 'box-7' WHERE saga_id = 'confirmed'"),
    ("shipments-agree", "DELETE FROM shipments WHERE saga_id = 'refunded'"),
    ("shipments-agree", "INSERT INTO shipments VALUES ('refused', 'book_shipment', 'BOOKED', 'box-7')"),
    ("ledger-balances", "UPDATE ledger SET credit_minor = 800 WHERE saga_id = 'confirmed'"),
    ("ledger-balances", "UPDATE ledger SET posts = 2 WHERE saga_id = 'confirmed'"),
    ("ledger-balances", "UPDATE ledger SET reversals = 2 WHERE saga_id = 'refunded'"),
    ("ledger-balances", "UPDATE ledger SET receivable_minor = 1 WHERE saga_id = 'refunded'"),
    ("ledger-balances", "UPDATE ledger SET points_minor = 99 WHERE saga_id = 'confirmed'"),
    ("posted-by-two", "UPDATE manual_postings SET decided_by = 'fin-1' WHERE saga_id = 'posted'"),
    ("posted-by-two", "UPDATE manual_postings SET decided_by = 'Fin-1' WHERE saga_id = 'posted'"),
    ("posted-by-two", "UPDATE manual_postings SET decided_by = NULL WHERE saga_id = 'not posted'"),
    ("posted-by-two", "UPDATE manual_postings SET state = 'FAILED' WHERE saga_id = 'posted'"),
    ("posted-by-two", "UPDATE manual_postings SET state = 'APPROVED' WHERE saga_id = 'posted'"),
    ("posted-by-two", "UPDATE manual_postings SET state = 'APPROVED' WHERE saga_id = 'unwanted'"),
    ("posted-by-two", "DELETE FROM manual_postings WHERE saga_id = 'posted'"),
    ("posted-by-two", "DELETE FROM manual_transfers WHERE saga_id = 'posted'"),
    ("posted-by-two", "INSERT INTO manual_transfers VALUES ('not posted', 1)"),
    ("posted-by-two", "INSERT INTO manual_transfers VALUES ('asked', 1)"),
    ("ledger-balances", "UPDATE ledger SET posts = 0 WHERE saga_id = 'refunded'"),
    ("ledger-is-the-gateways", "UPDATE ledger SET receivable_minor = 901 WHERE saga_id = 'confirmed'"),
    ("ledger-is-the-gateways", "DELETE FROM ledger WHERE saga_id = 'confirmed'"),
    ("ledger-is-the-gateways", "UPDATE ledger SET receivable_minor = 700, reversals = 0 WHERE saga_id = 'refunded'"),
    *(
        (name, f"INSERT INTO ledger_differences VALUES ('{name}', 'it', 'differs')")  # noqa: S608 - our own name
        for name in (
            "transfers-balanced",
            "balances-are-entries",
            "running-totals",
            "within-limits",
            "holds-resolved-once",
            "booked-by-steps",
            "accounts-are-the-charts",
            "payments-as-moved",
            "booked-as-proposed",
        )
    ),
    ("stock-conserved", "UPDATE stock SET received = 18, on_hand = 12 WHERE sku = 'tea'"),
    ("stock-conserved", "INSERT INTO stock VALUES ('salt', NULL, NULL, 0, 3)"),
    ("points-conserved", "UPDATE accounts SET granted = 160, balance = 60 WHERE customer_id = 'ann'"),
    ("priced-right", "UPDATE orders SET total_minor = 1001, payable_minor = 901 WHERE order_id = 'confirmed'"),
    ("priced-right", "UPDATE orders SET lines_minor = 999 WHERE order_id = 'parked'"),
    ("priced-right", "UPDATE orders SET payable_minor = 899 WHERE order_id = 'confirmed'"),
    ("priced-right", "UPDATE orders SET rate_points = 1, rate_minor = 1 WHERE order_id = 'refunded'"),
    ("priced-right", "UPDATE orders SET points_to_burn = 51 WHERE order_id = 'refunded'"),
    ("priced-right", "UPDATE orders SET points_to_burn = 300, payable_minor = 0 WHERE order_id = 'parked'"),
    ("charged-the-price", "UPDATE payments SET amount_minor = 301 WHERE saga_id = 'parked'"),
    ("charged-the-price", "UPDATE payments SET amount_minor = 5 WHERE saga_id = 'refused'"),
    ("charged-the-price", "UPDATE payments SET currency = 'USD' WHERE saga_id = 'refused'"),
    ("charged-the-price", "UPDATE authorizations SET amount_minor = 3000 WHERE id = 'auth-3'"),
    ("charged-the-price", "UPDATE authorizations SET currency = 'KWD' WHERE id = 'auth-3'"),
    ("charged-the-price", "UPDATE captures SET currency = 'KWD' WHERE id = 'cap-1'"),
    ("charged-the-price", "INSERT INTO captures VALUES ('cap-3', 'parked', 299, 'USD')"),
    ("charged-the-price", "UPDATE refunds SET currency = 'USD' WHERE id = 'ref-2'"),
    ("charged-the-price", "UPDATE refunds SET amount_minor = 70 WHERE id = 'ref-2'"),
    ("charged-the-price", "UPDATE ledger SET currency = 'USD' WHERE saga_id = 'refunded'"),
    ("charged-the-price", "UPDATE ledger SET currencies = 2 WHERE saga_id = 'confirmed'"),
    ("charged-the-price", "UPDATE ledger SET posted_minor = 70 WHERE saga_id = 'refunded'"),
    ("held-is-done", "DELETE FROM reservations WHERE saga_id = 'parked'"),
    ("held-is-done", "UPDATE reservations SET lines = 'another' WHERE saga_id = 'parked'"),
    ("held-is-done", "UPDATE effects SET state = 'UNDONE' WHERE saga_id = 'parked' AND service = 'inventory'"),
    ("held-is-done", "UPDATE burns SET points = 1 WHERE saga_id = 'parked'"),
    ("held-is-done", "UPDATE burns SET state = 'RESTORED' WHERE saga_id = 'parked'"),
    ("held-is-done", "INSERT INTO shipments VALUES ('parked', 'book_shipment', 'BOOKED', 'box-9')"),
    ("held-is-done", "INSERT INTO ledger VALUES ('parked', 'post_ledger', 300, 300, 300, 300, 0, 1, 0, 'USD', 1)"),
    ("held-is-done", "DELETE FROM ledger WHERE saga_id = 'posted'"),
    ("payments-agree", "UPDATE payments SET state = 'VOIDED' WHERE saga_id = 'parked'"),
    ("payments-agree", "DELETE FROM authorizations WHERE saga_id = 'parked'"),
    (
        "shipments-agree",
        "DELETE FROM deferred; DELETE FROM letters; UPDATE effects SET state = 'DONE' WHERE state = 'STARTED';"
        "INSERT INTO parcels VALUES ('box-9', 'parked', 'live', 'a-lot', 'north')",
    ),
    (
        "ledger-is-the-gateways",
        "INSERT INTO ledger VALUES ('parked', 'post_ledger', 300, 300, 300, 300, 0, 1, 0, 'USD', 1)",
    ),
    ("parcels-are-the-orders", "UPDATE parcels SET lines = 'another' WHERE tracking_number = 'box-1'"),
    ("parcels-are-the-orders", "UPDATE parcels SET destination = 'south' WHERE tracking_number = 'box-1'"),
    ("parcels-are-the-orders", "INSERT INTO parcels VALUES ('box-9', 'parked', 'live', 'another', NULL)"),
    ("parked-in-time", "UPDATE sagas SET idle_days = 7 WHERE saga_id = 'parked'"),
    ("outboxes-drained", "INSERT INTO outbox VALUES ('payment', 'message-2', 'confirmed')"),
    ("deferred-drained", "INSERT INTO deferred VALUES ('payment', 'message-3', 'confirmed', 0)"),
    ("deferred-drained", "UPDATE deferred SET is_undated = 0"),
    ("dead-letters-known", "DELETE FROM consumed"),
    ("deferred-drained", "UPDATE letters SET resolution = 'REDRIVEN'"),
    ("dead-letters-known", "INSERT INTO dead_letters VALUES ('payment.dlq', 0, 2, 'confirmed')"),
    ("dead-letters-known", "UPDATE letters SET resolution = NULL, open = 1"),
    ("dead-letters-known", "UPDATE dead_letters SET saga_id = 'nobody'"),
    ("resolved-by-two", "UPDATE resolutions SET proposed_by = 'ops-2'"),
    ("resolved-by-two", "UPDATE resolutions SET proposed_by = NULL"),
]


@pytest.fixture
def data() -> Iterator[sqlite3.Connection]:
    """A confirmed, a refused, a refunded and a parked order, and one with returns, all consistent."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(scratch.SCHEMA)
        connection.executemany("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?)", scratch.steps(DEFINITIONS))
        connection.executescript(CONSISTENT + RETURNED + PAID + SACCO)
        yield connection


def broken(data: sqlite3.Connection) -> set[str]:
    """Return the names of the invariants that do not hold."""
    data.executescript(scratch.VIEWS)
    return {finding.invariant.name for finding in judge(data, INVARIANTS) if finding.total}


def test_a_database_is_read_once_also_where_checkout_owns_a_step() -> None:
    read = [(each.service, each.table, each.only_with) for each in sources.extracts(("checkout", "payment"))]
    assert len(read) == len(set(read))
    assert ("checkout", "effects", None) in read


def test_consistent_data_break_no_invariant(data: sqlite3.Connection) -> None:
    assert broken(data) == set()


@pytest.mark.parametrize("returned", [(SHORT,), (PARKED_RETURN,), (PARKED_RETURN, REFUND_UNKNOWN), (CONTRADICTED,)])
def test_a_return_that_is_short_or_parked_or_contradicted_breaks_no_invariant(
    data: sqlite3.Connection, returned: tuple[str, ...]
) -> None:
    data.executescript("".join(returned))

    assert broken(data) == set()


def test_a_surplus_is_found_until_staff_have_settled_it_and_is_shown_from_then_on(data: sqlite3.Connection) -> None:
    data.executescript(SURPLUS + SETTLED + scratch.VIEWS)
    findings = judge(data, INVARIANTS)
    assert [finding.invariant.name for finding in findings if finding.total] == []
    returned = next(finding for finding in findings if finding.invariant.name == "parcels-are-the-returns")
    assert list(returned.settled) == [
        ("back", "1 pieces of hat came besides; settled by ann: sent back"),
        ("back", "2 pieces of mug came besides; settled by ann: paid"),
        ("kept", "2 pieces of hat came besides; settled by ben: sent back"),
    ]
    written: list[str] = []
    show(Report(findings=findings, moving={}, states={}), written.append)
    assert "    back  1 pieces of hat came besides; settled by ann: sent back" in written
    assert "Audit green" in written[-1]


@pytest.mark.parametrize(
    "unsettled",
    [
        "DELETE FROM settled_surplus",
        "DELETE FROM settled_surplus WHERE saga_id = 'back' AND sku = 'hat'",
        "DELETE FROM settled_surplus WHERE saga_id = 'back' AND sku = 'mug'",
        "DELETE FROM settled_surplus WHERE saga_id = 'kept'",
        "UPDATE settled_surplus SET damaged = 1 WHERE saga_id = 'kept'",
        "UPDATE settled_surplus SET damaged = 3 WHERE sku = 'mug'",
        "UPDATE settled_surplus SET good = 2 WHERE saga_id = 'back' AND sku = 'hat'",
        "INSERT INTO settled_surplus VALUES ('back', 'cup', 1, 0, 'ann', 'kept')",
    ],
)
def test_what_is_settled_must_be_what_came(data: sqlite3.Connection, unsettled: str) -> None:
    data.executescript(SURPLUS + SETTLED + unsettled)

    assert "parcels-are-the-returns" in broken(data)


def test_a_parked_return_that_refunds_another_amount_is_found(data: sqlite3.Connection) -> None:
    data.executescript(PARKED_RETURN)
    data.execute("UPDATE refunds SET amount_minor = 179 WHERE id = 'ref-l'")

    assert {"captured-once", "refunded-as-returned", "ledger-is-the-gateways"} <= broken(data)


@pytest.mark.parametrize(("name", "damage"), [*DAMAGE, *RETURN_DAMAGE, *PAYMENT_DAMAGE])
def test_each_kind_of_damage_is_found(data: sqlite3.Connection, name: str, damage: str) -> None:
    data.executescript(damage)

    assert name in broken(data)


def test_a_parked_order_may_differ_only_where_a_service_does_not_know_the_outcome(data: sqlite3.Connection) -> None:
    """Its courier's answer is open, so that there may be a parcel; nothing of its payment is."""
    data.executescript("INSERT INTO parcels VALUES ('box-9', 'parked', 'live', 'a-lot', 'north')")

    assert broken(data) == set()


ANOTHER_SAGA = """
    INSERT INTO steps VALUES ('return', 1, 'restock_inventory', 'inventory', NULL, NULL),
        ('return', 1, 'charge_deposit', 'payment', NULL, NULL), ('return', 1, 'charge_fee', 'payment', NULL, NULL),
        ('return', 1, 'post_return', 'ledger', NULL, 'entries'), ('return', 1, 'post_fee', 'ledger', NULL, 'entries');
    INSERT INTO sagas VALUES ('returned', 'return', 1, 'CONFIRMED', NULL, 0, 0);
    INSERT INTO effects SELECT 'returned', step, service, 'DONE' FROM steps WHERE saga_type = 'return';
    INSERT INTO payments VALUES ('returned', 'charge_deposit', 'CAPTURED', 20, 'USD'),
        ('returned', 'charge_fee', 'CAPTURED', 5, 'USD');
    INSERT INTO authorizations VALUES ('auth-7', 'returned', 'captured', 20, 'USD'),
        ('auth-8', 'returned', 'captured', 5, 'USD');
    INSERT INTO captures VALUES ('cap-7', 'returned', 20, 'USD'), ('cap-8', 'returned', 5, 'USD');
    INSERT INTO ledger VALUES ('returned', 'post_return', 20, 20, 20, 20, 0, 1, 0, 'USD', 1),
        ('returned', 'post_fee', 5, 5, 5, 5, 0, 1, 0, 'USD', 1);
"""
"""It has no order, no parcel and two payments, and its step at inventory holds nothing."""


def test_a_second_saga_over_the_same_services_breaks_no_invariant(data: sqlite3.Connection) -> None:
    data.executescript(ANOTHER_SAGA)

    assert broken(data) == set()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("held-is-done", "DELETE FROM ledger WHERE step = 'post_fee'"),
        ("held-is-done", "UPDATE effects SET state = 'UNDONE' WHERE step = 'post_fee'"),
        ("confirmed-ran", "DELETE FROM effects WHERE step = 'restock_inventory'"),
        ("payments-agree", "UPDATE payments SET state = 'VOIDED' WHERE step = 'charge_fee'"),
        ("payments-agree", "DELETE FROM payments WHERE step = 'charge_fee'"),
        ("ledger-balances", "UPDATE ledger SET debit_minor = 6 WHERE step = 'post_fee'"),
        ("ledger-is-the-gateways", "UPDATE ledger SET receivable_minor = 6 WHERE step = 'post_fee'"),
        ("held-for-a-saga", "INSERT INTO burns VALUES ('gone', 'burn', 'ann', 5, 'BURNED')"),
    ],
)
def test_damage_to_a_second_saga_is_found(data: sqlite3.Connection, name: str, damage: str) -> None:
    data.executescript(ANOTHER_SAGA + damage)

    assert name in broken(data)


WAITING = """
    INSERT INTO steps VALUES ('payout', 1, 'hold', 'inventory', NULL, 'reservation'),
        ('payout', 1, 'send_payout', 'payment', NULL, NULL);
    INSERT INTO sagas VALUES ('sent', 'payout', 1, 'PENDING', NULL, 3, 1),
        ('doubt', 'payout', 1, 'IN_DOUBT', 'asked', 3, 1),
        ('frozen', 'payout', 1, 'INCIDENT', 'it was FAILED, and is SUCCEEDED', 0, 0);
    INSERT INTO effects SELECT saga_id, 'hold', 'inventory', 'DONE' FROM sagas WHERE saga_type = 'payout';
    INSERT INTO reservations SELECT saga_id, 'hold', 'RESERVED', 'a-lot' FROM sagas WHERE saga_type = 'payout';
    INSERT INTO effects VALUES ('sent', 'send_payout', 'payment', 'SENT'),
        ('doubt', 'send_payout', 'payment', 'UNSURE'),
        ('frozen', 'send_payout', 'payment', 'REJECTED');
    INSERT INTO deferred VALUES ('payment', 'fence', 'doubt', 1);
"""


def test_sagas_that_wait_for_an_outcome_or_are_frozen_break_no_invariant(data: sqlite3.Connection) -> None:
    data.executescript(WAITING)

    assert broken(data) == set()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("sagas-end", "UPDATE sagas SET is_awaiting = 0 WHERE saga_id = 'sent'"),
        ("sagas-end", "UPDATE sagas SET is_awaiting = 0 WHERE saga_id = 'doubt'"),
        ("sagas-end", "UPDATE sagas SET reason = NULL WHERE saga_id = 'frozen'"),
        ("effects-settled", "UPDATE effects SET state = 'SENT' WHERE saga_id = 'frozen' AND step = 'send_payout'"),
        ("effects-settled", "UPDATE effects SET state = 'SENT' WHERE saga_id = 'confirmed' AND service = 'ledger'"),
        ("deferred-drained", "UPDATE deferred SET is_undated = 0 WHERE id = 'fence'"),
        ("deferred-drained", "UPDATE sagas SET is_awaiting = 0 WHERE saga_id = 'doubt'"),
        ("held-for-a-saga", "UPDATE sagas SET is_awaiting = 0 WHERE saga_id = 'sent'"),
        ("held-is-done", "DELETE FROM reservations WHERE saga_id = 'doubt'"),
    ],
)
def test_damage_to_a_saga_that_waits_is_found(data: sqlite3.Connection, name: str, damage: str) -> None:
    data.executescript(WAITING + damage)

    assert name in broken(data)


def test_every_invariant_has_damage_that_it_finds() -> None:
    damage = (*DAMAGE, *RETURN_DAMAGE, *PAYMENT_DAMAGE)
    found = {name for name, _ in damage} | {name for _, _, name, _ in SACCO_DAMAGE}
    assert {invariant.name for invariant in INVARIANTS} == found


def test_offenders_are_named_up_to_a_limit_and_counted_beyond_it(data: sqlite3.Connection) -> None:
    data.executemany(
        "INSERT INTO outbox VALUES ('payment', ?, 'confirmed')", [(f"message-{n:03}",) for n in range(100)]
    )
    data.executescript(scratch.VIEWS)

    finding = next(each for each in judge(data, INVARIANTS) if each.invariant.name == "outboxes-drained")

    assert finding.total == 100
    assert finding.offenders[0] == ("confirmed", "message-000 is still in the outbox of payment")
    assert len(finding.offenders) == 20


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda invariant: invariant.name)
def test_no_invariant_reads_a_whole_table_for_each_row_of_another(invariant: Invariant) -> None:
    """With a million sagas such a query would not end."""
    with closing(sqlite3.connect(":memory:")) as read:
        read.executescript(scratch.SCHEMA + scratch.VIEWS)
        plan = [line for *_, line in read.execute(f"EXPLAIN QUERY PLAN {invariant.offenders}")]
    assert not [line for line in plan if line.startswith("SCAN") and line.endswith("LEFT-JOIN")]


@pytest.mark.parametrize(
    ("gateway", "kind", "record", "row"),
    [
        (
            "stripe",
            "payment_intent",
            {"state": "succeeded", "amount": 1200, "amount_received": 1200, "currency": "ISK", "latest_charge": "ch_1"},
            (0, 12, 12, 0),
        ),
        ("stripe", "payment_intent", {"state": "requires_capture", "amount": 5, "currency": "EUR", "latest_charge": 1},
         (1, 5, 0, 0)),
        ("stripe", "payment_intent", {"state": "requires_confirmation", "amount": 5, "currency": "EUR"}, (0, 0, 0, 0)),
        ("stripe", "refund", {"state": "succeeded", "amount": 7, "currency": "JPY"}, (0, 0, 0, 7)),
        ("stripe", "refund", {"state": "failed", "amount": 7, "currency": "JPY"}, (0, 0, 0, 0)),
        ("adyen", "payment", {"state": "authorised", "value": 900, "currency": "CLP"}, (1, 9, 0, 0)),
        ("adyen", "payment", {"state": "captured", "value": 9, "captured": 9, "refunded": 4, "currency": "CVE"},
         (0, 900, 900, 400)),
        ("adyen", "payment", {"state": "refused", "value": 9, "currency": "EUR"}, (0, 0, 0, 0)),
    ],
)  # fmt: skip
def test_a_gateways_amounts_are_compared_in_minor_units_of_iso(
    gateway: str, kind: str, record: dict[str, object], row: tuple[int, ...]
) -> None:
    found = payments.charge(gateway, kind, {"id": "x", "reference": "1", **record})
    assert found == (gateway, "x", "1", *row)
