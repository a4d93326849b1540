"""The tables of the services of merchants' payments, and the rows that the checks of payments read in the end."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import MetaData

import ledger.tables
import merchant.tables
import notifier.tables
import payment.tables
import risk.tables
import saga_tracker.store.schema
from proof.databases import TRACKER, Layout

TABLES: Mapping[str, MetaData] = {
    "merchant": merchant.tables.metadata,
    "risk": risk.tables.metadata,
    "ledger": ledger.tables.metadata,
    "payment": payment.tables.metadata,
    "notifier": notifier.tables.metadata,
    TRACKER: saga_tracker.store.schema.METADATA,
}
QUERIES = {
    "payments": """
        SELECT payment_id, saga_id, gateway_account, capture, amount_minor, status, captured_minor,
               failed_at, committed_at
        FROM merchant.payments
    """,
    "operations": """
        SELECT operation_id, payment_id, saga_id, kind, state, amount_minor, failure_reason FROM merchant.operations
    """,
    "at_gateways": """
        SELECT payment_id, saga_id, account, state, authorized_minor, captured_minor, refunded_minor
        FROM payment.merchant_payments
    """,
    "in_ledger": """
        SELECT CAST(payment_id AS bigint) AS payment_id, status, authorized_minor, captured_minor, refunding_minor,
               refunded_minor, disputed_minor
        FROM ledger.payments
    """,
    "holds": """
        SELECT saga_id, reference FROM ledger.transfers AS hold
        WHERE kind = 'HOLD'
          AND NOT EXISTS (SELECT FROM ledger.transfers WHERE of_id = hold.id AND kind IN ('POST', 'VOID'))
    """,
    "balances": """
        SELECT code, accounts.owner, sum(amount_minor) FILTER (WHERE NOT is_hold) AS amount_minor
        FROM ledger.transfer_entries JOIN ledger.accounts ON accounts.id = account_id
        GROUP BY code, accounts.owner
    """,
    "transfers": """
        SELECT reference, sum(amount_minor) AS amount_minor
        FROM ledger.transfers JOIN ledger.transfer_entries ON transfer_id = transfers.id
        GROUP BY reference HAVING sum(amount_minor) <> 0
    """,
    "notices": "SELECT id, account, event, kind, fate, gateway_payment_id, payment_id FROM payment.gateway_notices",
    "evidence": "SELECT coalesce(saga_id, '') AS saga_id, id, step, outcome, fate FROM payment.evidence",
    "reversals": "SELECT reversal_id AS saga_id, payment_id, kind, reversed_minor FROM payment.gateway_reversals",
    "awaited": "SELECT saga_id, step, query_at FROM payment.awaited_steps",
    "events": "SELECT event_id, saga_id, type FROM notifier.events",
    "deliveries": "SELECT event_id, endpoint_id FROM notifier.deliveries",
}
PAYMENTS = Layout(TABLES, QUERIES)
