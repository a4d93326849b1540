"""What the ledger writes: one statement a table and batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from sqlalchemy import Connection

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from ledger.model.decisions import Loaded
from ledger.model.payments import Payment, PaymentAmounts
from ledger.model.rows import block_of
from ledger.store.schema import balances, batches, entries, payments, transfers


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """A block of ids that has transfers."""

    id: int
    transfer_count: int


def _amount(name: str, payment: Payment) -> Any:
    return None if payment.amounts is None else getattr(payment.amounts, name)


TRANSFERS = Columns.of(
    transfers,
    sources={"exchange_rate": lambda row: None if row.exchange_rate is None else str(row.exchange_rate)},
)
ENTRIES = Columns.of(
    entries,
    sources={"debits_after": lambda row: str(row.debits_after), "credits_after": lambda row: str(row.credits_after)},
)
BALANCES = Columns.of(
    balances,
    without=("floor_minor", "ceiling_minor", "is_closed", "booked_at"),
    # Totals are sent as text: they have more digits than 64 bits hold.
    sources={
        "debits": lambda row: str(row.debits),
        "credits": lambda row: str(row.credits),
        "held_debits": lambda row: str(row.held_debits),
        "held_credits": lambda row: str(row.held_credits),
    },
)
AMOUNTS = tuple(each.name for each in fields(PaymentAmounts))
PAYMENTS = Columns.of(payments, without=("updated_at",), sources={name: partial(_amount, name) for name in AMOUNTS})
BATCHES = Columns.of(batches).only("id", "transfer_count")

ADD_TRANSFERS = Statement(f"INSERT INTO transfers ({TRANSFERS.names}) SELECT {TRANSFERS.values} FROM {TRANSFERS.rows}")
ADD_ENTRIES = Statement(f"INSERT INTO transfer_entries ({ENTRIES.names}) SELECT {ENTRIES.values} FROM {ENTRIES.rows}")
CHANGE_BALANCES = Statement(f"""
    UPDATE balances SET {BALANCES.assignments}, booked_at = %(booked_at)s
    FROM {BALANCES.rows}
    WHERE balances.account_id = row.account_id AND balances.lane = row.lane
""")
ADD_PAYMENTS = Statement(f"""
    INSERT INTO payments ({PAYMENTS.names}, updated_at) SELECT {PAYMENTS.values}, %(booked_at)s FROM {PAYMENTS.rows}
""")
CHANGE_PAYMENTS = Statement(f"""
    UPDATE payments SET {PAYMENTS.assignments}, updated_at = %(booked_at)s
    FROM {PAYMENTS.rows}
    WHERE payments.payment_id = row.payment_id AND payments.version < row.version
""")
ADD_BATCHES = Statement(f"""
    INSERT INTO batches ({BATCHES.names}, booked_at) SELECT {BATCHES.values}, %(booked_at)s FROM {BATCHES.rows}
""")


class PaymentMoved(RuntimeError):
    """A payment's row changed although it was locked; the transaction must not be committed."""


def save(loaded: Loaded, tx: Connection) -> None:
    """Add what the batch has booked. Without any booking nothing is written."""
    if not loaded.transfers:
        return
    booked_at = loaded.booked_at
    ADD_TRANSFERS.run(tx, TRANSFERS.parameters(loaded.transfers))
    if loaded.entries:
        ADD_ENTRIES.run(tx, ENTRIES.parameters(loaded.entries))
    changed = [balance for balance in loaded.balances.values() if balance.is_changed]
    if changed:
        CHANGE_BALANCES.run(tx, BALANCES.parameters(changed) | {"booked_at": booked_at})
    counts = Counter(block_of(transfer.id) for transfer in loaded.transfers)
    blocks = [BatchRow(id=block, transfer_count=count) for block, count in counts.items()]
    ADD_BATCHES.run(tx, BATCHES.parameters(blocks) | {"booked_at": booked_at})
    _save_payments(loaded, tx)


def _save_payments(loaded: Loaded, tx: Connection) -> None:
    changed = loaded.changed_payments.values()
    new = [payment for payment in changed if payment.payment_id not in loaded.stored_payments]
    moved = [payment for payment in changed if payment.payment_id in loaded.stored_payments]
    if new:
        ADD_PAYMENTS.run(tx, PAYMENTS.parameters(new) | {"booked_at": loaded.booked_at})
    if moved:
        count = CHANGE_PAYMENTS.submit(tx, PAYMENTS.parameters(moved) | {"booked_at": loaded.booked_at}).change_count()
        if count != len(moved):
            raise PaymentMoved(f"{len(moved) - count} of {len(moved)} payments changed under their locks.")
