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
from support.sacco_rows import SACCO, SACCO_DAMAGE


@pytest.fixture
def read() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        scratch.executescript(sacco.SCHEMA + SACCO)
        yield scratch


def test_consistent_books_are_green_and_every_invariant_checks_something(read: sqlite3.Connection) -> None:
    for found in judge(read, sacco.SACCO_INVARIANTS):
        assert (found.total, found.checked > 0) == (0, True), found


@pytest.mark.parametrize(("_what", "damage", "name", "offender"), SACCO_DAMAGE, ids=[each[0] for each in SACCO_DAMAGE])
def test_planted_damage_is_named(read: sqlite3.Connection, _what: str, damage: str, name: str, offender: str) -> None:
    read.executescript(damage)
    found = {each.invariant.name: each for each in judge(read, sacco.SACCO_INVARIANTS)}
    assert offender in [each for each, _ in found[name].offenders]


def test_every_invariant_is_broken_by_some_damage() -> None:
    assert {name for _, _, name, _ in SACCO_DAMAGE} == {each.name for each in sacco.SACCO_INVARIANTS}


def test_what_is_read_is_there() -> None:
    tables = {sacco.MONEY: money_tables.tables, sacco.LEDGER: ledger_tables.tables}
    for service, _, source, columns in sacco.SOURCES:
        assert set(columns) <= set(tables[service][source].columns.keys()), source
