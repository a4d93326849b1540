"""The tables of a SACCO's services, their first terms, and the rows that the checks of a SACCO read in the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, MetaData, text

import ledger.tables
import members.tables
import mobile_money.schema
import notifier.tables
import saga_tracker.store.schema
from proof.databases import TRACKER, Database, Layout

MOBILE_MONEY = "mobile_money"
SHORT_CODE, PROVIDER = "600100", "daraja"
TABLES: Mapping[str, MetaData] = {
    "members": members.tables.metadata,
    MOBILE_MONEY: mobile_money.schema.metadata,
    "ledger": ledger.tables.metadata,
    "notifier": notifier.tables.metadata,
    TRACKER: saga_tracker.store.schema.METADATA,
}
QUERIES = {
    "withdrawals": "SELECT withdrawal_id AS saga_id, member_id, amount_minor, state FROM members.withdrawals",
    "collections": "SELECT collection_id AS saga_id, reference, amount_minor, state FROM members.collections",
    "assignments": "SELECT proposal_id AS saga_id, receipt, state FROM members.assignments",
    "worked_on": "SELECT saga_id, receipt, amount_minor, state FROM members.receipts",
    "payouts": "SELECT saga_id, amount_minor, state, receipt FROM mobile_money.payouts",
    "receipts": "SELECT saga_id, receipt, amount_minor, state FROM mobile_money.receipts",
    "attempts": "SELECT saga_id, step, number, key, state, is_contradicted FROM mobile_money.attempts",
    "awaited": "SELECT saga_id, step, query_at FROM mobile_money.awaited_steps",
    "own_ids": "SELECT own_id, saga_id, step, number FROM mobile_money.own_ids",
    "callbacks": "SELECT id, kind, fate, reason, matches FROM mobile_money.raw_callbacks",
    "floats": "SELECT saga_id, amount_minor, state FROM mobile_money.float_reservations",
    "in_ledger": "SELECT saga_id, receipt, amount_minor, state, member_id, allocated_by FROM ledger.receipt_books",
    "held": "SELECT saga_id, amount_minor, state FROM ledger.payout_books",
    "balances": """
        SELECT code, accounts.owner, sum(amount_minor) AS amount_minor
        FROM ledger.transfer_entries JOIN ledger.accounts ON accounts.id = account_id
        GROUP BY code, accounts.owner
    """,
    "transfers": """
        SELECT reference, sum(amount_minor) AS amount_minor
        FROM ledger.transfers JOIN ledger.transfer_entries ON transfer_id = transfers.id
        GROUP BY reference HAVING sum(amount_minor) <> 0
    """,
    "texts": "SELECT saga_id, member_id, kind FROM notifier.texts",
    "contacts": "SELECT member_id FROM notifier.member_contacts",
}
TERMS = 5
"""The number of the connections that enter the first terms; a process's own also has its follow-up query."""
SACCO = Layout(TABLES, QUERIES)
_MEMBERS_FIRST = import_module("members.migrations.versions.0001_first")
_MONEYS_FIRST = import_module("mobile_money.migrations.versions.0001_first")
POLICY = text("""
    INSERT INTO policies (name, version, valid_from, loan_order, targets, entered_by)
    VALUES ('standard', 1, :valid_from, CAST(:loan_order AS jsonb), CAST(:targets AS jsonb), 'migration')
""")
TARIFF = text(
    "INSERT INTO tariffs (valid_from, terms, entered_by) VALUES (:valid_from, CAST(:terms AS jsonb), 'migration')"
)
OWN_CODE = text("""
    INSERT INTO short_codes (short_code, provider, currency, is_open, rank)
    VALUES (:short_code, :provider, 'KES', true, 0)
""")
CHARGE = text("""
    INSERT INTO provider_tariffs (provider, kind, valid_from, up_to_minor, charge_minor)
    VALUES (:provider, :kind, :valid_from, :up_to_minor, :charge_minor)
""")
SAVINGS = text("""
    SELECT coalesce(sum(credits - debits - held_debits), 0)::bigint
    FROM balances JOIN accounts ON accounts.id = account_id WHERE code = 'fosa' AND owner = :member_id
""")


def savings_minor(database: Database, member_id: str) -> int:
    """Return what a member has saved and may withdraw, as members' API shows it."""
    with database.connection("ledger", TERMS).begin() as tx:
        found: int = tx.execute(SAVINGS, {"member_id": member_id}).scalar_one()
    return found


def enter_first_terms(database: Database) -> None:
    """Enter the terms that the migrations of the services enter first; each schedule begins without any row."""
    first: Any = _MEMBERS_FIRST
    with database.connection("members", TERMS).begin() as tx:
        policy = {"loan_order": json.dumps(first.LOAN_ORDER), "targets": json.dumps(first.TARGETS)}
        tx.execute(POLICY, {"valid_from": first.FIRST_DAY, **policy})
        tx.execute(TARIFF, {"valid_from": first.FIRST_DAY, "terms": json.dumps(first.TARIFF)})
        tx.execute(OWN_CODE, {"short_code": SHORT_CODE, "provider": PROVIDER})
    with database.connection("mobile-money", TERMS).begin() as tx:
        _enter_charges(tx)


def _enter_charges(tx: Connection) -> None:
    names = ("provider", "kind", "valid_from", "up_to_minor", "charge_minor")
    for line in _MONEYS_FIRST.TARIFFS:
        tx.execute(CHARGE, dict(zip(names, line, strict=True)))
