"""The audit of a SACCO over what its services have really stored, and the simulated Daraja's own books.

Damage is planted in PostgreSQL, found, and rolled back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from baraza.audit import providers, scratch
from baraza.audit.report import Finding, judge
from baraza.audit.sacco import SACCO_INVARIANTS, reading
from messages.saga import ReceiptCompleted
from mobile_money.importing import File, Imported, import_file
from saga_tracker.definitions import DEFINITIONS
from stack import from_environment, up
from support.builders import a
from support.mobile_money import PHONE
from support.sacco_chain import SHORT_CODE, SaccoChain, sacco_chain

MEMBER = "00123"
SAVED, SUSPENDED, WITHDRAWN = 500_000, 30_000, 100_000
LATER_S = 600
"""By the provider's clock nothing is under way any more."""


@dataclass(kw_only=True)
class AuditedSacco:
    """A SACCO with a receipt that is allocated, one in suspense, and withdrawals that are paid and released."""

    chain: SaccoChain
    ended: Mapping[str, tuple[str, str]]
    """By saga its type and its end, which the tracker would know."""

    def audit(self, damage: Mapping[str, str] | None = None) -> dict[str, Finding]:
        """Return the findings by invariant, with damage by service that is rolled back."""
        with (
            ExitStack() as opened,
            closing(sqlite3.connect(":memory:", isolation_level=None)) as read,
        ):
            read.executescript(scratch.SCHEMA)
            read.executemany("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?)", scratch.steps(DEFINITIONS))
            sagas = [(saga_id, kind, 1, state, None, 0, 0) for saga_id, (kind, state) in self.ended.items()]
            _fill(read, "sagas", sagas)
            connections = {name: opened.enter_context(engine.connect()) for name, engine in self.chain.engines.items()}
            for service, statements in (damage or {}).items():
                connections[service].exec_driver_sql("SET LOCAL session_replication_role = replica")
                for statement in statements.split(";"):
                    assert connections[service].exec_driver_sql(statement).rowcount > 0, f"{statement} damages nothing"
            url = self.chain.money.provider.url
            _fill(read, "provider_clocks", [("daraja", providers.now_s(url))])
            for service, table, query, _ in reading.TABLES:
                if service in connections:
                    _fill(read, table, map(tuple, connections[service].exec_driver_sql(query)))
            _fill(read, "provider_entries", reading.entries("daraja", providers.entries(url)))
            read.executescript(scratch.VIEWS)
            return {finding.invariant.name: finding for finding in judge(read, SACCO_INVARIANTS)}


def _fill(read: sqlite3.Connection, table: str, rows: Iterator[tuple[object, ...]] | list[tuple[object, ...]]) -> None:
    listed = list(rows)
    if listed:
        read.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(listed[0]))})", listed)  # noqa: S608


@pytest.fixture(scope="module")
def sacco(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditedSacco]:
    stack = up(from_environment(home=tmp_path_factory.mktemp("audited sacco"), only=("postgres",)))
    try:
        with sacco_chain(stack, tmp_path_factory.mktemp("daraja")) as chain:
            ended = _lived(chain)
            for account in ("UTILITY", "WORKING", "CHARGES"):
                assert _imported(chain, account).gaps == 0
            chain.money.door("POST", "admin/clock", {"advance_s": LATER_S})
            yield AuditedSacco(chain=chain, ended=ended)
    finally:
        stack.down()


