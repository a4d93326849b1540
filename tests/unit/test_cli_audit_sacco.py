"""The invariants of a SACCO's money, on a small consistent data set and on each kind of damage to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from baraza.audit import scratch
from baraza.audit.report import Finding, judge
from baraza.audit.sacco import SACCO_INVARIANTS, reading
from saga_tracker.definitions import DEFINITIONS
from support.sacco_rows import SACCO, SACCO_DAMAGE


@pytest.fixture
def read() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(scratch.SCHEMA)
        connection.executemany("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?)", scratch.steps(DEFINITIONS))
        connection.executescript(SACCO)
        yield connection


def found(read: sqlite3.Connection) -> dict[str, Finding]:
    read.executescript(scratch.VIEWS)
    return {finding.invariant.name: finding for finding in judge(read, SACCO_INVARIANTS)}


def test_consistent_books_are_green_and_every_invariant_checks_something(read: sqlite3.Connection) -> None:
    for finding in found(read).values():
        assert (finding.total, finding.checked > 0) == (0, True), finding


def test_a_payout_that_was_paid_after_its_release_is_shown_with_who_settles_it(read: sqlite3.Connection) -> None:
    (settled,) = found(read)["sacco-paid-not-released"].settled
    assert settled == ("w4", "was proven to have failed, and is paid; its contradiction waits for two persons")


SETTLED = """
    UPDATE sagas SET state = 'CANCELLED_COMPENSATED' WHERE saga_id = 'w4';
    INSERT INTO resolutions VALUES ('w4', 'ann', 'zuri');
"""


@pytest.mark.parametrize(
    ("settled", "how"), [(SETTLED, "settled by zuri"), ("", "its contradiction waits for two persons")]
)
def test_such_a_payout_is_booked_as_a_debt_of_its_member(read: sqlite3.Connection, settled: str, how: str) -> None:
    read.executescript(f"""
        {settled}
        INSERT INTO sacco_entries SELECT 'p4', 'post_manual_posting', 0, code, owner, currency, amount_minor, value_s
            FROM sacco_entries WHERE saga_id = 'd1' AND code = 'utility';
        UPDATE sacco_entries SET amount_minor = -3000 WHERE saga_id = 'p4';
        INSERT INTO sacco_entries SELECT saga_id, step, 0, 'member_receivable', 'A', currency, 3000, value_s
            FROM sacco_entries WHERE saga_id = 'p4';
        INSERT INTO sacco_balances VALUES ('member_receivable', 'A', 'KES', 3000);
        UPDATE sacco_balances SET balance_minor = balance_minor - 3000 WHERE code = 'utility';
    """)  # noqa: S608 - constants of our own
    findings = found(read)
    assert {name: each.offenders for name, each in findings.items() if each.total} == {}
    assert findings["sacco-paid-not-released"].settled == (("w4", f"was proven to have failed, and is paid; {how}"),)


def test_a_stack_without_a_sacco_breaks_none_of_them() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as empty:
        empty.executescript(scratch.SCHEMA)
        assert {(each.total, each.checked) for each in found(empty).values()} == {(0, 0)}


@pytest.mark.parametrize(("_what", "damage", "name", "offender"), SACCO_DAMAGE, ids=[each[0] for each in SACCO_DAMAGE])
def test_planted_damage_is_named(read: sqlite3.Connection, _what: str, damage: str, name: str, offender: str) -> None:
    read.executescript(damage)
    assert offender in [each for each, _ in found(read)[name].offenders]


def test_every_invariant_is_broken_by_some_damage() -> None:
    assert {name for _, _, name, _ in SACCO_DAMAGE} == {each.name for each in SACCO_INVARIANTS}


def test_entries_of_wallets_and_of_the_provider_itself_are_none_of_ours() -> None:
    entry = {"seq": 7, "receipt": "RKT1", "kind": "pay_in", "amount_minor": 5, "balance_minor": 5, "at": 12.9}
    accounts = ("wallet:254700000001", "outside", "revenue", "600100:utility")
    listed = [entry | {"account": account, "details": {"originator": "B1"}} for account in accounts]
    assert list(reading.entries("daraja", iter(listed))) == [
        ("daraja", 7, "600100", "utility", "RKT1", "pay_in", 5, 12, "B1", None)
    ]
