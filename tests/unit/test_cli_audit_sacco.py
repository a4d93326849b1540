"""The invariants of a SACCO's money, on a small consistent data set and on each kind of damage to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from baraza.audit import sacco
from baraza.audit.report import judge
from ledger.store.schema import metadata as ledger_tables
from mobile_money.schema import metadata as money_tables

CONSISTENT = """
    INSERT INTO money_receipts VALUES ('daraja', '600100', 'RKT1', 'r1', 'COMPLETED', 50000),
        ('daraja', '600100', 'RKT2', 'r2', 'UNCONFIRMED', 7000);
    INSERT INTO booked_receipts VALUES ('daraja', '600100', 'RKT1', 'ALLOCATED', 50000);
    INSERT INTO money_payouts VALUES ('w1', '600100', 'RKW1', 'PAID', 150000),
        ('w2', '600100', NULL, 'FAILED', 9000), ('w3', '600100', NULL, 'REQUESTED', 4000);
    INSERT INTO booked_payouts VALUES ('w1', '600100', 'PAID', 150000), ('w2', '600100', 'RELEASED', 9000),
        ('w3', '600100', 'HELD', 4000);
    INSERT INTO money_rows VALUES ('600100', 'RKT1', 'UTILITY', 'IN', 50000, 'MATCHED', 'r1', NULL),
        ('600100', 'RKW1', 'UTILITY', 'OUT', -150000, 'MATCHED', 'w1', NULL),
        ('600100', 'RKX9', 'UTILITY', 'TRANSFER', -1000, 'LISTED', NULL, 'transfer');
    INSERT INTO money_callbacks VALUES ('c1', 'APPLIED', NULL), ('c2', 'REFUSED', 'amount'), ('c3', 'ORPHAN', NULL);
    INSERT INTO money_claims VALUES ('k1', 'APPROVED', 'ann', 'zuri'), ('k2', 'PROPOSED', 'ann', NULL);
"""
DAMAGE = (
    ("one posting is lost", "DELETE FROM booked_receipts", "sacco-receipts-booked", "RKT1"),
    ("one cent of a receipt is changed", "UPDATE booked_receipts SET amount_minor = 50001", "sacco-receipts-booked",
     "RKT1"),
    ("one credit is doubled", "INSERT INTO booked_receipts SELECT * FROM booked_receipts", "sacco-receipts-booked",
     "RKT1"),
    ("a credit that no money brought",
     "INSERT INTO booked_receipts VALUES ('daraja', '600100', 'RKT7', 'ALLOCATED', 5)",
     "sacco-receipts-booked", "RKT7"),
    ("an unconfirmed receipt is credited",
     "INSERT INTO booked_receipts VALUES ('daraja', '600100', 'RKT2', 'ALLOCATED', 7000)", "sacco-receipts-booked",
     "RKT2"),
    ("a row is of no receipt", "UPDATE money_rows SET receipt = 'RKT8' WHERE kind = 'IN'", "sacco-rows-are-receipts",
     "RKT8"),
    ("a row is listed without a reason", "UPDATE money_rows SET reason = NULL", "sacco-rows-are-receipts", "RKX9"),
    ("a payout is paid twice", "INSERT INTO money_rows VALUES ('600100', 'RKW2', 'UTILITY', 'OUT', -150000, 'MATCHED',"
     " 'w1', NULL)", "sacco-rows-are-payouts", "w1"),
    ("one cent of a payout's row is changed", "UPDATE money_rows SET amount_minor = -150001 WHERE kind = 'OUT'",
     "sacco-rows-are-payouts", "RKW1"),
    ("one hold is released of what is paid", "UPDATE booked_payouts SET state = 'RELEASED' WHERE saga_id = 'w1'",
     "sacco-paid-not-released", "w1"),
    ("the ledger pays what is in doubt", "UPDATE booked_payouts SET state = 'PAID' WHERE saga_id = 'w3'",
     "sacco-payouts-booked", "w3"),
    ("one cent of a payout is changed", "UPDATE booked_payouts SET amount_minor = 150001 WHERE saga_id = 'w1'",
     "sacco-payouts-booked", "w1"),
    ("a callback is not decided", "UPDATE money_callbacks SET fate = NULL WHERE id = 'c1'", "sacco-callbacks-decided",
     "c1"),
    ("a refused callback has no reason", "UPDATE money_callbacks SET reason = NULL", "sacco-callbacks-decided", "c2"),
    ("a person approves an own claim", "UPDATE money_claims SET decided_by = 'ANN' WHERE id = 'k1'",
     "sacco-claimed-by-two", "k1"),
)  # fmt: skip


@pytest.fixture
def read() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        scratch.executescript(sacco.SCHEMA + CONSISTENT)
        yield scratch


def test_consistent_books_are_green_and_every_invariant_checks_something(read: sqlite3.Connection) -> None:
    for found in judge(read, sacco.SACCO_INVARIANTS):
        assert (found.total, found.checked > 0) == (0, True), found


@pytest.mark.parametrize(("_what", "damage", "name", "offender"), DAMAGE, ids=[each[0] for each in DAMAGE])
def test_planted_damage_is_named(read: sqlite3.Connection, _what: str, damage: str, name: str, offender: str) -> None:
    read.executescript(damage)
    found = {each.invariant.name: each for each in judge(read, sacco.SACCO_INVARIANTS)}
    assert offender in [each for each, _ in found[name].offenders]


def test_every_invariant_is_broken_by_some_damage() -> None:
    assert {name for _, _, name, _ in DAMAGE} == {each.name for each in sacco.SACCO_INVARIANTS}


def test_what_is_read_is_there() -> None:
    tables = {sacco.MONEY: money_tables.tables, sacco.LEDGER: ledger_tables.tables}
    for service, _, source, columns in sacco.SOURCES:
        assert set(columns) <= set(tables[service][source].columns.keys()), source