def _lived(chain: SaccoChain) -> dict[str, tuple[str, str]]:
    """Let money come and go, and return how each saga ended."""
    ended: dict[str, tuple[str, str]] = {}
    chain.register(MEMBER, PHONE)
    chain.money.door("POST", f"phones/{PHONE}", {})
    with chain.engines["mobile-money"].begin() as tx:
        chain.asking.register(tx)
    for reference, amount_minor in ((f"sav-{MEMBER}", SAVED), ("mama mboga", SUSPENDED)):
        paid = {"msisdn": PHONE, "short_code": SHORT_CODE, "amount": amount_minor // 100}
        chain.money.door("POST", "pay", paid | {"bill_reference": reference})
        saga_id = chain.run(chain.other("receipt"))[0].saga_id
        chain.run(a(ReceiptCompleted, saga_id=saga_id, saga_type="receipt"))
        ended[saga_id] = "receipt", "CONFIRMED"
    paid_out = chain.run(chain.request(kind="withdrawal", member_id=MEMBER, amount_minor=WITHDRAWN), "MemberNotified")
    ended[paid_out[0].saga_id] = "withdrawal", "CONFIRMED"
    chain.money.door("POST", f"phones/{PHONE}", {"is_registered": False})
    failed = chain.run(chain.request(kind="withdrawal", member_id=MEMBER, amount_minor=2 * WITHDRAWN), "PayoutFailed")
    chain.reject(failed)
    ended[failed[0].saga_id] = "withdrawal", "CANCELLED_COMPENSATED"
    return ended


def _imported(chain: SaccoChain, account: str) -> Imported:
    sending = chain.money.sending
    content = chain.money.door("GET", f"statements/{SHORT_CODE}/{account.lower()}").encode()
    file = File(account=account, name=f"{account}.csv", content=content, imported_by="treasury")
    with chain.engines["mobile-money"].begin() as tx:
        return import_file(tx, sending.code, file, sending.needed, now=datetime.now(UTC))


def test_what_the_services_have_stored_and_the_provider_has_agree(sacco: AuditedSacco) -> None:
    findings = sacco.audit()
    assert {name: each.offenders for name, each in findings.items() if each.total} == {}
    unchecked = {name for name, each in findings.items() if not each.checked}
    assert unchecked == {
        "sacco-claimed-by-two", "sacco-dividends-are-lines", "sacco-in-transit-is-open", "sacco-loans-are-accounts",
        "sacco-reversed-and-returned",
    }  # fmt: skip


LOST = "DELETE FROM transfer_entries WHERE transfer_id IN (SELECT id FROM transfers WHERE step = 'record_receipt')"
DOUBLED = """
    INSERT INTO transfer_entries SELECT transfer_id, ordinal + 10, account_id, lane, amount_minor, is_hold, booked_at,
        effective_at, debits_after, credits_after FROM transfer_entries
    WHERE transfer_id IN (SELECT id FROM transfers WHERE step = 'record_receipt')
"""
CENT = """
    UPDATE transfer_entries SET amount_minor = amount_minor + 1 WHERE amount_minor > 0
        AND transfer_id IN (SELECT id FROM transfers WHERE step = 'record_receipt')
"""


@pytest.mark.parametrize(
    ("name", "service", "damage"),
    [
        ("sacco-receipts-booked", "ledger", "DELETE FROM receipt_books WHERE state = 'ALLOCATED'"),
        ("sacco-receipts-are-entries", "ledger", LOST),
        ("sacco-receipts-are-entries", "ledger", DOUBLED),
        ("sacco-receipts-are-entries", "ledger", CENT),
        ("sacco-receipts-are-the-providers", "mobile-money", "DELETE FROM receipts WHERE amount_minor = 500000"),
        ("sacco-receipts-are-the-providers", "mobile-money", "UPDATE receipts SET amount_minor = amount_minor + 1"),
        ("sacco-rows-are-receipts", "mobile-money", """
            UPDATE statement_rows SET amount_minor = amount_minor + 1 WHERE kind = 'IN' AND amount_minor = 500000
        """),
        ("sacco-rows-are-payouts", "mobile-money", """
            UPDATE statement_rows SET amount_minor = amount_minor - 1 WHERE kind = 'OUT'
        """),
        ("sacco-unallocated-is-listed", "members", "DELETE FROM receipts WHERE state = 'SUSPENSE'"),
        ("sacco-unallocated-is-listed", "ledger", """
            UPDATE receipt_books SET state = 'ALLOCATED' WHERE state = 'UNALLOCATED'
        """),
        ("sacco-callbacks-decided", "mobile-money", "UPDATE raw_callbacks SET fate = NULL"),
        ("sacco-paid-not-released", "ledger", "UPDATE payout_books SET state = 'RELEASED' WHERE state = 'PAID'"),
        ("sacco-payouts-booked", "ledger", "UPDATE payout_books SET amount_minor = amount_minor + 1"),
        ("sacco-payouts-are-the-providers", "mobile-money", """
            DELETE FROM own_ids WHERE saga_id IN (SELECT saga_id FROM payouts WHERE amount_minor = 100000)
        """),
        ("sacco-in-transit-is-open", "ledger", """
            UPDATE balances SET credits = credits + 1
            WHERE account_id IN (SELECT id FROM accounts WHERE code = 'payout_in_transit')
        """),
        ("sacco-holds-end-once", "ledger", "UPDATE payout_books SET state = 'PAID' WHERE state = 'RELEASED'"),
        ("sacco-charges-by-tariff", "mobile-money", """
            UPDATE payouts SET charge_minor = charge_minor + 1 WHERE state = 'PAID'
        """),
        ("sacco-ends-agree", "mobile-money", "UPDATE payouts SET state = 'FAILED' WHERE state = 'PAID'"),
        ("sacco-balances-are-the-statements", "ledger", LOST),
        ("sacco-statements-have-no-gap", "mobile-money", """
            DELETE FROM statement_rows WHERE kind = 'IN' AND amount_minor = 30000
        """),
        ("sacco-books-balance", "ledger", """
            UPDATE balances SET debits = debits + 1
            WHERE account_id IN (SELECT id FROM accounts WHERE code = 'utility') AND lane = 0
        """),
    ],
)  # fmt: skip
def test_damage_in_a_services_database_is_named(sacco: AuditedSacco, name: str, service: str, damage: str) -> None:
    assert sacco.audit({service: damage})[name].total > 0
